//! Decides what happens next for a Job.
//!
//! Actions come in an order that is safe to break off anywhere: first what gives back (releases, ends
//! of attempts, withdrawals), then what asks (submits), then what starts, then what stops, then what
//! forgets. Rows come before the engine's record of the same thing is dropped.

use super::draft::Draft;
use super::input::{JobInput, JobPhase, Restart};
use super::judge::Goal;
use super::output::{JobAction, JobPlan};
use super::status::{finished_status, status};
use super::view::{Member, Units};
use crate::slot::Sight;
use base::Time;

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
