//! `serve.overload`: twice the requests that the server can answer, at random times whatever it answers (open loop). Good is
//! an answer within 100 ms of when its request was due; what counts is how many of those are left a second, beside the
//! most that the server answers when nobody asks for more.

use super::load::{Plan, Seen};
use super::models::{self, Framework, Made};
use super::process::{self, Process};
use super::rest;
use crate::report::{Better, Figure, Report};
use crate::{Failure, Scale, note};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_millis(100);
/// Of the peak.
const GOODPUT: f64 = 0.9;
/// At which the peak is measured.
const PEAK_CONNECTIONS: usize = 64;
/// A request that is due while all of these wait for answers is given up.
const CONNECTIONS: usize = 256;
/// Rows of the case in which the model takes most of the time.
const ROWS: usize = 128;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let made = models::make(Framework::Xgboost, scale)?;
    let dir = tempfile::tempdir()?;
    let repository = dir.path().join("models");
    made.publish(&repository.join("model"), 1)?;
    let many = dir.path().join("bodies");
    let head = many_rows(&made, &many)?;
    // What one worker's queue may hold: a request that would wait longer than its deadline is refused at once.
    let server = process::moonshot(&repository, &["--queue-max", "64"])?;
    rest::check(&server, &made)?;
    let one = rest::plan(&server, &made, PEAK_CONNECTIONS, scale);
    let binary = Plan {
        headers: vec![("inference-header-content-length".to_owned(), head)],
        bodies: many,
        ..one.clone()
    };
    for (name, plan) in [("1 row", one), (&format!("{ROWS} rows"), binary)] {
        case(report, name, &server, plan)?;
    }
    Ok(())
}

fn case(report: &mut Report, name: &str, server: &Process, plan: Plan) -> Result<(), Failure> {
    let peak = plan.run().and_then(Seen::all_good)?;
    let twice = 2.0 * peak.rate();
    let mut headers = plan.headers.clone();
    headers.push((
        "x-moonshot-timeout-ms".to_owned(),
        DEADLINE.as_millis().to_string(),
    ));
    let overload = Plan {
        headers,
        n_connections: CONNECTIONS,
        rate: Some(twice),
        deadline: Some(DEADLINE),
        ..plan
    };
    let seen = overload.run()?;
    note(format!(
        "{name}: peak {:.0}/s, at {twice:.0}/s {:.0}/s good, {} refused, {} late, {} given up, {} wrong; the load itself took {:.2} of a core",
        peak.rate(),
        seen.rate(),
        seen.n_refused,
        seen.n_late,
        seen.n_lost,
        seen.n_wrong,
        seen.cpu_s / seen.seconds
    ));
    let case = format!("{name}, twice the peak");
    report.add(Figure::rate(&case, seen.rate()).beside("its peak", peak.rate()))?;
    let share = Figure::ratio(&case, seen.rate() / peak.rate());
    report.add(share.beside("its peak", 1.0).aim(GOODPUT))?;
    report.add(Figure::ms(&case, "p99_ms", seen.p99_ms))?;
    let wrong = Figure::new(&case, "errors", seen.n_wrong as f64, "", Better::Lower);
    report.add(wrong.aim(0.0))?;
    // It serves as before.
    server.get("/v2/models/model/ready").map(drop)
}

/// Requests with many rows, in binary: the length of their heads.
fn many_rows(made: &Made, dir: &Path) -> Result<String, Failure> {
    std::fs::create_dir(dir)?;
    let rows = made.rows()?;
    let n_cols = rows.len() / made.answers.len();
    let mut length = 0;
    for (at, rows) in rows.chunks_exact(ROWS * n_cols).enumerate() {
        let data: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let head = json!({
            "inputs": [{
                "name": "input", "shape": [ROWS, n_cols], "datatype": "FP32",
                "parameters": { "binary_data_size": data.len() },
            }],
            "parameters": { "binary_data_output": true },
        });
        let head = head.to_string().into_bytes();
        length = head.len();
        let path: PathBuf = dir.join(format!("{at:04}"));
        std::fs::write(path, [head, data].concat())?;
    }
    Ok(length.to_string())
}
