//! The words that programs of the fake are written in.
//!
//! `exit <code>`, `signal <number>`, `missing`, `lines <n>`, `say <text> <variable>…`, `sleep`,
//! `stubborn`, `serve`, `keep <text>`. Anything else is like `sleep`.

use crate::observation::Cause;
use crate::port::{Frame, Stream};
use crate::suite::Program;
use base::{Seq, Time};
use std::collections::BTreeMap;

/// What a program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Exit(i32),
    Signal(i32),
    Missing,
    Lines(u32),
    Say(String, Vec<String>),
    Sleep,
    Stubborn,
    Serve,
    Keep(String),
}

/// The variable of what was found in the directory for checkpoints.
pub(super) const KEPT: &str = "fake: kept";

/// The command for a program of the suite.
pub fn command(program: &Program) -> Vec<String> {
    let words = match program {
        Program::Exit(code) => vec!["exit".to_owned(), code.to_string()],
        Program::Signal(signal) => vec!["signal".to_owned(), signal.to_string()],
        Program::Missing => vec!["missing".to_owned()],
        Program::Lines(n) => vec!["lines".to_owned(), n.to_string()],
        Program::Say(text, names) => {
            let mut words = vec!["say".to_owned(), text.clone()];
            words.extend(names.iter().cloned());
            words
        }
        Program::Sleep => vec!["sleep".to_owned()],
        Program::Stubborn => vec!["stubborn".to_owned()],
        Program::Serve => vec!["serve".to_owned()],
        Program::Keep(text) => vec!["keep".to_owned(), text.clone()],
    };
    debug_assert!(parse(&words) != Act::Sleep || *program == Program::Sleep);
    words
}

pub(super) fn parse(command: &[String]) -> Act {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let act = match words.as_slice() {
        ["exit", code] => code.parse().ok().map(Act::Exit),
        ["signal", signal] => signal.parse().ok().map(Act::Signal),
        ["missing"] => Some(Act::Missing),
        ["lines", n] => n.parse().ok().map(Act::Lines),
        ["say", text, names @ ..] => {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Some(Act::Say((*text).to_owned(), names))
        }
        ["stubborn"] => Some(Act::Stubborn),
        ["serve"] => Some(Act::Serve),
        ["keep", text] => Some(Act::Keep((*text).to_owned())),
        _ => None,
    };
    act.unwrap_or(Act::Sleep)
}

/// `$(NAME)`, as far as tests need it.
pub(super) fn expand(word: &str, env: &BTreeMap<String, String>) -> String {
    let replace = |word: String, (name, value): (&String, &String)| {
        word.replace(&format!("$({name})"), value)
    };
    env.iter().fold(word.to_owned(), replace)
}

pub(super) fn sentence(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

impl Act {
    /// How it ends by itself once it runs.
    pub(super) fn ends(&self) -> Option<(Cause, Option<i32>, Option<i32>)> {
        match self {
            Act::Exit(0) | Act::Lines(_) | Act::Say(..) | Act::Keep(_) => {
                Some((Cause::Succeeded, Some(0), None))
            }
            Act::Exit(code) => Some((Cause::Failed, Some(*code), None)),
            Act::Signal(signal) => Some((Cause::Failed, None, Some(*signal))),
            Act::Missing | Act::Sleep | Act::Stubborn | Act::Serve => None,
        }
    }

    /// What it says when it starts.
    pub(super) fn says(&self, env: &BTreeMap<String, String>, first: u64, now: Time) -> Vec<Frame> {
        let (out, err) = match self {
            Act::Lines(n) => (
                (1..=*n).map(|n| format!("line {n}\n")).collect(),
                "warning\n",
            ),
            Act::Say(text, names) => {
                let value =
                    |name: &String| format!("{}\n", env.get(name).map_or("", String::as_str));
                (
                    format!("{text}\n{}", names.iter().map(value).collect::<String>()),
                    "",
                )
            }
            Act::Stubborn => ("ready\n".to_owned(), ""),
            Act::Keep(_) => (
                format!("found {}\n", env.get(KEPT).map_or("", String::as_str)),
                "",
            ),
            Act::Exit(_) | Act::Signal(_) | Act::Missing | Act::Sleep | Act::Serve => {
                (String::new(), "")
            }
        };
        let pieces = [
            (Stream::Stdout, out.into_bytes()),
            (Stream::Stderr, err.as_bytes().to_vec()),
        ];
        let said = pieces.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        let frame = |(n, (stream, bytes)): (u64, (Stream, Vec<u8>))| Frame {
            seq: Seq(n),
            stream,
            time: now,
            bytes,
        };
        (first..).zip(said).map(frame).collect()
    }

    /// Whether SIGTERM is ignored.
    pub(super) fn is_stubborn(&self) -> bool {
        *self == Act::Stubborn
    }

    /// Whether probes are answered.
    pub(super) fn is_healthy(&self) -> bool {
        *self == Act::Serve
    }
}
