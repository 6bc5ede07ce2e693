//! The commands of `moonshot sim`, on plain arguments, so that any binary can call them.
//!
//! One file a command: a table of its options (from which the help is made) and the function that
//! carries it out. Start with [`run`].

mod args;
mod bench;
mod openb;
mod philly;
mod replay;
mod scenario;
mod tidal;

use crate::bench::BenchError;
use crate::data::DataError;
use args::{Args, Command};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A command that could not be carried out.
#[derive(Debug, Error)]
pub enum CliError {
    /// The arguments do not make a command.
    #[error("{0}")]
    Usage(String),
    /// A trace could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A bench could not be run.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A scenario could not be read.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// A log could not be replayed, or decides differently.
    #[error(transparent)]
    Replay(#[from] schedlog::ReplayError),
    /// What was expected did not come about; it is said in the output.
    #[error("{0}")]
    Failed(String),
    /// The result could not be written.
    #[error("could not write `{path}`")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

const COMMANDS: &[&Command] = &[
    &scenario::COMMAND,
    &replay::COMMAND,
    &openb::COMMAND,
    &philly::COMMAND,
    &tidal::COMMAND,
    &bench::COMMAND,
];

/// Runs a command; what it has to say goes to `out` as it comes.
pub fn run(args: &[String], out: &mut dyn Write) -> Result<(), CliError> {
    let Some((name, rest)) = args.split_first() else {
        return Err(CliError::Usage(overview()));
    };
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        return match rest.first() {
            Some(command) => print(out, &find(command)?.help()),
            None => print(out, &overview()),
        };
    }
    let command = find(name)?;
    if rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        return print(out, &command.help());
    }
    (command.run)(&Args::parse(command, rest)?, out)
}

fn find(name: &str) -> Result<&'static Command, CliError> {
    let found = COMMANDS.iter().find(|command| command.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        CliError::Usage(format!(
            "unknown command `{name}`; there are {}",
            names.join(", ")
        ))
    })
}

fn overview() -> String {
    let mut text = String::from(
        "The scheduler in virtual time: traces, scenarios, replay and what-if.\n\n\
         Usage: moonshot sim COMMAND [OPTIONS]\n\nCommands:\n",
    );
    for command in COMMANDS {
        text += &format!("  {:<8} {}\n", command.name, command.summary);
    }
    text += "\nThe same seed gives the same result on every machine.\n\
             `moonshot sim COMMAND --help` says more.\n";
    text
}

/// Prints; a reader that has gone away is no error.
pub(crate) fn print(out: &mut dyn Write, text: &str) -> Result<(), CliError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::Write {
            path: PathBuf::from("standard output"),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a file whole.
pub(crate) fn write(path: &str, bytes: &[u8]) -> Result<(), CliError> {
    std::fs::write(path, bytes).map_err(|source| CliError::Write {
        path: Path::new(path).to_owned(),
        source,
    })
}

/// Prints a result as JSON, and writes it to `--json FILE` where that was asked for.
pub(crate) fn answer(args: &Args, out: &mut dyn Write, result: &Value) -> Result<(), CliError> {
    let text = format!("{result:#}\n");
    if let Some(path) = args.option("json") {
        write(path, text.as_bytes())?;
    }
    print(out, &text)
}

/// Mean and standard deviation, to two digits.
pub(crate) fn spread(values: &[f64]) -> Value {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let round = |v: f64| (v * 100.0).round() / 100.0;
    serde_json::json!({"mean": round(mean), "sd": round(variance.sqrt())})
}
