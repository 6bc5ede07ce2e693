//! A quick look whether a claim could succeed at all, before the search for room looks at every task of a pool.
//!
//! Where nobody may stop anybody (one queue and one priority, a lender within his guarantee), whoever waits is
//! refused again at every gain. Each such refusal asks only what queues use and which priorities consent; the
//! search would look at all that runs, and find nothing. The look may err on one side: it may allow a search that
//! finds nobody, and never spares one that would.

use crate::claims::Claimant;
use crate::event::QueueOrder;
use crate::ledger::QueueIdx;
use crate::sched::Sched;
use crate::task::TaskIdx;
use std::collections::BTreeMap;

/// How many tasks hold something and consent to being stopped, by queue and priority.
#[derive(Debug, Default)]
pub(crate) struct Consenting {
    counts: BTreeMap<(QueueIdx, i32), u32>,
}

impl Consenting {
    fn count(&mut self, queue: QueueIdx, priority: i32, add: bool) {
        let count = self.counts.entry((queue, priority)).or_default();
        *count = if add { *count + 1 } else { *count - 1 };
        if *count == 0 {
            self.counts.remove(&(queue, priority));
        }
    }

    /// Whether anybody of the queue itself consents who has less than this priority.
    fn is_below(&self, queue: QueueIdx, priority: i32) -> bool {
        let mut below = self.counts.range((queue, i32::MIN)..(queue, priority));
        below.next().is_some()
    }
}

impl Sched {
    /// Notes that a task began to hold seats, or holds none any more.
    pub(crate) fn count_consent(&mut self, idx: TaskIdx, add: bool) {
        let task = self.tasks.get(idx);
        if task.preemptible {
            let (queue, priority) = (task.queue, task.priority);
            self.consenting.count(queue, priority, add);
        }
    }

    /// Whether anybody could be stopped for a claim.
    pub(crate) fn has_claims(&mut self, claimant: &Claimant) -> bool {
        let by_priority = self.tasks.get(claimant.task).rule != QueueOrder::Fifo;
        (by_priority && self.has_lower(claimant))
            || self.has_cells(claimant)
            || self.has_debtors(claimant)
    }

    /// Whether anybody with less priority consents in the claimant's queue, above it or below it.
    fn has_lower(&self, claimant: &Claimant) -> bool {
        let mut path = self.ledger.queue(claimant.queue).path.iter();
        if path.any(|queue| self.consenting.is_below(*queue, claimant.priority)) {
            return true;
        }
        let mut below = self.ledger.queue(claimant.queue).children.clone();
        let mut looked_at = 0;
        while let Some(queue) = below.pop() {
            looked_at += 1;
            // A circle of parents would go on for ever.
            let too_many = looked_at > self.ledger.queues.len();
            if too_many || self.consenting.is_below(queue, claimant.priority) {
                return true;
            }
            below.extend(&self.ledger.queue(queue).children);
        }
        false
    }

    /// Whether any node of the pool is guaranteed whole to a queue of the claimant.
    fn has_cells(&self, claimant: &Claimant) -> bool {
        let path = &self.ledger.queue(claimant.queue).path;
        self.cells.iter().any(|(node, owner)| {
            self.cluster.nodes.pool[node.0 as usize] == claimant.pool && path.contains(owner)
        })
    }

    /// Whether any queue beside the claimant's path uses more than it is guaranteed while the claimant is within his
    /// own guarantee, or would stay ahead of him by its share.
    fn has_debtors(&mut self, claimant: &Claimant) -> bool {
        let (pool, lane) = (claimant.pool, claimant.lane());
        let ask = claimant.ask.0[lane];
        let path = self.ledger.queue(claimant.queue).path.clone();
        for (at, queue) in path.iter().enumerate() {
            let ours = self.standing(*queue, pool, lane);
            let beside = match path.get(at + 1) {
                Some(parent) => self.ledger.queue(*parent).children.len(),
                None => self.ledger.tops.len(),
            };
            for number in 0..beside {
                let other = match path.get(at + 1) {
                    Some(parent) => self.ledger.queue(*parent).children[number],
                    None => self.ledger.tops[number],
                };
                if other == *queue || self.ledger.staying(other, pool).0[lane] <= 0 {
                    continue;
                }
                let theirs = self.standing(other, pool, lane);
                // Whatever its victim gives leaves it less: what it has now is the most.
                let stays_ahead = ours.share_with(ask) < theirs.share_with(0);
                if (ours.is_owed(ask) && theirs.owes()) || stays_ahead {
                    return true;
                }
            }
        }
        false
    }
}
