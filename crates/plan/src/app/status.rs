//! What an App's status says.

use super::input::{AppInput, Progress};
use super::output::{AppPhase, AppStatusPlan, RevisionCounts};
use super::view::{Seat, Seats, count};
use crate::job::describe;
use crate::reason::{Reason, ReasonCode};
use crate::slot::{SlotEnd, Standing};
use engine::{End, Phase};
use std::collections::BTreeMap;

pub(super) fn status(
    input: &AppInput,
    seats: &Seats<'_>,
    wanted: &BTreeMap<u32, u32>,
    progress: Progress,
    overdue: bool,
) -> AppStatusPlan {
    let (phase, reason) = phase(input, seats, wanted, progress, overdue);
    AppStatusPlan {
        phase,
        reason,
        ready: seats.n_ready_all(),
        revisions: counts(seats, wanted),
        progress,
        last_failure: last_failure(seats, input.target),
    }
}

fn phase(
    input: &AppInput,
    seats: &Seats<'_>,
    wanted: &BTreeMap<u32, u32>,
    progress: Progress,
    overdue: bool,
) -> (AppPhase, Reason) {
    if input.deleting {
        let sentence = format!("it is being deleted; {} left", replicas(seats.seats.len()));
        return (
            AppPhase::Deleting,
            Reason::new(ReasonCode::Deleting, sentence),
        );
    }
    if input.replicas == 0 {
        let phase = if seats.seats.is_empty() {
            AppPhase::Stopped
        } else {
            AppPhase::Progressing
        };
        let reason = Reason::new(ReasonCode::ScaledToZero, "no replicas are wanted");
        return (phase, reason);
    }
    let target = input.target;
    let count = wanted.get(&target).copied().unwrap_or(0);
    let ready = seats.n_ready(target);
    let how_far = format!(
        "{} of {count} replicas of r{target} are ready",
        ready.min(count)
    );
    let missing = wanted
        .iter()
        .any(|(revision, wanted)| seats.n_ready(*revision) < *wanted);
    let others = seats
        .active()
        .any(|seat| !wanted.contains_key(&seat.revision));
    let too_many = wanted
        .iter()
        .any(|(revision, wanted)| seats.n_active(*revision) > *wanted);
    if !missing && !others && !too_many {
        return (AppPhase::Ready, Reason::new(ReasonCode::Ready, how_far));
    }
    if overdue {
        let sentence = format!(
            "{how_far}, without progress for {}",
            input.rollout.progress_deadline
        );
        return (
            AppPhase::Degraded,
            Reason::new(ReasonCode::ProgressDeadline, sentence),
        );
    }
    if input.paused && others {
        let sentence = format!("the rollout is paused; {how_far}");
        return (
            AppPhase::Progressing,
            Reason::new(ReasonCode::Paused, sentence),
        );
    }
    if missing && !others && progress.ready_max >= count {
        return (
            AppPhase::Degraded,
            Reason::new(ReasonCode::TooFewReady, how_far),
        );
    }
    (
        AppPhase::Progressing,
        Reason::new(ReasonCode::RollingOut, how_far),
    )
}

fn replicas(n: usize) -> String {
    match n {
        1 => "1 replica".to_owned(),
        n => format!("{n} replicas"),
    }
}

fn counts(seats: &Seats<'_>, wanted: &BTreeMap<u32, u32>) -> BTreeMap<u32, RevisionCounts> {
    let mut counts: BTreeMap<u32, RevisionCounts> = BTreeMap::new();
    for (revision, wanted) in wanted {
        counts.entry(*revision).or_default().wanted = *wanted;
    }
    for seat in &seats.seats {
        let counts = counts.entry(seat.revision).or_default();
        *place(counts, seat) += 1;
    }
    counts
}

fn place<'c>(counts: &'c mut RevisionCounts, seat: &Seat<'_>) -> &'c mut u32 {
    if !seat.is_active() {
        return &mut counts.draining;
    }
    if seat.is_ready() {
        return &mut counts.ready;
    }
    match &seat.placed {
        None | Some((_, Standing::Ended(_) | Standing::Released(_))) => &mut counts.waiting,
        Some((_, standing @ (Standing::Unseen { .. } | Standing::Live { .. })))
            if standing.releasing().is_some() =>
        {
            &mut counts.draining
        }
        Some((_, Standing::Unasked | Standing::Unseen { .. } | Standing::Live { .. })) => {
            let backing_off = seat
                .seen
                .is_some_and(|seen| matches!(seen.phase, Phase::BackingOff(_)));
            if backing_off {
                &mut counts.backing_off
            } else {
                &mut counts.starting
            }
        }
    }
}

/// How a replica of the Revision last failed, or what one that runs says for not being ready.
pub(super) fn last_failure(seats: &Seats<'_>, revision: u32) -> Option<String> {
    let missing = || {
        let of_revision = seats.seats.iter().filter(|seat| seat.revision == revision);
        of_revision.filter(|seat| !seat.is_ready())
    };
    let unready = missing().find_map(|seat| {
        let said = seat.seen.and_then(|seen| seen.unready.as_ref())?;
        Some(format!(
            "{}/{} is not ready: {said}",
            seat.key.group, seat.index
        ))
    });
    if unready.is_some() {
        return unready;
    }
    let failures = missing().filter_map(|seat| {
        let restarted = seat.seen.and_then(|seen| seen.last_failure.as_ref());
        let ended = seat
            .placed
            .as_ref()
            .and_then(|(_, standing)| standing.end())
            .filter(|end| end.stopped.is_none());
        let end = ended.cloned().or_else(|| restarted.map(slot_end))?;
        Some((end.at, seat, end))
    });
    let (_, seat, end) = failures.max_by_key(|(at, _, _)| *at)?;
    let name = format!("{}/{}", seat.key.group, seat.index);
    Some(describe(&name, &end))
}

fn slot_end(end: &End) -> SlotEnd {
    SlotEnd {
        cause: end.cause,
        stopped: None,
        exit_code: end.exit_code,
        signal: end.signal,
        started: None,
        at: end.at,
        message: end.message.clone(),
    }
}

/// `2 replicas wait for capacity`, if any of the Revision do.
pub(super) fn waits(seats: &Seats<'_>, revision: u32) -> Option<String> {
    let waiting = |seat: &&Seat<'_>| seat.revision == revision && seat.placed.is_none();
    match count(seats.seats.iter().filter(waiting)) {
        0 => None,
        1 => Some("1 replica waits for capacity".to_owned()),
        n => Some(format!("{n} replicas wait for capacity")),
    }
}
