//! The smallest change that would start a waiting task now, and when it starts without one.
//!
//! Only changes that were checked to be enough are named. Tasks of several groups, and tasks that
//! others keep from free capacity, get none: no single wish of theirs would do.

use crate::amount::{Amount, LANES};
use crate::class::{Class, ClassIdx};
use crate::cluster::{HOLE, NodeIdx, PoolIdx};
use crate::explain::Blocker;
use crate::ledger::{QueueIdx, show};
use crate::names::Name;
use crate::sched::Sched;
use crate::task::TaskIdx;
use base::Time;
use base::resources::show_gpus;
use std::collections::BTreeMap;

/// The most sizes that are tried for one task.
const TRIES_MAX: u64 = 64;

impl Sched {
    pub(crate) fn smallest_change(&self, idx: TaskIdx) -> Option<String> {
        let task = self.tasks.get(idx);
        let queue = task.queue;
        let [(class_idx, min, _)] = self.parts_of(idx)[..] else {
            return None;
        };
        let held_up = self
            .reservations
            .values()
            .any(|reservation| reservation.task != task.id);
        let stops = self.nominations.contains_key(&task.id);
        if self.ledger.queue(queue).spec.is_none() || held_up || stops || min == 0 {
            return None;
        }
        let class = self.classes.class(class_idx);
        let pools = self.pools_of(class_idx);
        let fits = |class: &Class, min: u32| {
            pools
                .iter()
                .any(|pool| self.blocker(queue, class, min, *pool, true).is_none())
        };
        if fits(class, min) {
            return None;
        }
        self.by_quota(queue, class, min, &pools)
            .or_else(|| fewer_gpus(class, min, &fits))
            .or_else(|| fewer_members(class, min, &fits))
            .or_else(|| self.another_model(class, min, &pools, &fits))
    }

    fn by_quota(
        &self,
        queue: QueueIdx,
        class: &Class,
        min: u32,
        pools: &[PoolIdx],
    ) -> Option<String> {
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
                let name = &self.ledger.queue(above).name;
                return Some(format!(
                    "raise the {lane_name} limit of queue `{name}` by {}",
                    show(lane, over)
                ));
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
    ) -> Option<String> {
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
        Some(format!("allow GPU model `{}`", text(found)))
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

fn fewer_gpus(class: &Class, min: u32, fits: &dyn Fn(&Class, u32) -> bool) -> Option<String> {
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
            return Some(format!(
                "ask {} GPUs instead of {}",
                show_gpus(less),
                show_gpus(asked)
            ));
        }
    }
    None
}

fn fewer_members(class: &Class, min: u32, fits: &dyn Fn(&Class, u32) -> bool) -> Option<String> {
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
    (fit > 0).then(|| format!("ask {fit} members instead of {min}"))
}
