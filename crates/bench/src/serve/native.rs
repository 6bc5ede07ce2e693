//! `serve.native`: what the server adds to a call of the library that runs the model: processor time of the server's process
//! for each answer, less that of the bare C call in this process. A perceptron in TensorFlow by gRPC, in ONNX Runtime by
//! binary tensors over HTTP, one row a request.

use super::c_graphs::{Bare, Onnx, Tensorflow};
use super::load::{self, Plan, Seen};
use super::models::{self, Framework, Made};
use super::process::{self, Process};
use super::{grpc, rest};
use crate::report::{Better, Figure, Report};
use crate::{Failure, Scale, note};
use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const CONNECTIONS: [usize; 2] = [1, 16];
const TENSORFLOW_US: f64 = 25.0;
const ONNX_US: f64 = 20.0;
/// No merging of requests: a call for each, as in the bare loop.
const SERVER: [&str; 2] = ["--batch-rows-max", "1"];
const PATH: &str = "/v2/models/model/infer";

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let made = models::make(Framework::Tensorflow, scale)?;
    let library = runtime("tensorflow-2.21.0/libtensorflow_cc.so.2")?;
    let bare_us = {
        let (input, output) = made
            .said
            .trim()
            .split_once(' ')
            .ok_or("the script named no input and output")?;
        let mut bare = Tensorflow::load(&library, &made.model(), input, output, &first(&made)?)?;
        call_us(&mut bare, made.answers[0], scale)?
    };
    let (_dir, server) = serve(&made)?;
    grpc::check(server.address, &made)?;
    for n_connections in CONNECTIONS {
        let before = server.usage().cpu_s;
        let n_answers = grpc::closed_loop(server.address, &made, n_connections, time(scale))?;
        let us = (server.usage().cpu_s - before) / n_answers as f64 * 1e6;
        let case = format!("TensorFlow by gRPC, c={n_connections}");
        figures(report, &case, [us, bare_us], TENSORFLOW_US)?;
    }
    drop(server);

    let made = models::make(Framework::Onnx, scale)?;
    let library = runtime("onnx-1.31.1/libonnxruntime.so")?;
    let mut bare = Onnx::load(&library, &made.model().join("model.onnx"), &first(&made)?)?;
    let bare_us = call_us(&mut bare, made.answers[0], scale)?;
    drop(bare);
    let (_dir, server) = serve(&made)?;
    let headers = vec![(
        "inference-header-content-length".to_owned(),
        made.text("head")?,
    )];
    for (body, wanted) in load::bodies(&made.bodies())?.iter().zip(&made.answers) {
        let answer = server.post(PATH, &headers, body)?;
        // One number, in binary, behind the JSON.
        let number = answer.last_chunk().ok_or("an empty answer")?;
        models::same(f64::from(f32::from_le_bytes(*number)), *wanted)?;
    }
    for n_connections in CONNECTIONS {
        let plan = Plan {
            path: PATH.to_owned(),
            headers: headers.clone(),
            ..rest::plan(&server, &made, n_connections, scale)
        };
        let before = server.usage().cpu_s;
        let seen = plan.run().and_then(Seen::all_good)?;
        let us = (server.usage().cpu_s - before) / seen.n_all as f64 * 1e6;
        let case = format!("ONNX by binary tensors, c={n_connections}");
        figures(report, &case, [us, bare_us], ONNX_US)?;
    }
    Ok(())
}

fn time(scale: Scale) -> Duration {
    Duration::from_secs(scale.pick(1, 5, 15))
}

/// The server on one model.
fn serve(made: &Made) -> Result<(tempfile::TempDir, Process), Failure> {
    let dir = tempfile::tempdir()?;
    made.publish(&dir.path().join("model"), 1)?;
    let server = process::moonshot(dir.path(), &SERVER)?;
    Ok((dir, server))
}

/// The library that the server loads, too.
fn runtime(path: &str) -> Result<PathBuf, Failure> {
    let kept = e2e::python::cache().join("runtimes");
    let library = kept.join(path);
    if !library.exists() {
        let installed = Command::new(e2e::installation::moonshot())
            .args(["serve", "runtimes", "install", "--runtimes"])
            .arg(&kept)
            .output()?;
        if !installed.status.success() {
            let text = String::from_utf8_lossy(&installed.stderr);
            return Err(format!("no runtime was installed: {text}").into());
        }
    }
    Ok(library)
}

fn first(made: &Made) -> Result<Vec<f32>, Failure> {
    let mut rows = made.rows()?;
    rows.truncate(rows.len() / made.answers.len());
    Ok(rows)
}

/// Processor time of a call: the median of rounds.
fn call_us(bare: &mut dyn Bare, wanted: f64, scale: Scale) -> Result<f64, Failure> {
    const CALLS: u32 = 2_000;
    models::same(f64::from(bare.call()?), wanted)?;
    let mut rounds = Vec::new();
    for _ in 0..scale.pick(2, 25, 100) {
        let before = thread_cpu_s();
        for _ in 0..CALLS {
            bare.call()?;
        }
        rounds.push((thread_cpu_s() - before) / f64::from(CALLS) * 1e6);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

/// Processor time of this thread.
pub(crate) fn thread_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn figures(
    report: &mut Report,
    case: &str,
    [server_us, bare_us]: [f64; 2],
    aim: f64,
) -> Result<(), Failure> {
    note(format!(
        "{case}: {server_us:.1} µs of processor time an answer, the bare call {bare_us:.1} µs"
    ));
    let cpu = Figure::new(case, "cpu_us", server_us, "µs", Better::Lower);
    report.add(cpu.beside("bare C call", bare_us))?;
    let over = Figure::new(
        case,
        "over_bare_us",
        server_us - bare_us,
        "µs",
        Better::Lower,
    );
    report.add(over.aim(aim))
}
