//! Taking seats back from elastic tasks before anybody is stopped.
//!
//! What an elastic task holds above its minimum it got because nobody else could use it. It gives it
//! back, the highest index first, to whoever is entitled to it: an equal or higher priority of its
//! queue, a queue below its guarantee, a queue whose share is not larger even afterwards. Each such
//! step lowers the number of seats above minima, so they end.

use crate::answers::Pending;
use crate::claims::Claimant;
use crate::decision::{Decision, DecisionKind, EvictReason};
use crate::event::SlotId;
use crate::place::{Kept, Seat, Undo};
use crate::sched::Sched;
use crate::task::{Stage, TaskIdx};
use base::Time;
use std::collections::BTreeMap;

/// The most seats that one claim looks at.
const SEATS_MAX: usize = 4_096;

/// The most trials to spare seats that turned out not to be needed.
const TRIALS_MAX: usize = 256;

/// Seats to take back, in the order in which they go.
type Surplus = Vec<(TaskIdx, SlotId, EvictReason)>;

impl Sched {
    /// Takes seats above minima back for a gang that was refused, if that is enough for it.
    pub(crate) fn shrink_for(
        &mut self,
        claimant: &Claimant,
        now: Time,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        if !self.config.shrinks || self.elastic.is_empty() {
            return false;
        }
        let surplus = self.surplus_for(claimant);
        let Some((taken, seats)) = self.fewest(claimant, surplus) else {
            return false;
        };
        let mut by_task: BTreeMap<TaskIdx, (EvictReason, Vec<SlotId>)> = BTreeMap::new();
        for (idx, slot, reason) in taken {
            let (_, slots) = by_task.entry(idx).or_insert((reason, Vec::new()));
            slots.push(slot);
        }
        let on_behalf_of = self.tasks.get(claimant.task).id;
        let mut latest = now;
        let mut victims = Vec::new();
        for (idx, (reason, mut slots)) in by_task {
            slots.sort_unstable();
            let id = self.next_id();
            let task = self.tasks.get_mut(idx);
            let (task_id, deadline) = (task.id, now + task.grace);
            latest = latest.max(deadline);
            victims.push(task_id);
            for slot in &slots {
                if let Ok(at) = self.tasks.get(idx).find(*slot) {
                    self.tasks.get_mut(idx).held[at].releasing = Some(deadline);
                }
                self.mark_shrinking(idx, *slot, true);
            }
            let pending = Pending::Shrink {
                task: task_id,
                slots: slots.clone(),
            };
            self.pending.insert(id, pending);
            decisions.push(Decision {
                id,
                kind: DecisionKind::Evict {
                    task: task_id,
                    slots,
                    reason,
                    on_behalf_of: Some(on_behalf_of),
                    deadline,
                },
            });
        }
        self.nominate_one(claimant.task, seats, victims, latest, decisions);
        true
    }

    /// Seats above minima that the claimant is entitled to: of the lowest priority and the youngest
    /// tasks first, and of each task from its highest index down.
    fn surplus_for(&mut self, claimant: &Claimant) -> Surplus {
        let mut tasks: Vec<(i32, std::cmp::Reverse<Time>, crate::event::TaskId, TaskIdx)> = self
            .elastic
            .iter()
            .map(|idx| (*idx, self.tasks.get(*idx)))
            .filter(|(idx, task)| {
                let parts = &self.classes.shape(task.shape).parts;
                let least: usize = parts.iter().map(|part| part.min as usize).sum();
                let has_more = task.held.len() > least;
                let runs = task.stage == Stage::Running && task.evicting().is_none();
                has_more && runs && *idx != claimant.task
            })
            .map(|(idx, task)| (task.priority, std::cmp::Reverse(task.started), task.id, idx))
            .collect();
        tasks.sort_unstable();
        let mut surplus = Surplus::new();
        for (.., idx) in tasks {
            let Some(reason) = self.may_shrink(claimant, idx) else {
                continue;
            };
            let task = self.tasks.get(idx);
            let parts = &self.classes.shape(task.shape).parts;
            for (group, part) in parts.iter().enumerate() {
                let mut held: Vec<SlotId> = task
                    .held
                    .iter()
                    .filter(|held| held.slot.group as usize == group && held.releasing.is_none())
                    .map(|held| held.slot)
                    .collect();
                held.reverse();
                let above = held.len().saturating_sub(part.min as usize);
                let here = |slot: &SlotId| {
                    let at = task.find(*slot).ok()?;
                    let node = task.held[at].node;
                    Some(self.cluster.nodes.pool[node.0 as usize] == claimant.pool)
                };
                let of_pool = held
                    .iter()
                    .take(above)
                    .filter(|slot| here(slot) == Some(true));
                surplus.extend(of_pool.map(|slot| (idx, *slot, reason)));
            }
            if surplus.len() >= SEATS_MAX {
                surplus.truncate(SEATS_MAX);
                break;
            }
        }
        surplus
    }

    /// The first seats that are enough, less those that can be spared; with the seats of the claimant.
    fn fewest(
        &mut self,
        claimant: &Claimant,
        mut surplus: Surplus,
    ) -> Option<(Surplus, Vec<Seat>)> {
        self.fits_after(claimant, &surplus)?;
        let (mut few, mut many) = (0, surplus.len());
        while many - few > 1 {
            let middle = few + (many - few) / 2;
            if self.fits_after(claimant, &surplus[..middle]).is_some() {
                many = middle;
            } else {
                few = middle;
            }
        }
        surplus.truncate(many);
        // A seat can be spared only after those of its group with lower indexes.
        let mut trials = 0;
        let mut at = surplus.len();
        while at > 0 && trials < TRIALS_MAX {
            at -= 1;
            let (idx, slot, _) = surplus[at];
            let lower_goes = surplus[at + 1..]
                .iter()
                .any(|(other, s, _)| *other == idx && s.group == slot.group);
            if lower_goes {
                continue;
            }
            let mut fewer = surplus.clone();
            fewer.remove(at);
            trials += 1;
            if self.fits_after(claimant, &fewer).is_some() {
                surplus = fewer;
            }
        }
        if surplus.is_empty() {
            return None;
        }
        let seats = self.fits_after(claimant, &surplus)?;
        Some((surplus, seats))
    }

    /// The claimant's seats, were these given back. Nothing is changed.
    fn fits_after(
        &mut self,
        claimant: &Claimant,
        given: &[(TaskIdx, SlotId, EvictReason)],
    ) -> Option<Vec<Seat>> {
        let start = self.savepoint();
        for (idx, slot, _) in given {
            self.let_seat_go(*idx, *slot);
        }
        let parts = self.parts_of(claimant.task).into_iter();
        let parts: Vec<_> = parts.map(|(class, min, _)| (class, min, min)).collect();
        let closed: Vec<_> = self
            .pool_order
            .iter()
            .copied()
            .filter(|p| *p != claimant.pool)
            .collect();
        let seats = self
            .place_gang(claimant.queue, &parts, &[], &closed, &Kept::new())
            .ok();
        self.roll_back(start);
        seats
    }

    /// Lets one seat go, within the transaction.
    fn let_seat_go(&mut self, idx: TaskIdx, slot: SlotId) {
        let task = self.tasks.get(idx);
        let Ok(at) = task.find(slot) else { return };
        let (queue, shape, node) = (task.queue, task.shape, task.held[at].node);
        let shares = task.held[at].shares.to_vec();
        let class = self.class_of(shape, slot);
        let amount = self.seat_amount(class, node);
        let pool = self.cluster.nodes.pool[node.0 as usize];
        self.give_seat(node, class, &shares);
        self.journal.push(Undo::Gave {
            node,
            class,
            shares,
        });
        self.ledger.subtract(queue, pool, &amount);
        self.journal.push(Undo::Freed {
            queue,
            pool,
            amount,
        });
    }

    /// Notes that a single seat is on its way out, or no longer is.
    pub(crate) fn mark_shrinking(&mut self, idx: TaskIdx, slot: SlotId, add: bool) {
        let changed = if add {
            self.shrinking.insert((idx, slot))
        } else {
            self.shrinking.remove(&(idx, slot))
        };
        let task = self.tasks.get(idx);
        let (queue, shape) = (task.queue, task.shape);
        let Ok(at) = task.find(slot) else { return };
        if changed {
            let node = task.held[at].node;
            let class = self.class_of(shape, slot);
            let amount = self.seat_amount(class, node);
            let pool = self.cluster.nodes.pool[node.0 as usize];
            self.ledger.count_leaving(queue, pool, &amount, add);
        }
    }

    /// Whether any single seat of a task is on its way out.
    pub(crate) fn is_shrinking(&self, idx: TaskIdx) -> bool {
        let from = (idx, SlotId { group: 0, index: 0 });
        let first = self.shrinking.range(from..).next();
        first.is_some_and(|(other, _)| *other == idx)
    }

    /// The whole task stops: its single seats no longer count apart.
    pub(crate) fn forget_shrinking(&mut self, idx: TaskIdx) {
        let from = (idx, SlotId { group: 0, index: 0 });
        let mine: Vec<SlotId> = self
            .shrinking
            .range(from..)
            .take_while(|(other, _)| *other == idx)
            .map(|(_, slot)| *slot)
            .collect();
        for slot in mine {
            self.mark_shrinking(idx, slot, false);
        }
    }

    /// After the last seat that was taken back has ended, the task may grow again from what it holds.
    pub(crate) fn settle_shrunk(&mut self, idx: TaskIdx) {
        if self.is_shrinking(idx) {
            return;
        }
        let task = self.tasks.get_mut(idx);
        for (group, given) in task.given.iter_mut().enumerate() {
            let held = task
                .held
                .iter()
                .filter(|held| held.slot.group as usize == group);
            *given = held.map(|held| held.slot.index + 1).max().unwrap_or(0);
        }
        self.note_growing(idx);
    }
}
