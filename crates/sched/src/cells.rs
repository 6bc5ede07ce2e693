//! Cells: nodes that are guaranteed to a queue as a whole.
//!
//! A quota in shapes ("two nodes of 8 A100") is bound to concrete nodes, the lowest numbers that have
//! the shape, afresh whenever nodes or queues change. Others are kept off them while there is room
//! elsewhere, and leave when the owner, still within his guarantee, needs the node (compare the cells of
//! HiveD, OSDI 2020). So a guarantee cannot be there in sum and missing in pieces.

use crate::amount::{GPU, LANES, SLOTS};
use crate::claims::Claimant;
use crate::cluster::NodeIdx;
use crate::event::TaintEffect;
use crate::ledger::{QueueIdx, quota_of};
use crate::names::Name;
use crate::pool::{HOLE, PoolIdx};
use crate::sched::Sched;
use crate::task::TaskIdx;
use std::collections::BTreeMap;

impl Sched {
    /// Binds nodes to the queues that they are guaranteed to, if anything changed.
    pub(crate) fn refresh_cells(&mut self) {
        if !std::mem::take(&mut self.cells_stale) {
            return;
        }
        let mut queues: Vec<QueueIdx> = (0..self.ledger.queues.len() as u32)
            .map(QueueIdx)
            .filter(|queue| {
                let spec = self.ledger.queue(*queue).spec.as_ref();
                spec.is_some_and(|spec| spec.quotas.values().any(|q| !q.shapes.is_empty()))
            })
            .collect();
        if queues.is_empty() && self.cells.is_empty() {
            return;
        }
        queues.sort_by(|a, b| self.ledger.queue(*a).name.cmp(&self.ledger.queue(*b).name));
        let mut cells = BTreeMap::new();
        for pool in self.pool_order.clone() {
            self.bind_in(pool, &queues, &mut cells);
        }
        let before = std::mem::replace(&mut self.cells, cells);
        let nodes: Vec<NodeIdx> = before.keys().chain(self.cells.keys()).copied().collect();
        for node in nodes {
            let bound = self.cells.contains_key(&node);
            if self.cluster.nodes.bound[node.0 as usize] != bound {
                self.cluster.nodes.bound[node.0 as usize] = bound;
                self.cluster.touch(node);
            }
        }
    }

    fn bind_in(
        &self,
        pool_idx: PoolIdx,
        queues: &[QueueIdx],
        cells: &mut BTreeMap<NodeIdx, QueueIdx>,
    ) {
        let pool = self.cluster.pool(pool_idx);
        let nodes = &self.cluster.nodes;
        let members = pool.members.iter().copied();
        let mut open: Vec<NodeIdx> = members
            .filter(|node| *node != HOLE && nodes.present[node.0 as usize])
            .filter(|node| {
                let text = &nodes.text[node.0 as usize];
                let soft = |effect| effect == TaintEffect::PreferNoSchedule;
                !text.unschedulable && text.taints.iter().all(|taint| soft(taint.effect))
            })
            .collect();
        open.sort_by_key(|node| nodes.id[node.0 as usize]);
        for queue in queues {
            let spec = self.ledger.queue(*queue).spec.as_ref();
            let shapes = quota_of(spec, &pool.name).map_or(&[][..], |quota| &quota.shapes);
            for shape in shapes {
                let each = self.cluster.amount(&shape.each, pool_idx);
                let model = self.cluster.names.find(&shape.gpu_model);
                let of_model = |models: &[(Name, i64)]| {
                    shape.gpu_model.is_empty()
                        || (!models.is_empty() && models.iter().all(|(m, _)| Some(*m) == model))
                };
                let mut left = shape.nodes;
                open.retain(|node| {
                    let at = node.0 as usize;
                    let large = (0..LANES)
                        .filter(|lane| *lane != SLOTS)
                        .all(|lane| nodes.capacity[at].0[lane] >= each.0[lane]);
                    let fits = large && (each.0[GPU] == 0 || of_model(&nodes.models[at]));
                    if left > 0 && fits {
                        left -= 1;
                        cells.insert(*node, *queue);
                        return false;
                    }
                    true
                });
            }
        }
    }

    /// Whether a task sits on a node that is guaranteed whole to the claimant, who is within his guarantee.
    pub(crate) fn is_in_a_cell_of(
        &mut self,
        claimant: &Claimant,
        victim: TaskIdx,
        lane: usize,
    ) -> bool {
        if self.cells.is_empty() {
            return false;
        }
        let theirs = self.ledger.queue(self.tasks.get(victim).queue).path.clone();
        let held = self.tasks.get(victim).held.iter();
        let mut owners: Vec<QueueIdx> = held
            .filter(|held| self.cluster.nodes.pool[held.node.0 as usize] == claimant.pool)
            .filter_map(|held| self.cells.get(&held.node).copied())
            .filter(|owner| !theirs.contains(owner))
            .collect();
        owners.retain(|owner| self.ledger.queue(claimant.queue).path.contains(owner));
        owners.dedup();
        owners.into_iter().any(|owner| {
            let used = self.ledger.staying(owner, claimant.pool).0[lane];
            let lines = self.ledger.lines(owner, claimant.pool, &self.cluster);
            used + claimant.ask.0[lane] <= lines.guaranteed.0[lane]
        })
    }
}
