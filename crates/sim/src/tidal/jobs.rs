//! The jobs of the week: two weeks of the Philly trace laid over one another, three times, with seeded flags.

use super::{DRAIN, LOAD, NODE_GPUS};
use crate::dice::Dice;
use crate::life::{Saves, Work};
use crate::philly::{self, Job};
use crate::specs;
use base::{Span, Time};

/// Percent that can run with half of their members, percent that write checkpoints, and how often.
const ELASTIC_PERCENT: usize = 30;
const CHECKPOINT_PERCENT: usize = 70;
const CHECKPOINT_EVERY: Span = Span::from_secs(1_800);

/// The jobs of two weeks of October 2017 in one week, three times.
pub(super) fn jobs(trace: &[Job], seed: u64) -> Vec<(Job, bool, bool)> {
    let first = 1_507_507_200_000; // 2017-10-09T00:00Z
    let week = 7 * 86_400_000;
    let mut dice = Dice::new(seed ^ 0x70b5);
    let mut jobs = Vec::new();
    for copy in 0..3 {
        for job in trace {
            let since = job.submitted.as_ms() - first;
            if !(0..2 * week).contains(&since) {
                continue;
            }
            let mut job = job.clone();
            // Copies are a few minutes apart, so that they are not gangs.
            job.submitted = Time::from_ms(since % week + copy * 300_000);
            let elastic = job.gpus > 1 && dice.below(100) < ELASTIC_PERCENT;
            let saves = dice.below(100) < CHECKPOINT_PERCENT;
            jobs.push((job, elastic, saves));
        }
    }
    jobs.sort_by_key(|(job, ..)| job.submitted);
    jobs
}

/// Whoever cannot save its work does not consent to being stopped: only a guarantee may.
pub(super) fn work(number: u64, job: &Job, elastic: bool, saves: bool) -> Work {
    let mut work = philly::work(number, job, NODE_GPUS, "jobs");
    if elastic {
        let mut group = specs::group(job.gpus as u32, specs::amount(0, 0, 1_000));
        group.min = group.count.div_ceil(2);
        work.spec.groups = vec![group];
    }
    work.spec.grace = DRAIN;
    work.spec.checkpoints = saves;
    work.spec.preemptible = saves;
    work.saves = Saves {
        every: saves.then_some(CHECKPOINT_EVERY),
        on_stop: saves.then_some(LOAD),
    };
    work
}
