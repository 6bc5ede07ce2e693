//! `docs cli`: the reference of this command line in Markdown, from the table of verbs. `docs api` is in
//! `docs_api`.

use crate::cli::Cli;
use crate::exit::{Failure, TABLE};
use crate::out::Out;
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write as _;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `cli`: this command line; `api`: the routes and types of the API.
    #[arg(value_parser = ["cli", "api"])]
    what: String,
}

pub(crate) fn run(args: &Args, out: Out) -> Result<(), Failure> {
    if args.what == "api" {
        out.text(&super::docs_api::reference())
    } else {
        out.text(&reference())
    }
}

fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text =
        "# Command line\n\n<!-- Printed by `moonshot docs cli`; do not edit. -->\n\n".to_owned();
    text.push_str("`moonshot VERB …` speaks to the server of the current context. These are taken by every verb:\n\n");
    arguments(&mut text, &root, true);
    text.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in TABLE {
        writeln!(text, "| {code} | {meaning} |").expect("writing to a String cannot fail");
    }
    for verb in root
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
    {
        command(&mut text, verb, "moonshot", 2);
    }
    text
}

fn command(text: &mut String, command_: &Command, before: &str, level: usize) {
    let name = format!("{before} {}", command_.get_name());
    let about = command_
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let usage = command_.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(
        text,
        "\n{} {name}\n\n{about}\n\n```text\n{usage}\n```\n\n",
        "#".repeat(level)
    )
    .expect("writing to a String cannot fail");
    arguments(text, command_, false);
    for verb in command_
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        command(text, verb, &name, level + 1);
    }
}

fn arguments(text: &mut String, command: &Command, global: bool) {
    let told = |arg: &&Arg| {
        !arg.is_hide_set()
            && !["help", "version"].contains(&arg.get_id().as_str())
            && arg.is_global_set() == global
    };
    for arg in command.get_arguments().filter(told) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let env = arg
            .get_env()
            .map_or_else(String::new, |env| format!(" (`{}`)", env.to_string_lossy()));
        writeln!(
            text,
            "- `{}`{env}: {help}",
            arg.to_string().replace('`', "")
        )
        .expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_the_documents_is_this_one() {
        expect_test::expect_file!["../../../../docs/src/cli.md"].assert_eq(&super::reference());
    }

    #[test]
    fn every_verb_has_its_section() {
        let text = super::reference();
        for part in [
            "## moonshot get\n",
            "### moonshot rollout undo\n",
            "| 124 | the time for it ran out |",
            "`MOONSHOT_PROJECT`",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("MOONSHOT_TOKEN`)"), "a token is no flag");
    }
}
