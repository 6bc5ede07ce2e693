//! Judges an attempt of a gang, and a Job as a whole: does it go on, and if not, why.

use super::input::{
    Intent, JobInput, JobPhase, Restart, Success, SuccessRule, UnitOutcome, UnitStage,
};
use super::view::{Holder, Member, Units};
use crate::reason::{Reason, ReasonCode};
use crate::slot::{SlotEnd, decisive};
use base::{Span, Time};
use engine::StopReason;

/// What is wanted of the Job as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Goal {
    /// Go on.
    Run,
    /// Stop what runs; a new attempt may follow later.
    Pause,
    /// Stop what runs and finish.
    End {
        stop: StopReason,
        phase: JobPhase,
        reason: Reason,
    },
}

impl Goal {
    /// The goal, and when time alone may change it.
    pub(super) fn of(
        input: &JobInput,
        units: &Units<'_>,
        started: Option<Time>,
        now: Time,
    ) -> (Goal, Option<Time>) {
        let mut wake = None;
        if input.intent == Intent::Cancel {
            let reason = Reason::new(ReasonCode::Cancelled, "it was cancelled");
            return (
                end(StopReason::Cancelled, JobPhase::Cancelled, reason),
                wake,
            );
        }
        if let (Some(limit), Some(started)) = (input.spec.time_limit, started) {
            if now >= started + limit {
                let sentence = format!("it ran longer than its time limit of {limit}");
                let reason = Reason::new(ReasonCode::TimeLimit, sentence);
                return (end(StopReason::TimeLimit, JobPhase::Failed, reason), wake);
            }
            wake = Some(started + limit);
        }
        if let Restart::Index {
            count,
            failed_max: Some(failed_max),
            ..
        } = input.spec.restart
        {
            let failed = n_failed(units);
            if failed > failed_max as usize {
                return (Goal::too_many_failed(units, failed, count), wake);
            }
        }
        if input.intent == Intent::Suspend {
            return (Goal::Pause, wake);
        }
        if let (Some(limit), Some(since)) = (input.spec.queue_time_limit, waits_since(input, units))
        {
            if now >= since + limit {
                let sentence = format!("it waited longer than its queue time limit of {limit}");
                let reason = Reason::new(ReasonCode::QueueTimeLimit, sentence);
                return (end(StopReason::Cancelled, JobPhase::Failed, reason), wake);
            }
            wake = earlier(wake, since + limit);
        }
        (Goal::Run, wake)
    }

    /// The array has more failed indexes than it may.
    pub(super) fn too_many_failed(units: &Units<'_>, failed: usize, count: u32) -> Goal {
        let reason = indexes_failed(units, failed, count);
        end(StopReason::GangDone, JobPhase::Failed, reason)
    }
}

fn end(stop: StopReason, phase: JobPhase, reason: Reason) -> Goal {
    Goal::End {
        stop,
        phase,
        reason,
    }
}

/// Since when nothing of the Job is admitted although it asked, where the queue time limit counts:
/// always for a gang, and for an array until its first index starts.
fn waits_since(input: &JobInput, units: &Units<'_>) -> Option<Time> {
    let array = matches!(input.spec.restart, Restart::Index { .. });
    let admitted = |stage: &UnitStage| match stage {
        UnitStage::Placed { .. } => true,
        UnitStage::Done(_) => array,
        UnitStage::New | UnitStage::BackingOff { .. } | UnitStage::Waiting { .. } => false,
    };
    let began = array && input.started.is_some();
    if began || units.main.iter().any(|unit| admitted(&unit.state.stage)) {
        return None;
    }
    let since = units.main.iter().filter_map(|unit| match unit.state.stage {
        UnitStage::Waiting { since } => Some(since),
        UnitStage::New
        | UnitStage::BackingOff { .. }
        | UnitStage::Placed { .. }
        | UnitStage::Done(_) => None,
    });
    since.min()
}

pub(super) fn n_failed(units: &Units<'_>) -> usize {
    let failed = |stage: &UnitStage| matches!(stage, UnitStage::Done(UnitOutcome::Failed(_)));
    units
        .main
        .iter()
        .filter(|unit| failed(&unit.state.stage))
        .count()
}

/// `2 of 10 indexes failed; index/3: …`.
pub(super) fn indexes_failed(units: &Units<'_>, failed: usize, count: u32) -> Reason {
    let first = units.main.iter().find_map(|unit| match &unit.state.stage {
        UnitStage::Done(UnitOutcome::Failed(reason)) => {
            Some(format!("; {}: {}", unit.key, reason.sentence))
        }
        UnitStage::Done(UnitOutcome::Succeeded | UnitOutcome::Stopped)
        | UnitStage::New
        | UnitStage::BackingOff { .. }
        | UnitStage::Waiting { .. }
        | UnitStage::Placed { .. } => None,
    });
    Reason::new(
        ReasonCode::IndexesFailed,
        format!(
            "{failed} of {count} indexes failed{}",
            first.unwrap_or_default()
        ),
    )
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Course {
    /// It goes on.
    On,
    /// Its success is decided; whoever still runs is stopped.
    Won,
    /// It cannot succeed; whoever still runs is stopped.
    Lost(Blame),
}

/// What an attempt failed by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Blame {
    /// A member's end.
    End {
        /// `worker/1`.
        member: String,
        end: SlotEnd,
    },
    /// It was asked to stop.
    Stop(StopReason),
}

impl Course {
    /// Judges a gang, or one index of an array (one member, `success` ignored).
    pub(super) fn of(input: &JobInput, holders: &[Holder<'_, '_>]) -> Course {
        let members: Vec<&Member<'_>> = holders.iter().filter_map(Holder::member).collect();
        let single = matches!(input.spec.restart, Restart::Index { .. });
        let won = if single {
            members.iter().all(|member| member.succeeded())
        } else {
            success_holds(input, &members)
        };
        if won && !members.is_empty() {
            return Course::Won;
        }
        let elastic = input.spec.restart == Restart::Rank;
        let lost = if elastic {
            too_few_left(input, holders)
        } else {
            cannot_win(input, &members)
        };
        if lost {
            return Course::Lost(blame(&members, StopReason::GangDone));
        }
        Course::On
    }
}

/// The groups that decide; all of them if the rule names none that exists.
fn decides(input: &JobInput, success: &Success, group: usize) -> bool {
    let named = |position: usize| success.groups.contains(&input.spec.groups[position].name);
    let any_named = (0..input.spec.groups.len()).any(named);
    !any_named || named(group)
}

fn success_holds(input: &JobInput, members: &[&Member<'_>]) -> bool {
    let success = &input.spec.success;
    let mut deciding = members
        .iter()
        .filter(|member| decides(input, success, member.group));
    match success.rule {
        SuccessRule::All => {
            // An elastic gang may run with fewer than `count`, and a member whose replacement has no seat is missing.
            let mut n_succeeded = 0u64;
            let all = deciding.all(|member| {
                n_succeeded += 1;
                member.succeeded()
            });
            let needed: u64 = (0..input.spec.groups.len())
                .filter(|group| decides(input, success, *group))
                .map(|group| u64::from(input.spec.groups[group].min))
                .sum();
            all && n_succeeded >= needed
        }
        SuccessRule::Any => deciding.any(|member| member.succeeded()),
        SuccessRule::Index0 => {
            let mut first = deciding
                .filter(|member| member.state.index.0 == 0)
                .peekable();
            first.peek().is_some() && first.all(|member| member.succeeded())
        }
    }
}

/// A member of a gang is broken that the gang cannot do without. Under `any` the deciding members may
/// fall one by one until none is left.
fn cannot_win(input: &JobInput, members: &[&Member<'_>]) -> bool {
    let success = &input.spec.success;
    let spare = |member: &&Member<'_>| {
        success.rule == SuccessRule::Any
            && !matches!(input.spec.restart, Restart::Index { .. })
            && decides(input, success, member.group)
    };
    let (spares, needed): (Vec<&Member<'_>>, Vec<&Member<'_>>) =
        members.iter().copied().partition(spare);
    let evicted =
        |member: &&Member<'_>| member.end().is_none() && member.standing.releasing().is_some();
    needed.iter().any(|member| member.is_broken())
        || spares.iter().any(evicted)
        || (!spares.is_empty() && spares.iter().all(|member| member.is_broken()))
}

/// An elastic gang has a group with fewer members that run, or ended well, than its minimum.
fn too_few_left(input: &JobInput, holders: &[Holder<'_, '_>]) -> bool {
    input
        .spec
        .groups
        .iter()
        .enumerate()
        .any(|(position, group)| {
            let left = holders
                .iter()
                .filter(|holder| holder.group() == position)
                .filter_map(Holder::member)
                .filter(|member| !member.is_broken())
                .count();
            left < group.min as usize
        })
}

/// What broke the attempt: the decisive end, else the first request to stop, or `otherwise`.
pub(super) fn blame(members: &[&Member<'_>], otherwise: StopReason) -> Blame {
    let ends = members
        .iter()
        .filter_map(|member| Some((*member, member.end()?)));
    if let Some((member, end)) = decisive(ends, |(_, end)| *end) {
        return Blame::End {
            member: format!("{}/{}", member.state.group, member.state.index),
            end: end.clone(),
        };
    }
    let mut asked = members
        .iter()
        .filter_map(|member| member.standing.releasing());
    let first = asked.clone().find(|reason| *reason != StopReason::GangDone);
    Blame::Stop(first.or(asked.next()).unwrap_or(otherwise))
}

/// The earlier of two times, if there are any.
pub(super) fn earlier(wake: Option<Time>, time: Time) -> Option<Time> {
    Some(wake.map_or(time, |wake| wake.min(time)))
}

/// How long an attempt ran, by its members' first start and last end.
pub(super) fn ran(ends: &[&SlotEnd]) -> Span {
    let started = ends.iter().filter_map(|end| end.started).min();
    let ended = ends.iter().map(|end| end.at).max();
    match (started, ended) {
        (Some(started), Some(ended)) => ended.since(started),
        _ => Span::ZERO,
    }
}
