//! What holds a task, found by looking at it alone: nothing here changes the state.

use crate::amount::{EXTENDED, GPU, LANES, MEMORY};
use crate::ask::{Excluded, Within};
use crate::class::Class;
use crate::cluster::NodeIdx;
use crate::devices::Device;
use crate::domains::NOWHERE;
use crate::event::TaskId;
use crate::explain::{Blocker, Explanation, Standing};
use crate::ledger::{QueueIdx, show};
use crate::pool::{HOLE, PoolIdx};
use crate::sched::Sched;
use crate::task::{Stage, TaskIdx};
use base::Time;
use std::collections::BTreeMap;

impl Sched {
    /// What is to be said about a task at `now`.
    pub fn explain(&self, task: TaskId, now: Time) -> Explanation {
        let mut explanation = Explanation {
            task,
            standing: Standing::Unknown,
            blockers: Vec::new(),
            change: None,
            expected_start: None,
        };
        let Some(idx) = self.tasks.find(task) else {
            return explanation;
        };
        let found = self.tasks.get(idx);
        if let Some(evicting) = found.evicting() {
            let because = match evicting.on_behalf_of.map(|id| (id, self.tasks.find(id))) {
                Some((_, Some(other))) => {
                    let name = &self.tasks.get(other).name;
                    format!("{}, to make room for `{name}`", evicting.reason)
                }
                Some((id, None)) => {
                    format!("{}, to make room for task {}", evicting.reason, id.0)
                }
                None => evicting.reason.to_string(),
            };
            explanation.standing = Standing::Evicting { because };
            return explanation;
        }
        match found.stage {
            Stage::Starting(_) => explanation.standing = Standing::Starting,
            Stage::Running => {
                let because = self.why_there(idx);
                explanation.standing = Standing::Running { because };
            }
            Stage::Waiting => {
                let (before, first) = self.waiting.before(found.queue, found.order());
                explanation.standing = Standing::Waiting {
                    position: before + 1,
                };
                explanation.blockers = self.blockers(idx, before, first, now);
                explanation.change = self.smallest_change(idx, now);
                explanation.expected_start = self.expected_start(idx, now);
            }
        }
        explanation
    }

    fn why_there(&self, idx: TaskIdx) -> String {
        let task = self.tasks.get(idx);
        let mut nodes: Vec<NodeIdx> = task.held.iter().map(|held| held.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let Some(first) = nodes.first() else {
            return "it holds no seat".to_owned();
        };
        let pool = self.cluster.pool(self.cluster.nodes.pool[first.0 as usize]);
        let name = &self.cluster.nodes.text[first.0 as usize].name;
        let rule = if pool.is_spread() {
            "emptiest"
        } else {
            "fullest"
        };
        match nodes.len() {
            1 => format!("{name} was the {rule} node that fits"),
            n => format!(
                "{name} and {} others were the {rule} nodes of pool `{}` that fit together",
                n - 1,
                pool.name
            ),
        }
    }

    fn blockers(
        &self,
        idx: TaskIdx,
        before: usize,
        first: Option<TaskIdx>,
        now: Time,
    ) -> Vec<(String, Blocker)> {
        let task = self.tasks.get(idx);
        if let Some(nomination) = self.nominations.get(&task.id) {
            let stopping = nomination.victims.iter();
            let blocker = Blocker::WaitingForRelease {
                victims: stopping
                    .filter(|id| self.tasks.find(**id).is_some())
                    .count(),
                deadline: nomination.deadline,
            };
            let node = nomination.seats.first().map(|seat| seat.node);
            let pool = node.map(|node| self.cluster.nodes.pool[node.0 as usize]);
            let pool = pool.map(|pool| self.cluster.pool(pool).name.clone());
            return vec![(pool.unwrap_or_default(), blocker)];
        }
        let queue = self.ledger.queue(task.queue);
        if queue.spec.is_none() {
            let queue = queue.name.clone();
            return vec![(String::new(), Blocker::QueueMissing { queue })];
        }
        let mut blockers: Vec<(String, Blocker)> = Vec::new();
        for (class, min, _) in self.parts_of(idx) {
            let pools = self.pools_of(class);
            if pools.is_empty() && min > 0 {
                return vec![(String::new(), Blocker::NoNodes)];
            }
            let found: Vec<(PoolIdx, Option<Blocker>)> = pools
                .iter()
                .map(|pool| {
                    let class = self.classes.class(class);
                    (*pool, self.blocker(task.queue, class, min, *pool, true))
                })
                .collect();
            if found.iter().all(|(_, blocker)| blocker.is_some()) && min > 0 {
                for (pool, blocker) in found {
                    let name = &self.cluster.pool(pool).name;
                    // The first group that is held in a pool speaks for it.
                    if let Some(blocker) = blocker
                        && blockers.iter().all(|(pool, _)| pool != name)
                    {
                        blockers.push((name.clone(), blocker));
                    }
                }
            }
        }
        if let Some(budget) = self.budget_against(idx) {
            blockers.insert(0, budget);
        }
        if blockers.is_empty()
            && let Some((pool, queue, from)) = self.promise_against(idx, now)
        {
            let blocker = Blocker::Promised {
                queue: self.ledger.queue(queue).name.clone(),
                from,
            };
            return vec![(self.cluster.pool(pool).name.clone(), blocker)];
        }
        if blockers.is_empty() {
            let held = self.reservations.iter();
            let other = held
                .filter(|(_, reservation)| reservation.task != task.id)
                .find(|(pool, _)| {
                    let mut parts = self.parts_of(idx).into_iter();
                    parts.any(|(class, ..)| self.pools_of(class).contains(*pool))
                });
            if let Some((pool, reservation)) = other
                && let Some(holder) = self.tasks.find(reservation.task)
            {
                let blocker = Blocker::Reserved {
                    holder: self.tasks.get(holder).name.to_string(),
                    until: reservation.shadow,
                };
                return vec![(self.cluster.pool(*pool).name.clone(), blocker)];
            }
        }
        if let (true, Some(first)) = (blockers.is_empty() && before > 0, first) {
            let pools = self.parts_of(idx);
            let pool = pools.first().and_then(|(class, ..)| {
                let pools = self.pools_of(*class);
                pools
                    .first()
                    .map(|pool| self.cluster.pool(*pool).name.clone())
            });
            let first = self.tasks.get(first).name.to_string();
            let behind = Blocker::Behind {
                first,
                count: before,
            };
            blockers.push((pool.unwrap_or_default(), behind));
        } else if blockers.is_empty() {
            let (shape, limit) = (task.shape, task.time_limit);
            let blocker = if self.waiting.is_parked(task.queue, shape, limit) {
                Blocker::Together
            } else {
                Blocker::NotYetDecided
            };
            blockers.push((String::new(), blocker));
        }
        blockers
    }

    /// An App whose budget keeps a guarantee waiting: one of its replicas would have been stopped.
    fn budget_against(&self, idx: TaskIdx) -> Option<(String, Blocker)> {
        if self.disrupted.is_empty() {
            return None;
        }
        let (class, ..) = *self.parts_of(idx).first()?;
        for pool in self.pools_of(class) {
            let claimant = self.claimant(idx, pool, 1);
            let lane = claimant.lane();
            let holds = |other: TaskIdx| {
                let task = self.tasks.get(other);
                let (app, most) = task.disruption()?;
                let is_full = self.disrupted.get(&app).copied().unwrap_or(0) >= most;
                let (ours, theirs) = self.ledger.rivals(claimant.queue, task.queue)?;
                let guaranteed =
                    |queue| self.ledger.guaranteed_now(queue, pool, &self.cluster).0[lane];
                let staying = |queue| self.ledger.staying(queue, pool).0[lane];
                let is_owed = staying(ours) + claimant.ask.0[lane] <= guaranteed(ours);
                let is_lent = staying(theirs) > guaranteed(theirs);
                let gives = self.held_amount(other, pool).0[lane] > 0;
                let stands = is_full && is_owed && is_lent && gives && task.evicting().is_none();
                stands.then(|| Blocker::Budget {
                    holder: task.name.to_string(),
                    most,
                })
            };
            let found = self.tasks.iter().find_map(|(other, _)| holds(other));
            if let Some(blocker) = found {
                return Some((self.cluster.pool(pool).name.clone(), blocker));
            }
        }
        None
    }

    /// The promise that keeps a task out of every pool it may use.
    fn promise_against(&self, idx: TaskIdx, now: Time) -> Option<(PoolIdx, QueueIdx, Time)> {
        let (class, ..) = *self.parts_of(idx).first()?;
        let mut first = None;
        for pool in self.pools_of(class) {
            let ask = self.claimant(idx, pool, 1).ask;
            let (queue, from) = self.promised_to(idx, pool, &ask, now)?;
            first = first.or(Some((pool, queue, from)));
        }
        first
    }

    /// What holds a group in one pool, were it alone; `None` where it would fit.
    pub(crate) fn blocker(
        &self,
        queue: QueueIdx,
        class: &Class,
        min: u32,
        pool_idx: PoolIdx,
        with_quota: bool,
    ) -> Option<Blocker> {
        let pool = self.cluster.pool(pool_idx);
        if pool.count == 0 {
            return Some(Blocker::NoNodes);
        }
        let ask = self.cluster.ask(class, pool_idx);
        let members = pool.members.iter().copied();
        let nodes: Vec<NodeIdx> = members
            .filter(|node| *node != HOLE && self.cluster.nodes.present[node.0 as usize])
            .collect();
        let mut excluded: BTreeMap<Excluded, usize> = BTreeMap::new();
        let mut eligible = Vec::new();
        for node in &nodes {
            match self.cluster.excluded(*node, class, &ask) {
                Some(rule) => *excluded.entry(rule).or_default() += 1,
                None => eligible.push(*node),
            }
        }
        if eligible.is_empty() {
            return Some(excluded_by(nodes.len(), excluded));
        }
        if let Some(never) = self.never_fits(&eligible, &ask, pool_idx, class) {
            return Some(never);
        }
        let total = self
            .cluster
            .amount(&class.spec.request, pool_idx)
            .times(i64::from(min));
        if with_quota && let Some(quota) = self.quota_blocker(queue, pool_idx, &total) {
            return Some(quota);
        }
        let floors = self
            .domains
            .floors(class, &self.domains.homes(class, eligible.iter().copied()));
        let (near, far): (Vec<NodeIdx>, Vec<NodeIdx>) = eligible
            .iter()
            .partition(|node| !class.has_affinity() || self.domains.allows(class, **node, &floors));
        if near.is_empty() {
            *excluded.entry(Excluded::Affinity).or_default() += far.len();
            return Some(excluded_by(nodes.len(), excluded));
        }
        let mut fits = 0u32;
        let mut by_domain: BTreeMap<u32, u32> = BTreeMap::new();
        let column = class
            .topology
            .filter(|(_, required)| *required)
            .and_then(|(label, _)| self.domains.column(label));
        for node in &near {
            let here = self.cluster.count_fits(*node, &ask, min);
            fits = fits.saturating_add(here);
            if let Some(column) = column {
                let domain = self.domains.domain(column, *node);
                if domain != NOWHERE {
                    *by_domain.entry(domain).or_default() += here;
                }
            }
        }
        if fits < min {
            return Some(self.full(&near, &ask.amount, pool_idx, fits, min));
        }
        if let (Some(topology), Some(_)) = (&class.spec.topology, column) {
            let best = by_domain.values().copied().max().unwrap_or(0);
            if best < min {
                return Some(Blocker::Topology {
                    level: topology.level.clone(),
                    best,
                    needs: min,
                });
            }
        }
        None
    }

    fn never_fits(
        &self,
        eligible: &[NodeIdx],
        ask: &crate::ask::Ask,
        pool_idx: PoolIdx,
        class: &Class,
    ) -> Option<Blocker> {
        let pool = self.cluster.pool(pool_idx);
        if ask.unknown.is_some() {
            let missing = class.spec.request.extended.iter().find(|(name, _)| {
                let name = self.cluster.names.find(name);
                name.and_then(|name| pool.lane(name)).is_none()
            });
            let (lane, amount) = missing?;
            return Some(Blocker::NeverFits {
                lane: lane.clone(),
                asked: amount.to_string(),
                largest: "0".to_owned(),
            });
        }
        let room = |node: &NodeIdx| self.cluster.count_empty(*node, ask);
        if eligible.iter().any(|node| room(node) > 0) {
            return None;
        }
        // The lane that keeps out the most nodes, and the most that any of them has of it.
        let mut short = [0usize; LANES];
        let mut largest = [0i64; LANES];
        for node in eligible {
            let capacity = &self.cluster.nodes.capacity[node.0 as usize];
            for lane in 0..LANES {
                let lacks = ask.amount.0[lane] > 0 && capacity.0[lane] < ask.amount.0[lane];
                short[lane] += usize::from(lacks);
                largest[lane] = largest[lane].max(capacity.0[lane]);
            }
        }
        if let Some(within) = ask.within
            && short.iter().all(|count| *count == 0)
        {
            let level = class.spec.topology.as_ref();
            let groups = eligible.iter().map(|node| {
                let devices = &self.cluster.nodes.devices[node.0 as usize];
                largest_group(devices, within)
            });
            let largest = groups.max().unwrap_or(0);
            return Some(Blocker::NeverFits {
                lane: format!("gpu in one {}", level.map_or("group", |level| &level.level)),
                asked: show(GPU, ask.amount.0[GPU]),
                largest: show(GPU, largest * 1_000),
            });
        }
        let lane = (0..LANES)
            .max_by_key(|lane| (short[*lane], LANES - lane))
            .filter(|lane| short[*lane] > 0)
            .unwrap_or(GPU);
        Some(Blocker::NeverFits {
            lane: pool.lane_name(lane, &self.cluster.names).to_owned(),
            asked: show(lane, ask.amount.0[lane]),
            largest: show(lane, largest[lane]),
        })
    }

    fn quota_blocker(
        &self,
        queue: QueueIdx,
        pool: PoolIdx,
        more: &crate::amount::Amount,
    ) -> Option<Blocker> {
        for above in &self.ledger.queue(queue).path {
            let used = self.ledger.used(*above, pool);
            let limit = self.ledger.limit_now(*above, pool, &self.cluster);
            for lane in 0..LANES {
                if more.0[lane] > 0 && used.0[lane].saturating_add(more.0[lane]) > limit.0[lane] {
                    let names = &self.cluster.names;
                    return Some(Blocker::Quota {
                        queue: self.ledger.queue(*above).name.clone(),
                        lane: self.cluster.pool(pool).lane_name(lane, names).to_owned(),
                        used: show(lane, used.0[lane]),
                        asked: show(lane, more.0[lane]),
                        limit: show(lane, limit.0[lane]),
                    });
                }
            }
        }
        None
    }

    fn full(
        &self,
        nodes: &[NodeIdx],
        ask: &crate::amount::Amount,
        pool: PoolIdx,
        fits: u32,
        needs: u32,
    ) -> Blocker {
        let mut short = [0usize; LANES];
        let mut free = [0i64; LANES];
        for node in nodes {
            let have = &self.cluster.nodes.free[node.0 as usize];
            for lane in 0..LANES {
                short[lane] += usize::from(ask.0[lane] > 0 && have.0[lane] < ask.0[lane]);
                free[lane] = free[lane].saturating_add(have.0[lane].max(0));
            }
        }
        // Devices can be short although their sum would do: then no lane is, and GPUs are the answer.
        let preferred = if ask.0[GPU] > 0 { GPU } else { MEMORY };
        let lane = (0..LANES)
            .filter(|lane| ask.0[*lane] > 0)
            .max_by_key(|lane| {
                let extended = *lane >= EXTENDED && short[*lane] == 0;
                (short[*lane], *lane == preferred, extended, LANES - lane)
            })
            .unwrap_or(preferred);
        let names = &self.cluster.names;
        let enough = |lane: usize| free[lane] >= ask.0[lane].saturating_mul(i64::from(needs));
        let best = nodes.iter().map(|node| {
            let have = &self.cluster.nodes.free[node.0 as usize];
            have.0[lane].max(0)
        });
        let best = best.max().unwrap_or(0);
        if fits == 0 && best < ask.0[lane] && (0..LANES).all(enough) {
            return Blocker::Scattered {
                lane: self.cluster.pool(pool).lane_name(lane, names).to_owned(),
                asked: show(lane, ask.0[lane]),
                best: show(lane, best),
                free: show(lane, free[lane]),
            };
        }
        Blocker::Full {
            lane: self.cluster.pool(pool).lane_name(lane, names).to_owned(),
            fits,
            needs,
            free: show(lane, free[lane]),
        }
    }
}

/// The most devices of a node in one fast group.
fn largest_group(devices: &[Device], within: Within) -> i64 {
    let mut groups: Vec<u16> = devices.iter().map(|d| within.group_of(d)).collect();
    groups.sort_unstable();
    let sizes = groups
        .chunk_by(|a, b| a == b)
        .map(|group| group.len() as i64);
    sizes.max().unwrap_or(0)
}

fn excluded_by(nodes: usize, rules: BTreeMap<Excluded, usize>) -> Blocker {
    Blocker::Excluded {
        nodes,
        by: rules
            .into_iter()
            .map(|(rule, count)| (rule.to_string(), count))
            .collect(),
    }
}
