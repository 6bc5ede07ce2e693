//! Decides what happens next for a Job.
//!
//! Actions come in an order that is safe to break off anywhere: first what gives back (releases, ends
//! of attempts, withdrawals), then what asks (submits), then what starts, then what stops, then what
//! forgets. Rows come before the engine's record of the same thing is dropped.

use super::ensure::ensure_members;
use super::input::{
    JobInput, JobPhase, Restart, Tally, UnitKey, UnitOutcome, UnitStage, UnitState,
};
use super::judge::{Blame, Course, Goal, blame, earlier, indexes_failed, n_failed, ran};
use super::output::{JobAction, JobPlan, Then};
use super::retry::{Next, Verdict, judge};
use super::status::{finished_status, status};
use super::view::{Holder, Member, UnitView, Units, is_seen_alive};
use crate::reason::{Reason, ReasonCode};
use crate::slot::{Sight, SlotEnd, Stage, Standing};
use base::{Attempt, Index, Span, Time};
use engine::{Cause, Phase, ReplicaKey, StopReason};
use std::collections::BTreeSet;

/// Decides what happens next for a Job.
pub fn plan_job(input: &JobInput, now: Time) -> JobPlan {
    let units = Units::of(input, now);
    if let Some(finished) = &input.finished {
        let mut draft = Draft::new(input, now);
        draft.clear_strays();
        if let Some(ttl) = input.spec.ttl {
            let alive = input
                .replicas
                .values()
                .any(|sight| matches!(sight, Sight::Seen(_)));
            if now < finished.at + ttl {
                draft.wake_at(finished.at + ttl);
            } else if !alive {
                draft.finish.push(JobAction::Expire);
            }
        }
        return draft.plan(finished_status(input, &units, finished, now));
    }
    let started = first_start(input, &units);
    let (goal, wake) = Goal::of(input, &units, started, now);
    let mut draft = Draft::new(input, now);
    draft.wake = wake;
    match input.spec.restart {
        Restart::Gang | Restart::Rank => draft.gang(&units, &goal),
        Restart::Index {
            count,
            parallelism,
            failed_max,
        } => draft.array(&units, &goal, count, parallelism, failed_max),
    }
    draft.clear_strays();
    let status = status(input, &units, &goal, started, &draft);
    if status.phase == JobPhase::Suspended {
        // No limit counts during a pause: only its owner ends it.
        draft.wake = None;
    }
    draft.plan(status)
}

/// When it first ran since submission or resume.
fn first_start(input: &JobInput, units: &Units<'_>) -> Option<Time> {
    let of_member = |member: &Member<'_>| match input.replicas.get(&member.key) {
        Some(Sight::Seen(seen)) => seen.started,
        Some(Sight::Gone | Sight::Fenced) | None => member.end().and_then(|end| end.started),
    };
    input.started.or_else(|| {
        units
            .all()
            .filter(|unit| unit.is_placed())
            .flat_map(|unit| &unit.members)
            .filter_map(of_member)
            .min()
    })
}

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) input: &'a JobInput,
    pub(super) now: Time,
    wake: Option<Time>,
    release: Vec<JobAction>,
    end: Vec<JobAction>,
    submit: Vec<JobAction>,
    pub(super) start: Vec<JobAction>,
    stop: Vec<JobAction>,
    forget: Vec<JobAction>,
    pub(super) finish: Vec<JobAction>,
    /// Why attempts that are being stopped will not be followed by another.
    pub(super) give_ups: Vec<Reason>,
}

impl<'a> Draft<'a> {
    fn new(input: &'a JobInput, now: Time) -> Self {
        Draft {
            input,
            now,
            wake: None,
            release: Vec::new(),
            end: Vec::new(),
            submit: Vec::new(),
            start: Vec::new(),
            stop: Vec::new(),
            forget: Vec::new(),
            finish: Vec::new(),
            give_ups: Vec::new(),
        }
    }

    fn wake_at(&mut self, time: Time) {
        self.wake = earlier(self.wake, time);
    }

    fn plan(self, status: super::output::JobStatusPlan) -> JobPlan {
        let parts = [
            self.release,
            self.end,
            self.submit,
            self.start,
            self.stop,
            self.forget,
            self.finish,
        ];
        JobPlan {
            actions: parts.into_iter().flatten().collect(),
            status,
            wake: self.wake,
        }
    }

    // ---- gangs ----

    fn gang(&mut self, units: &Units<'_>, goal: &Goal) {
        let Some(gang) = units.main.first() else {
            self.unplaced(&UnitKey::Gang, Attempt(1), &UnitStage::New, false, goal);
            if let Goal::End { phase, reason, .. } = goal {
                self.finish_with(*phase, reason.clone());
            }
            return;
        };
        match &gang.state.stage {
            UnitStage::Placed { .. } => self.placed_gang(units, gang, goal),
            UnitStage::Done(outcome) => {
                let (phase, reason) = conclude_gang(self.input, outcome, goal);
                self.finish_with(phase, reason);
            }
            stage @ (UnitStage::New | UnitStage::BackingOff { .. } | UnitStage::Waiting { .. }) => {
                if let Goal::End { phase, reason, .. } = goal {
                    self.finish_with(*phase, reason.clone());
                } else {
                    self.unplaced(&gang.key, gang.state.attempt, stage, false, goal);
                }
            }
        }
    }

    fn placed_gang(&mut self, units: &Units<'_>, gang: &UnitView<'_>, goal: &Goal) {
        let holders = units.holders(self.input, gang);
        let mut course = Course::of(self.input, &holders);
        let replacements = if course == Course::On && *goal == Goal::Run {
            self.replacements(units, &holders)
        } else {
            Vec::new()
        };
        for (member, verdict) in &replacements {
            if matches!(verdict.next, Next::GiveUp(_)) {
                course = Course::Lost(blame_one(member));
            }
        }
        let Some(reason) = stop_reason(&course, goal) else {
            self.keep(units, gang, &holders, &replacements);
            return;
        };
        let mut over = self.stop_members(gang, reason);
        for rank in &units.ranks {
            match &rank.state.stage {
                UnitStage::Waiting { .. } => {
                    over = false;
                    self.withdraw(&rank.key, rank.state.attempt);
                }
                UnitStage::Placed { .. } => {
                    if self.stop_members(rank, reason) {
                        self.end_rank(rank, reason);
                    } else {
                        over = false;
                    }
                }
                UnitStage::New | UnitStage::BackingOff { .. } | UnitStage::Done(_) => {}
            }
        }
        let next = self.next_attempt();
        let members: Vec<&Member<'_>> = holders.iter().filter_map(Holder::member).collect();
        let spent = self.charged_elsewhere(&gang.key);
        self.end_attempt(gang, &members, &course, goal, reason, spent, next, over);
    }

    /// The gang goes on: give back what ended, start what is not started, replace what broke alone.
    fn keep(
        &mut self,
        units: &Units<'_>,
        gang: &UnitView<'_>,
        holders: &[Holder<'_, '_>],
        replacements: &[(&Member<'_>, Verdict)],
    ) {
        self.keep_members(gang);
        for rank in units.ranks.iter().filter(|rank| rank.is_placed()) {
            self.keep_members(rank);
            if rank.members.iter().all(Member::succeeded) && rank.all_ended() {
                self.end_rank(rank, StopReason::GangDone);
            }
        }
        for rank in units.ranks.iter().filter(|rank| !rank.is_placed()) {
            let readmit = rank.state.readmit;
            self.unplaced(
                &rank.key,
                rank.state.attempt,
                &rank.state.stage,
                readmit,
                &Goal::Run,
            );
        }
        for (member, verdict) in replacements {
            self.replace(units, gang, member, verdict);
        }
        if has_all_seats(self.input, gang) {
            let seated: Vec<&Member<'_>> = holders.iter().filter_map(Holder::member).collect();
            ensure_members(self, gang, &seated);
            for rank in units.ranks.iter().filter(|rank| rank.is_placed()) {
                ensure_members(self, rank, &seated);
            }
        }
    }

    /// Members of an elastic gang that ended and are replaced by themselves, with what follows.
    fn replacements<'v, 'b>(
        &self,
        units: &Units<'_>,
        holders: &'v [Holder<'v, 'b>],
    ) -> Vec<(&'v Member<'b>, Verdict)> {
        if self.input.spec.restart != Restart::Rank {
            return Vec::new();
        }
        let mut replacements = Vec::new();
        // Members that broke together share what is left of the limit.
        let mut charged_here = 0;
        for holder in holders {
            let Holder::Member(member) = holder else {
                continue;
            };
            if member.end().is_none_or(SlotEnd::succeeded) {
                continue;
            }
            let key = rank_key(member);
            let verdict = self.judge_one(&key, member, charged_here);
            // One that was given up stays so: its gang ends for it.
            let verdict = match units.rank(&key).map(|rank| &rank.state.stage) {
                Some(UnitStage::Done(UnitOutcome::Failed(reason))) => Verdict {
                    next: Next::GiveUp(reason.clone()),
                    ..verdict
                },
                Some(
                    UnitStage::New
                    | UnitStage::BackingOff { .. }
                    | UnitStage::Waiting { .. }
                    | UnitStage::Placed { .. }
                    | UnitStage::Done(UnitOutcome::Succeeded | UnitOutcome::Stopped),
                )
                | None => verdict,
            };
            charged_here += u32::from(verdict.charged);
            replacements.push((*member, verdict));
        }
        replacements
    }

    fn replace(
        &mut self,
        units: &Units<'_>,
        gang: &UnitView<'_>,
        member: &Member<'_>,
        verdict: &Verdict,
    ) {
        let Next::At {
            not_before,
            readmit,
        } = verdict.next
        else {
            return;
        };
        let unit = rank_key(member);
        let last = self.input.units.get(&unit).map(|rank| rank.attempt);
        let attempt = last
            .map_or(gang.state.attempt, |last| last.max(gang.state.attempt))
            .next();
        match units.rank(&unit).filter(|rank| rank.is_placed()) {
            Some(rank) => self.end.push(JobAction::EndAttempt {
                unit,
                attempt: rank.state.attempt,
                reason: verdict.reason.clone(),
                charged: verdict.charged,
                tally: verdict.tally,
                then: Then::Next {
                    attempt,
                    not_before,
                    readmit,
                },
            }),
            None => self.end.push(JobAction::Replace {
                unit,
                attempt,
                tally: verdict.tally,
                not_before,
                readmit,
                reason: verdict.reason.clone(),
            }),
        }
    }

    /// A replacement ends: well, given up, or along with its gang.
    fn end_rank(&mut self, rank: &UnitView<'_>, reason: StopReason) {
        let mut charged = false;
        let mut tally = rank.state.tally;
        let broken = rank.members.iter().find(|member| !member.succeeded());
        let (outcome, reason) = match broken {
            None => {
                let reason = Reason::new(ReasonCode::Succeeded, "it succeeded");
                (UnitOutcome::Succeeded, reason)
            }
            Some(member) => {
                let verdict = self.judge_one(&rank.key, member, 0);
                match verdict.next {
                    Next::GiveUp(why) => {
                        charged = verdict.charged;
                        tally = verdict.tally;
                        (UnitOutcome::Failed(why), verdict.reason)
                    }
                    Next::At { .. } => {
                        let sentence = format!("it was stopped with its gang ({reason:?})");
                        let reason = Reason::new(ReasonCode::Stopping, sentence);
                        (UnitOutcome::Stopped, reason)
                    }
                }
            }
        };
        self.end.push(JobAction::EndAttempt {
            unit: rank.key.clone(),
            attempt: rank.state.attempt,
            reason,
            charged,
            tally,
            then: Then::Over(outcome),
        });
    }

    /// Judges the end of one member of an elastic gang by itself. `charged_here` are charges that this
    /// plan makes to others.
    fn judge_one(&self, unit: &UnitKey, member: &Member<'_>, charged_here: u32) -> Verdict {
        let tally = self
            .input
            .units
            .get(unit)
            .map_or(Tally::default(), |unit| unit.tally);
        let ends: Vec<&SlotEnd> = member.end().into_iter().collect();
        judge(
            &self.input.spec.retry,
            tally,
            self.charged_elsewhere(unit) + charged_here,
            &blame_one(member),
            ran(&ends),
            self.now,
        )
    }

    /// Charges of all units but this one: the members of an elastic gang share one limit.
    fn charged_elsewhere(&self, unit: &UnitKey) -> u32 {
        match self.input.spec.restart {
            Restart::Gang | Restart::Index { .. } => 0,
            Restart::Rank => self
                .input
                .units
                .iter()
                .filter(|(key, _)| *key != unit)
                .map(|(_, state)| state.tally.charged)
                .sum(),
        }
    }

    /// Above every attempt of a gang and of its single ranks.
    fn next_attempt(&self) -> Attempt {
        let highest = self.input.units.values().map(|unit| unit.attempt).max();
        highest.unwrap_or(Attempt(0)).next()
    }

    // ---- arrays ----

    fn array(
        &mut self,
        units: &Units<'_>,
        goal: &Goal,
        count: u32,
        parallelism: u32,
        failed_max: Option<u32>,
    ) {
        let mut n_placed = 0u32;
        let mut n_active = 0u32;
        let mut n_done = 0u32;
        for unit in &units.main {
            match unit.state.stage {
                UnitStage::Placed { .. } => {
                    n_placed += 1;
                    n_active += 1;
                }
                UnitStage::Waiting { .. } => n_active += 1,
                UnitStage::Done(_) => n_done += 1,
                UnitStage::New | UnitStage::BackingOff { .. } => {}
            }
        }
        if n_done == count {
            let (phase, reason) = conclude_array(units, goal, count);
            self.finish_with(phase, reason);
            return;
        }
        if let (Goal::End { phase, reason, .. }, 0) = (goal, n_placed) {
            self.finish_with(*phase, reason.clone());
            return;
        }
        // An index that is given up here may be the one too many: the next ones know.
        let mut goal = goal.clone();
        for unit in units.main.iter().filter(|unit| unit.is_placed()) {
            self.placed_index(unit, &goal);
            let failed = n_failed(units) + self.n_given_up();
            if let (Goal::Run | Goal::Pause, Some(failed_max)) = (&goal, failed_max)
                && failed > failed_max as usize
            {
                goal = Goal::too_many_failed(units, failed, count);
            }
        }
        let goal = &goal;
        let mut free = parallelism.max(1).saturating_sub(n_active);
        for index in (0..count).map(Index) {
            let key = UnitKey::Index(index);
            let new = (Attempt(1), &UnitStage::New);
            let (attempt, stage) = self
                .input
                .units
                .get(&key)
                .map_or(new, |state| (state.attempt, &state.stage));
            let asks = match stage {
                UnitStage::New | UnitStage::BackingOff { .. } => true,
                UnitStage::Waiting { .. } => false,
                UnitStage::Placed { .. } | UnitStage::Done(_) => continue,
            };
            if asks && free == 0 {
                continue;
            }
            let asked = self.unplaced(&key, attempt, stage, false, goal);
            free -= u32::from(asks && asked);
        }
    }

    /// Indexes whose failure this plan writes down.
    fn n_given_up(&self) -> usize {
        let given_up = |action: &&JobAction| {
            matches!(
                action,
                JobAction::EndAttempt {
                    then: Then::Over(UnitOutcome::Failed(_)),
                    ..
                }
            )
        };
        self.end.iter().filter(given_up).count()
    }

    fn placed_index(&mut self, unit: &UnitView<'_>, goal: &Goal) {
        let holders: Vec<Holder<'_, '_>> = unit.members.iter().map(Holder::Member).collect();
        let course = Course::of(self.input, &holders);
        let Some(reason) = stop_reason(&course, goal) else {
            self.keep_members(unit);
            if has_all_seats(self.input, unit) {
                let members: Vec<&Member<'_>> = unit.members.iter().collect();
                ensure_members(self, unit, &members);
            }
            return;
        };
        let over = self.stop_members(unit, reason);
        let members: Vec<&Member<'_>> = unit.members.iter().collect();
        let next = unit.state.attempt.next();
        self.end_attempt(unit, &members, &course, goal, reason, 0, next, over);
    }

    // ---- steps that all units share ----

    /// A unit without seats: asks for them, or takes that back. Returns whether it asked.
    fn unplaced(
        &mut self,
        unit: &UnitKey,
        attempt: Attempt,
        stage: &UnitStage,
        readmit: bool,
        goal: &Goal,
    ) -> bool {
        let due = match stage {
            UnitStage::New => true,
            UnitStage::BackingOff { until } => self.now >= *until,
            UnitStage::Waiting { .. } => {
                if *goal != Goal::Run {
                    self.withdraw(unit, attempt);
                }
                return false;
            }
            UnitStage::Placed { .. } | UnitStage::Done(_) => return false,
        };
        if *goal != Goal::Run {
            return false;
        }
        if due {
            self.submit.push(JobAction::Submit {
                unit: unit.clone(),
                attempt,
                readmit,
            });
        } else if let UnitStage::BackingOff { until } = stage {
            self.wake_at(*until);
        }
        due
    }

    fn withdraw(&mut self, unit: &UnitKey, attempt: Attempt) {
        self.end.push(JobAction::Withdraw {
            unit: unit.clone(),
            attempt,
        });
    }

    fn finish_with(&mut self, phase: JobPhase, reason: Reason) {
        self.finish.push(JobAction::Finish { phase, reason });
    }

    /// Members of a unit that goes on: what ended is given back, what the scheduler evicts is stopped.
    fn keep_members(&mut self, unit: &UnitView<'_>) {
        for member in &unit.members {
            match &member.standing {
                Standing::Ended(end) => self.release(unit, member, end.clone()),
                Standing::Unseen {
                    releasing: Some(reason),
                }
                | Standing::Live {
                    releasing: Some(reason),
                    stopping: false,
                    ..
                } => self.stop_one(member, *reason),
                Standing::Unasked
                | Standing::Unseen { releasing: None }
                | Standing::Live { .. }
                | Standing::Released(_) => {}
            }
        }
    }

    /// Stops what lives and gives back what does not. Returns whether the attempt is over once the
    /// releases of this plan are done.
    fn stop_members(&mut self, unit: &UnitView<'_>, reason: StopReason) -> bool {
        let mut over = !unit.members.is_empty();
        for member in &unit.members {
            match &member.standing {
                Standing::Unasked => {
                    // The attempt is judged by ends alone, so that a judgement can be repeated.
                    over = false;
                    self.release(unit, member, SlotEnd::unused(reason, self.now));
                }
                Standing::Ended(end) => self.release(unit, member, end.clone()),
                Standing::Released(_) => {}
                Standing::Unseen { releasing } => {
                    over = false;
                    self.stop_one(member, releasing.unwrap_or(reason));
                }
                Standing::Live {
                    releasing,
                    stopping,
                    ..
                } => {
                    over = false;
                    if !(*stopping && releasing.is_some()) {
                        self.stop_one(member, releasing.unwrap_or(reason));
                    }
                }
            }
        }
        over
    }

    fn stop_one(&mut self, member: &Member<'_>, reason: StopReason) {
        self.stop.push(JobAction::Stop {
            key: member.key.clone(),
            grace: self.input.spec.groups[member.group].template.grace,
            reason,
        });
    }

    fn release(&mut self, unit: &UnitView<'_>, member: &Member<'_>, end: SlotEnd) {
        self.release.push(JobAction::Release {
            unit: unit.key.clone(),
            key: member.key.clone(),
            end,
        });
        if let Some(Sight::Seen(_)) = self.input.replicas.get(&member.key) {
            self.forget.push(JobAction::Forget {
                key: member.key.clone(),
            });
        }
    }

    /// Ends an attempt that is being stopped, once it is over.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one fact about the attempt, and there is one caller for gangs and one for indexes"
    )]
    fn end_attempt(
        &mut self,
        unit: &UnitView<'_>,
        members: &[&Member<'_>],
        course: &Course,
        goal: &Goal,
        stop: StopReason,
        spent: u32,
        next: Attempt,
        over: bool,
    ) {
        let (reason, charged, tally, then) = match course {
            Course::Won => (
                Reason::new(ReasonCode::Succeeded, "it succeeded"),
                false,
                unit.state.tally,
                Then::Over(UnitOutcome::Succeeded),
            ),
            Course::On | Course::Lost(_) => {
                let blame = match course {
                    Course::Lost(blame) => blame.clone(),
                    Course::On | Course::Won => blame(members, stop),
                };
                let tally = unit.state.tally;
                let ends: Vec<&SlotEnd> = members.iter().filter_map(|m| m.end()).collect();
                let ran = ran(&ends);
                let verdict = judge(&self.input.spec.retry, tally, spent, &blame, ran, self.now);
                let then = match (goal, verdict.next) {
                    // Decided by the program's own end, whatever is wanted of the Job.
                    (_, Next::GiveUp(reason)) => {
                        self.give_ups.push(reason.clone());
                        Then::Over(UnitOutcome::Failed(reason))
                    }
                    (Goal::End { .. }, Next::At { .. }) => Then::Over(UnitOutcome::Stopped),
                    (
                        Goal::Run | Goal::Pause,
                        Next::At {
                            not_before,
                            readmit: _,
                        },
                    ) => Then::Next {
                        attempt: next,
                        not_before,
                        // A gang queues again: only Apps and single ranks keep their turn.
                        readmit: false,
                    },
                };
                (verdict.reason, verdict.charged, verdict.tally, then)
            }
        };
        if over {
            self.end.push(JobAction::EndAttempt {
                unit: unit.key.clone(),
                attempt: unit.state.attempt,
                reason,
                charged,
                tally,
                then,
            });
        }
    }

    /// Replicas that no seat stands for: of a fenced node that came back, or of an earlier leader.
    fn clear_strays(&mut self) {
        let held: BTreeSet<ReplicaKey> = self
            .input
            .units
            .values()
            .flat_map(|unit| unreleased_keys(self.input, unit))
            .collect();
        for (key, sight) in &self.input.replicas {
            let Sight::Seen(seen) = sight else { continue };
            if held.contains(key) {
                continue;
            }
            if is_seen_alive(sight) {
                if !matches!(seen.phase, Phase::Stopping(_)) {
                    let group = self.input.spec.groups.iter().find(|g| g.name == key.group);
                    self.stop.push(JobAction::Stop {
                        key: key.clone(),
                        grace: group.map_or(Span::ZERO, |group| group.template.grace),
                        reason: StopReason::GangDone,
                    });
                }
            } else {
                self.forget.push(JobAction::Forget { key: key.clone() });
            }
        }
    }
}

fn unreleased_keys<'a>(
    input: &'a JobInput,
    unit: &'a UnitState,
) -> impl Iterator<Item = ReplicaKey> + 'a {
    unit.members
        .iter()
        .filter(|member| !matches!(member.placement.stage, Stage::Released(_)))
        .map(|member| ReplicaKey {
            owner: input.uid,
            group: member.group.clone(),
            index: member.index,
            attempt: unit.attempt,
        })
}

/// Why the members of an attempt are stopped, if they are.
fn stop_reason(course: &Course, goal: &Goal) -> Option<StopReason> {
    match (course, goal) {
        (Course::Won, _) => Some(StopReason::GangDone),
        (Course::Lost(Blame::Stop(reason)), _) => Some(*reason),
        (Course::Lost(Blame::End { .. }), _) => Some(StopReason::GangDone),
        (Course::On, Goal::Run) => None,
        (Course::On, Goal::Pause) => Some(StopReason::Suspended),
        (Course::On, Goal::End { stop, .. }) => Some(*stop),
    }
}

/// Whether every group has at least the members that must start together.
fn has_all_seats(input: &JobInput, unit: &UnitView<'_>) -> bool {
    super::input::unit_seats(&input.spec, &unit.key)
        .iter()
        .all(|seats| {
            let given = unit
                .members
                .iter()
                .filter(|member| member.state.group == seats.group.name)
                .count();
            given >= seats.min as usize
        })
}

/// What a single member of an elastic gang failed by.
fn blame_one(member: &Member<'_>) -> Blame {
    let asked = member.standing.releasing();
    match (member.end(), asked) {
        (Some(end), None) => by_end(member, end),
        (Some(end), Some(_)) if end.cause == Cause::NodeLost || end.cause == Cause::ShimLost => {
            by_end(member, end)
        }
        (_, reason) => Blame::Stop(reason.unwrap_or(StopReason::GangDone)),
    }
}

fn by_end(member: &Member<'_>, end: &SlotEnd) -> Blame {
    Blame::End {
        member: format!("{}/{}", member.state.group, member.state.index),
        end: end.clone(),
    }
}

fn rank_key(member: &Member<'_>) -> UnitKey {
    UnitKey::Rank {
        group: member.state.group.clone(),
        index: member.state.index,
    }
}

fn conclude_gang(input: &JobInput, outcome: &UnitOutcome, goal: &Goal) -> (JobPhase, Reason) {
    match (outcome, goal) {
        (UnitOutcome::Succeeded, _) => (
            JobPhase::Succeeded,
            Reason::new(ReasonCode::Succeeded, "it succeeded"),
        ),
        (UnitOutcome::Failed(reason), _) => (JobPhase::Failed, reason.clone()),
        (UnitOutcome::Stopped, Goal::End { phase, reason, .. }) => (*phase, reason.clone()),
        // The goal was to end, and no longer is: only a clock that went back undoes it.
        (UnitOutcome::Stopped, Goal::Run | Goal::Pause) => match input.spec.time_limit {
            Some(limit) => {
                let sentence = format!("it ran longer than its time limit of {limit}");
                (
                    JobPhase::Failed,
                    Reason::new(ReasonCode::TimeLimit, sentence),
                )
            }
            None => (
                JobPhase::Cancelled,
                Reason::new(ReasonCode::Cancelled, "it was cancelled"),
            ),
        },
    }
}

fn conclude_array(units: &Units<'_>, goal: &Goal, count: u32) -> (JobPhase, Reason) {
    let stopped = units
        .main
        .iter()
        .any(|unit| matches!(unit.state.stage, UnitStage::Done(UnitOutcome::Stopped)));
    if stopped {
        return match goal {
            Goal::End { phase, reason, .. } => (*phase, reason.clone()),
            // As for a gang: only a clock that went back undoes the goal.
            Goal::Run | Goal::Pause => {
                let sentence = "it was stopped before all indexes ended";
                let reason = Reason::new(ReasonCode::Cancelled, sentence);
                (JobPhase::Cancelled, reason)
            }
        };
    }
    let failed = n_failed(units);
    if failed > 0 {
        return (JobPhase::Failed, indexes_failed(units, failed, count));
    }
    let sentence = format!("all {count} indexes succeeded");
    (
        JobPhase::Succeeded,
        Reason::new(ReasonCode::Succeeded, sentence),
    )
}
