//! The smallest change that would start a waiting task now, and when it starts without one.
//!
//! Only changes that were checked to be enough are named. Tasks of several groups, and tasks that
//! others keep from free capacity, get none: no single wish of theirs would do.

use crate::amount::{Amount, LANES};
use crate::class::{Class, ClassIdx};
use crate::cluster::NodeIdx;
use crate::event::Toleration;
use crate::explain::{Blocker, Change};
use crate::ledger::{QueueIdx, show};
use crate::names::Name;
use crate::pool::{HOLE, PoolIdx};
use crate::sched::Sched;
use crate::task::TaskIdx;
use base::{Span, Time};
use std::collections::BTreeMap;

/// The most sizes that are tried for one task.
const TRIES_MAX: u64 = 64;

impl Sched {
    pub(crate) fn smallest_change(&self, idx: TaskIdx, now: Time) -> Option<Change> {
        let task = self.tasks.get(idx);
        let queue = task.queue;
        let [(class_idx, min, _)] = self.parts_of(idx)[..] else {
            return None;
        };
        let stops = self.nominations.contains_key(&task.id);
        let class = self.classes.class(class_idx);
        // Members that keep away from each other are not simply counted.
        let related = class.has_affinity() && min > 1;
        if self.ledger.queue(queue).spec.is_none() || stops || related || min == 0 {
            return None;
        }
        let mut pools = self.pools_of(class_idx);
        pools.retain(|pool| {
            let first = self.waiting.blocked(queue, *pool);
            first.is_none_or(|first| first >= task.order())
        });
        let fits_in = |class: &Class, min: u32, pool: PoolIdx| {
            self.blocker(queue, class, min, pool, true).is_none()
        };
        if !self.kept_from(idx, now).is_empty() {
            let fitting = pools.iter().find(|pool| fits_in(class, min, **pool))?;
            return self.end_before_reserved(idx, *fitting, now);
        }
        let promised = |pool: &PoolIdx| {
            let ask = self.claimant(idx, *pool, 1).ask;
            self.promised_to(idx, *pool, &ask, now)
        };
        let (kept, open): (Vec<PoolIdx>, Vec<PoolIdx>) =
            pools.iter().partition(|pool| promised(pool).is_some());
        let fits = |class: &Class, min: u32| open.iter().any(|pool| fits_in(class, min, *pool));
        if fits(class, min) {
            return None;
        }
        if let Some(pool) = kept.into_iter().find(|pool| fits_in(class, min, *pool)) {
            return self.leave_before_promised(idx, pool, now);
        }
        self.by_quota(queue, class, min, &open)
            .or_else(|| fewer_gpus(class, min, &fits))
            .or_else(|| fewer_members(class, min, &fits))
            .or_else(|| self.another_model(class, min, &open, &fits))
            .or_else(|| looser_level(class, min, &fits))
            .or_else(|| self.one_more_taint(class, min, &open, &fits))
    }

    /// A time limit with which it is over before the first who waits could start.
    fn end_before_reserved(&self, idx: TaskIdx, pool: PoolIdx, now: Time) -> Option<Change> {
        let shadow = self.reservations.get(&pool)?.shadow?;
        let limit = shadow.since(now);
        let ask = self.claimant(idx, pool, 1).ask;
        let preemptible = self.tasks.get(idx).preemptible;
        let rule = (Some(limit), preemptible);
        let is_enough =
            self.reservations.len() == 1 && self.promised_if(idx, pool, &ask, rule, now).is_none();
        (limit > Span::ZERO && is_enough).then_some(Change::TimeLimit(limit))
    }

    /// Consent, or a time limit, with which the capacity is back before it is promised.
    fn leave_before_promised(&self, idx: TaskIdx, pool: PoolIdx, now: Time) -> Option<Change> {
        let task = self.tasks.get(idx);
        let ask = self.claimant(idx, pool, 1).ask;
        let free = |limit, preemptible| {
            self.promised_if(idx, pool, &ask, (limit, preemptible), now)
                .is_none()
        };
        if !task.preemptible && free(task.time_limit, true) {
            return Some(Change::BePreemptible);
        }
        let (_, from) = self.promised_to(idx, pool, &ask, now)?;
        let limit = from.since(now);
        (limit > Span::ZERO && free(Some(limit), task.preemptible))
            .then_some(Change::TimeLimit(limit))
    }

    fn one_more_taint(
        &self,
        class: &Class,
        min: u32,
        pools: &[PoolIdx],
        fits: &dyn Fn(&Class, u32) -> bool,
    ) -> Option<Change> {
        let mut keys: Vec<&str> = Vec::new();
        for pool in pools {
            for node in &self.cluster.pool(*pool).members {
                if *node == HOLE {
                    continue;
                }
                for taint in &self.cluster.nodes.text[node.0 as usize].taints {
                    let is_new = !keys.contains(&taint.key.as_str());
                    if is_new && !crate::ask::tolerated(&class.spec, taint) {
                        keys.push(&taint.key);
                    }
                }
            }
        }
        keys.sort_unstable();
        let found = keys.into_iter().take(TRIES_MAX as usize).find(|key| {
            let mut wider = class.clone();
            wider.spec.tolerations.push(Toleration {
                key: (*key).to_owned(),
                value: None,
                effect: None,
            });
            fits(&wider, min)
        })?;
        Some(Change::Tolerate(found.to_owned()))
    }

    fn by_quota(
        &self,
        queue: QueueIdx,
        class: &Class,
        min: u32,
        pools: &[PoolIdx],
    ) -> Option<Change> {
        for pool in pools {
            if self.blocker(queue, class, min, *pool, false).is_some() {
                continue;
            }
            let more = self
                .cluster
                .amount(&class.spec.request, *pool)
                .times(i64::from(min));
            // One line only: several at once are no small change.
            let mut lines = Vec::new();
            for above in &self.ledger.queue(queue).path {
                let used = self.ledger.used(*above, *pool);
                let limit = self.ledger.limit_now(*above, *pool, &self.cluster);
                for lane in 0..LANES {
                    let over = used.0[lane].saturating_add(more.0[lane]) - limit.0[lane];
                    if more.0[lane] > 0 && over > 0 {
                        lines.push((*above, lane, over));
                    }
                }
            }
            if let [(above, lane, over)] = lines[..] {
                let lane_name = self
                    .cluster
                    .pool(*pool)
                    .lane_name(lane, &self.cluster.names);
                return Some(Change::RaiseLimit {
                    queue: self.ledger.queue(above).name.clone(),
                    lane: lane_name.to_owned(),
                    by: over.max(0) as u64,
                    shown: show(lane, over),
                });
            }
        }
        None
    }

    fn another_model(
        &self,
        class: &Class,
        min: u32,
        pools: &[PoolIdx],
        fits: &dyn Fn(&Class, u32) -> bool,
    ) -> Option<Change> {
        if class.models.is_empty() {
            return None;
        }
        let mut models: Vec<Name> = Vec::new();
        for pool in pools {
            for node in &self.cluster.pool(*pool).members {
                if *node == HOLE {
                    continue;
                }
                for (model, _) in &self.cluster.nodes.models[node.0 as usize] {
                    if !models.contains(model) && !class.models.contains(model) {
                        models.push(*model);
                    }
                }
            }
        }
        let text = |model: &Name| self.cluster.names.text(*model);
        models.sort_by_key(text);
        let found = models.iter().find(|model| {
            let mut wider = class.clone();
            wider.models.push(**model);
            fits(&wider, min)
        })?;
        Some(Change::AllowModel(text(found).to_owned()))
    }

    /// By the declared ends of others, were nobody else to come.
    pub(crate) fn expected_start(&self, idx: TaskIdx, now: Time) -> Option<Time> {
        let task = self.tasks.get(idx);
        if let Some(nomination) = self.nominations.get(&task.id) {
            return Some(nomination.deadline);
        }
        let reserved = self.reservations.values();
        let mut mine = reserved.filter(|reservation| reservation.task == task.id);
        if let Some(shadow) = mine.find_map(|reservation| reservation.shadow) {
            return Some(shadow);
        }
        let [(class_idx, min, _)] = self.parts_of(idx)[..] else {
            return None;
        };
        let pools = self.pools_of(class_idx).into_iter();
        let starts = pools.filter_map(|pool| {
            let class = self.classes.class(class_idx);
            let full = self.blocker(task.queue, class, min, pool, true);
            matches!(full, Some(Blocker::Full { .. }))
                .then(|| self.fits_from(class_idx, min, pool, now))?
        });
        starts.min()
    }

    /// When the declared ends of a pool leave room for `min` members, by lanes.
    fn fits_from(&self, class_idx: ClassIdx, min: u32, pool: PoolIdx, now: Time) -> Option<Time> {
        let class = self.classes.class(class_idx);
        let ask = self.cluster.ask(class, pool);
        let mut free: BTreeMap<NodeIdx, Amount> = BTreeMap::new();
        let mut total: i64 = 0;
        let mut ends: Vec<(Time, NodeIdx, Amount)> = Vec::new();
        for node in self.cluster.pool(pool).members.iter().copied() {
            if node == HOLE || self.cluster.excluded(node, class, &ask).is_some() {
                continue;
            }
            let have = self.cluster.nodes.free[node.0 as usize];
            total = total.saturating_add(have.count(&ask.amount).min(i64::from(min)));
            free.insert(node, have);
            for (holder, slot) in &self.holders[node.0 as usize] {
                let held = self.tasks.get(*holder);
                let stops = held.find(*slot).ok().and_then(|at| held.held[at].releasing);
                if let Some(end) = stops.or_else(|| held.ends_by()) {
                    let class = self.class_of(held.shape, *slot);
                    ends.push((end.max(now), node, self.seat_amount(class, node)));
                }
            }
        }
        ends.sort_by_key(|(end, node, _)| (*end, *node));
        for (end, node, amount) in ends {
            let have = free.get_mut(&node)?;
            let before = have.count(&ask.amount).min(i64::from(min));
            *have += &amount;
            total += have.count(&ask.amount).min(i64::from(min)) - before;
            if total >= i64::from(min) {
                return Some(end);
            }
        }
        None
    }
}

fn looser_level(class: &Class, min: u32, fits: &dyn Fn(&Class, u32) -> bool) -> Option<Change> {
    let level = class
        .spec
        .topology
        .as_ref()
        .filter(|level| level.required)?;
    let mut looser = class.clone();
    looser.topology = None;
    looser.within = None;
    fits(&looser, min).then(|| Change::PreferLevel(level.level.clone()))
}

fn fewer_gpus(class: &Class, min: u32, fits: &dyn Fn(&Class, u32) -> bool) -> Option<Change> {
    let asked = class.spec.request.gpu_milli;
    if asked == 0 {
        return None;
    }
    // Whole GPUs, or tenths of one.
    let step = if asked >= 1_000 { 1_000 } else { 100 };
    for steps in 1..=(asked / step).min(TRIES_MAX) {
        let less = asked.saturating_sub(steps * step);
        if less == 0 {
            return None;
        }
        let mut smaller = class.clone();
        smaller.spec.request.gpu_milli = less;
        if fits(&smaller, min) {
            return Some(Change::FewerGpus {
                ask: less,
                instead: asked,
            });
        }
    }
    None
}

fn fewer_members(class: &Class, min: u32, fits: &dyn Fn(&Class, u32) -> bool) -> Option<Change> {
    let (mut fit, mut too_many) = (0, min);
    // What fits for some fits for fewer.
    while too_many - fit > 1 {
        let middle = fit + (too_many - fit) / 2;
        if fits(class, middle) {
            fit = middle;
        } else {
            too_many = middle;
        }
    }
    (fit > 0).then_some(Change::FewerMembers {
        ask: fit,
        instead: min,
    })
}
