//! Capacity that is kept: for the task that waits longest (reservation), and for the task that others
//! are being stopped for (nomination).
//!
//! A reservation is EASY backfill (Lifka 1995) on nodes rather than on a total: the first gang that
//! does not fit in a pool keeps the nodes where it will fit soonest. Whoever ends before that, or
//! leaves enough on those nodes, may start meanwhile; nobody else may touch them. A nomination goes
//! further: its seats are taken already, so that nodes show less than nothing free until the victims
//! are gone.

use crate::answers::Pending;
use crate::cluster::NodeIdx;
use crate::config::Backfill;
use crate::decision::{Decision, DecisionKind, EvictReason};
use crate::event::TaskId;
use crate::place::{Kept, Refusal, Seat};
use crate::pool::PoolIdx;
use crate::room::{Leavers, Room};
use crate::sched::Sched;
use crate::task::{Evicting, Stage, TaskIdx};
use base::{Span, Time};
use std::collections::BTreeMap;

/// A plan is made afresh at most this often: better nodes may have turned up.
const REPLAN: Span = Span::from_secs(60);

/// Nodes kept for the first gang that waits for a pool.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub(crate) task: TaskId,
    /// What of each kept node others may still use for long.
    pub(crate) kept: Kept,
    /// When it will start at the latest, if all whom it waits for declared an end.
    pub(crate) shadow: Option<Time>,
    planned: Time,
}

/// Seats that are taken for a task before they are free.
#[derive(Clone, Debug)]
pub(crate) struct Nomination {
    pub(crate) seats: Vec<Seat>,
    pub(crate) victims: Vec<TaskId>,
    pub(crate) deadline: Time,
    until: Time,
    /// The gains of its pool when it was last tried.
    tried: u64,
}

impl Sched {
    // ---- reservations ----

    /// What a task must leave alone.
    pub(crate) fn kept_from(&self, idx: TaskIdx, now: Time) -> Kept {
        let mut kept = Kept::new();
        if self.reservations.is_empty() {
            return kept;
        }
        let task = self.tasks.get(idx);
        for (pool, reservation) in &self.reservations {
            let holder_idx = self.tasks.find(reservation.task);
            let holder = holder_idx.map(|idx| self.tasks.get(idx));
            let outranked = holder.is_none_or(|holder| holder.priority < task.priority);
            let ends_before = match (reservation.shadow, task.time_limit) {
                (Some(shadow), Some(limit)) => now + limit <= shadow,
                (Some(_) | None, _) => false,
            };
            if reservation.task == task.id || outranked || task.readmit || ends_before {
                continue;
            }
            // A promise weighs more than a place in the queue, unless the other has one too.
            if holder_idx.is_none_or(|holder| self.is_owed_before(idx, holder, *pool)) {
                continue;
            }
            kept.extend(reservation.kept.iter().map(|(node, left)| (*node, *left)));
        }
        kept
    }

    /// Notes that somebody who stays longer was let onto kept nodes.
    pub(crate) fn use_kept(&mut self, idx: TaskIdx, seats: &[Seat], now: Time) {
        let long = self.kept_from(idx, now);
        for seat in seats.iter().filter(|seat| long.contains_key(&seat.node)) {
            let class = self.class_of(self.tasks.get(idx).shape, seat.slot);
            let amount = self.seat_amount(class, seat.node);
            for reservation in self.reservations.values_mut() {
                if let Some(left) = reservation.kept.get_mut(&seat.node) {
                    *left -= &amount;
                }
            }
        }
    }

    /// Drops plans whose task no longer waits for them.
    pub(crate) fn refresh_reservations(&mut self) {
        let (tasks, nominations) = (&self.tasks, &self.nominations);
        let mut dropped = Vec::new();
        self.reservations.retain(|pool, reservation| {
            let waits = tasks
                .find(reservation.task)
                .is_some_and(|idx| tasks.get(idx).stage == Stage::Waiting);
            let stays = waits && !nominations.contains_key(&reservation.task);
            if !stays {
                dropped.push(*pool);
            }
            stays
        });
        for pool in dropped {
            self.waiting.wake_pool(pool);
        }
    }

    /// Keeps nodes for a gang that was refused, if nobody else has the pool's reservation.
    pub(crate) fn reserve(&mut self, idx: TaskIdx, pool: PoolIdx, refusal: Refusal, now: Time) {
        if self.config.backfill == Backfill::Never {
            return;
        }
        let id = self.tasks.get(idx).id;
        match self.reservations.get(&pool) {
            Some(held) if held.task != id => {
                // Whoever waits longest has it, across queues: so every wait has a bound.
                let holder = self.tasks.find(held.task);
                let holder = holder.map(|idx| self.tasks.get(idx).age());
                if holder.is_some_and(|holder| holder <= self.tasks.get(idx).age()) {
                    return;
                }
            }
            Some(_) if matches!(refusal, Refusal::Quota(_)) => {
                // A quota holds it now, so nodes are not what it waits for.
                self.reservations.remove(&pool);
                return;
            }
            Some(held) if now.since(held.planned) < REPLAN => return,
            Some(_) | None => {}
        }
        if !matches!(
            refusal,
            Refusal::Full | Refusal::Topology | Refusal::Reserved
        ) {
            return;
        }
        let claimant = self.claimant(idx, pool, 1);
        let Some(room) = self.find_room(&claimant, Leavers::Everybody, now) else {
            self.reservations.remove(&pool);
            return;
        };
        if room.leavers.is_empty() {
            self.reservations.remove(&pool);
            return;
        }
        let start = self.savepoint();
        let mut last = 0;
        for (leaver, _) in &room.leavers {
            last = last.max(self.end_of(*leaver, now));
            self.let_go(*leaver);
        }
        let mut kept: BTreeMap<NodeIdx, crate::amount::Amount> = BTreeMap::new();
        for seat in &room.seats {
            let class = self.class_of(self.tasks.get(idx).shape, seat.slot);
            let amount = self.seat_amount(class, seat.node);
            let free = self.cluster.nodes.free[seat.node.0 as usize];
            *kept.entry(seat.node).or_insert(free) -= &amount;
        }
        self.roll_back(start);
        let shadow = (!Sched::is_endless(last)).then(|| now + Span::from_ms(last as u64));
        let reservation = Reservation {
            task: id,
            kept,
            shadow,
            planned: now,
        };
        self.reservations.insert(pool, reservation);
    }

    // ---- nominations ----

    /// Stops others for a gang that was refused, where it has the right to. Identical gangs that are
    /// next in line are served in one search: `run` are the tasks, the refused one first.
    pub(crate) fn make_room(
        &mut self,
        run: &[TaskIdx],
        pool: PoolIdx,
        now: Time,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let first = self.claimant(run[0], pool, 1);
        if self.shrink_for(&first, now, decisions) {
            return true;
        }
        if !self.has_claims(&first) {
            // Whatever starts next may give a right that is not there now.
            self.unmet_claims.insert(pool);
            return false;
        }
        let mut count = run.len();
        while count > 0 {
            let run = &run[..count];
            let mut claimant = self.claimant(run[0], pool, count as u32);
            claimant.patient = self.is_patient(&first, now);
            if let Some(room) = self.find_room(&claimant, Leavers::Victims, now)
                && (count == 1 || self.is_one_for_one(&room, run))
                && !self.would_be_taken_back(&claimant, &room, now)
                && self.nominate(run, room, now, decisions)
            {
                return true;
            }
            // A search for many that fails is repeated for few; one alone is always weighed.
            count = if count > 1 { (count / 8).max(1) } else { 0 };
        }
        self.unmet_claims.insert(pool);
        false
    }

    /// Whether each task of a run takes one seat and needs just one victim on that node for it. Only
    /// then is a claim in common minimal for each of them.
    fn is_one_for_one(&mut self, room: &Room, run: &[TaskIdx]) -> bool {
        let pairs = room.seats.len() == run.len()
            && room.leavers.len() == run.len()
            && room.coming.is_empty();
        if !pairs {
            return false;
        }
        let mut open: BTreeMap<NodeIdx, usize> = BTreeMap::new();
        for seat in &room.seats {
            *open.entry(seat.node).or_default() += 1;
        }
        let shape = self.tasks.get(run[0]).shape;
        room.leavers.iter().all(|(victim, _)| {
            let held = &self.tasks.get(*victim).held;
            let [only] = &**held else {
                return false;
            };
            let node = only.node;
            let Some(seats) = open.get_mut(&node).filter(|seats| **seats > 0) else {
                return false;
            };
            *seats -= 1;
            let pool = self.cluster.nodes.pool[node.0 as usize];
            let class = self.classes.shape(shape).parts[0].class;
            let ask = self.cluster.ask(self.classes.class(class), pool);
            let fits_anyway = self.cluster.count_fits(node, &ask, 1) == 1;
            self.lend_seats(*victim, node, true);
            let fits = self.cluster.count_fits(node, &ask, 1) == 1;
            self.lend_seats(*victim, node, false);
            fits && !fits_anyway
        })
    }

    fn nominate(
        &mut self,
        run: &[TaskIdx],
        room: Room,
        now: Time,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        if room.leavers.is_empty() {
            // Nobody need be stopped: what is on its way will do, or a reservation keeps it out.
            return false;
        }
        let over_quota = room
            .leavers
            .iter()
            .filter(|(_, reason)| *reason != EvictReason::Reclaimed)
            .count() as u32;
        if over_quota > 0 && !self.may_stop_more(over_quota, now) {
            let next = Time::from_ms((now.as_ms() / 60_000 + 1) * 60_000);
            let node = room.seats.first().map(|seat| seat.node);
            if let Some(node) = node {
                self.look_again_at(self.cluster.nodes.pool[node.0 as usize], next);
            }
            return false;
        }
        // Each task of the run gets its part of the seats, and the victims on their nodes.
        let each = room.seats.len() / run.len();
        let mut victims_on: BTreeMap<NodeIdx, Vec<TaskIdx>> = BTreeMap::new();
        let mut reasons: BTreeMap<TaskIdx, EvictReason> = BTreeMap::new();
        for (victim, reason) in &room.leavers {
            reasons.insert(*victim, *reason);
            for held in &self.tasks.get(*victim).held {
                victims_on.entry(held.node).or_default().push(*victim);
            }
        }
        let mut latest = now;
        for idx in room.coming.iter().chain(reasons.keys()) {
            let task = self.tasks.get(*idx);
            let known = task.held.iter().filter_map(|held| held.releasing).max();
            latest = latest.max(known.unwrap_or(now + task.grace));
        }
        for (at, idx) in run.iter().enumerate() {
            let mut seats = room.seats[at * each..(at + 1) * each].to_vec();
            for (index, seat) in seats.iter_mut().enumerate() {
                if run.len() > 1 {
                    seat.slot.index = index as u32;
                }
            }
            let mut mine: Vec<TaskIdx> = Vec::new();
            for seat in &seats {
                for victim in victims_on.get(&seat.node).into_iter().flatten() {
                    if reasons.contains_key(victim) && !mine.contains(victim) {
                        mine.push(*victim);
                    }
                }
            }
            if at + 1 == run.len() {
                mine = reasons.keys().copied().collect();
            } else if run.len() > 1 {
                // Only as many as this one needs; the rest is for those who share the node.
                mine.truncate(seats.len());
            }
            let id = self.tasks.get(*idx).id;
            for victim in &mine {
                if let Some(reason) = reasons.remove(victim) {
                    let decision = self.evict(*victim, reason, Some(id), now);
                    decisions.push(decision);
                }
            }
            let mut victims: Vec<TaskId> = mine.iter().map(|idx| self.tasks.get(*idx).id).collect();
            if victims.is_empty() {
                victims.extend(room.coming.iter().map(|idx| self.tasks.get(*idx).id));
            }
            self.nominate_one(*idx, seats, victims, latest, decisions);
        }
        true
    }

    pub(crate) fn nominate_one(
        &mut self,
        idx: TaskIdx,
        seats: Vec<Seat>,
        victims: Vec<TaskId>,
        deadline: Time,
        decisions: &mut Vec<Decision>,
    ) {
        let id = self.tasks.get(idx).id;
        let until = deadline + self.config.nomination_ttl;
        self.dequeue(idx);
        let mut nodes: Vec<_> = seats
            .iter()
            .map(|seat| self.cluster.nodes.id[seat.node.0 as usize])
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let pool = seats
            .first()
            .map(|seat| self.cluster.nodes.pool[seat.node.0 as usize]);
        let nomination = Nomination {
            seats,
            victims,
            deadline,
            until,
            tried: pool.map_or(0, |pool| self.cluster.pool(pool).gains),
        };
        self.count_nomination(idx, &nomination.seats, true);
        self.nominations.insert(id, nomination);
        let decision = self.next_id();
        self.pending
            .insert(decision, Pending::Nominate { task: id });
        decisions.push(Decision {
            id: decision,
            kind: DecisionKind::Nominate {
                task: id,
                nodes,
                until,
            },
        });
    }

    fn count_nomination(&mut self, idx: TaskIdx, seats: &[Seat], add: bool) {
        let (queue, shape) = (self.tasks.get(idx).queue, self.tasks.get(idx).shape);
        for seat in seats {
            let class = self.class_of(shape, seat.slot);
            let amount = self.seat_amount(class, seat.node);
            let pool = self.cluster.nodes.pool[seat.node.0 as usize];
            if add {
                self.take_seat(seat.node, class, &seat.shares);
                self.ledger.add(queue, pool, &amount);
            } else {
                self.give_seat(seat.node, class, &seat.shares);
                self.ledger.subtract(queue, pool, &amount);
            }
        }
    }

    /// Starts those whose seats are free by now, and gives up what was waited for too long.
    pub(crate) fn serve_nominations(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let ids: Vec<TaskId> = self.nominations.keys().copied().collect();
        for id in ids {
            let Some(idx) = self.tasks.find(id) else {
                self.nominations.remove(&id);
                continue;
            };
            let Some(mut nomination) = self.nominations.remove(&id) else {
                continue;
            };
            let node = nomination.seats.first().map(|seat| seat.node);
            let gains = node.map_or(0, |node| {
                let pool = self.cluster.nodes.pool[node.0 as usize];
                self.cluster.pool(pool).gains
            });
            if gains == nomination.tried && now <= nomination.until {
                self.nominations.insert(id, nomination);
                continue;
            }
            nomination.tried = gains;
            self.count_nomination(idx, &nomination.seats, false);
            let parts = self.parts_of(idx);
            match self.place_gang(self.tasks.get(idx).queue, &parts, &[], &[], &Kept::new()) {
                Ok(seats) => {
                    let decision = self.start(idx, seats, now);
                    decisions.push(decision);
                }
                Err(_) if now > nomination.until => {
                    self.enqueue(idx);
                }
                Err(_) => {
                    self.count_nomination(idx, &nomination.seats, true);
                    self.nominations.insert(id, nomination);
                }
            }
        }
    }

    /// Gives up a nomination; answers whether there was one.
    pub(crate) fn drop_nomination(&mut self, idx: TaskIdx) -> bool {
        let id = self.tasks.get(idx).id;
        let Some(nomination) = self.nominations.remove(&id) else {
            return false;
        };
        self.count_nomination(idx, &nomination.seats, false);
        for seat in &nomination.seats {
            let pool = self.cluster.nodes.pool[seat.node.0 as usize];
            self.cluster.pool_mut(pool).gains += 1;
        }
        true
    }

    // ---- evictions ----

    /// Whether so many more may be told to stop now: by how many are stopping, and how many were told in
    /// this minute. Guarantees, drains and reserved windows do not ask.
    pub(crate) fn may_stop_more(&self, more: u32, now: Time) -> bool {
        let (minute, told) = self.told_to_stop;
        let told = if minute == now.as_ms() / 60_000 {
            told
        } else {
            0
        };
        self.stopping.saturating_add(more) <= self.config.evictions_max
            && told.saturating_add(more) <= self.config.evictions_per_minute
    }

    /// Counts one that was told to stop and had to ask.
    pub(crate) fn note_told(&mut self, now: Time) {
        let minute = now.as_ms() / 60_000;
        let (last, told) = self.told_to_stop;
        let told = if last == minute { told } else { 0 };
        self.told_to_stop = (minute, told + 1);
    }

    /// Tells a task to stop.
    pub(crate) fn evict(
        &mut self,
        idx: TaskIdx,
        reason: EvictReason,
        on_behalf_of: Option<TaskId>,
        now: Time,
    ) -> Decision {
        let id = self.next_id();
        match reason {
            EvictReason::Preempted | EvictReason::FairShare | EvictReason::Defragmented => {
                self.note_told(now);
            }
            EvictReason::Reclaimed | EvictReason::Drained | EvictReason::Calendar => {}
        }
        self.forget_shrinking(idx);
        let task = self.tasks.get_mut(idx);
        let deadline = now + task.grace;
        task.set_evicting(Some(Evicting {
            reason,
            on_behalf_of,
        }));
        for held in &mut task.held {
            held.releasing = Some(deadline);
        }
        let task_id = task.id;
        self.count_stopping(idx, true);
        self.pending.insert(id, Pending::Evict { task: task_id });
        Decision {
            id,
            kind: DecisionKind::Evict {
                task: task_id,
                slots: Vec::new(),
                reason,
                on_behalf_of,
                deadline,
            },
        }
    }

    /// Notes that a task began to stop, or no longer does.
    pub(crate) fn count_stopping(&mut self, idx: TaskIdx, add: bool) {
        let task = self.tasks.get(idx);
        let (queue, shape) = (task.queue, task.shape);
        if let Some((app, _)) = task.disruption() {
            let count = self.disrupted.entry(app).or_default();
            *count = if add { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.disrupted.remove(&app);
            }
        }
        self.stopping = if add {
            self.stopping + 1
        } else {
            self.stopping - 1
        };
        let held: Vec<_> = self
            .tasks
            .get(idx)
            .held
            .iter()
            .map(|h| (h.slot, h.node))
            .collect();
        for (slot, node) in held {
            let class = self.class_of(shape, slot);
            let amount = self.seat_amount(class, node);
            let pool = self.cluster.nodes.pool[node.0 as usize];
            self.ledger.count_leaving(queue, pool, &amount, add);
        }
    }

    /// Stops what runs on drained nodes and sick devices, as far as disruption budgets allow.
    pub(crate) fn drain(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        for node in std::mem::take(&mut self.suspects) {
            let mut waits = false;
            for (idx, slot) in self.holders[node.0 as usize].clone() {
                let task = self.tasks.get(idx);
                if task.evicting().is_some() || !self.must_leave(idx, slot, node) {
                    continue;
                }
                let full = task.disruption().is_some_and(|(app, most)| {
                    self.disrupted.get(&app).copied().unwrap_or(0) >= most
                });
                if full || task.stage != Stage::Running {
                    waits = true;
                    continue;
                }
                let decision = self.evict(idx, EvictReason::Drained, None, now);
                decisions.push(decision);
            }
            if waits {
                self.suspects.insert(node);
            }
        }
    }

    fn must_leave(&self, idx: TaskIdx, slot: crate::event::SlotId, node: NodeIdx) -> bool {
        use crate::event::TaintEffect;
        let task = self.tasks.get(idx);
        let class = self.classes.class(self.class_of(task.shape, slot));
        let text = &self.cluster.nodes.text[node.0 as usize];
        let drained = text.taints.iter().any(|taint| {
            taint.effect == TaintEffect::NoExecute && !crate::ask::tolerated(&class.spec, taint)
        });
        let devices = &self.cluster.nodes.devices[node.0 as usize];
        let held = task.find(slot).ok().map(|at| &task.held[at].shares);
        let sick = held.into_iter().flatten().any(|share| {
            let device = devices.get(share.device as usize);
            device.is_some_and(|device| {
                let mut taints = device.taints().iter();
                !device.healthy
                    || taints.any(|taint| {
                        taint.effect == TaintEffect::NoExecute
                            && !crate::ask::tolerated(&class.spec, taint)
                    })
            })
        });
        drained || sick
    }
}
