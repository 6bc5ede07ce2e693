//! Plain schedulers to compare with: a rule for the choice between nodes, an order of who goes first,
//! plain lists and no caches. They know machines, devices, selectors and taints; not quotas, affinity,
//! topology or spread.

mod node;
mod order;
mod rule;

pub use node::Ask;
pub use order::Order;
pub use rule::Rule;

use crate::dice::Dice;
use crate::policy::Policy;
use base::Time;
use node::{Node, Seat, ends_by};
use rule::Judge;
use sched::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How often levels are looked at when nothing else changes.
const LEVELS_EVERY: base::Span = base::Span::from_secs(60);

/// Who goes first: a number that the order makes, then age, then identity.
type Key = (i64, Time, TaskId);

#[derive(Clone, Debug)]
struct Waiter {
    spec: TaskSpec,
    /// Who asks for the same has the same number.
    shape: u64,
    /// GPU milliseconds (in thousandths) that earlier attempts had.
    before: u64,
}

#[derive(Clone, Debug)]
struct Running {
    spec: TaskSpec,
    started: Time,
    seats: Vec<Seat>,
    leaving: bool,
    before: u64,
}

/// A plain scheduler.
pub struct Plain {
    judge: Judge,
    order: Order,
    dice: Dice,
    nodes: Vec<Node>,
    by_node: HashMap<NodeId, usize>,
    waiting: BTreeMap<Key, Waiter>,
    keys: HashMap<TaskId, Key>,
    running: BTreeMap<TaskId, Running>,
    queues: BTreeMap<String, QueueSpec>,
    /// Which queue owns a node, where the cluster is divided.
    owners: Vec<String>,
    /// GPU milliseconds that work has had before, by its name and age.
    attained: HashMap<(Time, String), u64>,
    decisions: u64,
    changed: bool,
    asked: Time,
}

impl Plain {
    /// A scheduler with a rule and an order. `typical` is what [`Rule::Fgd`] is given.
    pub fn new(rule: Rule, order: Order, typical: Vec<(Ask, f64)>, seed: u64) -> Self {
        Self {
            judge: Judge {
                rule,
                typical,
                cpu_max: 1.0,
                gpu_max: 1.0,
            },
            order,
            dice: Dice::new(seed ^ 0x5eed),
            nodes: Vec::new(),
            by_node: HashMap::new(),
            waiting: BTreeMap::new(),
            keys: HashMap::new(),
            running: BTreeMap::new(),
            queues: BTreeMap::new(),
            owners: Vec::new(),
            attained: HashMap::new(),
            decisions: 0,
            changed: false,
            asked: Time::default(),
        }
    }

    // ---- facts ----

    fn set_node(&mut self, spec: NodeSpec) {
        let id = spec.id;
        let mut node = Node::new(spec);
        let at = *self.by_node.entry(id).or_insert(self.nodes.len());
        for seat in self.running.values().flat_map(|running| &running.seats) {
            if seat.node == at {
                node.post(seat, 1);
            }
        }
        if at == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[at] = node;
        }
        let cpu = self.nodes.iter().map(|node| node.spec.allocatable.cpu.0);
        self.judge.cpu_max = cpu.max().unwrap_or(0).max(1) as f64;
        let gpus = self.nodes.iter().map(|node| node.left.len());
        self.judge.gpu_max = 1_000.0 * gpus.max().unwrap_or(0).max(1) as f64;
        self.divide();
    }

    /// Divides the nodes between queues by what is guaranteed to each; who has no guarantee shares what
    /// is over.
    fn divide(&mut self) {
        if self.order != Order::Static {
            return;
        }
        let guaranteed = |queue: &QueueSpec| {
            let quotas = queue.quotas.values();
            quotas
                .map(|quota| quota.guaranteed.gpu_milli)
                .max()
                .unwrap_or(0)
        };
        self.owners = vec![String::new(); self.nodes.len()];
        let mut next = 0;
        for (name, queue) in &self.queues {
            let mut wanted = guaranteed(queue);
            while wanted > 0 && next < self.nodes.len() {
                self.owners[next].clone_from(name);
                wanted = wanted.saturating_sub(1_000 * self.nodes[next].left.len() as u64);
                next += 1;
            }
        }
    }

    fn may_use(&self, node: usize, queue: &str) -> bool {
        let Some(owner) = self.owners.get(node) else {
            return true;
        };
        let owns = |name: &str| self.owners.iter().any(|owner| owner == name);
        if owner.is_empty() {
            !owns(queue)
        } else {
            owner == queue
        }
    }

    fn wait(&mut self, spec: TaskSpec) {
        self.forget(spec.id);
        let rank = match self.order {
            Order::Shortest => spec.expected.map_or(i64::MAX, |left| left.as_ms() as i64),
            Order::Strict | Order::Pass | Order::Easy | Order::Attained | Order::Static => {
                -i64::from(spec.priority)
            }
        };
        let key = (rank, spec.submitted, spec.id);
        self.keys.insert(spec.id, key);
        let mut hasher = DefaultHasher::new();
        format!("{:?}", spec.groups).hash(&mut hasher);
        if self.order == Order::Static {
            spec.queue.hash(&mut hasher);
        }
        let before = self.attained.get(&(spec.submitted, spec.name.clone()));
        let waiter = Waiter {
            shape: hasher.finish(),
            before: before.copied().unwrap_or(0),
            spec,
        };
        self.waiting.insert(key, waiter);
    }

    fn forget(&mut self, task: TaskId) -> Option<Waiter> {
        let key = self.keys.remove(&task)?;
        self.waiting.remove(&key)
    }

    fn released(&mut self, task: TaskId, slot: SlotId) {
        let now = self.asked;
        let Some(running) = self.running.get_mut(&task) else {
            return;
        };
        if let Some(at) = running.seats.iter().position(|seat| seat.slot == slot) {
            let seat = running.seats.swap_remove(at);
            self.nodes[seat.node].post(&seat, -1);
            if self.order == Order::Attained {
                let had = now.since(running.started).as_ms() * seat.ask.gpu_milli() as u64;
                let key = (running.spec.submitted, running.spec.name.clone());
                *self.attained.entry(key).or_default() += had;
            }
        }
        if running.seats.is_empty() {
            self.running.remove(&task);
        }
    }

    // ---- placing ----

    /// The best node for a member, among those that `may` lets pass.
    fn choose(
        &mut self,
        group: &GroupSpec,
        ask: &Ask,
        queue: &str,
        may: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<((f64, f64), usize)> = None;
        let mut fitting = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.fits(ask) || !node.admits(group) || !may(at) || !self.may_use(at, queue) {
                continue;
            }
            if self.judge.rule == Rule::Random {
                fitting.push(at);
                continue;
            }
            let score = self.judge.score(node, ask);
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, at));
            }
        }
        match fitting.as_slice() {
            [] => best.map(|(_, at)| at),
            fitting => Some(fitting[self.dice.below(fitting.len())]),
        }
    }

    /// Seats for a whole gang, or none.
    fn seats(
        &mut self,
        spec: &TaskSpec,
        may: &dyn Fn(usize, &Ask, usize) -> bool,
    ) -> Option<Vec<Seat>> {
        let mut seats: Vec<Seat> = Vec::new();
        let fits = spec.groups.iter().enumerate().all(|(number, group)| {
            let ask = Ask::of(group);
            let mut on_node: HashMap<usize, u32> = HashMap::new();
            let mut same: HashMap<usize, usize> = HashMap::new();
            (0..group.count).all(|index| {
                let room = |at: usize| {
                    let most = group.per_node_max;
                    (most == 0 || on_node.get(&at).is_none_or(|here| *here < most))
                        && may(at, &ask, same.get(&at).copied().unwrap_or(0))
                };
                let Some(at) = self.choose(group, &ask, &spec.queue, &room) else {
                    return index >= group.min;
                };
                *on_node.entry(at).or_default() += 1;
                *same.entry(at).or_default() += 1;
                let slot = SlotId {
                    group: number as u16,
                    index,
                };
                let devices = self.judge.devices(&self.nodes[at], &ask);
                let seat = Seat {
                    slot,
                    node: at,
                    devices,
                    ask: ask.clone(),
                };
                self.nodes[at].post(&seat, 1);
                seats.push(seat);
                true
            })
        });
        if fits {
            return Some(seats);
        }
        for seat in &seats {
            self.nodes[seat.node].post(seat, -1);
        }
        None
    }

    fn start(&mut self, waiter: Waiter, seats: Vec<Seat>, now: Time) -> Decision {
        let spec = waiter.spec;
        let placements = seats.iter().map(|seat| Placement {
            slot: seat.slot,
            node: self.nodes[seat.node].spec.id,
            devices: self.nodes[seat.node].shares(seat),
        });
        let kind = DecisionKind::Start {
            task: spec.id,
            generation: spec.generation,
            placements: placements.collect(),
        };
        let id = spec.id;
        let running = Running {
            spec,
            started: now,
            seats,
            leaving: false,
            before: waiter.before,
        };
        self.running.insert(id, running);
        self.decision(kind)
    }

    fn evict(&mut self, task: TaskId, reason: EvictReason, now: Time) -> Option<Decision> {
        let running = self
            .running
            .get_mut(&task)
            .filter(|running| !running.leaving)?;
        running.leaving = true;
        let deadline = now + running.spec.grace;
        Some(self.decision(DecisionKind::Evict {
            task,
            slots: Vec::new(),
            reason,
            on_behalf_of: None,
            deadline,
        }))
    }

    fn decision(&mut self, kind: DecisionKind) -> Decision {
        self.decisions += 1;
        Decision {
            id: DecisionId(self.decisions),
            kind,
        }
    }

    fn drain(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let drained = |seat: &Seat| self.nodes[seat.node].is_drained();
        let leaving = self
            .running
            .values()
            .filter(|running| running.seats.iter().any(drained));
        let leaving: Vec<TaskId> = leaving.map(|running| running.spec.id).collect();
        for task in leaving {
            decisions.extend(self.evict(task, EvictReason::Drained, now));
        }
    }

    /// Everybody in order; at the first who does not fit the order says what becomes of the others.
    fn place(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let mut refused: BTreeSet<u64> = BTreeSet::new();
        let mut future: Option<order::Future> = None;
        let mut after: Option<Key> = None;
        loop {
            use std::ops::Bound::{Excluded, Unbounded};
            let from = after.map_or(Unbounded, Excluded);
            let mut left = self.waiting.range((from, Unbounded));
            // Nothing gets free meanwhile, so who asks for the same is refused again, unless he is over sooner.
            let easy = self.order == Order::Easy;
            let next = left.find(|(_, waiter)| {
                !refused.contains(&waiter.shape) || (easy && waiter.spec.time_limit.is_some())
            });
            let Some((key, waiter)) = next else {
                return;
            };
            after = Some(*key);
            let waiter = waiter.clone();
            let limit = waiter.spec.time_limit;
            let seats = match &future {
                None => self.seats(&waiter.spec, &|_, _, _| true),
                Some(future) => {
                    let short = future.is_over_before(now, limit);
                    self.seats(&waiter.spec, &|at, ask, same| {
                        short || future.leaves(at, ask, same)
                    })
                }
            };
            if let Some(seats) = seats {
                if let Some(future) = &mut future
                    && !future.is_over_before(now, limit)
                {
                    future.take(&seats);
                }
                self.forget(waiter.spec.id);
                decisions.push(self.start(waiter, seats, now));
                continue;
            }
            match self.order {
                Order::Strict => return,
                Order::Easy if future.is_none() => future = self.reserve(&waiter.spec),
                Order::Pass | Order::Easy | Order::Shortest | Order::Attained | Order::Static => {}
            }
            refused.insert(waiter.shape);
        }
    }
}

impl Policy for Plain {
    fn apply(&mut self, event: Event) {
        self.changed |= !matches!(event, Event::Committed(_));
        match event {
            Event::Node(spec) => self.set_node(spec),
            Event::NodeGone(id) => {
                if let Some(at) = self.by_node.get(&id) {
                    self.nodes[*at].here = false;
                }
            }
            Event::Queue(spec) => {
                self.queues.insert(spec.name.clone(), spec);
                self.divide();
            }
            Event::QueueGone(name) => {
                self.queues.remove(&name);
                self.divide();
            }
            Event::Task(spec) => self.wait(spec),
            Event::TaskGone(task) => drop(self.forget(task)),
            Event::Running(running) => {
                let seats = running.placements.iter().filter_map(|placement| {
                    let at = *self.by_node.get(&placement.node)?;
                    let group = running.spec.groups.get(placement.slot.group as usize)?;
                    Some(Seat {
                        slot: placement.slot,
                        node: at,
                        devices: placement
                            .devices
                            .iter()
                            .map(|share| share.device as usize)
                            .collect(),
                        ask: Ask::of(group),
                    })
                });
                let seats: Vec<Seat> = seats.collect();
                for seat in &seats {
                    self.nodes[seat.node].post(seat, 1);
                }
                let id = running.spec.id;
                let running = Running {
                    spec: running.spec,
                    started: running.started,
                    seats,
                    leaving: false,
                    before: 0,
                };
                self.running.insert(id, running);
            }
            Event::Released { task, slot } => self.released(task, slot),
            _ => {}
        }
    }

    fn decide(&mut self, now: Time) -> Vec<Decision> {
        let mut decisions = Vec::new();
        // Levels change with time alone, but not much within a minute.
        let is_due = self.order == Order::Attained && now.since(self.asked) >= LEVELS_EVERY;
        self.asked = now;
        if std::mem::take(&mut self.changed) || is_due {
            self.drain(now, &mut decisions);
            if self.order == Order::Attained {
                self.by_attained(now, &mut decisions);
            } else {
                self.place(now, &mut decisions);
            }
        }
        decisions
    }

    fn knows_durations(&self) -> bool {
        self.order == Order::Shortest
    }
}
