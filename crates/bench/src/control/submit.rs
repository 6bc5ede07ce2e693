//! `core.submit`: from the start of `moonshot run` to the program's first line on its output, beside a Python program
//! that starts the same program itself. Both are new processes each time; they take turns.

use crate::report::Report;
use crate::samples::Samples;
use crate::{Failure, Scale, note};
use e2e::Installation;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The median may be this much above the peer's.
const ABOVE_PEER_MS: f64 = 60.0;
/// Turns that are not counted: the first ones read programs from the disk.
const N_WARM: usize = 2;
const PROGRAM: &str = "print('first')";

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let installation = Installation::start(&[]);
    let code = installation.home().join("code");
    std::fs::create_dir(&code)?;
    let n = scale.pick(1, 40, 200);
    note(format!("{n} Jobs and {n} plain processes, by turns"));
    let python = interpreter()?;
    let client = format!(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', {PROGRAM:?}], check=True)"
    );
    let (mut ours, mut plain, mut whole) =
        (Samples::default(), Samples::default(), Samples::default());
    for turn in 0..N_WARM + n {
        let mut peer = Command::new(&python);
        peer.args(["-c", &client]);
        let (peer_first, _) = first_line(&mut peer)?;
        let (first, end) = first_line(&mut job(&installation, &code, &python))?;
        if turn >= N_WARM {
            plain.push(peer_first);
            ours.push(first);
            whole.push(end);
        }
    }
    let peer = "python client, plain process";
    let peer_ms = plain.percentile(50.0);
    ours.report(report, "first line", |figure| match figure.metric {
        "p50_ms" => figure.beside(peer, peer_ms).aim(peer_ms + ABOVE_PEER_MS),
        "p99_ms" => figure.beside(peer, plain.percentile(99.0)),
        _ => figure.beside(peer, plain.percentile(100.0)),
    })?;
    whole.report(report, "`moonshot run` is back", |figure| figure)
}

fn job(installation: &Installation, code: &Path, python: &str) -> Command {
    let code = code.display().to_string();
    installation.command(&["run", "--dir", &code, "--", python, "-c", PROGRAM])
}

/// The interpreter itself: `python3` may be a script that looks for it, which takes longer than all the rest.
fn interpreter() -> Result<String, Failure> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()?;
    let path = String::from_utf8(output.stdout)?.trim().to_owned();
    if path.is_empty() {
        return Err("python3 does not run".into());
    }
    Ok(path)
}

/// Starts a program: when its first line came, and when it ended.
fn first_line(command: &mut Command) -> Result<(Duration, Duration), Failure> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().expect("its output is piped");
    BufReader::new(output).read_line(&mut line)?;
    let first = started.elapsed();
    let status = child.wait()?;
    if line != "first\n" || !status.success() {
        return Err(format!("{command:?} said {line:?} and ended with {status}").into());
    }
    Ok((first, started.elapsed()))
}
