//! Gangs: all groups start, stop and restart together.

use super::draft::{Draft, has_all_seats, stop_reason};
use super::elastic::blame_one;
use super::ensure::ensure_members;
use super::input::{JobInput, JobPhase, UnitKey, UnitOutcome, UnitStage};
use super::judge::{Course, Goal};
use super::retry::{Next, Verdict};
use super::view::{Holder, Member, UnitView, Units};
use crate::reason::{Reason, ReasonCode};
use base::Attempt;
use engine::StopReason;

impl Draft<'_> {
    pub(super) fn gang(&mut self, units: &Units<'_>, goal: &Goal) {
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

    /// Above every attempt of a gang and of its single ranks.
    fn next_attempt(&self) -> Attempt {
        let highest = self.input.units.values().map(|unit| unit.attempt).max();
        highest.unwrap_or(Attempt(0)).next()
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
