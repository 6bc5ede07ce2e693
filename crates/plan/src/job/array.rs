//! Arrays: each index starts, stops and restarts by itself.

use super::draft::{Draft, has_all_seats, stop_reason};
use super::ensure::ensure_members;
use super::input::{JobPhase, UnitKey, UnitOutcome, UnitStage};
use super::judge::{Course, Goal, indexes_failed, n_failed};
use super::output::{JobAction, Then};
use super::view::{Holder, Member, UnitView, Units};
use crate::reason::{Reason, ReasonCode};
use base::{Attempt, Index};

impl Draft<'_> {
    pub(super) fn array(
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
