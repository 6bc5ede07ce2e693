//! How a queue stands in one lane of a pool: what claims compare. Who may stop whom, who may take members back, and the
//! quick look before a search must mean the same by it.

use crate::decide::{SHARE_ONE, scale};
use crate::ledger::QueueIdx;
use crate::pool::PoolIdx;
use crate::sched::Sched;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// What it holds that does not leave anyway.
    used: i64,
    guaranteed: i64,
    weight: i64,
    /// What the pool has.
    whole: i64,
}

impl Standing {
    /// Whether it stays within its guarantee with so much more: then that was promised to it.
    pub(crate) fn is_owed(&self, more: i64) -> bool {
        self.guaranteed > 0 && self.used + more <= self.guaranteed
    }

    /// Whether it holds more than it is guaranteed, which is on loan.
    pub(crate) fn owes(&self) -> bool {
        self.used > self.guaranteed
    }

    /// Its weighted share of the pool above its guarantee, with so much more.
    pub(crate) fn share_with(&self, more: i64) -> i64 {
        let over = (self.used + more - self.guaranteed).max(0);
        scale(over, self.whole).min(SHARE_ONE * 1_000) / self.weight
    }
}

impl Sched {
    pub(crate) fn standing(&mut self, queue: QueueIdx, pool: PoolIdx, lane: usize) -> Standing {
        let used = self.ledger.staying(queue, pool).0[lane];
        let lines = self.ledger.lines(queue, pool, &self.cluster);
        Standing {
            used,
            guaranteed: lines.guaranteed.0[lane],
            weight: lines.weight.max(1),
            whole: self.cluster.pool(pool).capacity.0[lane],
        }
    }
}
