//! `completion`: completions for a shell.

use crate::cli::Cli;
use crate::exit::Failure;
use crate::out::Out;
use clap::CommandFactory;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args, out: Out) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "moonshot", &mut text);
    out.bytes(&text)
}
