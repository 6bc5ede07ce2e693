//! Benches of binding on a real control plane with simulated nodes, beside kube-scheduler and a bare loop of bindings.
//!
//! `cargo xtask bench k8s.bind` starts the control plane and this: `k8s-bench --id k8s.bind --quick --json FILE`.

mod bind;
mod report;

use std::process::ExitCode;

/// Why a bench could not run.
type Failure = Box<dyn std::error::Error + Send + Sync>;

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
    let (mut id, mut n_pods, mut json) = ("", 5_000, "-");
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--quick" => n_pods = 5_000,
            "--full" => n_pods = 10_000,
            "--id" => id = words.next().unwrap_or_default(),
            "--json" => json = words.next().unwrap_or("-"),
            other => return Err(format!("`{other}` is not understood").into()),
        }
    }
    if id != "k8s.bind" {
        return Err(format!("there is no bench `{id}`").into());
    }
    let mut report = report::Report::new(json)?;
    bind::run(n_pods, &mut report).await
}
