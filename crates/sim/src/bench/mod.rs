//! How fast and how well the core decides: synthetic clusters and traces, one core.
//!
//! Each bench gives figures of the form of [`Line`]. Wall time is that of `apply` and `decide` alone.
//! Absolute figures say little on a shared machine, so speeds stand beside a calibrator that runs in
//! the same process ([`fn@calibrate::calibrate`]). Figures of quality (waits, allocation) depend on the seed
//! alone and are the same everywhere.

mod calibrate;
mod churn;
mod cluster;
mod defrag;
mod fairness;
mod line;
mod lives;
mod memory;
mod mig;
mod reclaim;
mod speed;
mod traces;

pub use line::{Better, Line};

use thiserror::Error;

/// How long benches may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// About a minute each at most: fewer seeds, parts of traces.
    Quick,
    /// As the published set-ups are.
    Full,
}

/// A bench that could not be run.
#[derive(Debug, Error)]
pub enum BenchError {
    /// There is none of that name.
    #[error("unknown bench `{0}`; `moonshot sim bench --list` names them")]
    Unknown(String),
    /// A trace could not be read.
    #[error(transparent)]
    Data(#[from] crate::DataError),
    /// The traces are not there.
    #[error("skipped: `{bench}` needs `{file}` under MOONSHOT_DATA")]
    Missing {
        /// The bench.
        bench: &'static str,
        /// The file under the folder of traces.
        file: &'static str,
    },
}

type Run = fn(Effort) -> Result<Vec<Line>, BenchError>;

/// All benches. `sched.memory` goes first: it measures the process.
const BENCHES: &[(&str, &str, Run)] = &[
    (
        "sched.memory",
        "100,000 nodes with 1,000,000 running tasks",
        memory::memory,
    ),
    (
        "sched.basic",
        "single pods on 5,000 and 100,000 nodes",
        speed::basic,
    ),
    (
        "sched.gang",
        "identical gangs on up to 20,000 nodes",
        speed::gang,
    ),
    (
        "sched.constraints",
        "anti-affinity, affinity and spread on 5,000 nodes",
        speed::constraints,
    ),
    (
        "sched.topology",
        "gangs of four in one of 50 racks",
        speed::topology,
    ),
    (
        "sched.reclaim_large",
        "one gang takes a tenth of a full cluster",
        reclaim::large,
    ),
    (
        "sched.reclaim_many",
        "4,000 tasks take back 4,000 GPUs",
        reclaim::many,
    ),
    (
        "sched.starvation",
        "a flood of small jobs and a gang every half hour",
        fairness::starvation,
    ),
    (
        "sched.cohorts",
        "Kueue's generator: 30 queues, 15,000 workloads",
        fairness::cohorts,
    ),
    (
        "sched.churn",
        "steady arrivals, ends and heartbeats on 10,000 nodes",
        churn::churn,
    ),
    (
        "sched.tidal",
        "a week of Apps and Jobs on 2,000 GPUs",
        lives::tidal,
    ),
    (
        "sched.rdma",
        "the DLRM trace: GPUs, cores and network",
        lives::rdma,
    ),
    (
        "sched.elastic",
        "elastic against rigid jobs on the Philly trace",
        lives::elastic,
    ),
    ("sched.eta", "how far off the expected start is", lives::eta),
    (
        "sched.defrag",
        "openb after departures: what a few moves give",
        defrag::defrag,
    ),
    ("sched.mig", "parts of GPUs that come and go", mig::mig),
    (
        "sched.openb",
        "GPU allocation on five published lists",
        traces::openb,
    ),
    (
        "sched.philly",
        "waits on the Philly trace at 88x8 and 80x8",
        traces::philly,
    ),
];

/// Names and descriptions.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    BENCHES.iter().map(|(name, what, _)| (*name, *what))
}

/// Runs the benches that `ids` name, each by its name or a prefix of it, in the order of [`list`].
/// `done` is called with the lines of each as soon as they are there.
pub fn run(
    ids: &[&str],
    effort: Effort,
    mut done: impl FnMut(&'static str, Result<Vec<Line>, BenchError>),
) -> Result<(), BenchError> {
    let matches = |name: &str, id: &str| name.starts_with(id) && !id.is_empty();
    for id in ids {
        if !BENCHES.iter().any(|(name, ..)| matches(name, id)) {
            return Err(BenchError::Unknown((*id).to_owned()));
        }
    }
    for (name, _, run) in BENCHES {
        // A whole name is that bench alone, although it may begin another's name.
        let exact = ids.contains(name);
        let by_prefix =
            |id: &&str| matches(name, id) && !BENCHES.iter().any(|(other, ..)| other == id);
        if exact || ids.iter().any(by_prefix) {
            done(name, run(effort));
        }
    }
    Ok(())
}
