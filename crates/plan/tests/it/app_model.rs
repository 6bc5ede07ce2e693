//! A world in memory that performs an App's plans as the documents of the actions say, and checks at
//! each step what must never happen.

use crate::fixture::{UID, at, begin_stop, ended, placement, serving_template};
use base::{Attempt, Index, Span, Time};
use engine::{Cause, End, Phase, ReplicaKey, StopReason};
use plan::app::group_name;
use plan::{
    AppAction, AppInput, AppPlan, Placement, Progress, RevisionInput, Rollout, SeatStage,
    SeatState, Seen, Sight, Stage, plan_app,
};
use std::collections::{BTreeMap, BTreeSet};

/// A program as the engine holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) node: String,
    pub(crate) phase: Phase,
    pub(crate) ready_since: Option<Time>,
    pub(crate) restarts: u32,
    pub(crate) last_failure: Option<End>,
    /// Its node was fenced while it lived: its seat may be given away.
    pub(crate) zombie: bool,
}

/// Rows, engine and clock.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) input: AppInput,
    pub(crate) engine: BTreeMap<ReplicaKey, Program>,
    pub(crate) gone: BTreeSet<ReplicaKey>,
    pub(crate) fenced: BTreeSet<String>,
    /// Nodes that replicas must leave.
    pub(crate) drained: BTreeSet<String>,
    /// Revisions whose programs fail as soon as they start.
    pub(crate) broken: BTreeSet<u32>,
    pub(crate) now: Time,
    pub(crate) deleted: bool,
    /// Every seat that was ever added, with its first attempt.
    seats_ever: BTreeSet<(u32, Index, Attempt)>,
}

pub(crate) const NODES: [&str; 3] = ["n0", "n1", "n2"];

impl World {
    pub(crate) fn new(replicas: u32, max_surge: u32, max_unavailable: u32) -> Self {
        let mut world = World {
            input: AppInput {
                uid: UID,
                name: "fares".to_owned(),
                tenant: "default".to_owned(),
                project: "demo".to_owned(),
                replicas,
                revisions: BTreeMap::new(),
                target: 1,
                stable: None,
                progress: Progress {
                    ready_max: 0,
                    at: at(0),
                },
                traffic: Vec::new(),
                rollout: Rollout {
                    max_surge,
                    max_unavailable,
                    progress_deadline: Span::from_secs(600),
                    drain: Span::from_secs(2),
                },
                paused: false,
                deleting: false,
                leaving: BTreeSet::new(),
                replicas_seen: BTreeMap::new(),
            },
            engine: BTreeMap::new(),
            gone: BTreeSet::new(),
            fenced: BTreeSet::new(),
            drained: BTreeSet::new(),
            broken: BTreeSet::new(),
            now: at(0),
            deleted: false,
            seats_ever: BTreeSet::new(),
        };
        world.revise(1);
        world
    }

    /// The target becomes this Revision.
    pub(crate) fn revise(&mut self, revision: u32) {
        let now = self.now;
        self.input
            .revisions
            .entry(revision)
            .or_insert_with(|| RevisionInput {
                template: serving_template(),
                created: now,
                attempt_max: Attempt(0),
                seats: BTreeMap::new(),
            });
        if self.input.target != revision {
            self.input.target = revision;
            self.input.progress = Progress {
                ready_max: 0,
                at: now,
            };
        }
    }

    pub(crate) fn plan(&self) -> AppPlan {
        plan_app(&self.input, self.now)
    }

    /// Plans and performs the first `n` actions, each twice: a repeated action changes nothing.
    pub(crate) fn step(&mut self, n: usize) -> usize {
        let plan = self.plan();
        self.input.progress = plan.status.progress;
        let performed = plan.actions.len().min(n);
        for action in plan.actions.iter().take(n) {
            self.perform(action);
            let once = (self.seats(), self.engine.clone());
            self.perform(action);
            assert_eq!(once, (self.seats(), self.engine.clone()), "{action}");
            self.check_attempts();
        }
        performed
    }

    /// Plans, performs and observes until nothing is left to do. Returns the last plan.
    pub(crate) fn settle(&mut self) -> AppPlan {
        for _ in 0..200 {
            self.observe();
            let plan = self.plan();
            if plan.actions.is_empty() || self.deleted {
                self.input.progress = plan.status.progress;
                return plan;
            }
            self.step(usize::MAX);
        }
        panic!(
            "no rest after 200 plans:\n{}\n{:#?}",
            self.plan(),
            self.seats()
        );
    }

    pub(crate) fn seats(&self) -> Vec<(u32, Index, SeatState)> {
        self.input
            .revisions
            .iter()
            .flat_map(|(revision, state)| {
                state
                    .seats
                    .iter()
                    .map(|(index, seat)| (*revision, *index, seat.clone()))
            })
            .collect()
    }

    /// The highest attempt is known.
    fn check_attempts(&self) {
        for (revision, index, seat) in self.seats() {
            let max = self.input.revisions[&revision].attempt_max;
            assert!(seat.attempt <= max, "r{revision}/{index} beyond {max}");
        }
    }

    // ---- what performs the actions ----

    pub(crate) fn perform(&mut self, action: &AppAction) {
        let now = self.now;
        match action {
            AppAction::AddSeat {
                revision,
                index,
                attempt,
            } => {
                let state = self.revision(*revision);
                if state.seats.contains_key(index) {
                    return;
                }
                assert!(
                    self.seats_ever.insert((*revision, *index, *attempt)),
                    "a seat's key came back"
                );
                let state = self.revision(*revision);
                state.attempt_max = state.attempt_max.max(*attempt);
                state.seats.insert(
                    *index,
                    SeatState {
                        attempt: *attempt,
                        losses: 0,
                        readmit: false,
                        draining: None,
                        stage: SeatStage::Waiting { since: now },
                    },
                );
            }
            AppAction::Submit {
                revision,
                index,
                attempt,
                ..
            } => {
                if let Some(seat) = self.seat(*revision, *index, *attempt)
                    && let SeatStage::BackingOff { until } = seat.stage
                {
                    assert!(now >= until, "submitted before its backoff was over");
                    seat.stage = SeatStage::Waiting { since: now };
                }
            }
            AppAction::Bind { key } => {
                if let Some(placement) = self.placement(key)
                    && placement.stage == Stage::Reserved
                {
                    placement.stage = Stage::Bound;
                }
            }
            AppAction::Ensure(group) => {
                for slot in &group.slots {
                    let key = group.key(slot);
                    let stage = self
                        .placement(&key)
                        .map(|placement| placement.stage.clone());
                    assert!(
                        matches!(stage, Some(Stage::Bound)),
                        "ensured {key} without a bound placement: {stage:?}"
                    );
                    self.start(key, &slot.node);
                }
            }
            AppAction::Drain { key } => {
                if let Some(seat) = self.seat_of(key) {
                    seat.draining.get_or_insert(now);
                }
            }
            AppAction::Stop { key, grace, reason } => {
                assert_ne!(*reason, StopReason::Forget);
                if let Some(seat) = self.seat_of(key) {
                    assert!(seat.draining.is_some(), "stopped {key} without draining it");
                }
                let deadline = now + *grace;
                if let Some(placement) = self.placement(key) {
                    begin_stop(&mut placement.stage, deadline, *reason);
                }
                match self.engine.get_mut(key) {
                    Some(program) => {
                        if !matches!(program.phase, Phase::Ended(_) | Phase::Stopping(_)) {
                            program.phase = Phase::Stopping(deadline);
                        }
                    }
                    None => {
                        self.gone.insert(key.clone());
                    }
                }
            }
            AppAction::Release { key, end } => {
                if let Some(program) = self.engine.get(key) {
                    let over = program.zombie || matches!(program.phase, Phase::Ended(_));
                    assert!(over, "released {key} while it lives");
                }
                if let Some(placement) = self.placement(key)
                    && !matches!(placement.stage, Stage::Released(_))
                {
                    placement.stage = Stage::Released(end.clone());
                }
            }
            AppAction::Forget { key } => {
                if let Some(program) = self.engine.get(key) {
                    assert!(
                        matches!(program.phase, Phase::Ended(_)),
                        "forgot a live {key}"
                    );
                }
                self.engine.remove(key);
                self.gone.insert(key.clone());
            }
            AppAction::ReplaceSeat {
                revision,
                index,
                attempt,
                losses,
                not_before,
                readmit,
                ..
            } => {
                let state = self.revision(*revision);
                if let Some(seat) = state.seats.get_mut(index)
                    && seat.attempt < *attempt
                {
                    let SeatStage::Placed { placement, .. } = &seat.stage else {
                        panic!("replaced a seat that was not placed");
                    };
                    assert!(matches!(placement.stage, Stage::Released(_)));
                    state.attempt_max = state.attempt_max.max(*attempt);
                    *seat = SeatState {
                        attempt: *attempt,
                        losses: *losses,
                        readmit: *readmit,
                        draining: None,
                        stage: SeatStage::BackingOff { until: *not_before },
                    };
                }
            }
            AppAction::RemoveSeat {
                revision,
                index,
                attempt,
            } => {
                if let Some(seat) = self.seat(*revision, *index, *attempt) {
                    if let SeatStage::Placed { placement, .. } = &seat.stage {
                        assert!(matches!(placement.stage, Stage::Released(_)));
                    }
                    self.revision(*revision).seats.remove(index);
                }
            }
            AppAction::Promote { revision } => self.input.stable = Some(*revision),
            AppAction::RollBack { from, to, .. } => {
                if self.input.target == *from {
                    self.input.traffic.clear();
                    self.revise(*to);
                }
            }
            AppAction::Delete => {
                assert!(self.seats().is_empty());
                self.deleted = true;
            }
        }
    }

    fn revision(&mut self, revision: u32) -> &mut RevisionInput {
        self.input
            .revisions
            .get_mut(&revision)
            .expect("plans name known revisions")
    }

    fn seat(&mut self, revision: u32, index: Index, attempt: Attempt) -> Option<&mut SeatState> {
        self.revision(revision)
            .seats
            .get_mut(&index)
            .filter(|seat| seat.attempt == attempt)
    }

    fn seat_of(&mut self, key: &ReplicaKey) -> Option<&mut SeatState> {
        let revision = self
            .input
            .revisions
            .keys()
            .copied()
            .find(|revision| group_name(*revision) == key.group)?;
        self.seat(revision, key.index, key.attempt)
    }

    fn placement(&mut self, key: &ReplicaKey) -> Option<&mut Placement> {
        match &mut self.seat_of(key)?.stage {
            SeatStage::Placed { placement, .. } => Some(placement),
            SeatStage::BackingOff { .. } | SeatStage::Waiting { .. } => None,
        }
    }

    fn start(&mut self, key: ReplicaKey, node: &str) {
        for (other, program) in &self.engine {
            let same = other.group == key.group && other.index == key.index;
            let lives = !matches!(program.phase, Phase::Ended(_)) && !program.zombie;
            assert!(
                !(same && lives && other.attempt != key.attempt),
                "{key} starts while {other} lives"
            );
        }
        self.gone.remove(&key);
        self.engine.entry(key).or_insert(Program {
            node: node.to_owned(),
            phase: Phase::Running,
            ready_since: None,
            restarts: 0,
            last_failure: None,
            zombie: false,
        });
    }

    // ---- what happens by itself ----

    /// The engine's reports reach the rows.
    pub(crate) fn observe(&mut self) {
        let mut sights: BTreeMap<ReplicaKey, Sight> = self
            .gone
            .iter()
            .map(|key| (key.clone(), Sight::Gone))
            .collect();
        for (key, sight) in &self.input.replicas_seen {
            if matches!(sight, Sight::Seen(_)) && !self.engine.contains_key(key) {
                sights.insert(key.clone(), Sight::Gone);
            }
        }
        for (key, program) in &self.engine {
            let seen = Seen {
                phase: program.phase.clone(),
                started: Some(at(0)),
                ready_since: program.ready_since,
                restarts: program.restarts,
                last_failure: program.last_failure.clone(),
                unready: None,
            };
            sights.insert(key.clone(), Sight::Seen(seen));
        }
        self.input.leaving.clear();
        for (revision, index, seat) in self.seats() {
            let SeatStage::Placed { placement, .. } = &seat.stage else {
                continue;
            };
            let key = ReplicaKey {
                owner: UID,
                group: group_name(revision),
                index,
                attempt: seat.attempt,
            };
            if self.drained.contains(&placement.node) {
                self.input.leaving.insert(key.clone());
            }
            if self.fenced.contains(&placement.node) {
                sights.insert(key, Sight::Fenced);
            }
        }
        self.input.replicas_seen = sights;
    }

    pub(crate) fn waiting(&self) -> Vec<(u32, Index)> {
        self.seats()
            .into_iter()
            .filter(|(_, _, seat)| matches!(seat.stage, SeatStage::Waiting { .. }))
            .map(|(revision, index, _)| (revision, index))
            .collect()
    }

    pub(crate) fn admit(&mut self, revision: u32, index: Index) {
        let now = self.now;
        let node = (0..NODES.len())
            .map(|k| NODES[(index.0 as usize + k) % NODES.len()])
            .find(|node| !self.fenced.contains(*node) && !self.drained.contains(*node))
            .unwrap_or("spare");
        let seat = self
            .revision(revision)
            .seats
            .get_mut(&index)
            .expect("it waits");
        seat.stage = SeatStage::Placed {
            since: now,
            placement: placement(node),
        };
    }

    pub(crate) fn admit_all(&mut self) {
        for (revision, index) in self.waiting() {
            self.admit(revision, index);
        }
    }

    pub(crate) fn alive(&self) -> Vec<ReplicaKey> {
        self.engine
            .iter()
            .filter(|(_, program)| !matches!(program.phase, Phase::Ended(_)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Programs become ready, or fail if their Revision is broken; those asked to stop do.
    pub(crate) fn live(&mut self) {
        let now = self.now;
        for (key, program) in &mut self.engine {
            let broken = self
                .broken
                .iter()
                .any(|revision| group_name(*revision) == key.group);
            match program.phase {
                Phase::Ended(_) => {}
                Phase::Stopping(_) => {
                    program.ready_since = None;
                    program.phase = Phase::Ended(ended(Cause::Stopped, None, now));
                }
                Phase::Preparing | Phase::Running | Phase::BackingOff(_) if broken => {
                    program.ready_since = None;
                    program.restarts += 1;
                    program.last_failure = Some(ended(Cause::Failed, Some(1), now));
                    program.phase = Phase::BackingOff(now + Span::from_secs(10));
                }
                Phase::Preparing | Phase::Running | Phase::BackingOff(_) => {
                    program.phase = Phase::Running;
                    program.ready_since.get_or_insert(now);
                }
            }
        }
    }

    pub(crate) fn end(&mut self, key: &ReplicaKey, cause: Cause) {
        let now = self.now;
        if let Some(program) = self.engine.get_mut(key) {
            let asked = matches!(program.phase, Phase::Stopping(_));
            let cause = if asked { Cause::Stopped } else { cause };
            program.ready_since = None;
            program.phase = Phase::Ended(ended(cause, None, now));
        }
    }

    pub(crate) fn evict(&mut self, key: &ReplicaKey) {
        let deadline = self.now + Span::from_secs(30);
        if let Some(placement) = self.placement(key) {
            begin_stop(&mut placement.stage, deadline, StopReason::Preempted);
        }
    }

    pub(crate) fn fence(&mut self, node: &str) {
        self.fenced.insert(node.to_owned());
        for program in self.engine.values_mut() {
            let lives = !matches!(program.phase, Phase::Ended(_));
            program.zombie |= program.node == node && lives;
        }
    }

    /// The engine loses a replica that it had reported.
    pub(crate) fn lose(&mut self, key: &ReplicaKey) {
        if matches!(self.input.replicas_seen.get(key), Some(Sight::Seen(_))) {
            self.engine.remove(key);
            self.gone.insert(key.clone());
        }
    }

    /// Ready replicas of all Revisions, as the gateway counts them.
    pub(crate) fn ready(&self) -> u32 {
        self.plan().status.ready
    }

    /// From here on the scheduler admits and programs behave (broken ones keep failing).
    pub(crate) fn run_to_rest(&mut self) -> AppPlan {
        self.fenced.clear();
        for _ in 0..200 {
            let plan = self.settle();
            if self.deleted {
                return plan;
            }
            let before = (self.seats(), self.engine.clone());
            self.admit_all();
            self.live();
            let still = before == (self.seats(), self.engine.clone());
            self.observe();
            // Broken programs go on failing for ever: only time moves them.
            if still || !self.broken.is_empty() {
                match self.plan() {
                    plan if !plan.actions.is_empty() => {}
                    plan => match plan.wake {
                        Some(wake) => self.now = self.now.max(wake),
                        None => return plan,
                    },
                }
            }
        }
        panic!("no rest: {}\n{:#?}", self.plan(), self.seats());
    }
}
