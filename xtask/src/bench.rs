//! `cargo xtask bench`: builds in release mode and runs the named benches.

use crate::build::{self, Profile};
use crate::sh::{self, Done, Failure};

/// Bench groups and the program that runs each.
const BENCHES: &[(&str, &str)] = &[
    (
        "core.submit",
        "submit to first log line, one-process Job on this machine",
    ),
    (
        "core.admit",
        "admissions committed per second, SQLite and PostgreSQL",
    ),
    (
        "core.queue",
        "10,000 queued Jobs, 2,000 running fake replicas",
    ),
    ("core.history", "1 M finished Jobs and 10 M events"),
];

/// Runs the benches whose ids begin with one of the arguments.
pub(crate) fn run(args: &[String]) -> Done {
    if args.first().is_some_and(|arg| arg == "list") {
        for (id, what) in BENCHES {
            sh::say(&format!("{id:<16} {what}"));
        }
        return Ok(());
    }
    let wanted = |arg: &String| {
        arg.starts_with("--") || BENCHES.iter().any(|(id, _)| id.starts_with(arg.as_str()))
    };
    if let Some(unknown) = args.iter().find(|arg| !wanted(arg)) {
        return Err(Failure::new(format!(
            "there is no bench `{unknown}`; `cargo xtask bench list` names them"
        )));
    }
    let moonshot = build::moonshot(Profile::Release)?;
    let mut cargo = sh::command(
        "cargo",
        [
            "run",
            "--release",
            "--quiet",
            "--package",
            "e2e",
            "--bin",
            "bench",
            "--",
        ],
    );
    cargo.args(args).env("MOONSHOT_BIN", moonshot);
    sh::run(&mut cargo)
}
