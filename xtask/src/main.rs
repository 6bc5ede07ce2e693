//! Tasks of this repository. `cargo xtask up` builds and starts the platform with the quickstart,
//! `cargo xtask test [STAGE…]` is what CI runs.
//!
//! Start with [`mod@test`]: its table of stages is the whole test programme.

mod bench;
mod build;
mod cluster;
mod compile;
mod deploy;
mod docs;
mod layering;
mod licences;
mod packages;
mod sh;
mod test;
mod unused;
mod up;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask up [ARGS…]        build, start the platform, run the quickstart (ARGS go to `moonshot up`)
cargo xtask test [STAGE…]     run all tests, or only these stages (`cargo xtask test list` names them)
cargo xtask cluster VERB      a real Kubernetes for tests: up, down, status (`cargo xtask cluster help`)
cargo xtask bench ID…         run benches beside their peers (`cargo xtask bench list` names them)
cargo xtask deploy            render the plain YAML in `deploy` from the chart
cargo xtask build [--dev]     build the shim, the console (where Node is found) and `moonshot`; --dev is quicker to
                              build and slower to run";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = args
        .split_first()
        .map_or(("help", &[][..]), |(verb, rest)| (verb.as_str(), rest));
    let result = match verb {
        "up" => up::run(rest),
        "test" => test::run(rest),
        "cluster" => cluster::run(rest),
        "bench" => bench::run(rest),
        "deploy" => deploy::write(),
        "build" => match rest {
            [] => Ok(build::Profile::Release),
            [flag] if flag == "--dev" => Ok(build::Profile::Dev),
            other => Err(sh::Failure::new(format!(
                "unknown: {}; there is --dev",
                other.join(" ")
            ))),
        }
        .and_then(build::moonshot)
        .map(|path| sh::say(&path.display().to_string())),
        "help" | "-h" | "--help" => {
            sh::say(HELP);
            Ok(())
        }
        other => Err(sh::Failure::new(format!(
            "there is no task `{other}`\n\n{HELP}"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            sh::say(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}
