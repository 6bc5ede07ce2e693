//! Elastic gangs: a member that broke alone is replaced alone, as long as its group keeps its minimum
//! and the members' common retry limit lasts.

use super::draft::Draft;
use super::input::{Restart, Tally, UnitKey, UnitOutcome, UnitStage};
use super::judge::{Blame, ran};
use super::output::{JobAction, Then};
use super::retry::{Next, Verdict, judge};
use super::view::{Holder, Member, UnitView, Units};
use crate::reason::{Reason, ReasonCode};
use crate::slot::SlotEnd;
use engine::{Cause, StopReason};

impl Draft<'_> {
    /// Members of an elastic gang that ended and are replaced by themselves, with what follows.
    pub(super) fn replacements<'v, 'b>(
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

    pub(super) fn replace(
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
    pub(super) fn end_rank(&mut self, rank: &UnitView<'_>, reason: StopReason) {
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
    pub(super) fn charged_elsewhere(&self, unit: &UnitKey) -> u32 {
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
}

/// What a single member of an elastic gang failed by.
pub(super) fn blame_one(member: &Member<'_>) -> Blame {
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
