//! `moonshot-shim run <directory>` is the parent of one program; `moonshot-shim enter …` joins a
//! replica's cgroup and becomes another program there (exec, probes).
//!
//! No async runtime, no allocation per line of output, one thread: a machine holds many of these.

use std::path::Path;
use std::process::ExitCode;

mod enter;
mod program;
mod supervise;

const USAGE: &str = "usage: moonshot-shim run DIRECTORY < launch.json
       moonshot-shim enter [--cgroup PROCS]… [--user UID] [--terminal] -- PROGRAM [ARGUMENT]…";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let verb = args.next();
    let done = match verb.as_deref().and_then(|verb| verb.to_str()) {
        Some("run") => match args.next() {
            Some(directory) => supervise::run(Path::new(&directory)),
            None => return usage(),
        },
        Some("enter") => match enter::Enter::parse(args) {
            Some(enter) => return enter.perform(),
            None => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moonshot-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
