//! A world in memory that performs a Job's plans as the documents of the actions say, and checks at
//! each step what must never happen.

use crate::fixture::{UID, begin_stop, ended, placement};
use base::{Attempt, Index, Span, Time};
use engine::{Cause, Phase, ReplicaKey, StopReason};
use plan::{
    Finished, JobAction, JobInput, JobPlan, MemberState, Seen, Sight, Stage, Tally, Then, UnitKey,
    UnitStage, UnitState, plan_job, unit_seats,
};
use std::collections::{BTreeMap, BTreeSet};

/// A program as the engine holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) node: String,
    pub(crate) phase: Phase,
    pub(crate) started: Option<Time>,
    /// Its node was fenced while it lived: its seat may be given away.
    pub(crate) zombie: bool,
}

/// Rows, engine and clock.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) input: JobInput,
    pub(crate) engine: BTreeMap<ReplicaKey, Program>,
    /// Keys that the engine reported gone.
    pub(crate) gone: BTreeSet<ReplicaKey>,
    pub(crate) fenced: BTreeSet<String>,
    pub(crate) now: Time,
    pub(crate) expired: bool,
    /// Every start of a program, for exactly-once checks.
    pub(crate) starts: BTreeMap<ReplicaKey, u32>,
}

pub(crate) const NODES: [&str; 3] = ["n0", "n1", "n2"];

impl World {
    pub(crate) fn new(input: JobInput, now: Time) -> Self {
        World {
            input,
            engine: BTreeMap::new(),
            gone: BTreeSet::new(),
            fenced: BTreeSet::new(),
            now,
            expired: false,
            starts: BTreeMap::new(),
        }
    }

    pub(crate) fn plan(&self) -> JobPlan {
        plan_job(&self.input, self.now)
    }

    /// Plans and performs the first `n` actions, each twice: a repeated action changes nothing.
    pub(crate) fn step(&mut self, n: usize) -> usize {
        let plan = self.plan();
        self.input.started = plan.status.started;
        let performed = plan.actions.len().min(n);
        for action in plan.actions.iter().take(n) {
            self.perform(action);
            let once = (self.input.units.clone(), self.engine.clone());
            self.perform(action);
            assert_eq!(
                once,
                (self.input.units.clone(), self.engine.clone()),
                "{action}"
            );
        }
        performed
    }

    /// Plans, performs and observes until nothing is left to do. Returns the last plan.
    pub(crate) fn settle(&mut self) -> JobPlan {
        for _ in 0..100 {
            self.observe();
            let plan = self.plan();
            if plan.actions.is_empty() {
                self.input.started = plan.status.started;
                return plan;
            }
            self.step(usize::MAX);
        }
        panic!(
            "no rest after 100 plans:\n{}\n{:#?}",
            self.plan(),
            self.input.units
        );
    }

    // ---- what performs the actions ----

    pub(crate) fn perform(&mut self, action: &JobAction) {
        let now = self.now;
        match action {
            JobAction::Submit { unit, attempt, .. } => {
                let state = self.unit(unit);
                let ready = match state.stage {
                    UnitStage::New => true,
                    UnitStage::BackingOff { until } => {
                        assert!(now >= until, "submitted before its backoff was over");
                        true
                    }
                    UnitStage::Waiting { .. } | UnitStage::Placed { .. } | UnitStage::Done(_) => {
                        false
                    }
                };
                if ready && state.attempt == *attempt {
                    state.stage = UnitStage::Waiting { since: now };
                }
            }
            JobAction::Withdraw { unit, attempt } => {
                let state = self.unit(unit);
                if state.attempt == *attempt && matches!(state.stage, UnitStage::Waiting { .. }) {
                    state.stage = UnitStage::New;
                }
            }
            JobAction::Bind {
                unit,
                attempt,
                members,
            } => {
                let seats = unit_seats(&self.input.spec, unit);
                let min: u32 = seats.iter().map(|seats| seats.min).sum();
                let state = self.unit(unit);
                assert_eq!(state.attempt, *attempt);
                assert!(
                    state.members.len() >= min as usize,
                    "started without all seats"
                );
                for member in &mut state.members {
                    let named = members.contains(&(member.group.clone(), member.index));
                    if named && member.placement.stage == Stage::Reserved {
                        member.placement.stage = Stage::Bound;
                    }
                }
            }
            JobAction::Ensure(group) => {
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
            JobAction::Stop { key, grace, reason } => {
                assert_ne!(*reason, StopReason::Forget);
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
            JobAction::Release { key, end, unit } => {
                self.assert_not_alive(key);
                assert_eq!(self.unit(unit).attempt, key.attempt);
                if let Some(placement) = self.placement(key)
                    && !matches!(placement.stage, Stage::Released(_))
                {
                    placement.stage = Stage::Released(end.clone());
                }
            }
            JobAction::Forget { key } => {
                let ended = matches!(
                    self.engine.get(key),
                    Some(Program {
                        phase: Phase::Ended(_),
                        ..
                    })
                );
                assert!(
                    ended || !self.engine.contains_key(key),
                    "forgot a live {key}"
                );
                self.engine.remove(key);
                self.gone.insert(key.clone());
            }
            JobAction::Replace {
                unit,
                attempt,
                tally,
                not_before,
                readmit,
                ..
            } => {
                assert!(matches!(unit, UnitKey::Rank { .. }));
                let state = self.unit(unit);
                if state.attempt < *attempt {
                    *state = UnitState {
                        attempt: *attempt,
                        tally: *tally,
                        readmit: *readmit,
                        stage: UnitStage::BackingOff { until: *not_before },
                        members: Vec::new(),
                    };
                }
            }
            JobAction::EndAttempt {
                unit,
                attempt,
                tally,
                then,
                ..
            } => {
                let state = self.unit(unit);
                if state.attempt != *attempt || matches!(state.stage, UnitStage::Done(_)) {
                    return;
                }
                for member in &state.members {
                    assert!(
                        matches!(member.placement.stage, Stage::Released(_)),
                        "ended an attempt with a seat that is not released"
                    );
                }
                state.tally = *tally;
                match then {
                    Then::Next {
                        attempt: next,
                        not_before,
                        readmit,
                    } => {
                        assert!(next > attempt);
                        state.attempt = *next;
                        state.readmit = *readmit;
                        state.stage = UnitStage::BackingOff { until: *not_before };
                        state.members.clear();
                    }
                    Then::Over(outcome) => state.stage = UnitStage::Done(outcome.clone()),
                }
            }
            JobAction::Finish { phase, reason } => {
                assert!(phase.is_final());
                for state in self.input.units.values_mut() {
                    assert!(
                        !matches!(state.stage, UnitStage::Placed { .. }),
                        "finished with a unit placed"
                    );
                    if matches!(state.stage, UnitStage::Waiting { .. }) {
                        state.stage = UnitStage::New;
                    }
                }
                if self.input.finished.is_none() {
                    self.input.finished = Some(Finished {
                        phase: *phase,
                        reason: reason.clone(),
                        at: now,
                    });
                }
            }
            JobAction::Expire => self.expired = true,
        }
    }

    fn unit(&mut self, unit: &UnitKey) -> &mut UnitState {
        let attempt = match unit {
            UnitKey::Rank { .. } => Attempt(0),
            UnitKey::Gang | UnitKey::Index(_) => Attempt(1),
        };
        self.input.units.entry(unit.clone()).or_insert(UnitState {
            attempt,
            tally: Tally::default(),
            readmit: false,
            stage: UnitStage::New,
            members: Vec::new(),
        })
    }

    fn placement(&mut self, key: &ReplicaKey) -> Option<&mut plan::Placement> {
        self.input
            .units
            .values_mut()
            .filter(|unit| unit.attempt == key.attempt)
            .flat_map(|unit| &mut unit.members)
            .find(|member| member.group == key.group && member.index == key.index)
            .map(|member| &mut member.placement)
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
        if self.engine.contains_key(&key) {
            return;
        }
        *self.starts.entry(key.clone()).or_default() += 1;
        self.gone.remove(&key);
        let started = Some(self.now);
        self.engine.insert(
            key,
            Program {
                node: node.to_owned(),
                phase: Phase::Running,
                started,
                zombie: false,
            },
        );
    }

    fn assert_not_alive(&self, key: &ReplicaKey) {
        if let Some(program) = self.engine.get(key) {
            assert!(
                program.zombie || matches!(program.phase, Phase::Ended(_)),
                "released {key} while it lives"
            );
        }
    }

    // ---- what happens by itself ----

    /// The engine's reports reach the rows.
    pub(crate) fn observe(&mut self) {
        let mut sights: BTreeMap<ReplicaKey, Sight> = self
            .gone
            .iter()
            .map(|key| (key.clone(), Sight::Gone))
            .collect();
        for (key, sight) in &self.input.replicas {
            let was_seen = matches!(sight, Sight::Seen(_));
            if was_seen && !self.engine.contains_key(key) {
                sights.insert(key.clone(), Sight::Gone);
            }
        }
        for (key, program) in &self.engine {
            let seen = Seen {
                phase: program.phase.clone(),
                started: program.started,
                ready_since: None,
                restarts: 0,
                last_failure: None,
                unready: None,
            };
            sights.insert(key.clone(), Sight::Seen(seen));
        }
        for unit in self.input.units.values() {
            for member in &unit.members {
                if self.fenced.contains(&member.placement.node) {
                    let key = ReplicaKey {
                        owner: UID,
                        group: member.group.clone(),
                        index: member.index,
                        attempt: unit.attempt,
                    };
                    sights.insert(key, Sight::Fenced);
                }
            }
        }
        self.input.replicas = sights;
    }

    pub(crate) fn waiting(&self) -> Vec<UnitKey> {
        self.input
            .units
            .iter()
            .filter(|(_, unit)| matches!(unit.stage, UnitStage::Waiting { .. }))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The scheduler admits a waiting unit; an elastic one with `missing` seats fewer where it may.
    pub(crate) fn admit(&mut self, unit: &UnitKey, missing: u32) {
        let now = self.now;
        let node = |n: usize| NODES[n % NODES.len()];
        let mut members = Vec::new();
        for seats in unit_seats(&self.input.spec, unit) {
            let count = seats.count.saturating_sub(missing).max(seats.min);
            for i in 0..count {
                let free = (0..NODES.len())
                    .map(|k| node(members.len() + k))
                    .find(|node| !self.fenced.contains(*node));
                members.push(MemberState {
                    group: seats.group.name.clone(),
                    index: Index(seats.first.0 + i),
                    placement: placement(free.unwrap_or("spare")),
                });
            }
        }
        let state = self.unit(unit);
        assert!(state.members.is_empty(), "admitted on top of an attempt");
        state.stage = UnitStage::Placed { since: now };
        state.members = members;
    }

    pub(crate) fn alive(&self) -> Vec<ReplicaKey> {
        self.engine
            .iter()
            .filter(|(_, program)| !matches!(program.phase, Phase::Ended(_)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// A program ends; one that was asked to stop ends as `Stopped` unless it won the race.
    pub(crate) fn end(&mut self, key: &ReplicaKey, cause: Cause) {
        let now = self.now;
        let Some(program) = self.engine.get_mut(key) else {
            return;
        };
        let asked = matches!(program.phase, Phase::Stopping(_));
        let cause = match cause {
            Cause::Succeeded => Cause::Succeeded,
            _ if asked => Cause::Stopped,
            Cause::Stopped => Cause::Evicted,
            cause => cause,
        };
        let code = match cause {
            Cause::Succeeded => Some(0),
            Cause::Failed => Some(1),
            _ => None,
        };
        program.phase = Phase::Ended(ended(cause, code, now));
    }

    /// Programs that were asked to stop do.
    pub(crate) fn obey(&mut self) {
        for key in self.alive() {
            if matches!(self.engine[&key].phase, Phase::Stopping(_)) {
                self.end(&key, Cause::Stopped);
            }
        }
    }

    /// The scheduler evicts a member, or with `None` the whole unit.
    pub(crate) fn evict(&mut self, unit: &UnitKey, member: Option<usize>) {
        let deadline = self.now + Span::from_secs(30);
        let state = self.unit(unit);
        for (i, state) in state.members.iter_mut().enumerate() {
            if member.is_none_or(|member| member == i) {
                begin_stop(&mut state.placement.stage, deadline, StopReason::Preempted);
            }
        }
    }

    pub(crate) fn fence(&mut self, node: &str) {
        self.fenced.insert(node.to_owned());
        for program in self.engine.values_mut() {
            let lives = !matches!(program.phase, Phase::Ended(_));
            program.zombie |= program.node == node && lives;
        }
    }

    /// The engine loses a replica that it had reported: nothing of it is left.
    pub(crate) fn lose(&mut self, key: &ReplicaKey) {
        if !matches!(self.input.replicas.get(key), Some(Sight::Seen(_))) {
            return;
        }
        self.engine.remove(key);
        self.gone.insert(key.clone());
    }

    pub(crate) fn placed(&self) -> Vec<UnitKey> {
        self.input
            .units
            .iter()
            .filter(|(_, unit)| matches!(unit.stage, UnitStage::Placed { .. }))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// From here on everything goes well: how does it end?
    pub(crate) fn run_to_end(&mut self) {
        for node in std::mem::take(&mut self.fenced) {
            self.fenced.remove(&node);
        }
        for _ in 0..400 {
            let plan = self.settle();
            if self.input.finished.is_some() {
                return;
            }
            let waiting = self.waiting();
            if let Some(unit) = waiting.first() {
                self.admit(unit, 0);
                continue;
            }
            self.obey();
            for key in self.alive() {
                self.end(&key, Cause::Succeeded);
            }
            self.observe();
            if self.plan().actions.is_empty() {
                let wake = plan.wake.expect("nothing to do and nothing to wait for");
                self.now = self.now.max(wake);
            }
        }
        panic!(
            "the job does not end: {}\n{:#?}",
            self.plan(),
            self.input.units
        );
    }

    /// How each unit stands, without its members: for comparing two ways to the same place.
    pub(crate) fn outcomes(&self) -> Vec<(UnitKey, Attempt, Tally, UnitStage)> {
        self.input
            .units
            .iter()
            .map(|(key, unit)| (key.clone(), unit.attempt, unit.tally, unit.stage.clone()))
            .collect()
    }
}
