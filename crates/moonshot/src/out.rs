//! Standard output and error: plain text when nobody looks, colour and progress on a terminal.

use crate::exit::Failure;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// How objects are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// The table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `kind/name`, one a line.
    Name,
}

/// Where output goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    colour: bool,
    /// Whether a person reads standard error.
    pub(crate) progress: bool,
    /// Whether a person sits at the keyboard.
    pub(crate) ask: bool,
}

impl Out {
    /// Looks at the terminal once. `NO_COLOR` (<https://no-color.org>) switches colour off.
    pub(crate) fn new() -> Out {
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let progress = io::stderr().is_terminal();
        Out {
            colour,
            progress,
            ask: progress && io::stdin().is_terminal(),
        }
    }

    /// Writes text.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(closed)
    }

    /// Writes a line.
    pub(crate) fn line(self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.text(&format!("{}\n", line.as_ref()))
    }

    /// Writes a line for people on standard error.
    pub(crate) fn note(self, line: impl AsRef<str>) {
        // Notes are not the result; with standard error gone nobody misses them.
        let _ = writeln!(io::stderr(), "{}", line.as_ref());
    }

    /// Writes a value as JSON or YAML.
    pub(crate) fn value(self, value: &Value, yaml: bool) -> Result<(), Failure> {
        self.text(&if yaml {
            yaml_text(value)
        } else {
            json_text(value)
        })
    }

    /// A table, its phases coloured on a terminal.
    pub(crate) fn table(self, table: &str) -> Result<(), Failure> {
        if self.colour {
            self.text(&paint(table))
        } else {
            self.text(table)
        }
    }
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Local {
            what: "write the output".to_owned(),
            source: error,
        },
    }
}

/// Indented JSON with a newline at its end.
pub(crate) fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// YAML that reads back as the same value.
pub(crate) fn yaml_text(value: &Value) -> String {
    let mut text = serde_saphyr::to_string(value).expect("a JSON value is always YAML");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

const GREEN: [&str; 4] = ["Running", "Succeeded", "Ready", "yes"];
const YELLOW: [&str; 9] = [
    "Queued",
    "Starting",
    "Suspending",
    "Suspended",
    "Cancelling",
    "Progressing",
    "Degraded",
    "Building",
    "Warning",
];
const RED: [&str; 2] = ["Failed", "NotReady"];

/// Colours words that say a state, where they stand alone between spaces.
fn paint(table: &str) -> String {
    let mut painted = String::with_capacity(table.len() + 64);
    for piece in table.split_inclusive([' ', '\n']) {
        let word = piece.trim_end_matches([' ', '\n']);
        let code = if GREEN.contains(&word) {
            "32"
        } else if YELLOW.contains(&word) {
            "33"
        } else if RED.contains(&word) {
            "31"
        } else {
            painted.push_str(piece);
            continue;
        };
        painted.push_str(&format!(
            "\u{1b}[{code}m{word}\u{1b}[0m{}",
            &piece[word.len()..]
        ));
    }
    painted
}

/// Tells of work that goes on whether or not somebody reads: where standard output is closed (`up | head`), it is
/// lost, and nothing else happens.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_are_coloured_and_nothing_else() {
        assert_eq!(
            paint("a  Running  x-Failed\nb  Failed\n"),
            "a  \u{1b}[32mRunning\u{1b}[0m  x-Failed\nb  \u{1b}[31mFailed\u{1b}[0m\n"
        );
    }

    #[test]
    fn yaml_reads_back() {
        let value = json!({"a": "no", "b": [1, "2", null, true], "c": {"d": "x: y", "e": "multi\nline\n"}, "f": "1e3", "g": "007"});
        let text = yaml_text(&value);
        let documents = format!(
            "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n  {}",
            text.replace('\n', "\n  ")
        );
        let parsed =
            api::manifest::parse(documents.as_bytes(), api::manifest::Format::Yaml).unwrap();
        assert_eq!(parsed[0].object.spec, value, "{text}");
    }
}
