//! `config`: the settings of the server and the gateway, checked and shown.

use crate::exit::Failure;
use crate::out::{Out, say};
use crate::role::{settings, settings_text};
use crate::table::table;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Say what is wrong with the settings, with line and key. Ends with 2 where something is.
    Check,
    /// Every setting, its value, and where that comes from.
    Show,
}

pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let path = env("MOONSHOT_CONFIG_FILE").map(PathBuf::from);
    let text = path.as_deref().map(std::fs::read_to_string).transpose();
    let what = path
        .as_ref()
        .map(|path| format!("read `{}`", path.display()));
    let text = text.map_err(Failure::local(what.unwrap_or_default()))?;
    let file = path.as_deref().zip(text.as_deref());
    match verb {
        Verb::Check => {
            let mut problems: Vec<String> = file
                .map(|(path, text)| settings_text::problems(path, text))
                .unwrap_or_default();
            if problems.is_empty()
                && let Err(problem) = settings::from_environment()
            {
                problems.push(problem);
            }
            let variables = std::env::vars_os();
            let variables = variables.filter_map(|(name, _)| name.into_string().ok());
            problems.extend(settings_text::misspelt(variables));
            if problems.is_empty() {
                say!("the settings are valid; `moonshot config show` lists them");
                return Ok(());
            }
            Err(Failure::Usage(problems.join("\n")))
        }
        Verb::Show => {
            let rows = settings_text::shown(file, env)
                .into_iter()
                .map(|setting| vec![setting.key.to_owned(), setting.value, setting.from]);
            Out::new().text(&table(
                &["SETTING", "VALUE", "FROM"],
                &rows.collect::<Vec<_>>(),
            ))
        }
    }
}
