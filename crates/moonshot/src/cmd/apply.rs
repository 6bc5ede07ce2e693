//! `apply`: make objects be as manifests say.

use crate::cmd::wait;
use crate::exit::Failure;
use crate::files;
use crate::session::Session;
use crate::target::Target;
use api::Kind;
use api::answer::ApplyResult;
use base::Span;
use client::ApplyOptions;
use std::path::PathBuf;

/// How long `--wait` waits unless told otherwise.
const WAIT_DEFAULT: Span = Span::from_secs(20 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a directory of files, or `-` for standard input. May be repeated.
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Directories with everything below them.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Check and show the plan; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Finished objects with another spec give way to new ones.
    #[arg(long)]
    replace: bool,
    /// Wait until what was applied is ready (Jobs: over).
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value_t = WAIT_DEFAULT)]
    timeout: Span,
    /// `table` or `json`.
    #[command(flatten)]
    output: super::OutputArg,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let options = ApplyOptions {
        dry_run: args.dry_run,
        replace: args.replace,
        project: Some(session.project.clone()),
    };
    let mut results = Vec::new();
    for source in files::read(&args.filename, args.recursive)? {
        let applied = source.apply(session, &options).await?;
        if args.output.output == crate::out::Format::Table {
            session.out.text(&text(&applied, args.dry_run))?;
        }
        results.extend(applied);
    }
    match args.output.output {
        crate::out::Format::Table => {}
        crate::out::Format::Name => {
            for result in &results {
                session.out.line(name(result))?;
            }
        }
        format => {
            let value = serde_json::json!({ "results": results });
            session
                .out
                .value(&value, format == crate::out::Format::Yaml)?;
        }
    }
    if !args.wait {
        return Ok(());
    }
    let deadline = wait::deadline(args.timeout);
    for result in &results {
        let Some(kind) = Kind::find(&result.kind) else {
            continue;
        };
        let target = Target {
            kind,
            name: result.name.clone(),
        };
        let project = Session {
            project: result.project.clone(),
            ..session.clone()
        };
        wait::until(&project, &target, &wait::Condition::done(kind), deadline).await?;
    }
    Ok(())
}

fn name(result: &ApplyResult) -> String {
    format!("{}/{}", result.kind.to_ascii_lowercase(), result.name)
}

/// One line a result; with a dry run the differences and the plan below it.
pub(crate) fn text(results: &[ApplyResult], dry_run: bool) -> String {
    let mut text = String::new();
    for result in results {
        let note = if dry_run { " (dry run)" } else { "" };
        text.push_str(&format!(
            "{} {}{note}\n",
            name(result),
            result.action.as_str()
        ));
        if dry_run {
            for line in result.diff.iter().chain(&result.plan) {
                text.push_str(&format!("  {line}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::answer::ApplyAction;
    use expect_test::expect;

    #[test]
    fn results() {
        let result = |name: &str, action, diff: &[&str], plan: &[&str]| ApplyResult {
            kind: "Job".to_owned(),
            project: "default".to_owned(),
            name: name.to_owned(),
            action,
            diff: diff.iter().map(|line| (*line).to_owned()).collect(),
            plan: plan.iter().map(|line| (*line).to_owned()).collect(),
        };
        let results = [
            result(
                "a",
                ApplyAction::Configured,
                &["~ spec.priority: 1 -> 2"],
                &["move a to the front"],
            ),
            result("b", ApplyAction::Unchanged, &[], &[]),
        ];
        expect![[r#"
            job/a configured
            job/b unchanged
        "#]]
        .assert_eq(&text(&results, false));
        expect![[r#"
            job/a configured (dry run)
              ~ spec.priority: 1 -> 2
              move a to the front
            job/b unchanged (dry run)
        "#]]
        .assert_eq(&text(&results, true));
    }
}
