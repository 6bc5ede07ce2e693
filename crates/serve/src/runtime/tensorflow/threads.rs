//! In which threads a model is faster, found out before it is ready.

use super::TensorFlow;
use super::c::Threads;
use crate::runtime::probe;
use std::time::{Duration, Instant};

/// Runs that are timed, each way.
const RUNS: usize = 15;
/// A model that takes longer is not slowed down by handing over.
const TIMED_MAX: Duration = Duration::from_millis(20);

/// The faster of the two ways, by the median of a few runs.
pub(super) fn faster(model: &TensorFlow, at: usize) -> Threads {
    let Some(inputs) = probe::rows(&model.signatures[at], &[1]) else {
        return Threads::Pool;
    };
    let median = |threads: Threads| -> Option<Duration> {
        // The first run of a graph makes it ready.
        model.run_in(at, threads, &inputs).ok()?;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let begun = Instant::now();
            model.run_in(at, threads, &inputs).ok()?;
            times.push(begun.elapsed());
            if times[0] > TIMED_MAX {
                break;
            }
        }
        times.sort();
        times.get(times.len() / 2).copied()
    };
    match (median(Threads::Caller), median(Threads::Pool)) {
        (Some(caller), Some(pool)) if pool < caller => Threads::Pool,
        _ => Threads::Caller,
    }
}
