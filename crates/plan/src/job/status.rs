//! What a Job's status says.

use super::draft::Draft;
use super::input::{Finished, JobInput, JobPhase, Restart, UnitOutcome, UnitStage};
use super::judge::Goal;
use super::output::{FAILURES_SHOWN_MAX, JobAction, JobStatusPlan, UnitCounts, UnitFailure};
use super::view::{Member, UnitView, Units};
use crate::reason::{Reason, ReasonCode};
use crate::slot::{Sight, Standing};
use base::Time;
use engine::Phase;

pub(super) fn status(
    input: &JobInput,
    units: &Units<'_>,
    goal: &Goal,
    started: Option<Time>,
    draft: &Draft<'_>,
) -> JobStatusPlan {
    let counts = count(input, units, draft.now);
    let n_live = live_members(units);
    let ran = |member: &Member<'_>| match &member.standing {
        Standing::Live { running, .. } => *running,
        Standing::Ended(end) | Standing::Released(end) => end.started.is_some(),
        Standing::Unasked | Standing::Unseen { .. } => false,
    };
    let runs = units
        .all()
        .filter(|unit| unit.is_placed())
        .flat_map(|unit| &unit.members)
        .any(ran);
    let placed = counts.starting + counts.running + counts.stopping > 0;
    let active = if runs {
        JobPhase::Running
    } else if placed {
        JobPhase::Starting
    } else {
        JobPhase::Queued
    };
    let concluded = draft.finish.iter().find_map(|action| match action {
        JobAction::Finish { phase, reason } => Some((*phase, reason.clone())),
        _ => None,
    });
    let (phase, reason) = concluded.unwrap_or_else(|| match goal {
        Goal::End { reason, .. } => (active, ending(reason, n_live)),
        Goal::Pause if placed || counts.waiting > 0 => (
            JobPhase::Suspending,
            ending(
                &Reason::new(ReasonCode::Suspended, "it is being suspended"),
                n_live,
            ),
        ),
        Goal::Pause => (
            JobPhase::Suspended,
            Reason::new(ReasonCode::Suspended, "it is suspended"),
        ),
        Goal::Run => {
            let reason = running(input, &counts, n_live, &draft.give_ups);
            (active, held_up(input, units, reason))
        }
    });
    JobStatusPlan {
        phase,
        reason,
        // A pause stops the clock of the time limit; the next start begins it anew.
        started: started.filter(|_| phase != JobPhase::Suspended),
        units: counts,
        failures: failures(units),
    }
}

pub(super) fn finished_status(
    input: &JobInput,
    units: &Units<'_>,
    finished: &Finished,
    now: Time,
) -> JobStatusPlan {
    JobStatusPlan {
        phase: finished.phase,
        reason: finished.reason.clone(),
        started: input.started,
        units: count(input, units, now),
        failures: failures(units),
    }
}

fn ending(reason: &Reason, n_live: usize) -> Reason {
    let sentence = match n_live {
        0 => reason.sentence.clone(),
        n => format!("{}; {} to stop", reason.sentence, replicas(n)),
    };
    Reason::new(reason.code, sentence)
}

fn running(input: &JobInput, counts: &UnitCounts, n_live: usize, give_ups: &[Reason]) -> Reason {
    let single = !matches!(input.spec.restart, Restart::Index { .. });
    if single {
        if let Some(reason) = give_ups.first() {
            return ending(reason, n_live);
        }
        return match counts {
            UnitCounts { stopping: 1.., .. } => ending(
                &Reason::new(ReasonCode::Stopping, "an attempt ends"),
                n_live,
            ),
            UnitCounts { running: 1.., .. } => {
                Reason::new(ReasonCode::Running, format!("{} run", replicas(n_live)))
            }
            UnitCounts { starting: 1.., .. } => {
                Reason::new(ReasonCode::Preparing, "its replicas are being started")
            }
            UnitCounts {
                backing_off: 1.., ..
            } => Reason::new(
                ReasonCode::BackingOff,
                "the last attempt failed; the next one waits",
            ),
            UnitCounts { .. } => {
                Reason::new(ReasonCode::WaitingForCapacity, "it waits for its turn")
            }
        };
    }
    let code = if counts.running + counts.starting > 0 {
        ReasonCode::Running
    } else if counts.waiting == 0 && counts.backing_off > 0 {
        ReasonCode::BackingOff
    } else {
        ReasonCode::WaitingForCapacity
    };
    Reason::new(code, format!("indexes: {counts}"))
}

/// With what the first replica waits for that is not prepared yet.
fn held_up(input: &JobInput, units: &Units<'_>, reason: Reason) -> Reason {
    let mut members = units
        .all()
        .filter(|unit| unit.is_placed())
        .flat_map(|unit| &unit.members);
    let waits = members.find_map(|member| match input.replicas.get(&member.key)? {
        Sight::Seen(seen) if seen.phase == Phase::Preparing => {
            let waits = seen.unready.as_ref()?;
            let (group, index) = (&member.state.group, member.state.index);
            Some(format!("{group}/{index} waits: {waits}"))
        }
        Sight::Seen(_) | Sight::Gone | Sight::Fenced => None,
    });
    match waits {
        Some(waits) => Reason::new(reason.code, format!("{}; {waits}", reason.sentence)),
        None => reason,
    }
}

fn replicas(n: usize) -> String {
    match n {
        1 => "1 replica".to_owned(),
        n => format!("{n} replicas"),
    }
}

fn live_members(units: &Units<'_>) -> usize {
    units
        .all()
        .filter(|unit| unit.is_placed())
        .flat_map(|unit| &unit.members)
        .filter(|member| member.end().is_none())
        .count()
}

fn count(input: &JobInput, units: &Units<'_>, now: Time) -> UnitCounts {
    let mut counts = UnitCounts::default();
    for unit in &units.main {
        *place(&mut counts, unit, now) += 1;
    }
    let wanted = match input.spec.restart {
        Restart::Index { count, .. } => count,
        Restart::Gang | Restart::Rank => 1,
    };
    // Units without a row are new.
    let known = u32::try_from(units.main.len()).unwrap_or(u32::MAX);
    counts.pending += wanted.saturating_sub(known);
    counts
}

fn place<'c>(counts: &'c mut UnitCounts, unit: &UnitView<'_>, now: Time) -> &'c mut u32 {
    match &unit.state.stage {
        UnitStage::New => &mut counts.pending,
        UnitStage::BackingOff { until } if now >= *until => &mut counts.pending,
        UnitStage::BackingOff { .. } => &mut counts.backing_off,
        UnitStage::Waiting { .. } => &mut counts.waiting,
        UnitStage::Done(UnitOutcome::Succeeded) => &mut counts.succeeded,
        UnitStage::Done(UnitOutcome::Failed(_)) => &mut counts.failed,
        UnitStage::Done(UnitOutcome::Stopped) => &mut counts.stopped,
        UnitStage::Placed { .. } => {
            let mut standings = unit.members.iter().map(|member| &member.standing);
            let releasing =
                |standing: &&Standing| standing.end().is_none() && standing.releasing().is_some();
            let runs = |standing: &Standing| {
                standing.end().is_some() || matches!(standing, Standing::Live { running: true, .. })
            };
            if unit.all_ended() || standings.clone().any(|standing| releasing(&standing)) {
                &mut counts.stopping
            } else if standings.all(runs) && !unit.members.is_empty() {
                &mut counts.running
            } else {
                &mut counts.starting
            }
        }
    }
}

fn failures(units: &Units<'_>) -> Vec<UnitFailure> {
    let failed = units.main.iter().filter_map(|unit| {
        let UnitStage::Done(UnitOutcome::Failed(reason)) = &unit.state.stage else {
            return None;
        };
        Some(UnitFailure {
            unit: unit.key.clone(),
            reason: reason.clone(),
        })
    });
    failed.take(FAILURES_SHOWN_MAX).collect()
}
