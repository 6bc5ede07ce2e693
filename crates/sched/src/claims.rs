//! Who may stop whom: the rules of preemption and reclaim, and what a stop costs.
//!
//! Three claims exist. A higher *priority* of the same queue stops a lower one. A queue below its
//! *guarantee* takes back what siblings use over theirs. A queue with a smaller *fair share* takes
//! from one that stays ahead of it even afterwards. Each strictly lowers a potential, so evictions
//! between two events are finite: `docs/decisions/0010-evictions-are-finite.md`.

use crate::amount::{Amount, CPU, GPU};
use crate::cluster::PoolIdx;
use crate::decide::{SHARE_ONE, scale};
use crate::decision::EvictReason;
use crate::ledger::QueueIdx;
use crate::sched::Sched;
use crate::task::{Stage, Task, TaskIdx};
use base::Time;

/// Somebody who wants room in a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    pub(crate) task: TaskIdx,
    pub(crate) queue: QueueIdx,
    pub(crate) priority: i32,
    pub(crate) pool: PoolIdx,
    /// What all members that must start ask for.
    pub(crate) ask: Amount,
    /// How many tasks like it claim together.
    pub(crate) gangs: u32,
}

impl Claimant {
    /// The resource that the claim is about.
    fn lane(&self) -> usize {
        if self.ask.0[GPU] > 0 { GPU } else { CPU }
    }
}

impl Sched {
    /// Whether the claimant may stop a running task now, and by what right.
    pub(crate) fn may_stop(
        &mut self,
        claimant: &Claimant,
        victim: TaskIdx,
        now: Time,
    ) -> Option<EvictReason> {
        let task = self.tasks.get(victim);
        if victim == claimant.task || task.stage != Stage::Running || task.evicting().is_some() {
            return None;
        }
        if let Some((app, most)) = task.disruption()
            && self.disrupted.get(&app).copied().unwrap_or(0) >= most
        {
            return None;
        }
        let consents = task.preemptible && now.since(task.started) >= task.min_runtime;
        let (queue, priority) = (task.queue, task.priority);
        let lane = claimant.lane();
        let gives = self.held_amount(victim, claimant.pool).0[lane];
        let Some((ours, theirs)) = self.ledger.rivals(claimant.queue, queue) else {
            let lower = consents && priority < claimant.priority;
            return lower.then_some(EvictReason::Preempted);
        };
        if gives <= 0 {
            return None;
        }
        let pool = claimant.pool;
        let ask = claimant.ask.0[lane];
        let used = self.ledger.staying(ours, pool).0[lane];
        let lines = self.ledger.lines(ours, pool, &self.cluster);
        let (guaranteed, weight) = (lines.guaranteed.0[lane], lines.weight.max(1));
        let their_used = self.ledger.staying(theirs, pool).0[lane];
        let lines = self.ledger.lines(theirs, pool, &self.cluster);
        let (their_guaranteed, their_weight) = (lines.guaranteed.0[lane], lines.weight.max(1));
        if guaranteed > 0 && used + ask <= guaranteed {
            // The promise was made to us; whoever is over his own has it on loan.
            return (their_used > their_guaranteed).then_some(EvictReason::Reclaimed);
        }
        if !consents {
            return None;
        }
        let whole = self.cluster.pool(pool).capacity.0[lane];
        let share = |used: i64, guaranteed: i64, weight: i64| {
            scale((used - guaranteed).max(0), whole).min(SHARE_ONE * 1_000) / weight
        };
        let ours_after = share(used + ask, guaranteed, weight);
        let theirs_after = share(their_used - gives, their_guaranteed, their_weight);
        // They stay ahead of us even afterwards; equal is not ahead, so nothing goes back and forth.
        (ours_after < theirs_after).then_some(EvictReason::FairShare)
    }

    /// What a task holds in a pool.
    pub(crate) fn held_amount(&self, idx: TaskIdx, pool: PoolIdx) -> Amount {
        let task = self.tasks.get(idx);
        let mut sum = Amount::ZERO;
        for held in &task.held {
            if self.cluster.nodes.pool[held.node.0 as usize] == pool {
                let class = self.class_of(task.shape, held.slot);
                sum += &self.seat_amount(class, held.node);
            }
        }
        sum
    }

    /// What it costs to stop a task: first its priority, then the work that is lost, in seconds of a
    /// core or a thousand GPU seconds, with ten seconds for each member that starts again.
    pub(crate) fn stop_cost(&self, idx: TaskIdx, now: Time) -> i64 {
        let task: &Task = self.tasks.get(idx);
        let ran = (now.since(task.started).as_ms() / 1_000).min(1 << 24) as i64;
        let lost = if task.checkpoints { 0 } else { ran };
        let members = task.held.len() as i64;
        let work = (lost + 10) * members;
        (i64::from(task.priority) << 40).saturating_add(work.min(1 << 40))
    }
}
