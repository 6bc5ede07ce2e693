//! The simulator on scenarios, logs and real traces. Where the data are absent a test says so and passes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where it finds something wrong"
)]

mod commands;
mod lives;
mod questions;
mod readers;
mod scenarios;
mod traces;

use std::path::{Path, PathBuf};

/// A file of the folder of traces.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let found = sim::data_dir().map(|dir| dir.join(name));
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: no `{name}` under MOONSHOT_DATA");
    }
    found
}

/// The folder of scenarios that users begin with.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios")
}

/// Runs a command; answers what it printed, with the error after it where there was one.
pub(crate) fn sim(args: &[&str]) -> Result<String, String> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let mut out = Vec::new();
    let result = sim::cli::run(&args, &mut out);
    let said = String::from_utf8(out).unwrap();
    match result {
        Ok(()) => Ok(said),
        Err(error) => Err(format!("{said}{error}")),
    }
}
