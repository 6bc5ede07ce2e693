//! What others may read of the scheduler's books.

use crate::amount::Amount;
use crate::cluster::NodeIdx;
use crate::decision::{DeviceShare, Placement};
use crate::event::{NodeId, SlotId, TaskId};
use crate::pool::PoolIdx;
use crate::sched::Sched;

impl Sched {
    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.waiting.count
    }

    /// How many decisions are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// What a queue and all below it use of a pool; `None` where either is unknown.
    pub fn queue_used(&self, queue: &str, pool: &str) -> Option<base::Resources> {
        let queue = self.ledger.find(queue)?;
        let pool = self.cluster.find_pool(pool)?;
        let used = self.ledger.used(queue, pool);
        Some(self.resources(&used, pool))
    }

    /// How many tasks wait in a queue and below it.
    pub fn queue_waiting(&self, queue: &str) -> usize {
        let found = self.ledger.find(queue);
        found.map_or(0, |queue| self.ledger.queue(queue).waiting)
    }

    /// What a node has and what is free of it; `None` for one that is unknown.
    pub fn node_usage(&self, node: NodeId) -> Option<(base::Resources, base::Resources)> {
        let node = self.cluster.find_node(node)?;
        let at = node.0 as usize;
        let pool = self.cluster.nodes.pool[at];
        Some((
            self.resources(&self.cluster.nodes.capacity[at], pool),
            self.resources(&self.cluster.nodes.free[at], pool),
        ))
    }

    /// Thousandths left of each named device of a node, by position.
    pub fn devices_left(&self, node: NodeId) -> Vec<i32> {
        let Some(node) = self.cluster.find_node(node) else {
            return Vec::new();
        };
        let devices = &self.cluster.nodes.devices[node.0 as usize];
        let present = devices.iter().filter(|device| !device.missing);
        present.map(|device| device.left).collect()
    }

    /// The seats that a task holds, with their devices.
    pub fn placements(&self, task: TaskId) -> Vec<Placement> {
        let Some(idx) = self.tasks.find(task) else {
            return Vec::new();
        };
        let held = self.tasks.get(idx).held.iter();
        held.map(|held| self.placement(held.slot, held.node, &held.shares))
            .collect()
    }

    pub(crate) fn placement(
        &self,
        slot: SlotId,
        node: NodeIdx,
        shares: &[DeviceShare],
    ) -> Placement {
        Placement {
            slot,
            node: self.cluster.nodes.id[node.0 as usize],
            devices: shares.to_vec(),
        }
    }

    fn resources(&self, amount: &Amount, pool: PoolIdx) -> base::Resources {
        use crate::amount::{CPU, EXTENDED, GPU, MEMORY};
        let unsigned = |lane: usize| amount.0[lane].max(0) as u64;
        let extended = self.cluster.pool(pool).extended.iter().enumerate();
        base::Resources {
            cpu: base::MilliCpu(unsigned(CPU)),
            memory: base::Bytes(unsigned(MEMORY)),
            gpu_milli: unsigned(GPU),
            extended: extended
                .map(|(at, name)| {
                    let name = self.cluster.names.text(*name).to_owned();
                    (name, unsigned(EXTENDED + at))
                })
                .filter(|(_, amount)| *amount > 0)
                .collect(),
        }
    }
}
