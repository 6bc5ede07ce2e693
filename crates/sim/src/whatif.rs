//! Questions about a log: what would have been different?
//!
//! A log holds what happened to the scheduler (nodes, queues, work) and what it decided. From the
//! decisions and the ends that followed, this works out how long each piece of work really ran, over all
//! its attempts. Then the same work is lived through twice on the core with the log's settings: as it was,
//! and with the change. The two lives are compared, so what the simulation leaves out is left out on both
//! sides; how near the first comes to the log itself is said too.
//!
//! Work whose end the log does not show runs to the end of the simulation, or as long as it declared.

use crate::change::{Change, Pattern};
use crate::life::{Fate, Happening, Life, Outcome, Pace, Saves, Work, WorkId};
use crate::policy::Moonshot;
use crate::waits::{Waits, hours};
use base::{Span, Time};
use sched::*;
use schedlog::{Entry, Reader, ReplayError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

/// Tasks named in the table; the rest is counted, and all are in the JSON.
const SHOWN_MAX: usize = 12;

/// What a log tells about the world outside the scheduler.
#[derive(Debug)]
pub struct Recorded {
    config: Config,
    /// In order of time.
    happenings: Vec<(Time, Fact)>,
    works: Vec<Piece>,
    until: Time,
}

#[derive(Clone, Debug)]
enum Fact {
    Other(Event),
    Node(NodeSpec),
    Queue(QueueSpec),
    Gone(NodeId),
    Arrive(usize),
    Running(usize, Vec<Placement>),
    Withdraw(usize),
}

/// A piece of work over all its attempts, as the log shows it.
#[derive(Clone, Debug)]
struct Piece {
    spec: TaskSpec,
    started: Option<Time>,
    /// Member-milliseconds of all attempts, and of the last.
    ran: u128,
    ran_last: u128,
    ended: Option<Time>,
    /// The longest that it took to stop when it was told to.
    stops: Span,
}

#[derive(Clone, Debug)]
struct Attempt {
    piece: usize,
    seats: HashMap<SlotId, Time>,
    /// When it was told to stop.
    evicted: Option<Time>,
}

/// Reads a log.
pub fn read(log: impl BufRead) -> Result<Recorded, ReplayError> {
    let mut reader = Reader::open(log)?;
    let mut recorded = Recorded {
        config: reader.config().clone(),
        happenings: Vec::new(),
        works: Vec::new(),
        until: Time::default(),
    };
    let mut book = Book::default();
    let mut events: Vec<Event> = Vec::new();
    for entry in &mut reader {
        match entry? {
            Entry::Event(event) => events.push(*event),
            Entry::Decide { now, .. } => {
                recorded.until = now;
                for event in events.drain(..) {
                    book.event(event, now, &mut recorded);
                }
            }
            Entry::Decided(decisions) => {
                book.proposed
                    .extend(decisions.into_iter().map(|d| (d.id, d.kind)));
            }
        }
    }
    let until = recorded.until;
    for event in events {
        book.event(event, until, &mut recorded);
    }
    // What still runs has run until now, and its end is not known.
    for attempt in book.attempts.values() {
        let piece = &mut recorded.works[attempt.piece];
        if !attempt.seats.is_empty() {
            piece.ended = None;
        }
    }
    // Services end when somebody ends them, not when they have done enough.
    for (number, piece) in recorded.works.iter().enumerate() {
        if let Some(ended) = piece.ended.filter(|_| piece.spec.kind == TaskKind::Service) {
            recorded.happenings.push((ended, Fact::Withdraw(number)));
        }
    }
    recorded.happenings.sort_by_key(|(time, _)| *time);
    Ok(recorded)
}

/// What is known while a log is read.
#[derive(Default)]
struct Book {
    pieces: HashMap<(String, Time), usize>,
    attempts: HashMap<TaskId, Attempt>,
    proposed: HashMap<DecisionId, DecisionKind>,
}

impl Book {
    fn event(&mut self, event: Event, now: Time, recorded: &mut Recorded) {
        let fact = match event {
            Event::Node(spec) => Fact::Node(spec),
            Event::Queue(spec) => Fact::Queue(spec),
            Event::NodeGone(node) => Fact::Gone(node),
            Event::Task(spec) => match self.attempt(spec, recorded) {
                Some(new) => Fact::Arrive(new),
                None => return,
            },
            Event::Running(running) => {
                let id = running.spec.id;
                let placements = running.placements;
                let new = self.attempt(running.spec, recorded);
                if let Some(attempt) = self.attempts.get_mut(&id) {
                    recorded.works[attempt.piece]
                        .started
                        .get_or_insert(running.started);
                    for placement in &placements {
                        attempt.seats.entry(placement.slot).or_insert(now);
                    }
                }
                match new {
                    Some(new) => Fact::Running(new, placements),
                    None => return,
                }
            }
            Event::TaskGone(id) => match self.attempts.get(&id) {
                Some(attempt)
                    if attempt.seats.is_empty()
                        && recorded.works[attempt.piece].ended.is_none() =>
                {
                    Fact::Withdraw(attempt.piece)
                }
                Some(_) | None => return,
            },
            Event::Committed(id) => return self.committed(id, now, recorded),
            Event::Rejected(id) => {
                self.proposed.remove(&id);
                return;
            }
            Event::Released { task, slot } => return self.released(task, slot, now, recorded),
            Event::Releasing { .. } => return,
            other => Fact::Other(other),
        };
        recorded.happenings.push((now, fact));
    }

    /// The piece of work that a task is an attempt of; answers its number where it is new.
    fn attempt(&mut self, spec: TaskSpec, recorded: &mut Recorded) -> Option<usize> {
        if self.attempts.contains_key(&spec.id) {
            return None;
        }
        let key = (spec.name.clone(), spec.submitted);
        let known = self.pieces.get(&key).copied();
        let piece = known.unwrap_or(recorded.works.len());
        let id = spec.id;
        if known.is_none() {
            self.pieces.insert(key, piece);
            recorded.works.push(Piece {
                spec,
                started: None,
                ran: 0,
                ran_last: 0,
                ended: None,
                stops: Span::ZERO,
            });
        } else {
            // The attempt before was not its end.
            recorded.works[piece].ended = None;
            recorded.works[piece].ran_last = 0;
        }
        let attempt = Attempt {
            piece,
            seats: HashMap::new(),
            evicted: None,
        };
        self.attempts.insert(id, attempt);
        known.is_none().then_some(piece)
    }

    fn committed(&mut self, id: DecisionId, now: Time, recorded: &mut Recorded) {
        match self.proposed.remove(&id) {
            Some(
                DecisionKind::Start {
                    task, placements, ..
                }
                | DecisionKind::Grow { task, placements },
            ) => {
                if let Some(attempt) = self.attempts.get_mut(&task) {
                    recorded.works[attempt.piece].started.get_or_insert(now);
                    attempt
                        .seats
                        .extend(placements.iter().map(|placement| (placement.slot, now)));
                }
            }
            Some(DecisionKind::Evict { task, slots, .. }) => {
                if let Some(attempt) = self.attempts.get_mut(&task)
                    && slots.is_empty()
                {
                    attempt.evicted = Some(now);
                }
            }
            Some(DecisionKind::Nominate { .. }) | None => {}
        }
    }

    fn released(&mut self, task: TaskId, slot: SlotId, now: Time, recorded: &mut Recorded) {
        let Some(attempt) = self.attempts.get_mut(&task) else {
            return;
        };
        if let Some(since) = attempt.seats.remove(&slot) {
            let piece = &mut recorded.works[attempt.piece];
            // While it stopped it did nothing more.
            let until = attempt.evicted.unwrap_or(now);
            if attempt.evicted.is_some() {
                piece.stops = piece.stops.max(now.since(until));
            }
            let ran = u128::from(until.since(since).as_ms());
            piece.ran += ran;
            piece.ran_last += ran;
            piece.ended = (attempt.seats.is_empty() && attempt.evicted.is_none()).then_some(now);
        }
    }
}

impl Piece {
    fn work(&self) -> Work {
        let groups = self.spec.groups.iter();
        let members = groups
            .map(|group| u128::from(group.count))
            .sum::<u128>()
            .max(1);
        // Who saves his work goes on where he was, others begin again.
        let ran = if self.spec.checkpoints {
            self.ran
        } else {
            self.ran_last
        };
        let known = self.ended.map(|_| Span::from_ms((ran / members) as u64));
        let declared = self.spec.expected.or(self.spec.time_limit);
        Work {
            spec: self.spec.clone(),
            runs: match self.spec.kind {
                TaskKind::Service => None,
                TaskKind::Batch | TaskKind::Foreign => known.or(declared),
            },
            saves: Saves {
                every: None,
                on_stop: self.spec.checkpoints.then_some(self.stops),
            },
            loads: Span::ZERO,
            class: self.spec.queue.clone(),
        }
    }
}

/// The answer to a question.
#[derive(Debug)]
pub struct Answer {
    /// The change as it was asked.
    pub changes: Vec<Change>,
    /// Work that started in the log, and how much of it starts at the same moment when it is lived again.
    pub recorded_starts: (usize, usize),
    /// Work of which the log does not show the end.
    pub unknown_ends: usize,
    /// The life as it was.
    pub before: Outcome,
    /// The life with the change.
    pub after: Outcome,
}

/// Lives through a log's work twice: as it was, and with the changes.
pub fn ask(recorded: &Recorded, changes: &[Change]) -> Answer {
    let before = live(recorded, &[]);
    let after = live(recorded, changes);
    let started = recorded
        .works
        .iter()
        .zip(&before.works)
        .filter_map(|(piece, (_, fate))| Some((piece.started?, fate.started)));
    let same = started
        .clone()
        .filter(|(was, is)| Some(*was) == *is)
        .count();
    Answer {
        changes: changes.to_vec(),
        recorded_starts: (started.count(), same),
        unknown_ends: recorded
            .works
            .iter()
            .filter(|piece| piece.ended.is_none())
            .count(),
        before,
        after,
    }
}

fn live(recorded: &Recorded, changes: &[Change]) -> Outcome {
    let mut policy = Moonshot::new(recorded.config.clone());
    let pace = Pace {
        tick: Some(Span::from_secs(60)),
        sample: None,
        told: false,
    };
    let mut life = Life::new(&mut policy, pace);
    let ids: Vec<WorkId> = recorded
        .works
        .iter()
        .map(|piece| {
            let mut work = piece.work();
            for change in changes {
                if let Change::Priority { task, priority } = change
                    && task.matches(&work.spec.name)
                {
                    work.spec.priority = *priority;
                }
            }
            life.announce(work)
        })
        .collect();
    for (at, fact) in &recorded.happenings {
        let happening = match fact {
            Fact::Other(event) => Happening::Fact(event.clone()),
            Fact::Node(spec) => Happening::Node(changed_node(spec, changes)),
            Fact::Queue(spec) => Happening::Queue(changed_queue(spec, changes)),
            Fact::Gone(node) => Happening::Gone(*node),
            Fact::Arrive(number) => Happening::Arrive(ids[*number]),
            Fact::Running(number, placements) => {
                Happening::Running(ids[*number], placements.clone())
            }
            Fact::Withdraw(number) => Happening::Withdraw(ids[*number]),
        };
        life.at(*at, happening);
    }
    let first_node = recorded
        .happenings
        .iter()
        .find(|(_, fact)| matches!(fact, Fact::Node(_)));
    if let Some((at, _)) = first_node {
        for change in changes
            .iter()
            .filter(|change| matches!(change, Change::Add { .. }))
        {
            life.at(*at, Happening::Change(change.clone()));
        }
    }
    life.run(Some(recorded.until));
    life.finish()
}

fn changed_node(spec: &NodeSpec, changes: &[Change]) -> NodeSpec {
    let mut spec = spec.clone();
    for change in changes
        .iter()
        .filter(|change| !matches!(change, Change::Add { .. }))
    {
        let (nodes, _) = change.apply(std::iter::once(&spec), &BTreeMap::new());
        if let Some(changed) = nodes.into_iter().next() {
            spec = changed;
        }
    }
    spec
}

fn changed_queue(spec: &QueueSpec, changes: &[Change]) -> QueueSpec {
    let mut spec = spec.clone();
    for change in changes {
        let queues = BTreeMap::from([(spec.name.clone(), spec.clone())]);
        let (_, queues) = change.apply(std::iter::empty(), &queues);
        if let Some(changed) = queues.into_iter().next() {
            spec = changed;
        }
    }
    spec
}

/// Changes that name nothing in the log, which would be answered with a misleading "no difference".
pub fn unknown<'a>(recorded: &Recorded, changes: &'a [Change]) -> Option<&'a Change> {
    let node = |pattern: &Pattern| {
        recorded
            .happenings
            .iter()
            .any(|(_, fact)| matches!(fact, Fact::Node(spec) if pattern.matches(&spec.name)))
    };
    changes.iter().find(|change| match change {
        Change::Queue { name, .. } => !recorded
            .happenings
            .iter()
            .any(|(_, fact)| matches!(fact, Fact::Queue(spec) if spec.name == *name)),
        Change::Close { nodes, .. } | Change::Open { nodes, .. } => !node(nodes),
        Change::Device { node: name, .. } | Change::Add { like: name, .. } => {
            !node(&Pattern(name.clone()))
        }
        Change::Priority { task, .. } => !recorded
            .works
            .iter()
            .any(|piece| task.matches(&piece.spec.name)),
    })
}

/// How one piece of work fares differently.
struct Difference<'a> {
    name: &'a str,
    queue: &'a str,
    before: &'a Fate,
    after: &'a Fate,
}

impl Difference<'_> {
    /// Seconds that it starts later; earlier is negative. Who does not start at all starts at the end.
    fn later(&self, until: Time) -> i64 {
        let start = |fate: &Fate| fate.started.unwrap_or(until).as_ms() / 1_000;
        start(self.after) - start(self.before)
    }
}

impl Answer {
    fn differences(&self) -> Vec<Difference<'_>> {
        let pairs = self.before.works.iter().zip(&self.after.works);
        let differ = pairs.filter(|((_, before), (_, after))| {
            before.started != after.started
                || before.evictions != after.evictions
                || before.ended != after.ended
        });
        differ
            .map(|((work, before), (_, after))| Difference {
                name: &work.spec.name,
                queue: &work.spec.queue,
                before,
                after,
            })
            .collect()
    }

    /// A short table.
    pub fn table(&self) -> String {
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        let mut text = format!("what if: {}\n\n", changes.join("; "));
        let row = |what: &str, before: String, after: String| {
            format!("{what:<22} {before:>12} {after:>12}\n")
        };
        let (before, after) = (Waits::of(&self.before), Waits::of(&self.after));
        text += &row("", "as it was".to_owned(), "with it".to_owned());
        text += &row(
            "mean wait",
            show_hours(before.mean_h),
            show_hours(after.mean_h),
        );
        text += &row(
            "p99 wait",
            show_hours(before.p99_h),
            show_hours(after.p99_h),
        );
        text += &row(
            "longest wait",
            show_hours(before.max_h),
            show_hours(after.max_h),
        );
        let stops = |outcome: &Outcome| outcome.evictions.values().sum::<u64>().to_string();
        text += &row(
            "stopped for others",
            stops(&self.before),
            stops(&self.after),
        );
        let never = |outcome: &Outcome| {
            let works = outcome.works.iter();
            works
                .filter(|(_, fate)| fate.started.is_none())
                .count()
                .to_string()
        };
        text += &row("never started", never(&self.before), never(&self.after));

        let mut differences = self.differences();
        let until = self.before.until;
        differences.sort_by_key(|difference| std::cmp::Reverse(difference.later(until).abs()));
        let earlier = differences.iter().filter(|d| d.later(until) < 0).count();
        let later = differences.iter().filter(|d| d.later(until) > 0).count();
        text += &format!(
            "\n{earlier} start earlier, {later} later, of {}\n",
            self.before.works.len()
        );
        for difference in differences.iter().take(SHOWN_MAX) {
            let seconds = difference.later(until);
            let span = Span::from_secs(seconds.unsigned_abs());
            let moved = match (difference.before.started, difference.after.started, seconds) {
                (None, Some(_), _) => "starts, where it did not".to_owned(),
                (Some(_), None, _) => "does not start".to_owned(),
                (.., 0) => "starts when it did".to_owned(),
                (.., s) if s < 0 => format!("starts {span} earlier"),
                (..) => format!("starts {span} later"),
            };
            let stops = match (difference.before.evictions, difference.after.evictions) {
                (before, after) if before != after => {
                    format!(", stopped {after} times instead of {before}")
                }
                _ => String::new(),
            };
            text += &format!(
                "  {} ({}): {moved}{stops}\n",
                difference.name, difference.queue
            );
        }
        if differences.len() > SHOWN_MAX {
            text += &format!(
                "  and {} more; `--json` has all\n",
                differences.len() - SHOWN_MAX
            );
        }
        let (started, same) = self.recorded_starts;
        text += &format!(
            "\nLived again without the change, {same} of {started} start when the log says. The log does not show \
             the end of {}.\n",
            self.unknown_ends
        );
        text
    }

    /// Everything that differs.
    pub fn json(&self) -> Value {
        let until = self.before.until;
        let figures = |outcome: &Outcome| {
            let waits = Waits::of(outcome);
            json!({
                "mean_wait_h": waits.mean_h, "p99_wait_h": waits.p99_h, "max_wait_h": waits.max_h,
                "evictions": outcome.evictions,
                "never_started": outcome.works.iter().filter(|(_, fate)| fate.started.is_none()).count(),
            })
        };
        let differences = self.differences();
        let tasks = differences.iter().map(|difference| {
            json!({
                "task": difference.name, "queue": difference.queue,
                "started": difference.before.started.map(|t| t.to_string()),
                "would_start": difference.after.started.map(|t| t.to_string()),
                "later_s": difference.later(until),
                "wait_h": hours(difference.before.waited), "would_wait_h": hours(difference.after.waited),
                "evictions": difference.before.evictions, "would_be_evicted": difference.after.evictions,
            })
        });
        json!({
            "what_if": self.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "work": self.before.works.len(),
            "as_it_was": figures(&self.before),
            "with_it": figures(&self.after),
            "differences": tasks.collect::<Vec<_>>(),
            "recorded_starts": self.recorded_starts.0,
            "same_when_lived_again": self.recorded_starts.1,
            "unknown_ends": self.unknown_ends,
        })
    }
}

fn show_hours(hours: f64) -> String {
    Span::from_secs((hours * 3_600.0).round() as u64).to_string()
}
