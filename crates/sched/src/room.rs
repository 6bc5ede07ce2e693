//! Finding room for a gang that does not fit: which running tasks would have to end, on which nodes.
//!
//! Used twice: for preemption, where only lawful victims count and the set is minimal (leave any one
//! of them alone and the gang does not fit), and for reservations, where everybody may be waited for
//! and the earliest declared ends are the cheapest.

use crate::ask::Ask;
use crate::claims::Claimant;
use crate::class::ClassIdx;
use crate::cluster::NodeIdx;
use crate::decision::EvictReason;
use crate::domains::NOWHERE;
use crate::hash::Map;
use crate::place::{Kept, Refusal, Refused, Savepoint, Seat, Undo};
use crate::pool::{HOLE, PoolIdx};
use crate::sched::Sched;
use crate::task::TaskIdx;
use base::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Who may be counted on to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leavers {
    /// Those whom the claimant may stop.
    Victims,
    /// Everybody, by the time they end.
    Everybody,
}

/// Room for a gang.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) seats: Vec<Seat>,
    pub(crate) leavers: Vec<(TaskIdx, EvictReason)>,
    /// Tasks that were told to stop before, and whose capacity nobody else waits for.
    pub(crate) coming: Vec<TaskIdx>,
}

/// The end of a task that did not declare one: after every declared end.
const NO_END: i64 = 1 << 50;

/// The cost of a task that leaves anyway: less than any other.
const COMING: i64 = i64::MIN >> 8;

/// The most victims of one gang; a larger claim is not worth the disturbance.
const LEAVERS_MAX: usize = 20_000;

/// Tasks that were let go within a search.
#[derive(Debug, Default)]
struct Gone {
    order: Vec<TaskIdx>,
    /// Those who leave anyway.
    coming: Vec<TaskIdx>,
    reasons: Map<TaskIdx, EvictReason>,
}

impl Gone {
    fn push(&mut self, idx: TaskIdx, reason: EvictReason) {
        self.reasons.insert(idx, reason);
        self.order.push(idx);
    }

    fn push_coming(&mut self, idx: TaskIdx, reason: EvictReason) {
        self.reasons.insert(idx, reason);
        self.coming.push(idx);
    }

    fn len(&self) -> (usize, usize) {
        (self.order.len(), self.coming.len())
    }

    fn truncate(&mut self, (order, coming): (usize, usize)) {
        let forgotten = self.order.drain(order..).chain(self.coming.drain(coming..));
        for idx in forgotten {
            self.reasons.remove(&idx);
        }
    }
}

/// What each task would cost, as far as it was asked; `None` where it may not be stopped.
type Lawful = Map<TaskIdx, Option<(i64, EvictReason)>>;

impl Sched {
    /// The claim of `gangs` tasks like this one on a pool.
    pub(crate) fn claimant(&self, idx: TaskIdx, pool: PoolIdx, gangs: u32) -> Claimant {
        let task = self.tasks.get(idx);
        let mut ask = crate::amount::Amount::ZERO;
        for (class, min, _) in self.parts_of(idx) {
            ask += &self.class_amount(class, pool).times(i64::from(min * gangs));
        }
        Claimant {
            task: idx,
            queue: task.queue,
            priority: task.priority,
            pool,
            ask,
            gangs,
            patient: false,
        }
    }

    /// Looks for room in a pool. Nothing is changed: the caller acts on the answer.
    pub(crate) fn find_room(
        &mut self,
        claimant: &Claimant,
        leavers: Leavers,
        now: Time,
    ) -> Option<Room> {
        let start = self.savepoint();
        let mut gone = Gone::default();
        let parts = self.minimum_of(claimant);
        let mut found = None;
        // Each round makes room for one group; a group is tried again where another took its place.
        for _ in 0..2 * parts.len() + 1 {
            match self.try_gang(claimant, &parts) {
                Ok(seats) => {
                    found = Some(seats);
                    break;
                }
                Err(refused) => {
                    let class = parts[refused.group].0;
                    let full = refused.pools.iter().any(|(pool, refusal)| {
                        *pool == claimant.pool
                            && matches!(refusal, Refusal::Full | Refusal::Topology)
                    });
                    let need = parts[refused.group].1;
                    let before = gone.len();
                    if !full
                        || !self.free_nodes(claimant, (class, need), (leavers, now), &mut gone)
                        || gone.len() == before
                        || gone.order.len() > LEAVERS_MAX
                    {
                        break;
                    }
                }
            }
        }
        let Some(mut seats) = found else {
            self.roll_back(start);
            return None;
        };
        if leavers == Leavers::Victims {
            self.roll_back(start);
            seats = self.prune(claimant, &parts, &mut gone, now)?;
        }
        self.roll_back(start);
        let Gone {
            order,
            coming,
            reasons,
        } = gone;
        let with_reason = order.into_iter().map(|idx| (idx, reasons[&idx]));
        Some(Room {
            seats,
            leavers: with_reason.collect(),
            coming,
        })
    }

    fn minimum_of(&self, claimant: &Claimant) -> Vec<(ClassIdx, u32, u32)> {
        let parts = self.parts_of(claimant.task).into_iter();
        let all = |min: u32| min * claimant.gangs;
        parts
            .map(|(class, min, _)| (class, all(min), all(min)))
            .collect()
    }

    fn try_gang(
        &mut self,
        claimant: &Claimant,
        parts: &[(ClassIdx, u32, u32)],
    ) -> Result<Vec<Seat>, Refused> {
        self.place_gang(claimant.queue, parts, &[], &[], &Kept::new())
    }

    /// Lets a task go, within the transaction.
    pub(crate) fn let_go(&mut self, idx: TaskIdx) {
        let task = self.tasks.get(idx);
        let (queue, shape) = (task.queue, task.shape);
        let seats = task.held.clone();
        for held in &seats {
            let class = self.class_of(shape, held.slot);
            let amount = self.seat_amount(class, held.node);
            let pool = self.cluster.nodes.pool[held.node.0 as usize];
            let shares = held.shares.to_vec();
            self.give_seat(held.node, class, &shares);
            self.journal.push(Undo::Gave {
                node: held.node,
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
    }

    /// Lets tasks go, cheapest node first, until `need` members of a class would fit.
    fn free_nodes(
        &mut self,
        claimant: &Claimant,
        (class, need): (ClassIdx, u32),
        rule: (Leavers, Time),
        gone: &mut Gone,
    ) -> bool {
        let pool = claimant.pool;
        let ask = self.cluster.ask(self.classes.class(class), pool);
        let column = self.classes.class(class).topology;
        let column = column
            .filter(|(_, required)| *required)
            .and_then(|(label, _)| self.domains.column(label));
        let mut domains: BTreeMap<u32, Vec<NodeIdx>> = BTreeMap::new();
        for node in self.cluster.pool(pool).members.clone() {
            if node == HOLE {
                continue;
            }
            let excluded = self
                .cluster
                .excluded(node, self.classes.class(class), &ask)
                .is_some();
            let domain = column.map_or(0, |column| self.domains.domain(column, node));
            if !excluded && domain != NOWHERE {
                domains.entry(domain).or_default().push(node);
            }
        }
        let mut lawful = Lawful::default();
        // With several domains the cheapest is found by trying each, then done for good.
        let mut best: Option<(i64, u32)> = None;
        if domains.len() > 1 {
            for (domain, nodes) in &domains {
                let (start, before) = (self.savepoint(), gone.len());
                let cost = self.free_some(claimant, (&ask, need), nodes, rule, &mut lawful, gone);
                self.roll_back(start);
                gone.truncate(before);
                if let Some(cost) = cost
                    && best.is_none_or(|(least, _)| cost < least)
                {
                    best = Some((cost, *domain));
                }
            }
        } else {
            best = domains.keys().next().map(|domain| (0, *domain));
        }
        let Some((_, domain)) = best else {
            return false;
        };
        let nodes = domains.remove(&domain).unwrap_or_default();
        let freed = self.free_some(claimant, (&ask, need), &nodes, rule, &mut lawful, gone);
        freed.is_some()
    }

    fn free_some(
        &mut self,
        claimant: &Claimant,
        (ask, need): (&Ask, u32),
        nodes: &[NodeIdx],
        rule: (Leavers, Time),
        lawful: &mut Lawful,
        gone: &mut Gone,
    ) -> Option<i64> {
        let mut have: u32 = 0;
        let mut total: i64 = 0;
        let mut heap = BinaryHeap::new();
        // Those whom the claimant may not stop beside the others.
        let mut denied: Map<TaskIdx, ()> = Map::default();
        for node in nodes {
            have = have.saturating_add(self.cluster.count_fits(*node, ask, need));
            let scope = (&*gone, &denied);
            if let Some((cost, _)) = self.one_more(claimant, ask, *node, rule, scope, lawful) {
                let number = self.cluster.nodes.id[node.0 as usize];
                heap.push(Reverse((cost, number, *node)));
            }
        }
        while have < need {
            let Reverse((expected, number, node)) = heap.pop()?;
            let scope = (&*gone, &denied);
            let Some((cost, victims)) = self.one_more(claimant, ask, node, rule, scope, lawful)
            else {
                continue;
            };
            if cost > expected {
                heap.push(Reverse((cost, number, node)));
                continue;
            }
            let before = self.cluster.count_fits(node, ask, need);
            let start = (self.savepoint(), gone.len());
            if let Err(too_many) = self.let_all_go(claimant, &victims, rule, gone) {
                self.take_back(start, gone);
                // The right ends with what is over a guarantee, so the last to go had better be the largest.
                let fewest = self.fewest_of(claimant, ask, node, &denied, gone, lawful);
                let does = fewest.is_some_and(|victims| {
                    let gone = self.let_all_go(claimant, &victims, rule, gone);
                    gone.is_ok()
                });
                if !does {
                    self.take_back(start, gone);
                    denied.insert(too_many, ());
                }
            }
            let after = self.cluster.count_fits(node, ask, need);
            have = have.saturating_add(after.saturating_sub(before));
            total = total.saturating_add(if after > before { cost } else { 0 });
            let scope = (&*gone, &denied);
            if let Some((cost, _)) = self.one_more(claimant, ask, node, rule, scope, lawful) {
                heap.push(Reverse((cost, number, node)));
            }
        }
        Some(total)
    }

    fn take_back(&mut self, (savepoint, before): (Savepoint, (usize, usize)), gone: &mut Gone) {
        self.roll_back(savepoint);
        gone.truncate(before);
    }

    /// Lets tasks go one after the other, as far as the claimant may stop each after those before it;
    /// answers whom he may not.
    fn let_all_go(
        &mut self,
        claimant: &Claimant,
        victims: &[TaskIdx],
        (leavers, now): (Leavers, Time),
        gone: &mut Gone,
    ) -> Result<(), TaskIdx> {
        for idx in victims.iter().copied() {
            if let Some(evicting) = self.tasks.get(idx).evicting()
                && leavers == Leavers::Victims
            {
                self.let_go(idx);
                gone.push_coming(idx, evicting.reason);
                continue;
            }
            let why = match leavers {
                Leavers::Everybody => Some(EvictReason::Calendar),
                Leavers::Victims => self.may_stop(claimant, idx, now),
            };
            // An App's budget may be used up too, by its other replicas.
            let budget = self.tasks.get(idx).disruption().is_none_or(|(app, most)| {
                let same = |other: &&TaskIdx| {
                    let other = self.tasks.get(**other).disruption();
                    other.is_some_and(|(other, _)| other == app)
                };
                let here = gone.order.iter().filter(same).count() as u32;
                leavers == Leavers::Everybody
                    || self.disrupted.get(&app).copied().unwrap_or(0) + here < most
            });
            let Some(why) = why.filter(|_| budget) else {
                return Err(idx);
            };
            // A gang that goes makes room on its other nodes too: the next round counts it.
            self.let_go(idx);
            gone.push(idx, why);
        }
        Ok(())
    }

    /// The cheapest tasks of a node without which one more member fits there.
    fn one_more(
        &mut self,
        claimant: &Claimant,
        ask: &Ask,
        node: NodeIdx,
        (leavers, now): (Leavers, Time),
        (gone, denied): (&Gone, &Map<TaskIdx, ()>),
        lawful: &mut Lawful,
    ) -> Option<(i64, Vec<TaskIdx>)> {
        let at = node.0 as usize;
        let mut candidates: Vec<(i64, crate::event::TaskId, TaskIdx)> = Vec::new();
        for (idx, _) in self.holders[at].clone() {
            let is_out = gone.reasons.contains_key(&idx) || denied.contains_key(&idx);
            if is_out || candidates.iter().any(|(.., seen)| *seen == idx) {
                continue;
            }
            let known = match lawful.get(&idx) {
                Some(known) => *known,
                None => {
                    let right = match leavers {
                        Leavers::Victims => match self.tasks.get(idx).evicting() {
                            Some(evicting) => Some((COMING, evicting.reason)),
                            None => self
                                .may_stop(claimant, idx, now)
                                .map(|why| (self.stop_cost(idx, now), why)),
                        },
                        Leavers::Everybody => Some((self.end_of(idx, now), EvictReason::Calendar)),
                    };
                    lawful.insert(idx, right);
                    right
                }
            };
            if let Some((cost, _)) = known {
                candidates.push((cost, self.tasks.get(idx).id, idx));
            }
        }
        candidates.sort_unstable();
        let lent = self.enough_of(ask, node, &candidates)?;
        let costs = lent.iter().map(|(_, cost)| *cost);
        let cost = match leavers {
            // What leaves anyway costs nothing, but makes nobody cheaper who would have to go beside it: its seat may be
            // another's by now.
            Leavers::Victims => {
                let costs = costs.filter(|cost| *cost != COMING);
                costs.reduce(i64::saturating_add).unwrap_or(COMING)
            }
            // Several who leave are waited for together.
            Leavers::Everybody => costs.max().unwrap_or(0),
        };
        Some((cost, lent.into_iter().map(|(idx, _)| idx).collect()))
    }

    /// The same with the largest tasks, the largest last; `lawful` knows those of the node already.
    fn fewest_of(
        &mut self,
        claimant: &Claimant,
        ask: &Ask,
        node: NodeIdx,
        denied: &Map<TaskIdx, ()>,
        gone: &Gone,
        lawful: &Lawful,
    ) -> Option<Vec<TaskIdx>> {
        let lane = claimant.lane();
        let mut candidates = Vec::new();
        for (idx, _) in &self.holders[node.0 as usize] {
            let is_out = gone.reasons.contains_key(idx) || denied.contains_key(idx);
            if !is_out && lawful.get(idx).is_some_and(Option::is_some) {
                let gives = self.held_amount(*idx, claimant.pool).0[lane];
                candidates.push((-gives, self.tasks.get(*idx).id, *idx));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let lent = self.enough_of(ask, node, &candidates)?;
        Some(lent.into_iter().rev().map(|(idx, _)| idx).collect())
    }

    /// The first of some tasks that are enough for one more member on their node, without those who turn
    /// out not to be needed.
    fn enough_of(
        &mut self,
        ask: &Ask,
        node: NodeIdx,
        candidates: &[(i64, crate::event::TaskId, TaskIdx)],
    ) -> Option<Vec<(TaskIdx, i64)>> {
        let target = self
            .cluster
            .count_fits(node, ask, u32::MAX)
            .saturating_add(1);
        let mut lent: Vec<(TaskIdx, i64)> = Vec::new();
        let mut fits = false;
        for (cost, _, idx) in candidates {
            self.lend_seats(*idx, node, true);
            lent.push((*idx, *cost));
            if self.cluster.count_fits(node, ask, target) >= target {
                fits = true;
                break;
            }
        }
        if fits {
            // Whoever turned out not to be needed stays, the dearest first.
            for at in (0..lent.len()).rev() {
                let (idx, _) = lent[at];
                self.lend_seats(idx, node, false);
                if self.cluster.count_fits(node, ask, target) >= target {
                    lent.remove(at);
                } else {
                    self.lend_seats(idx, node, true);
                }
            }
        }
        for (idx, _) in &lent {
            self.lend_seats(*idx, node, false);
        }
        fits.then_some(lent)
    }

    pub(crate) fn lend_seats(&mut self, idx: TaskIdx, node: NodeIdx, give: bool) {
        let task = self.tasks.get(idx);
        let shape = task.shape;
        let here: Vec<_> = task
            .held
            .iter()
            .filter(|held| held.node == node)
            .map(|held| (held.slot, held.shares.clone()))
            .collect();
        for (slot, shares) in here {
            let class = self.class_of(shape, slot);
            let amount = self.seat_amount(class, node);
            self.cluster.lend(node, &amount, &shares, give);
        }
    }

    /// Milliseconds until a task ends at the latest, as far as it said.
    pub(crate) fn end_of(&self, idx: TaskIdx, now: Time) -> i64 {
        let task = self.tasks.get(idx);
        let deadline = task.held.iter().filter_map(|held| held.releasing).max();
        match deadline.or_else(|| task.ends_by()) {
            Some(end) => end.since(now).as_ms().min(NO_END as u64 - 1) as i64,
            // Nothing is known: those who began last are expected to last longest.
            None => NO_END + (task.started.as_ms() >> 10),
        }
    }

    pub(crate) fn is_endless(cost: i64) -> bool {
        cost >= NO_END
    }

    /// Keeps only victims without any one of which the gang would not fit, and places it.
    fn prune(
        &mut self,
        claimant: &Claimant,
        parts: &[(ClassIdx, u32, u32)],
        gone: &mut Gone,
        now: Time,
    ) -> Option<Vec<Seat>> {
        let victims = &mut gone.order;
        let mut by_cost: Vec<(i64, crate::event::TaskId, TaskIdx)> = victims
            .iter()
            .map(|idx| (self.stop_cost(*idx, now), self.tasks.get(*idx).id, *idx))
            .collect();
        by_cost.sort_unstable();
        by_cost.reverse();
        let class = self.classes.class(parts[0].0);
        let countable = parts.len() == 1 && class.topology.is_none() && !class.has_affinity();
        let outer = self.savepoint();
        for idx in &gone.coming {
            self.let_go(*idx);
        }
        let start = self.savepoint();
        let kept: Vec<TaskIdx> = if countable {
            self.prune_by_count(claimant, parts[0], &by_cost)
        } else {
            self.prune_by_trial(claimant, parts, &by_cost)
        };
        self.roll_back(start);
        let kept: Map<TaskIdx, ()> = kept.into_iter().map(|idx| (idx, ())).collect();
        victims.retain(|idx| kept.contains_key(idx));
        for idx in victims.iter() {
            self.let_go(*idx);
        }
        let seats = self.try_gang(claimant, parts).ok();
        self.roll_back(outer);
        seats
    }

    /// One group without relations fits if and only if the counts of all nodes reach its number.
    fn prune_by_count(
        &mut self,
        claimant: &Claimant,
        (class, need, _): (ClassIdx, u32, u32),
        by_cost: &[(i64, crate::event::TaskId, TaskIdx)],
    ) -> Vec<TaskIdx> {
        for (.., idx) in by_cost {
            self.let_go(*idx);
        }
        let ask = self.cluster.ask(self.classes.class(class), claimant.pool);
        let mut fits: Map<NodeIdx, u32> = Map::default();
        let mut total: u64 = 0;
        for node in self.cluster.pool(claimant.pool).members.clone() {
            if node == HOLE {
                continue;
            }
            let class = self.classes.class(class);
            if self.cluster.excluded(node, class, &ask).is_none() {
                let count = self.cluster.count_fits(node, &ask, need);
                total += u64::from(count);
                fits.insert(node, count);
            }
        }
        let mut kept = Vec::new();
        for (.., idx) in by_cost {
            let mut nodes: Vec<NodeIdx> =
                self.tasks.get(*idx).held.iter().map(|h| h.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let mut without = total;
            let mut counts = Vec::new();
            for node in &nodes {
                self.lend_seats(*idx, *node, false);
                if let Some(before) = fits.get(node) {
                    let count = self.cluster.count_fits(*node, &ask, need);
                    without = without - u64::from(*before) + u64::from(count);
                    counts.push((*node, count));
                }
            }
            if without >= u64::from(need) {
                total = without;
                fits.extend(counts);
            } else {
                for node in &nodes {
                    self.lend_seats(*idx, *node, true);
                }
                kept.push(*idx);
            }
        }
        // Bring the nodes back to where the transaction believes they are.
        let needed: Map<TaskIdx, ()> = kept.iter().map(|idx| (*idx, ())).collect();
        for (.., idx) in by_cost {
            if !needed.contains_key(idx) {
                let mut nodes: Vec<NodeIdx> =
                    self.tasks.get(*idx).held.iter().map(|h| h.node).collect();
                nodes.sort_unstable();
                nodes.dedup();
                for node in nodes {
                    self.lend_seats(*idx, node, true);
                }
            }
        }
        kept
    }

    /// Tries the whole gang without each victim, until nobody can be spared.
    fn prune_by_trial(
        &mut self,
        claimant: &Claimant,
        parts: &[(ClassIdx, u32, u32)],
        by_cost: &[(i64, crate::event::TaskId, TaskIdx)],
    ) -> Vec<TaskIdx> {
        let mut kept: Vec<TaskIdx> = by_cost.iter().map(|(.., idx)| *idx).collect();
        let mut at = 0;
        while at < kept.len() {
            let start = self.savepoint();
            for (other, idx) in kept.clone().into_iter().enumerate() {
                if other != at {
                    self.let_go(idx);
                }
            }
            let fits = self.try_gang(claimant, parts).is_ok();
            self.roll_back(start);
            if fits {
                kept.remove(at);
                // Another order of placing may spare somebody who was needed before.
                at = 0;
            } else {
                at += 1;
            }
        }
        kept
    }
}
