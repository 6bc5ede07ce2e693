//! Discrete events in virtual time over any policy: arrivals, ends, stops, faults, changes.
//!
//! A life takes what happens from outside (a heap of [`Happening`]s) and works out the rest: when work
//! ends, what a stop loses, when a new attempt waits. Beside the policy it keeps simple books and
//! complains about every promise that they do not cover.
//!
//! It models no network, no slow start beyond `loads`, and no failing commits.

mod books;
mod work;

pub use work::{Fate, Saves, Work};

use crate::change::Change;
use crate::policy::Policy;
use base::{Span, Time, Uid};
use books::Books;
use sched::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, Instant};
use work::{Item, Phase};

/// How long a node may be silent before its seats count as free.
const NODE_LOST_AFTER: Span = Span::from_secs(60);
/// Answers of `decide` at one moment. More means that the policy does not come to rest.
const ROUNDS_MAX: usize = 1_000;
/// Ticks without a decision after which a life without an end is over.
const IDLE_MAX: u32 = 1_000;
/// The most samples of a life.
const SAMPLES_MAX: usize = 20_000;

/// Work by its number, in order of announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub usize);

/// What comes from outside.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A fact that is passed on as it is: pools, calendars.
    Fact(Event),
    /// A node appears or changes.
    Node(NodeSpec),
    /// A queue appears or changes.
    Queue(QueueSpec),
    /// Work arrives.
    Arrive(WorkId),
    /// Work arrives that already holds seats.
    Running(WorkId, Vec<Placement>),
    /// Work is withdrawn: a waiting one leaves, a running one is stopped and does not come again.
    Withdraw(WorkId),
    /// A node dies.
    Fail(NodeId),
    /// A node is gone, and known to be.
    Gone(NodeId),
    /// A dead node is back.
    Back(NodeId),
    /// Something that a person changes.
    Change(Change),
}

#[derive(Debug)]
enum Due {
    Outside(Box<Happening>),
    /// The seats of a dead node are given up.
    Fenced(NodeId),
    /// A piece of work ends or stops, if this is still its turn.
    Turn(WorkId, u32),
    /// Some seats of an elastic task are given back.
    Shrunk(WorkId, u32, Vec<SlotId>),
    /// Time alone.
    Wake,
}

/// How a life is lived.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// While somebody waits, the policy is asked this often even if nothing happens.
    pub tick: Option<Span>,
    /// How often a sample is taken.
    pub sample: Option<Span>,
    /// Whether every start, stop and end is told.
    pub told: bool,
}

/// The state of the cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When.
    pub at: Time,
    /// Thousandths of GPUs that there are.
    pub capacity: u64,
    /// Thousandths of GPUs held, by queue.
    pub used: BTreeMap<String, u64>,
    /// Work that waits, by queue.
    pub waiting: BTreeMap<String, u64>,
    /// How long whoever waits longest has waited.
    pub longest: Span,
}

/// What a life gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All work with its fate, in order of announcement.
    pub works: Vec<(Work, Fate)>,
    /// Samples in order of time.
    pub samples: Vec<Sample>,
    /// Stops by reason.
    pub evictions: BTreeMap<String, u64>,
    /// What the books complained about; empty is right.
    pub complaints: Vec<String>,
    /// What was told, if it was asked for.
    pub told: Vec<(Time, String)>,
    /// Thousandths of GPUs times milliseconds that there were.
    pub capacity: u128,
    /// Thousandths of GPUs times milliseconds that were held.
    pub used: u128,
    /// Decisions that were made.
    pub decisions: u64,
    /// Time spent in the policy.
    pub spent: Duration,
    /// When the life ended.
    pub until: Time,
}

/// A cluster's life under a policy.
pub struct Life<'a> {
    policy: &'a mut dyn Policy,
    pace: Pace,
    now: Time,
    due: BinaryHeap<Reverse<(Time, u64)>>,
    dues: HashMap<u64, Due>,
    seq: u64,
    items: Vec<Item>,
    by_task: HashMap<TaskId, WorkId>,
    /// Who has seats on a node.
    on_node: HashMap<NodeId, Vec<WorkId>>,
    queues: BTreeMap<String, QueueSpec>,
    books: Books,
    /// Nodes that died and are not given up yet.
    dead: std::collections::BTreeSet<NodeId>,
    held: BTreeMap<String, u64>,
    waiting: BTreeMap<String, u64>,
    waiters: std::collections::BTreeSet<(Time, WorkId)>,
    tasks_made: u128,
    tick_due: bool,
    /// How much of what is due is time alone.
    wakes: usize,
    next_sample: Option<Time>,
    counted: Option<Time>,
    outcome: Outcome,
}

impl<'a> Life<'a> {
    /// An empty cluster.
    pub fn new(policy: &'a mut dyn Policy, pace: Pace) -> Self {
        Self {
            policy,
            pace,
            now: Time::default(),
            due: BinaryHeap::new(),
            dues: HashMap::new(),
            seq: 0,
            items: Vec::new(),
            by_task: HashMap::new(),
            on_node: HashMap::new(),
            queues: BTreeMap::new(),
            books: Books::default(),
            dead: std::collections::BTreeSet::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiters: std::collections::BTreeSet::new(),
            tasks_made: 0,
            tick_due: false,
            wakes: 0,
            next_sample: None,
            counted: None,
            outcome: Outcome::default(),
        }
    }

    /// Makes work known; it arrives by a [`Happening`].
    pub fn announce(&mut self, work: Work) -> WorkId {
        self.items.push(Item::new(work));
        WorkId(self.items.len() - 1)
    }

    /// Work that arrives when its spec says that it was submitted.
    pub fn arrive(&mut self, work: Work) -> WorkId {
        let at = work.spec.submitted;
        let id = self.announce(work);
        self.at(at, Happening::Arrive(id));
        id
    }

    /// Something from outside. What is given first happens first at the same moment.
    pub fn at(&mut self, time: Time, happening: Happening) {
        self.push(time, Due::Outside(Box::new(happening)));
    }

    fn push(&mut self, time: Time, due: Due) {
        self.wakes += usize::from(matches!(due, Due::Wake));
        self.seq += 1;
        self.due.push(Reverse((time, self.seq)));
        self.dues.insert(self.seq, due);
    }

    /// The time of the simulation.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Whether a piece of work has all that it needs to make progress or to serve.
    pub fn is_ready(&self, id: WorkId) -> bool {
        let item = &self.items[id.0];
        item.phase == Phase::Running && item.ready <= self.now
    }

    /// Whether it is there: waiting, running or stopping.
    pub fn is_there(&self, id: WorkId) -> bool {
        !matches!(self.items[id.0].phase, Phase::Absent | Phase::Over)
    }

    /// Whether it waits for its first or next seats.
    pub fn waits(&self, id: WorkId) -> bool {
        self.items[id.0].phase == Phase::Waiting
    }

    /// The policy, for questions.
    pub fn policy(&mut self) -> &mut dyn Policy {
        self.policy
    }

    /// The task that a piece of work is at present.
    pub fn task(&self, id: WorkId) -> TaskId {
        self.items[id.0].task
    }

    /// What became of it so far.
    pub fn fate(&self, id: WorkId) -> &Fate {
        &self.items[id.0].fate
    }

    /// Thousandths of GPUs that a queue's work holds.
    pub fn held(&self, queue: &str) -> u64 {
        self.held.get(queue).copied().unwrap_or(0)
    }

    /// Lives until nothing is due, or until `end` (inclusive).
    pub fn run(&mut self, end: Option<Time>) {
        let mut idle = 0;
        while let Some(Reverse((time, _))) = self.due.peek().copied() {
            if end.is_some_and(|end| time > end) {
                break;
            }
            let before = self.outcome.decisions;
            self.step(time);
            // Whoever waits although nothing else is to come will wait for ever.
            let is_idle = self.wakes == self.due.len() && self.outcome.decisions == before;
            idle = if is_idle { idle + 1 } else { 0 };
            if end.is_none() && idle > IDLE_MAX {
                break;
            }
        }
        if let Some(end) = end {
            self.pass(end);
        }
    }

    /// The next moment at which something is due.
    pub fn next(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((time, _))| *time)
    }

    fn step(&mut self, time: Time) {
        self.pass(time);
        while let Some(Reverse((due, seq))) = self.due.peek().copied()
            && due <= time
        {
            self.due.pop();
            if let Some(due) = self.dues.remove(&seq) {
                self.happen(due);
            }
        }
        self.decide();
        if let Some(tick) = self.pace.tick
            && !self.tick_due
            && !self.waiters.is_empty()
        {
            self.tick_due = true;
            self.push(self.now + tick, Due::Wake);
        }
    }

    /// Lets time pass: areas and samples.
    fn pass(&mut self, time: Time) {
        let from = self.counted.unwrap_or(time);
        if let Some(every) = self.pace.sample.filter(|every| every.as_ms() > 0) {
            let mut next = self.next_sample.unwrap_or(time);
            while next <= time && self.outcome.samples.len() < SAMPLES_MAX {
                let sample = self.sample(next);
                self.outcome.samples.push(sample);
                next = next + every;
            }
            self.next_sample = Some(next);
        }
        let ms = u128::from(time.since(from).as_ms());
        self.outcome.capacity += ms * u128::from(self.books.gpu_capacity);
        self.outcome.used += ms * u128::from(self.held.values().sum::<u64>());
        self.counted = Some(time.max(from));
        self.now = time;
    }

    fn sample(&self, at: Time) -> Sample {
        let longest = self.waiters.first();
        Sample {
            at,
            capacity: self.books.gpu_capacity,
            used: self.held.clone(),
            waiting: self.waiting.clone(),
            longest: longest.map_or(Span::ZERO, |(since, _)| at.since(*since)),
        }
    }

    // ---- what happens ----

    fn happen(&mut self, due: Due) {
        match due {
            Due::Wake => {
                self.wakes -= 1;
                self.tick_due = false;
            }
            Due::Outside(happening) => self.outside(*happening),
            Due::Turn(id, turn) if self.items[id.0].turn == turn => self.turn(id),
            Due::Shrunk(id, attempt, slots) if self.items[id.0].attempt == attempt => {
                self.items[id.0].advance(self.now);
                for slot in slots {
                    self.give_back(id, slot);
                }
                self.schedule(id);
            }
            Due::Turn(..) | Due::Shrunk(..) => {}
            Due::Fenced(node) if self.dead.contains(&node) => self.fenced(node),
            Due::Fenced(_) => {}
        }
    }

    /// A dead node's seats are free again, and what sat there waits.
    fn fenced(&mut self, node: NodeId) {
        self.dead.remove(&node);
        self.books.lost(node);
        self.tell(|life| format!("{} is given up", life.node_name(node)));
        for id in self.on_node.remove(&node).unwrap_or_default() {
            let here = |seat: &Placement| seat.node == node;
            if self.items[id.0].seats.values().any(here) {
                self.stopped(id, true);
            }
        }
        self.policy.apply(Event::NodeGone(node));
    }

    fn outside(&mut self, happening: Happening) {
        match happening {
            Happening::Fact(event) => self.policy.apply(event),
            Happening::Node(spec) => self.set_node(spec),
            Happening::Queue(spec) => {
                self.queues.insert(spec.name.clone(), spec.clone());
                self.policy.apply(Event::Queue(spec));
            }
            Happening::Arrive(id) => {
                self.items[id.0].fate.arrived = self.now;
                self.wait(id);
            }
            Happening::Running(id, placements) => self.found_running(id, placements),
            Happening::Withdraw(id) => self.withdraw(id),
            Happening::Fail(node) => self.fail(node),
            Happening::Gone(node) => self.fenced(node),
            Happening::Back(node) => {
                // It was away for too short a time to be missed, but what ran on it is gone.
                if self.dead.contains(&node) {
                    self.fenced(node);
                }
                if let Some(spec) = self.books.node(node).cloned() {
                    self.tell(|_| format!("{} is back", spec.name));
                    self.set_node(spec);
                }
            }
            Happening::Change(change) => self.change(&change),
        }
    }

    /// Nobody hears of it yet; what runs there stands still.
    fn fail(&mut self, node: NodeId) {
        if self.books.is_lost(node) || !self.dead.insert(node) {
            return;
        }
        self.tell(|life| format!("{} dies", life.node_name(node)));
        for id in self.on_node.get(&node).cloned().unwrap_or_default() {
            self.freeze(id);
        }
        self.push(self.now + NODE_LOST_AFTER, Due::Fenced(node));
    }

    fn freeze(&mut self, id: WorkId) {
        let item = &mut self.items[id.0];
        if item.phase == Phase::Running {
            item.advance(self.now);
            item.fate.faults += 1;
            let kept = item.saved;
            item.phase = Phase::Stopping { kept, again: true };
            item.turn += 1;
        }
    }

    fn set_node(&mut self, spec: NodeSpec) {
        self.books.set(&spec);
        self.policy.apply(Event::Node(spec));
    }

    fn change(&mut self, change: &Change) {
        self.tell(|_| change.to_string());
        let (nodes, queues) = change.apply(self.books.nodes(), &self.queues);
        if nodes.is_empty() && queues.is_empty() {
            self.books
                .complain(format!("`{change}` names nothing that exists"));
        }
        for spec in nodes {
            if self.books.is_lost(spec.id) {
                // It comes back as what it was made to be meanwhile.
                self.books.remember(&spec);
            } else {
                self.set_node(spec);
            }
        }
        for spec in queues {
            self.outside(Happening::Queue(spec));
        }
    }

    fn wait(&mut self, id: WorkId) {
        let now = self.now;
        self.tasks_made += 1;
        let task = TaskId(Uid(self.tasks_made));
        let item = &mut self.items[id.0];
        item.phase = Phase::Waiting;
        item.task = task;
        item.attempt += 1;
        item.since = now;
        item.updated = now;
        let mut spec = item.work.spec.clone();
        spec.id = task;
        if self.policy.knows_durations() {
            spec.expected = item.left();
        }
        // Its owner knows that less is left.
        if item.attempt > 1
            && let (Some(limit), Some(left), Some(runs)) =
                (spec.time_limit, item.left(), item.work.runs)
        {
            spec.time_limit = Some(Span::from_ms(
                limit
                    .as_ms()
                    .saturating_sub(runs.as_ms() - left.as_ms())
                    .max(1),
            ));
        }
        // A replica that lost its node takes its place again.
        spec.readmit |= spec.kind == TaskKind::Service && item.attempt > 1;
        *self.waiting.entry(spec.queue.clone()).or_default() += 1;
        self.waiters.insert((now, id));
        self.by_task.insert(task, id);
        self.policy.apply(Event::Task(spec));
    }

    fn no_longer_waits(&mut self, id: WorkId) {
        let item = &mut self.items[id.0];
        item.fate.waits_for(self.now.since(item.since));
        self.waiters.remove(&(item.since, id));
        if let Some(count) = self.waiting.get_mut(&item.work.spec.queue) {
            *count -= 1;
        }
    }

    fn found_running(&mut self, id: WorkId, placements: Vec<Placement>) {
        self.tasks_made += 1;
        let task = TaskId(Uid(self.tasks_made));
        let item = &mut self.items[id.0];
        item.task = task;
        item.attempt = 1;
        item.phase = Phase::Running;
        item.updated = self.now;
        item.fate.arrived = self.now;
        item.fate.started = Some(self.now);
        self.by_task.insert(task, id);
        let spec = TaskSpec {
            id: task,
            ..item.work.spec.clone()
        };
        let running = RunningTask {
            spec,
            started: self.now,
            placements: placements.clone(),
        };
        self.policy.apply(Event::Running(running));
        self.sit(id, placements);
        self.schedule(id);
    }

    fn withdraw(&mut self, id: WorkId) {
        let task = self.items[id.0].task;
        match self.items[id.0].phase {
            Phase::Waiting => {
                self.no_longer_waits(id);
                self.over(id);
                self.policy.apply(Event::TaskGone(task));
            }
            Phase::Running => {
                self.policy.apply(Event::TaskGone(task));
                let grace = self.items[id.0].work.spec.grace;
                self.ask_to_stop(id, self.now + grace, false);
            }
            Phase::Stopping { kept, .. } => {
                self.items[id.0].phase = Phase::Stopping { kept, again: false };
                self.policy.apply(Event::TaskGone(task));
            }
            Phase::Absent => self.items[id.0].phase = Phase::Over,
            Phase::Over => {}
        }
    }

    fn over(&mut self, id: WorkId) {
        let item = &mut self.items[id.0];
        item.phase = Phase::Over;
        item.fate.ended = Some(self.now);
    }

    /// Its end or its stop has come.
    fn turn(&mut self, id: WorkId) {
        match self.items[id.0].phase {
            Phase::Running => {
                self.items[id.0].advance(self.now);
                self.tell_of(id, "ends");
                self.release(id);
                self.over(id);
            }
            Phase::Stopping { .. } => self.stopped(id, false),
            Phase::Absent | Phase::Waiting | Phase::Over => {}
        }
    }

    /// Told to stop by a deadline: it writes what it can.
    fn ask_to_stop(&mut self, id: WorkId, deadline: Time, again: bool) {
        let now = self.now;
        let item = &mut self.items[id.0];
        item.advance(now);
        let (kept, at) = match item.work.saves.on_stop {
            Some(takes) if now + takes <= deadline => (item.done, now + takes),
            Some(_) => (item.saved, deadline),
            None => (item.saved, now),
        };
        item.phase = Phase::Stopping { kept, again };
        item.turn += 1;
        let turn = item.turn;
        self.push(at, Due::Turn(id, turn));
    }

    fn stopped(&mut self, id: WorkId, by_fault: bool) {
        let item = &mut self.items[id.0];
        item.advance(self.now);
        let (kept, again) = match item.phase {
            Phase::Stopping { kept, again } => (kept, again),
            Phase::Absent | Phase::Waiting | Phase::Running | Phase::Over => (item.saved, true),
        };
        item.turn += 1;
        if item.work.runs.is_some() {
            item.fall_back(kept);
        }
        self.tell_of(id, if by_fault { "is lost" } else { "stops" });
        self.release(id);
        if again {
            self.wait(id);
        } else {
            self.over(id);
        }
    }

    // ---- seats ----

    fn sit(&mut self, id: WorkId, placements: Vec<Placement>) {
        for placement in placements {
            self.books.post(&self.items[id.0], &placement, 1);
            let holders = self.on_node.entry(placement.node).or_default();
            if !holders.contains(&id) {
                holders.push(id);
            }
            let item = &mut self.items[id.0];
            let gpus = item.group(placement.slot).request.gpu_milli;
            let held = self.held.entry(item.work.spec.queue.clone()).or_default();
            *held += gpus;
            if let Some(before) = item.seats.insert(placement.slot, placement) {
                let name = item.work.spec.name.clone();
                self.books
                    .complain(format!("`{name}` was given seat {:?} twice", before.slot));
            }
        }
    }

    fn give_back(&mut self, id: WorkId, slot: SlotId) {
        let Some(placement) = self.items[id.0].seats.remove(&slot) else {
            return;
        };
        let item = &self.items[id.0];
        self.books.post(item, &placement, -1);
        let gpus = item.group(slot).request.gpu_milli;
        if let Some(held) = self.held.get_mut(&item.work.spec.queue) {
            *held -= gpus;
        }
        let left = item.seats.values().any(|seat| seat.node == placement.node);
        if !left && let Some(holders) = self.on_node.get_mut(&placement.node) {
            holders.retain(|holder| *holder != id);
        }
        let task = item.task;
        self.policy.apply(Event::Released { task, slot });
    }

    fn release(&mut self, id: WorkId) {
        let slots: Vec<SlotId> = self.items[id.0].seats.keys().copied().collect();
        for slot in slots {
            self.give_back(id, slot);
        }
        let task = self.items[id.0].task;
        self.by_task.remove(&task);
    }

    /// Its end by the seats that it has now.
    fn schedule(&mut self, id: WorkId) {
        let item = &mut self.items[id.0];
        if item.phase != Phase::Running {
            return;
        }
        item.turn += 1;
        let turn = item.turn;
        if let Some(end) = item.end() {
            self.push(end, Due::Turn(id, turn));
        }
    }

    // ---- decisions ----

    fn decide(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let begin = Instant::now();
            let decisions = self.policy.decide(self.now);
            self.outcome.spent += begin.elapsed();
            if decisions.is_empty() {
                return;
            }
            for decision in decisions {
                self.outcome.decisions += 1;
                self.policy.apply(Event::Committed(decision.id));
                self.perform(decision.kind);
            }
        }
        self.books
            .complain(format!("{}: decisions do not come to an end", self.now));
    }

    fn perform(&mut self, kind: DecisionKind) {
        match kind {
            DecisionKind::Start {
                task, placements, ..
            } => {
                let Some(id) = self.known(task, "started") else {
                    return;
                };
                if self.items[id.0].phase != Phase::Waiting {
                    let name = self.items[id.0].work.spec.name.clone();
                    self.books
                        .complain(format!("`{name}` was started while it does not wait"));
                    return;
                }
                self.check_gang(id, &placements);
                self.no_longer_waits(id);
                let item = &mut self.items[id.0];
                item.phase = Phase::Running;
                item.updated = self.now;
                item.ready = self.now + item.work.loads;
                item.fate.started.get_or_insert(self.now);
                self.sit(id, placements);
                self.tell_of(id, "starts");
                self.schedule(id);
                let seats = self.items[id.0].seats.values();
                if seats.into_iter().any(|seat| self.dead.contains(&seat.node)) {
                    self.freeze(id);
                }
            }
            DecisionKind::Grow { task, placements } => {
                let Some(id) = self.known(task, "grown") else {
                    return;
                };
                self.items[id.0].advance(self.now);
                self.sit(id, placements);
                self.tell_of(id, "grows");
                self.schedule(id);
            }
            DecisionKind::Evict {
                task,
                slots,
                reason,
                deadline,
                ..
            } => {
                let Some(id) = self.known(task, "stopped") else {
                    return;
                };
                *self
                    .outcome
                    .evictions
                    .entry(reason.to_string())
                    .or_default() += 1;
                let whole = slots.is_empty() || slots.len() == self.items[id.0].seats.len();
                self.tell(|life| {
                    let name = &life.items[id.0].work.spec.name;
                    let what = if whole {
                        "is told to stop"
                    } else {
                        "is told to shrink"
                    };
                    format!("{name} {what}: {reason}")
                });
                if !whole {
                    let item = &self.items[id.0];
                    let takes = item.work.saves.on_stop.unwrap_or(Span::ZERO);
                    let at = (self.now + takes).min(deadline);
                    let attempt = item.attempt;
                    self.push(at, Due::Shrunk(id, attempt, slots));
                } else if self.items[id.0].phase == Phase::Running {
                    self.items[id.0].fate.evictions += 1;
                    self.ask_to_stop(id, deadline, true);
                }
            }
            DecisionKind::Nominate { until, .. } => {
                self.push(until + Span::from_ms(1), Due::Wake);
            }
        }
    }

    fn known(&mut self, task: TaskId, what: &str) -> Option<WorkId> {
        let found = self.by_task.get(&task).copied();
        if found.is_none() {
            self.books.complain(format!(
                "task {:?} was {what}, which does not exist",
                task.0
            ));
        }
        found
    }

    fn check_gang(&mut self, id: WorkId, placements: &[Placement]) {
        let spec = &self.items[id.0].work.spec;
        let mut wrong = Vec::new();
        for (at, group) in spec.groups.iter().enumerate() {
            let seats = placements
                .iter()
                .filter(|seat| usize::from(seat.slot.group) == at);
            let given = seats.count() as u32;
            if given < group.min || given > group.count {
                let (name, min) = (&group.name, group.min);
                wrong.push(format!(
                    "`{}` starts with {given} of {min} `{name}`",
                    spec.name
                ));
            }
        }
        for what in wrong {
            self.books.complain(what);
        }
    }

    // ---- telling ----

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.pace.told {
            let line = what(self);
            self.outcome.told.push((self.now, line));
        }
    }

    fn tell_of(&mut self, id: WorkId, verb: &str) {
        self.tell(|life| {
            let item = &life.items[id.0];
            let mut nodes: Vec<String> = item
                .seats
                .values()
                .map(|s| life.node_name(s.node))
                .collect();
            nodes.dedup();
            let more = nodes.len().saturating_sub(4);
            nodes.truncate(4);
            let mut places = nodes.join(", ");
            if more > 0 {
                places += &format!(" and {more} more");
            }
            format!("{} {verb} on {places}", item.work.spec.name)
        });
    }

    fn node_name(&self, node: NodeId) -> String {
        let spec = self.books.node(node);
        spec.map_or_else(|| format!("node {}", node.0), |spec| spec.name.clone())
    }

    /// Ends the life and counts it up.
    pub fn finish(mut self) -> Outcome {
        for item in &mut self.items {
            item.advance(self.now);
            if item.phase == Phase::Waiting {
                item.fate.waits_for(self.now.since(item.since));
            }
        }
        let mut outcome = self.outcome;
        outcome.complaints = self.books.complaints;
        outcome.until = self.now;
        let items = self.items.into_iter();
        outcome.works = items.map(|item| (item.work, item.fate)).collect();
        outcome
    }
}
