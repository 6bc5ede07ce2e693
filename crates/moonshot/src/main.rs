//! The `moonshot` binary: the command line, and the roles that one machine or a cluster runs.
//!
//! Reading order: [`cli`] is the table of verbs, the one truth for help, reference and completions;
//! `cmd/` has a file a verb; what they share is beside it. Pure parts (tables, views, line joining,
//! selectors of targets) know neither terminal nor network and have their tests beside them.

mod age;
mod cli;
mod cmd;
mod code;
mod console;
mod context;
mod describe;
mod exit;
mod files;
mod follow;
mod lines;
mod out;
mod role;
mod session;
mod table;
mod target;
mod view;

use clap::Parser;
use mimalloc::MiMalloc;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// What is made by one thread and freed by another, as requests and answers are, costs less than with the C library's. Its
/// feature `override` gives it to the runtimes of models as well, which are loaded later: `malloc` is this program's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The arguments. Under the name `moonshot-rsh` the verb is understood: some launchers take one word for their agent.
/// What follows is `ssh`'s, not ours.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == RSH) {
        words.insert(1, "rsh".into());
    }
    let asks_for_help = words
        .get(2)
        .is_none_or(|word| word == "--help" || word == "-h");
    if words.get(1).is_some_and(|verb| verb == "rsh") && !asks_for_help {
        words.insert(2, "--".into());
    }
    words
}

/// The name under which this program is `moonshot rsh`.
pub(crate) const RSH: &str = "moonshot-rsh";

fn main() -> ExitCode {
    let cli = cli::Cli::parse_from(words());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cli.n_threads())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::report(&exit::Failure::Failed(format!("cannot start: {error}")));
        }
    };
    let outcome = runtime.block_on(cmd::run(cli));
    // A read of the terminal's input may still block a thread.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure),
    }
}
