//! The calendar: what queues will need, and who may be let in before.
//!
//! A promise is an amount of a pool at a time. At each step of it the promised queues have what they
//! were promised or use, whichever is more; all others that cannot be made to leave by then share the
//! rest. Whoever could be made to leave may run until then, and is told in time. Amounts are counted
//! for the pool as a whole, node by node they are left to claims and packing. Where a queue and one
//! above it are both promised something, the promises add up.

use crate::amount::{Amount, LANES, SLOTS};
use crate::decision::{Decision, EvictReason};
use crate::event::{CalendarEntry, SlotId};
use crate::ledger::QueueIdx;
use crate::pool::PoolIdx;
use crate::sched::Sched;
use crate::task::{Stage, Task, TaskIdx};
use base::{Span, Time};
use std::collections::BTreeMap;

/// The most entries; more are ignored.
const ENTRIES_MAX: usize = 1_024;

/// The most steps of one pool that are looked at, the earliest first.
const STEPS_MAX: usize = 1_024;

/// Steps further ahead are not looked at yet.
const HORIZON: Span = Span::from_secs(7 * 86_400);

/// Stops are planned this far ahead: the longest grace that is certain to be kept.
const AHEAD: Span = Span::from_secs(3_600);

/// Stops are ordered this much sooner than the grace asks for.
const EARLY: Span = Span::from_secs(30);

/// Nobody is let in who would be told to leave sooner than this.
const STAY_MIN: Span = Span::from_secs(60);

/// Whoever waits for a promise to end is tried again this often.
const RETRY: Span = Span::from_secs(60);

/// The end of who did not declare one.
const FOR_EVER: Time = Time::from_ms(i64::MAX >> 2);

/// Everything that was promised.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    entries: BTreeMap<String, CalendarEntry>,
    stale: bool,
    /// What cannot be made to leave before a time: by pool, promised queue and time.
    firm: BTreeMap<(PoolIdx, Option<QueueIdx>, Time), Amount>,
    /// Promised queues by pool.
    owners: BTreeMap<PoolIdx, Vec<QueueIdx>>,
    /// The steps ahead, by pool, as of the last decision.
    ahead: BTreeMap<PoolIdx, Vec<Moment>>,
    /// From when to when they are the same steps.
    holds: Option<(Time, Time)>,
    woken: Time,
}

impl Calendar {
    /// Whether anything of a pool is promised.
    pub(crate) fn promises(&self, pool: PoolIdx) -> bool {
        self.ahead.contains_key(&pool)
    }
}

/// A time at which promises are compared with what there will be.
#[derive(Clone, Debug)]
struct Moment {
    at: Time,
    /// The present: everything that is held counts.
    is_now: bool,
    /// Promised queues: what they were promised, and what they hold for certain.
    owners: Vec<(QueueIdx, Amount, Amount)>,
    others: Amount,
}

impl Moment {
    fn counts(&self, until: Time) -> bool {
        self.is_now || until > self.at
    }

    fn held(&mut self, owner: Option<QueueIdx>) -> &mut Amount {
        let found = self.owners.iter_mut().find(|(q, ..)| Some(*q) == owner);
        match found {
            Some((.., held)) => held,
            None => &mut self.others,
        }
    }

    /// The first lane that is promised and does not suffice for `ask` more.
    fn lacks(&self, owner: Option<QueueIdx>, ask: &Amount, capacity: &Amount) -> Option<usize> {
        (0..LANES).find(|lane| {
            let promised = self.owners.iter().any(|(_, a, _)| a.0[*lane] > 0);
            if !promised || ask.0[*lane] <= 0 {
                return false;
            }
            let mut sum = self.others.0[*lane];
            if owner.is_none() {
                sum = sum.saturating_add(ask.0[*lane]);
            }
            let mut before = self.others.0[*lane];
            for (queue, amount, held) in &self.owners {
                let more = if Some(*queue) == owner {
                    ask.0[*lane]
                } else {
                    0
                };
                let needs = |held: i64| amount.0[*lane].max(held);
                sum = sum.saturating_add(needs(held.0[*lane].saturating_add(more)));
                before = before.saturating_add(needs(held.0[*lane]));
            }
            // Whoever stays within what was promised to him makes nothing worse.
            sum > capacity.0[*lane] && sum > before
        })
    }
}

impl Sched {
    // ---- events ----

    pub(crate) fn set_calendar(&mut self, mut entry: CalendarEntry) {
        let entries = &mut self.calendar.entries;
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&entry.name) {
            return;
        }
        entry.steps.sort_by_key(|step| step.from);
        entries.insert(entry.name.clone(), entry);
        self.calendar.stale = true;
    }

    pub(crate) fn calendar_gone(&mut self, name: &str) {
        if self.calendar.entries.remove(name).is_some() {
            self.calendar.stale = true;
        }
    }

    /// Queues or pools changed, so that tasks may belong to other promises.
    pub(crate) fn calendar_changed(&mut self) {
        self.calendar.stale = !self.calendar.entries.is_empty();
    }

    // ---- what is held, and for how long ----

    fn promised_queue(&self, pool: PoolIdx, queue: QueueIdx) -> Option<QueueIdx> {
        let owners = self.calendar.owners.get(&pool)?;
        let mut path = self.ledger.queue(queue).path.iter();
        path.find(|above| owners.contains(above)).copied()
    }

    /// When a running task can be gone at the latest.
    fn firm_until(task: &Task) -> Time {
        let end = task.ends_by().unwrap_or(FOR_EVER);
        if task.preemptible {
            end.min(task.started + task.min_runtime + task.grace)
        } else {
            end
        }
    }

    /// Counts a seat that was taken or given back, where anything is promised.
    pub(crate) fn count_firm(&mut self, idx: TaskIdx, slot: SlotId, add: bool) {
        if self.calendar.owners.is_empty() {
            return;
        }
        let task = self.tasks.get(idx);
        let Ok(at) = task.find(slot) else { return };
        let (queue, until, node) = (task.queue, Self::firm_until(task), task.held[at].node);
        let class = self.class_of(task.shape, slot);
        let amount = self.seat_amount(class, node);
        let pool = self.cluster.nodes.pool[node.0 as usize];
        let owner = self.promised_queue(pool, queue);
        let calendar = &mut self.calendar;
        let change = |sum: &mut Amount| {
            if add {
                *sum += &amount;
            } else {
                *sum -= &amount;
            }
        };
        let key = (pool, owner, until);
        let sum = calendar.firm.entry(key).or_insert(Amount::ZERO);
        change(sum);
        if *sum == Amount::ZERO {
            calendar.firm.remove(&key);
        }
        for moment in calendar.ahead.get_mut(&pool).into_iter().flatten() {
            if moment.counts(until) {
                change(moment.held(owner));
            }
        }
    }

    fn recount_firm(&mut self) {
        self.calendar.stale = false;
        self.calendar.holds = None;
        self.calendar.firm.clear();
        self.calendar.owners.clear();
        self.calendar.ahead.clear();
        for entry in self.calendar.entries.values() {
            let queue = self.ledger.find(&entry.queue);
            let pool = self.cluster.find_pool(&entry.pool);
            if let (Some(queue), Some(pool)) = (queue, pool) {
                let owners = self.calendar.owners.entry(pool).or_default();
                if !owners.contains(&queue) {
                    owners.push(queue);
                }
            }
        }
        let seats: Vec<(TaskIdx, SlotId)> = self
            .tasks
            .iter()
            .flat_map(|(idx, task)| task.held.iter().map(move |held| (idx, held.slot)))
            .collect();
        for (idx, slot) in seats {
            self.count_firm(idx, slot, true);
        }
    }

    /// Brings the steps ahead up to date, and wakes who waited for one to pass.
    pub(crate) fn wake_for_calendar(&mut self, now: Time) {
        let count = self.calendar.entries.len();
        self.calendar.entries.retain(|_, entry| entry.until > now);
        if self.calendar.stale || self.calendar.entries.len() < count {
            for pool in self.calendar.owners.keys() {
                self.waiting.wake_pool(*pool);
            }
            self.recount_firm();
            self.calendar.woken = Time::from_ms(0);
        }
        if self.calendar.entries.is_empty() {
            return;
        }
        let holds = self.calendar.holds;
        if holds.is_some_and(|(from, until)| from <= now && now < until) {
            // What is held is counted as it changes; only the present moves on.
            for moment in self
                .calendar
                .ahead
                .values_mut()
                .filter_map(|m| m.first_mut())
            {
                moment.at = now;
            }
        } else {
            let owners = std::mem::take(&mut self.calendar.owners);
            self.calendar.ahead.clear();
            for (pool, queues) in &owners {
                let ahead = self.moments(*pool, queues, now);
                self.calendar.ahead.insert(*pool, ahead);
            }
            self.calendar.owners = owners;
            self.calendar.holds = Some((now, self.next_step(now)));
        }
        if now.since(self.calendar.woken) >= RETRY {
            self.calendar.woken = now;
            for pool in self.calendar.owners.keys() {
                self.waiting.wake_pool(*pool);
            }
        }
    }

    /// When a step begins, or comes near enough to be looked at.
    fn next_step(&self, now: Time) -> Time {
        let steps = self.calendar.entries.values().flat_map(|e| &e.steps);
        let moments = steps.flat_map(|step| {
            let seen = step.from.as_ms().saturating_sub(HORIZON.as_ms() as i64);
            // Where it is seen is the first moment that is later than this.
            [step.from, Time::from_ms(seen.saturating_add(1))]
        });
        moments.filter(|at| *at > now).min().unwrap_or(FOR_EVER)
    }

    fn moments(&self, pool: PoolIdx, queues: &[QueueIdx], now: Time) -> Vec<Moment> {
        let name = &self.cluster.pool(pool).name;
        let entries = self.calendar.entries.values();
        let mine: Vec<&CalendarEntry> = entries.filter(|entry| entry.pool == *name).collect();
        let mut times: Vec<Time> = mine
            .iter()
            .flat_map(|entry| entry.steps.iter().map(|step| step.from))
            .filter(|from| *from > now && *from < now + HORIZON)
            .collect();
        times.push(now);
        times.sort_unstable();
        times.dedup();
        times.truncate(STEPS_MAX);
        let mut moments: Vec<Moment> = times
            .into_iter()
            .map(|at| {
                let promised = |queue: &QueueIdx| {
                    let mut sum = Amount::ZERO;
                    for entry in &mine {
                        if self.ledger.find(&entry.queue) != Some(*queue) || entry.until <= at {
                            continue;
                        }
                        let step = entry.steps.iter().rev().find(|step| step.from <= at);
                        if let Some(step) = step {
                            sum += &self.cluster.amount(&step.amount, pool);
                        }
                    }
                    sum.0[SLOTS] = 0;
                    (*queue, sum, Amount::ZERO)
                };
                Moment {
                    at,
                    is_now: at == now,
                    owners: queues.iter().map(promised).collect(),
                    others: Amount::ZERO,
                }
            })
            .collect();
        let from = (pool, None, Time::from_ms(i64::MIN));
        for ((in_pool, owner, until), amount) in self.calendar.firm.range(from..) {
            if *in_pool != pool {
                break;
            }
            for moment in &mut moments {
                if moment.counts(*until) {
                    *moment.held(*owner) += amount;
                }
            }
        }
        moments
    }

    // ---- who may be let in ----

    /// The queue and the time for which `ask` more of a pool could not be given back, if there is one.
    pub(crate) fn promised_to(
        &self,
        idx: TaskIdx,
        pool: PoolIdx,
        ask: &Amount,
        now: Time,
    ) -> Option<(QueueIdx, Time)> {
        let task = self.tasks.get(idx);
        self.promised_if(idx, pool, ask, (task.time_limit, task.preemptible), now)
    }

    /// The same, if the task had this limit and consent.
    pub(crate) fn promised_if(
        &self,
        idx: TaskIdx,
        pool: PoolIdx,
        ask: &Amount,
        (limit, preemptible): (Option<Span>, bool),
        now: Time,
    ) -> Option<(QueueIdx, Time)> {
        let ahead = self.calendar.ahead.get(&pool)?;
        let task = self.tasks.get(idx);
        if task.readmit {
            return None;
        }
        let owner = self.promised_queue(pool, task.queue);
        let mut stays = limit.map_or(FOR_EVER, |limit| now + limit);
        if preemptible {
            stays = stays.min(now + task.min_runtime.max(STAY_MIN) + task.grace + EARLY);
        }
        let capacity = self.cluster.pool(pool).capacity;
        let short = ahead
            .iter()
            .take_while(|moment| moment.at < stays)
            .find(|moment| moment.lacks(owner, ask, &capacity).is_some())?;
        let lane = short.lacks(owner, ask, &capacity)?;
        let others = short.owners.iter().filter(|(q, ..)| Some(*q) != owner);
        let most = others.max_by_key(|(_, amount, _)| amount.0[lane])?;
        Some((most.0, short.at))
    }

    // ---- who must leave ----

    /// Stops who stands in the way of a promise, as late as the grace allows.
    pub(crate) fn drain_for_calendar(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let pools: Vec<PoolIdx> = self.calendar.ahead.keys().copied().collect();
        for pool in pools {
            let count = self.calendar.ahead.get(&pool).map_or(0, Vec::len);
            for at in 0..count {
                let Some(moment) = self.calendar.ahead.get(&pool).and_then(|m| m.get(at)) else {
                    break;
                };
                if moment.at > now + AHEAD {
                    break;
                }
                let moment = moment.clone();
                self.drain_for(pool, &moment, now, decisions);
            }
        }
    }

    fn drain_for(
        &mut self,
        pool: PoolIdx,
        moment: &Moment,
        now: Time,
        decisions: &mut Vec<Decision>,
    ) {
        let capacity = self.cluster.pool(pool).capacity;
        let over = |others: &Amount, owners: &dyn Fn(usize) -> Amount| {
            let mut over = Amount::ZERO;
            for lane in 0..LANES {
                let promised = moment.owners.iter().any(|(_, a, _)| a.0[lane] > 0);
                if promised {
                    let needs = (0..moment.owners.len())
                        .map(|at| moment.owners[at].1.0[lane].max(owners(at).0[lane]));
                    let sum: i64 = needs.sum::<i64>() + others.0[lane] - capacity.0[lane];
                    over.0[lane] = sum.max(0);
                }
            }
            over
        };
        // A quick look with everything that is held now, before tasks are looked at one by one.
        let Some(present) = self
            .calendar
            .ahead
            .get(&pool)
            .and_then(|m| m.first())
            .cloned()
        else {
            return;
        };
        let held = |at: usize| present.owners[at].2;
        if over(&present.others, &held) == Amount::ZERO {
            return;
        }
        let mut others = present.others;
        let mut candidates: Vec<(i64, crate::event::TaskId, TaskIdx, Amount)> = Vec::new();
        let all: Vec<TaskIdx> = self.tasks.iter().map(|(idx, _)| idx).collect();
        for idx in all {
            let task = self.tasks.get(idx);
            if task.held.is_empty() || self.promised_queue(pool, task.queue).is_some() {
                continue;
            }
            let held = self.held_amount(idx, pool);
            if held == Amount::ZERO {
                continue;
            }
            let task = self.tasks.get(idx);
            let leaves = task.evicting().is_some()
                || (!moment.is_now && task.ends_by().is_some_and(|end| end <= moment.at));
            if leaves {
                others -= &held;
                continue;
            }
            let may_stop = task.stage == Stage::Running
                && task.preemptible
                && now.since(task.started) >= task.min_runtime;
            if may_stop {
                candidates.push((self.stop_cost(idx, now), task.id, idx, held));
            }
        }
        candidates.sort_by_key(|(cost, id, ..)| (*cost, *id));
        let mut chosen: Vec<(TaskIdx, Amount)> = Vec::new();
        for (_, _, idx, amount) in candidates {
            let short = over(&others, &held);
            let helps = (0..LANES).any(|lane| short.0[lane] > 0 && amount.0[lane] > 0);
            if short == Amount::ZERO {
                break;
            }
            if helps {
                others -= &amount;
                chosen.push((idx, amount));
            }
        }
        // Whoever turned out not to be needed stays, the dearest first.
        for at in (0..chosen.len()).rev() {
            let mut with = others;
            with += &chosen[at].1;
            let no_worse =
                (0..LANES).all(|lane| over(&with, &held).0[lane] <= over(&others, &held).0[lane]);
            if no_worse {
                others = with;
                chosen.remove(at);
            }
        }
        for (idx, _) in chosen {
            let task = self.tasks.get(idx);
            let full = task
                .disruption()
                .is_some_and(|(app, most)| self.disrupted.get(&app).copied().unwrap_or(0) >= most);
            if !full && (moment.is_now || now + task.grace + EARLY >= moment.at) {
                let decision = self.evict(idx, EvictReason::Calendar, None, now);
                decisions.push(decision);
            }
        }
    }
}
