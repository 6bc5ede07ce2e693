//! `serve.swap`: a model gets a new version every two seconds and another one, between them, too, at half of the
//! requests that the server can answer; beside the same load without. Then a thousand versions one after the other: what
//! stays in memory.

use super::load::{Plan, Seen};
use super::models::{self, Framework, Made};
use super::process::{self, Process};
use super::rest;
use crate::report::{Better, Figure, Report};
use crate::{Failure, Scale, note};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between a new version of the one model and of the other.
const HALF_TURN: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 256;
/// At which the peak is measured.
const PEAK_CONNECTIONS: usize = 16;
/// p99.9 may be this much longer.
const P999: f64 = 1.5;
const DRIFT_PERCENT: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(30);
/// Versions over which memory is looked at.
const WINDOW: usize = 20;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let made = models::make(Framework::Xgboost, scale)?;
    let dir = tempfile::tempdir()?;
    for name in ["model", "other"] {
        made.publish(&dir.path().join(name), 1)?;
    }
    let server = process::moonshot(dir.path(), &["--poll-ms", "10"])?;
    rest::check(&server, &made)?;
    let closed = rest::plan(&server, &made, PEAK_CONNECTIONS, scale);
    let peak = closed.run().and_then(Seen::all_good)?;
    let plan = Plan {
        n_connections: CONNECTIONS,
        rate: Some(peak.rate() / 2.0),
        time: Duration::from_secs(scale.pick(3, 12, 60)),
        ..closed
    };
    let still = plan.run()?;
    let load = plan.start()?;
    let n_swapped = swap_until(dir.path(), &made, &server, plan.warm + plan.time)?;
    let moving = load.wait()?;
    loaded(report, &still, &moving, n_swapped)?;
    drift(report, dir.path(), &made, &server, scale)
}

/// New versions of both models by turns; how many were put there. Each one is served when this ends.
fn swap_until(dir: &Path, made: &Made, server: &Process, time: Duration) -> Result<u64, Failure> {
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() + HALF_TURN < time {
        std::thread::sleep(HALF_TURN);
        let name = ["model", "other"][usize::try_from(n % 2)?];
        replace(dir, name, made, server, n / 2 + 2)?;
        n += 1;
    }
    Ok(n)
}

/// Puts a version there and waits until it answers; those before are deleted.
fn replace(
    dir: &Path,
    name: &str,
    made: &Made,
    server: &Process,
    number: u64,
) -> Result<(), Failure> {
    let model = dir.join(name);
    made.publish(&model, number)?;
    let path = format!("/v2/models/{name}/versions/{number}/ready");
    let begun = Instant::now();
    while let Err(error) = server.get(&path) {
        if begun.elapsed() > PATIENCE {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for entry in std::fs::read_dir(model)? {
        let entry = entry?;
        if entry.file_name() != *number.to_string() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn loaded(report: &mut Report, still: &Seen, moving: &Seen, n_swapped: u64) -> Result<(), Failure> {
    let n_errors = moving.n_wrong + moving.n_refused + moving.n_lost;
    note(format!(
        "{n_swapped} new versions under load: {n_errors} errors of {}, p99.9 {:.2} ms, without {:.2} ms ({} errors)",
        moving.n_all,
        moving.p999_ms,
        still.p999_ms,
        still.n_wrong + still.n_refused + still.n_lost,
    ));
    let case = "a version every 2 s and another model loads, half of the peak";
    let errors = Figure::new(case, "errors", n_errors as f64, "", Better::Lower);
    report.add(errors.aim(0.0))?;
    let peer = "the same load without";
    for (metric, with, without) in [
        ("p50_ms", moving.p50_ms, still.p50_ms),
        ("p99_ms", moving.p99_ms, still.p99_ms),
        ("max_ms", moving.max_ms, still.max_ms),
    ] {
        report.add(Figure::ms(case, metric, with).beside(peer, without))?;
    }
    let p999 = Figure::ms(case, "p999_ms", moving.p999_ms).beside(peer, still.p999_ms);
    report.add(p999.aim(P999 * still.p999_ms))
}

/// Version after version: memory at the hundredth and at the end.
fn drift(
    report: &mut Report,
    dir: &Path,
    made: &Made,
    server: &Process,
    scale: Scale,
) -> Result<(), Failure> {
    let n = scale.pick(60, 1_000, 1_000);
    let early = n / 10;
    let mut rss = Vec::new();
    for at in 0..n {
        replace(dir, "model", made, server, 1_000_000 + at as u64)?;
        rss.push(server.usage().rss_mb);
    }
    let [before, after] = [
        median(&rss[early - early.min(WINDOW)..early]),
        median(&rss[n - WINDOW..]),
    ];
    let percent = (after - before) / before * 100.0;
    note(format!(
        "{n} versions: {before:.1} MB after {early}, {after:.1} MB at the end"
    ));
    let case = format!("from version {early} to version {n}");
    report.add(Figure::new(&case, "rss_mb", after, "MB", Better::Lower).beside("then", before))?;
    let drift = Figure::new(&case, "drift_percent", percent, "%", Better::Lower);
    report.add(drift.aim(DRIFT_PERCENT))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
