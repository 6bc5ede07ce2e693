//! Benches of binding on a real control plane with simulated nodes, beside kube-scheduler and a bare loop of bindings.
//!
//! `cargo xtask bench k8s` starts a control plane for each, and this: `k8s-bench --id k8s.bind --quick --json FILE`.
//! [`bind`] and [`gang`] are the benches; [`warm`] is the second part of the latter.

mod bind;
mod gang;
mod process;
mod report;
mod server;
mod space;
mod warm;

use report::Report;
use std::process::ExitCode;

/// Why a bench could not run.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much work a bench does.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// Seconds, in a debug build: shows that the bench runs; its figures say nothing.
    Smoke,
    /// Some minutes.
    Quick,
    /// Everything that the figures are asked for.
    Full,
}

impl Scale {
    /// One of three.
    fn pick(self, smoke: usize, quick: usize, full: usize) -> usize {
        match self {
            Scale::Smoke => smoke,
            Scale::Quick => quick,
            Scale::Full => full,
        }
    }
}

const USAGE: &str = "usage: k8s-bench --id k8s.bind|k8s.gang --smoke|--quick|--full --json FILE|-";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args).await {
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

async fn run(args: &[String]) -> Result<(), Failure> {
    let (mut id, mut scale, mut json) = ("", Scale::Quick, "-");
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--smoke" => scale = Scale::Smoke,
            "--quick" => scale = Scale::Quick,
            "--full" => scale = Scale::Full,
            "--id" => id = words.next().unwrap_or_default(),
            "--json" => json = words.next().unwrap_or("-"),
            other => return Err(format!("`{other}` is not understood; {USAGE}").into()),
        }
    }
    match id {
        "k8s.bind" => bind::run(scale, &mut Report::new("k8s.bind", json)?).await,
        "k8s.gang" => gang::run(scale, &mut Report::new("k8s.gang", json)?).await,
        other => Err(format!("there is no bench `{other}`; {USAGE}").into()),
    }
}

/// Says what a bench is at.
fn note(words: &str) {
    eprintln!("  {words}");
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
