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
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
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
