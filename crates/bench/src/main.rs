//! Benches of the platform, each beside a peer or a physical limit that is measured in the same run.
//!
//! `cargo xtask bench` builds this and starts it once for each bench:
//! `bench --id core.submit --quick --json FILE`. A bench prints what it does on standard error and writes one
//! JSON object a figure (see [`report`]). Its exit code is 0 when it ran, whatever the figures are.
//!
//! Start with [`control`] and [`serve`]; [`host`] is the server with the engine in memory that some benches drive over
//! HTTP, `bench load` the process that asks model servers.

mod control;
mod host;
mod http;
mod report;
mod samples;
mod serve;
mod usage;

use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// How much work a bench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds, in a debug build: shows that the bench runs; its figures say nothing.
    Smoke,
    /// At most a minute.
    Quick,
    /// Everything that the figures are asked for.
    Full,
}

impl Scale {
    /// One of three.
    pub(crate) fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Scale::Smoke => smoke,
            Scale::Quick => quick,
            Scale::Full => full,
        }
    }
}

/// Why a bench could not run.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

type Bench = fn(Scale, &mut Report) -> Result<(), Failure>;

const BENCHES: &[(&str, Bench)] = &[
    ("core.submit", control::submit::run),
    ("core.admit", control::admit::run),
    ("core.queue", control::queue::run),
    ("core.history", control::history::run),
    ("serve.rest", serve::rest::run),
    ("serve.trees", serve::trees::run),
    ("serve.native", serve::native::run),
    ("serve.start", serve::start::run),
    ("serve.overload", serve::overload::run),
    ("serve.swap", serve::swap::run),
    ("serve.many", serve::many::run),
    ("serve.warm", serve::warm::run),
];

const USAGE: &str = "usage: bench --id ID --smoke|--quick|--full --json FILE|-";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((word, rest)) if word == "host" => host::main(rest),
        Some((word, [])) if word == "load" => serve::load::main(),
        _ => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), Failure> {
    let (mut id, mut scale, mut json) = (None, Scale::Quick, None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--smoke" => scale = Scale::Smoke,
            "--quick" => scale = Scale::Quick,
            "--full" => scale = Scale::Full,
            "--id" => id = words.next(),
            "--json" => json = words.next(),
            _ => return Err(format!("`{word}` is not understood; {USAGE}").into()),
        }
    }
    let (Some(id), Some(json)) = (id, json) else {
        return Err(USAGE.into());
    };
    let Some((name, bench)) = BENCHES.iter().find(|(name, _)| name == id) else {
        return Err(format!("there is no bench `{id}`").into());
    };
    let mut report = Report::new(name, (json != "-").then(|| PathBuf::from(json)))?;
    bench(scale, &mut report)
}

/// Says what a bench is at.
pub(crate) fn note(words: impl std::fmt::Display) {
    eprintln!("  {words}");
}
