//! A plan in the making, and the steps that all units share.

use super::input::{JobInput, JobPhase, UnitKey, UnitOutcome, UnitStage, UnitState, unit_seats};
use super::judge::{Blame, Course, Goal, blame, earlier, ran};
use super::output::{JobAction, JobPlan, JobStatusPlan, Then};
use super::retry::{Next, judge};
use super::view::{Member, UnitView, is_seen_alive};
use crate::reason::{Reason, ReasonCode};
use crate::slot::{Sight, SlotEnd, Stage, Standing};
use base::{Attempt, Span, Time};
use engine::{Phase, ReplicaKey, StopReason};
use std::collections::BTreeSet;

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) input: &'a JobInput,
    pub(super) now: Time,
    pub(super) wake: Option<Time>,
    pub(super) release: Vec<JobAction>,
    pub(super) end: Vec<JobAction>,
    pub(super) submit: Vec<JobAction>,
    pub(super) start: Vec<JobAction>,
    pub(super) stop: Vec<JobAction>,
    pub(super) forget: Vec<JobAction>,
    pub(super) finish: Vec<JobAction>,
    /// Why attempts that are being stopped will not be followed by another.
    pub(super) give_ups: Vec<Reason>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(input: &'a JobInput, now: Time) -> Self {
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

    pub(super) fn wake_at(&mut self, time: Time) {
        self.wake = earlier(self.wake, time);
    }

    pub(super) fn plan(self, status: JobStatusPlan) -> JobPlan {
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
    // ---- steps that all units share ----

    /// A unit without seats: asks for them, or takes that back. Returns whether it asked.
    pub(super) fn unplaced(
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

    pub(super) fn withdraw(&mut self, unit: &UnitKey, attempt: Attempt) {
        self.end.push(JobAction::Withdraw {
            unit: unit.clone(),
            attempt,
        });
    }

    pub(super) fn finish_with(&mut self, phase: JobPhase, reason: Reason) {
        self.finish.push(JobAction::Finish { phase, reason });
    }

    /// Members of a unit that goes on: what ended is given back, what the scheduler evicts is stopped.
    pub(super) fn keep_members(&mut self, unit: &UnitView<'_>) {
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
    pub(super) fn stop_members(&mut self, unit: &UnitView<'_>, reason: StopReason) -> bool {
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

    pub(super) fn stop_one(&mut self, member: &Member<'_>, reason: StopReason) {
        self.stop.push(JobAction::Stop {
            key: member.key.clone(),
            grace: self.input.spec.groups[member.group].template.grace,
            reason,
        });
    }

    pub(super) fn release(&mut self, unit: &UnitView<'_>, member: &Member<'_>, end: SlotEnd) {
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
    pub(super) fn end_attempt(
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
    pub(super) fn clear_strays(&mut self) {
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
pub(super) fn stop_reason(course: &Course, goal: &Goal) -> Option<StopReason> {
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
pub(super) fn has_all_seats(input: &JobInput, unit: &UnitView<'_>) -> bool {
    unit_seats(&input.spec, &unit.key).iter().all(|seats| {
        let given = unit
            .members
            .iter()
            .filter(|member| member.state.group == seats.group.name)
            .count();
        given >= seats.min as usize
    })
}
