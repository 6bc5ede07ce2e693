//! Microsoft's Philly trace (Jeon et al., USENIX ATC 2019; the derived table of the Pollux artefact):
//! how long jobs wait on a cluster of nodes with eight GPUs.
//!
//! Jobs of up to eight GPUs run on one node, larger ones on whole nodes and the remainder on one more.
//! Run times are known to the simulation alone; only the oracle's order is made from them.

use crate::cells::Table;
use crate::data::DataError;
use crate::life::{Happening, Life, Outcome, Pace, Saves, Work};
use crate::policy::Policy;
use crate::specs;
use base::{Span, Time};
use sched::*;
use std::path::Path;

/// A job of the trace, in order of arrival.
#[derive(Clone, Debug)]
pub struct Job {
    /// When it came.
    pub submitted: Time,
    /// How long it runs.
    pub runs: Span,
    /// How many GPUs.
    pub gpus: u64,
    /// Whose it is.
    pub owner: String,
}

/// Whose jobs stand in which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// All in one.
    One,
    /// One for each owner, all with the same weight.
    Owners,
}

/// Reads the jobs.
pub fn read(path: &Path) -> Result<Vec<Job>, DataError> {
    let table = Table::read(path)?;
    let mut jobs = Vec::new();
    for line in table.lines() {
        let stamp = line.text("timestamp")?.replacen(' ', "T", 1);
        let submitted: Time = format!("{stamp}Z")
            .parse()
            .map_err(|_| line.bad("timestamp", &stamp))?;
        let seconds: f64 = line.number("duration")?;
        jobs.push(Job {
            submitted,
            runs: Span::from_ms((seconds.max(1.0) * 1_000.0) as u64),
            gpus: line.number("num_gpus")?,
            owner: line.text("cluster")?.to_owned(),
        });
    }
    jobs.sort_by_key(|job| job.submitted);
    Ok(jobs)
}

/// Lives through the jobs on `nodes` nodes of `gpus` GPUs. Who asks for more than there is never starts.
pub fn run(
    jobs: &[Job],
    (nodes, gpus): (u32, u64),
    queues: Queues,
    policy: &mut dyn Policy,
) -> Outcome {
    let pace = Pace {
        tick: None,
        sample: Some(Span::from_secs(6 * 3_600)),
        told: false,
    };
    let mut life = Life::new(policy, pace);
    let begin = jobs.first().map_or(Time::default(), |job| job.submitted);
    cluster(&mut life, begin, nodes, gpus);
    let mut owners: Vec<&str> = jobs.iter().map(|job| queue(job, queues)).collect();
    owners.sort_unstable();
    owners.dedup();
    for name in owners {
        life.at(begin, Happening::Queue(specs::queue(name)));
    }
    for (number, job) in jobs.iter().enumerate() {
        life.arrive(work(number as u64, job, gpus, queue(job, queues)));
    }
    life.run(None);
    life.finish()
}

/// A pool of equal nodes.
pub(crate) fn cluster(life: &mut Life<'_>, begin: Time, nodes: u32, gpus: u64) {
    let pool = specs::pool("gpu", DeviceMode::Counted, &[]);
    life.at(begin, Happening::Fact(Event::Pool(pool)));
    for id in 0..nodes {
        let has = specs::amount(0, 0, gpus * 1_000);
        let node = specs::node(id, format!("node-{id}"), "gpu", has);
        life.at(begin, Happening::Node(node));
    }
}

fn queue(job: &Job, queues: Queues) -> &str {
    match queues {
        Queues::Owners => &job.owner,
        Queues::One => "all",
    }
}

/// Whole nodes, then the remainder on one more.
pub(crate) fn groups(job_gpus: u64, gpus: u64) -> Vec<GroupSpec> {
    let (whole, rest) = ((job_gpus / gpus) as u32, job_gpus % gpus);
    let mut groups = Vec::new();
    if whole > 0 {
        groups.push(specs::group(whole, specs::amount(0, 0, gpus * 1_000)));
    }
    if rest > 0 {
        groups.push(specs::group(1, specs::amount(0, 0, rest * 1_000)));
    }
    groups
}

/// A job as work: a stop costs it nothing, so that a policy that stops others is not the worse for it.
pub(crate) fn work(number: u64, job: &Job, gpus: u64, queue: &str) -> Work {
    let spec = TaskSpec {
        name: format!("job-{number}"),
        preemptible: true,
        checkpoints: true,
        ..specs::task(number, queue, job.submitted, groups(job.gpus, gpus))
    };
    Work {
        spec,
        runs: Some(job.runs),
        saves: Saves {
            every: None,
            on_stop: Some(Span::ZERO),
        },
        loads: Span::ZERO,
        class: "job".to_owned(),
    }
}
