//! `serve.rest`: one row of a model of XGBoost through JSON over HTTP, the same bytes to each server, from 1, 16 and 64
//! connections that ask as fast as they are answered.

use super::load::{self, Plan, Seen};
use super::models::{self, Framework, Made};
use super::peers::{self, FASTAPI, MLSERVER};
use super::process::{self, Process};
use crate::report::{Better, Figure, Report};
use crate::{Failure, Scale, note};
use serde_json::Value;
use std::time::Duration;

const PATH: &str = "/v2/models/model/infer";
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// The aims are asked at so many connections.
const ASKED_AT: usize = 16;
const OVER_MLSERVER: f64 = 15.0;
const P99_UNDER_MLSERVER: f64 = 5.0;
const OVER_FASTAPI: f64 = 4.0;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let made = models::make(Framework::Xgboost, scale)?;
    let dir = tempfile::tempdir()?;
    let repository = dir.path().join("models");
    made.publish(&repository.join("model"), 1)?;
    let mut servers = vec![("moonshot", process::moonshot(&repository, &[])?)];
    if scale != Scale::Smoke {
        servers.push((
            MLSERVER,
            peers::mlserver(&made, &dir.path().join("mlserver"))?,
        ));
        servers.push((FASTAPI, peers::fastapi(&made, &dir.path().join("fastapi"))?));
    }
    for (name, server) in &servers {
        check(server, &made).map_err(|error| format!("{name}: {error}"))?;
    }
    for n_connections in CONNECTIONS {
        let mut all = Vec::new();
        for (name, server) in &servers {
            let plan = plan(server, &made, n_connections, scale);
            let before = server.usage().cpu_s;
            let seen = plan.run().and_then(Seen::all_good);
            let seen = seen.map_err(|error| format!("{name}: {error}"))?;
            let cpu_s = server.usage().cpu_s - before;
            note(format!(
                "{name}, {n_connections} connections: {:.0}/s, the load itself took {:.2} of a core",
                seen.rate(),
                seen.cpu_s / seen.seconds
            ));
            figures(report, name, n_connections, &seen, cpu_s)?;
            all.push(seen);
        }
        ratios(report, n_connections, &all)?;
    }
    for (name, server) in &servers {
        let used = server.usage();
        let case = format!("{name}, after the load, {} processes", used.n_processes);
        report.add(Figure::new(
            case,
            "rss_mb",
            used.rss_mb,
            "MB",
            Better::Lower,
        ))?;
    }
    Ok(())
}

/// Every answer is the framework's own.
pub(crate) fn check(server: &Process, made: &Made) -> Result<(), Failure> {
    for (body, wanted) in load::bodies(&made.bodies())?.iter().zip(&made.answers) {
        let answer = server.post(PATH, &headers(), body)?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let got = answer["outputs"][0]["data"][0].as_f64();
        models::same(got.ok_or_else(|| format!("no number: {answer}"))?, *wanted)?;
    }
    Ok(())
}

fn headers() -> Vec<(String, String)> {
    vec![("content-type".to_owned(), "application/json".to_owned())]
}

/// As fast as it is answered.
pub(crate) fn plan(server: &Process, made: &Made, n_connections: usize, scale: Scale) -> Plan {
    Plan {
        address: server.address,
        path: PATH.to_owned(),
        headers: headers(),
        bodies: made.bodies(),
        n_connections,
        rate: None,
        deadline: None,
        warm: Duration::from_millis(scale.pick(50, 1_000, 2_000)),
        time: Duration::from_millis(scale.pick(200, 3_000, 10_000)),
    }
}

fn figures(
    report: &mut Report,
    name: &str,
    n_connections: usize,
    seen: &Seen,
    cpu_s: f64,
) -> Result<(), Failure> {
    let case = format!("{name}, c={n_connections}");
    report.add(Figure::rate(&case, seen.rate()))?;
    report.add(Figure::ms(&case, "p50_ms", seen.p50_ms))?;
    report.add(Figure::ms(&case, "p99_ms", seen.p99_ms))?;
    let cpu_us = cpu_s / seen.n_all as f64 * 1e6;
    report.add(Figure::new(&case, "cpu_us", cpu_us, "µs", Better::Lower))
}

/// Ours is the first; how much better it is than the others.
fn ratios(report: &mut Report, n_connections: usize, all: &[Seen]) -> Result<(), Failure> {
    let [ours, mlserver, fastapi] = all else {
        return Ok(());
    };
    let aims = [
        (
            MLSERVER,
            "requests/s",
            ours.rate() / mlserver.rate(),
            OVER_MLSERVER,
        ),
        (
            MLSERVER,
            "p99",
            mlserver.p99_ms / ours.p99_ms,
            P99_UNDER_MLSERVER,
        ),
        (
            FASTAPI,
            "requests/s",
            ours.rate() / fastapi.rate(),
            OVER_FASTAPI,
        ),
    ];
    for (peer, what, ratio, aim) in aims {
        let case = format!("{what}, c={n_connections}");
        let figure = Figure::ratio(case, ratio).beside(peer, 1.0);
        let is_asked = n_connections == ASKED_AT;
        report.add(if is_asked { figure.aim(aim) } else { figure })?;
    }
    Ok(())
}
