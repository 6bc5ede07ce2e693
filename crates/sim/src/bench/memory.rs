//! What the core's state weighs.

use super::cluster::{cluster, commit, task};
use super::{BenchError, Better, Effort, Line};
use base::Time;
use sched::Event;

/// The whole process is measured, so this bench runs before all others.
pub(crate) fn memory(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.memory";
    let mut core = cluster(100_000, 0, 1_000);
    for number in 0..1_000_000 {
        let spec = task(number, "a", 250 * (1 + number % 16), 0, 1);
        core.apply(Event::Task(spec));
    }
    // As the scheduler loop does it: a budget of steps a call.
    let mut placed = 0;
    loop {
        let decisions = core.decide(Time::from_ms(0), 20_000);
        if decisions.is_empty() {
            break;
        }
        commit(&mut core, &decisions);
        placed += decisions.len();
    }
    let case = format!("100000n-{placed} running");
    let line = |metric, field| {
        let mb = rss_mb(field).unwrap_or(f64::NAN);
        Line::new(ID, case.clone(), metric, mb, "MB", Better::Lower).aim(500.0)
    };
    let lines = vec![line("peak_mb", "VmHWM:"), line("rss_mb", "VmRSS:")];
    drop(core);
    Ok(lines)
}

/// A line of `/proc/self/status` in megabytes (of a million bytes).
pub(crate) fn rss_mb(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib * 1.024 / 1e3).round())
}
