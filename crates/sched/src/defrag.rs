//! Joining scattered GPUs in steps that nothing else needs: one task at a time is asked to move.
//!
//! A move is worth the fall of the expected loss on both nodes (see `fragmentation.rs`), for as long as
//! that is expected to last, and costs the GPU time between the stop and the new start. Only single
//! members that consent, save their work and have run their minimum are moved, within the budgets of
//! the settings and of Apps. The task comes back as a new one and is placed like any other; scores lead
//! it to where the move wanted it.

use crate::amount::GPU;
use crate::cluster::NodeIdx;
use crate::config::Defrag;
use crate::decide::Budget;
use crate::decision::{Decision, EvictReason};
use crate::event::TaskId;
use crate::sched::Sched;
use crate::task::{Stage, TaskIdx};
use base::{Span, Time};
use std::collections::BTreeSet;

/// After a look at everything nothing is looked at again for so long.
const PERIOD: Span = Span::from_secs(60);

/// Seconds from a stop to the new start, besides the grace.
const RESTART_S: i64 = 10;

/// How far the search has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Where the next call goes on; `None` between two searches.
    next: Option<TaskIdx>,
    finished: Option<Time>,
    moving: BTreeSet<TaskId>,
}

impl Sched {
    /// Asks tasks to move, if there is nothing better to do.
    pub(crate) fn join_scattered(
        &mut self,
        now: Time,
        budget: &mut Budget,
        decisions: &mut Vec<Decision>,
    ) {
        let Some(rule) = self.config.defrag else {
            return;
        };
        if !decisions.is_empty() || budget.is_spent() || !self.waiting.ready_queues().is_empty() {
            return;
        }
        let waits = self
            .defrag
            .finished
            .is_some_and(|end| now.since(end) < PERIOD);
        if self.defrag.next.is_none() && waits {
            return;
        }
        let tasks = &self.tasks;
        self.defrag.moving.retain(|id| {
            let found = tasks.find(*id);
            found.is_some_and(|idx| tasks.get(idx).evicting().is_some())
        });
        let from = self.defrag.next.unwrap_or(TaskIdx(0));
        // A node takes part in one move at a time: the next one is weighed on what it has become.
        let mut touched: BTreeSet<NodeIdx> = BTreeSet::new();
        for id in &self.defrag.moving {
            if let Some(idx) = self.tasks.find(*id) {
                touched.extend(self.tasks.get(idx).held.iter().map(|held| held.node));
            }
        }
        for at in from.0..self.tasks.len() {
            let idx = TaskIdx(at);
            let full = self.defrag.moving.len() >= rule.moves_max as usize;
            if budget.is_spent() || full || !self.may_stop_more(1, now) {
                self.defrag.next = Some(idx);
                return;
            }
            budget.spend(1);
            if !self.is_movable(idx, now) {
                continue;
            }
            // To weigh a move costs about as much as to place a member.
            budget.spend(4);
            let source = self.tasks.get(idx).held[0].node;
            if touched.contains(&source) {
                continue;
            }
            let Some(target) = self.worth_moving(idx, rule, &touched) else {
                continue;
            };
            touched.extend([source, target]);
            self.defrag.moving.insert(self.tasks.get(idx).id);
            let decision = self.evict(idx, EvictReason::Defragmented, None, now);
            decisions.push(decision);
        }
        self.defrag.next = None;
        self.defrag.finished = Some(now);
    }

    fn is_movable(&self, idx: TaskIdx, now: Time) -> bool {
        let Some(task) = self.tasks.get_living(idx) else {
            return false;
        };
        let within_budget = task
            .disruption()
            .is_none_or(|(app, most)| self.disrupted.get(&app).copied().unwrap_or(0) < most);
        task.stage == Stage::Running
            && task.evicting().is_none()
            && !task.withdrawn
            && task.preemptible
            && task.checkpoints
            && task.held.len() == 1
            && task.held[0].releasing.is_none()
            && now.since(task.started) >= task.min_runtime
            && within_budget
    }

    /// The node that a task would better be on, if the gain is worth the cost.
    fn worth_moving(
        &mut self,
        idx: TaskIdx,
        rule: Defrag,
        touched: &BTreeSet<NodeIdx>,
    ) -> Option<NodeIdx> {
        let task = self.tasks.get(idx);
        let (slot, source, grace) = (task.held[0].slot, task.held[0].node, task.grace);
        let shares = task.held[0].shares.clone();
        let class = self.class_of(task.shape, slot);
        let pool = self.cluster.nodes.pool[source.0 as usize];
        let amount = self.seat_amount(class, source);
        if amount.0[GPU] <= 0 || self.cluster.nodes.devices[source.0 as usize].is_empty() {
            return None;
        }
        let (target, ask) = self.with_board(class, pool, |board, sched| {
            let nodes = &sched.cluster.nodes;
            for node in touched.iter().chain([&source]) {
                if nodes.pool[node.0 as usize] == pool {
                    board.skip(nodes.position[node.0 as usize] as usize);
                }
            }
            (board.best(), board.ask.clone())
        });
        let target = self.cluster.pool(pool).members[target?];
        let picked = self.choose_devices(target, &ask, pool)?;
        let loss = |sched: &Sched, node| sched.typical.loss_on(node, pool, &sched.cluster);
        let before = loss(self, source)? + loss(self, target)?;
        self.cluster.lend(source, &amount, &shares, true);
        self.cluster.lend(target, &amount, &picked, false);
        let after = (loss(self, source), loss(self, target));
        self.cluster.lend(target, &amount, &picked, true);
        self.cluster.lend(source, &amount, &shares, false);
        let gain_milli = before - after.0? - after.1?;
        let seconds = |span: Span| (span.as_ms() / 1_000) as i64;
        let gain = gain_milli.saturating_mul(seconds(rule.horizon));
        let cost = amount.0[GPU].saturating_mul(RESTART_S + seconds(grace));
        let enough = gain > 0 && gain >= cost.saturating_mul(i64::from(rule.gain_by_cost_min));
        enough.then_some(target)
    }
}
