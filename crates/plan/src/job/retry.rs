//! What follows an attempt that did not succeed: another one, when, and who pays for it.

use super::input::{Backoff, FailedRetry, RetrySpec, Tally};
use super::judge::Blame;
use crate::reason::{Reason, ReasonCode};
use crate::slot::SlotEnd;
use base::{Span, Time};
use engine::{Cause, StopReason};

/// Ends in a row, each after a short run, that were nobody's fault, before a unit is given up as
/// unstable. Pauses and preemptions do not count: the scheduler bounds those itself.
pub const FAULTS_MAX: u32 = 50;

/// An attempt that ran this long was not short: the row of faults begins anew (Kubernetes resets the
/// restart backoff of a container after the same time).
pub const STEADY_RUN: Span = Span::from_secs(600);

/// The first wait after a failure where nothing else is said (Kubernetes' Job controller: 10 s).
pub const BACKOFF_BASE: Span = Span::from_secs(10);

/// The longest wait where nothing else is said (Kubernetes' Job controller: 6 min, until 1.34).
pub const BACKOFF_CAP: Span = Span::from_secs(360);

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// What happened, for people.
    pub(super) reason: Reason,
    pub(super) charged: bool,
    pub(super) tally: Tally,
    pub(super) next: Next,
}

/// Whether there is another attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    At {
        not_before: Time,
        /// Lost through no fault of its own, so a single rank goes first in its queue.
        readmit: bool,
    },
    GiveUp(Reason),
}

/// Judges what an attempt failed by. `spent` are charges of other units that share the limit.
pub(super) fn judge(
    retry: &RetrySpec,
    tally: Tally,
    spent: u32,
    blame: &Blame,
    ran: Span,
    now: Time,
) -> Verdict {
    match blame {
        Blame::Stop(reason) => asked(tally, *reason, ran, now),
        Blame::End { member, end } if end.is_own_failure() => {
            failure(retry, tally, spent, member, end, now)
        }
        Blame::End { member, end } => {
            let is_placing = matches!(end.cause, Cause::PortTaken | Cause::Misplaced);
            let retried = is_placing || retry.node_lost;
            fault(retry, retried, tally, member, end, ran, now)
        }
    }
}

/// It was asked to stop: not charged, not a fault.
fn asked(tally: Tally, reason: StopReason, ran: Span, now: Time) -> Verdict {
    let (code, sentence) = match reason {
        StopReason::Suspended => (ReasonCode::Suspended, "it was suspended"),
        StopReason::Cancelled => (ReasonCode::Cancelled, "it was cancelled"),
        StopReason::TimeLimit => (ReasonCode::TimeLimit, "its time limit was over"),
        StopReason::Preempted => (ReasonCode::Stopping, "it was preempted"),
        StopReason::Drained => (ReasonCode::Stopping, "its node was drained"),
        StopReason::GangDone | StopReason::Replaced | StopReason::Forget => {
            (ReasonCode::Stopping, "it was stopped with its gang")
        }
    };
    let faults = if ran >= STEADY_RUN { 0 } else { tally.faults };
    Verdict {
        reason: Reason::new(code, sentence),
        charged: false,
        tally: Tally { faults, ..tally },
        next: Next::At {
            not_before: now,
            readmit: false,
        },
    }
}

/// Nobody's fault: not charged, at once the first time, then with backoff, up to [`FAULTS_MAX`].
fn fault(
    retry: &RetrySpec,
    retried: bool,
    tally: Tally,
    member: &str,
    end: &SlotEnd,
    ran: Span,
    now: Time,
) -> Verdict {
    let faults = if ran >= STEADY_RUN {
        1
    } else {
        tally.faults + 1
    };
    let what = Reason::new(ReasonCode::ReplicaFailed, describe(member, end));
    let next = if !retried {
        Next::GiveUp(what.clone())
    } else if faults > FAULTS_MAX {
        let sentence = format!(
            "{FAULTS_MAX} attempts in a row ended early through no fault of the program; the last: {}",
            what.sentence
        );
        Next::GiveUp(Reason::new(ReasonCode::Unstable, sentence))
    } else {
        let wait = match faults {
            1 => Span::ZERO,
            again => backoff(retry.backoff, again - 1),
        };
        Next::At {
            not_before: now + wait,
            readmit: true,
        }
    };
    Verdict {
        reason: what,
        charged: false,
        tally: Tally { faults, ..tally },
        next,
    }
}

/// The program's own failure: charged.
fn failure(
    retry: &RetrySpec,
    tally: Tally,
    spent: u32,
    member: &str,
    end: &SlotEnd,
    now: Time,
) -> Verdict {
    let (code, retried) = match end.cause {
        Cause::OutOfMemory => (ReasonCode::OutOfMemory, retry.out_of_memory),
        Cause::StartFailed => (ReasonCode::StartFailed, retry.start_failed),
        _ => (ReasonCode::ReplicaFailed, retry.failed.includes(end)),
    };
    let charged = tally.charged + 1;
    let what = Reason::new(code, describe(member, end));
    let next = if !retried {
        Next::GiveUp(what.clone())
    } else if charged + spent > retry.limit {
        Next::GiveUp(match retry.limit {
            0 => what.clone(),
            limit => Reason::new(
                ReasonCode::RetryLimit,
                format!(
                    "it failed {} times (retry limit {limit}); the last: {}",
                    charged + spent,
                    what.sentence
                ),
            ),
        })
    } else {
        Next::At {
            not_before: now + backoff(retry.backoff, charged),
            readmit: false,
        }
    };
    Verdict {
        reason: what,
        charged: true,
        tally: Tally { charged, faults: 0 },
        next,
    }
}

impl FailedRetry {
    fn includes(&self, end: &SlotEnd) -> bool {
        let code = end.exit_code.or(end.signal.map(|signal| 128 + signal));
        match self {
            FailedRetry::Never => false,
            FailedRetry::Always => true,
            FailedRetry::Codes(ranges) => {
                code.is_some_and(|code| ranges.iter().any(|range| range.contains(&code)))
            }
        }
    }
}

/// `base` after the first, then twice as long each time, up to `cap`.
pub(crate) fn backoff(backoff: Backoff, n: u32) -> Span {
    let doublings = n.saturating_sub(1).min(32);
    let wait = backoff.base.as_ms().saturating_mul(1 << doublings);
    Span::from_ms(wait.min(backoff.cap.as_ms()))
}

/// `worker/1 exited with code 3: …`.
pub fn describe(member: &str, end: &SlotEnd) -> String {
    let what = match (end.cause, end.exit_code, end.signal) {
        (Cause::Succeeded, _, _) => "succeeded".to_owned(),
        (Cause::Failed, Some(code), _) => format!("exited with code {code}"),
        (Cause::Failed, None, Some(signal)) => format!("was killed by signal {signal}"),
        (Cause::Failed, None, None) => "failed".to_owned(),
        (Cause::OutOfMemory, _, _) => "used more memory than its limit".to_owned(),
        (Cause::Stopped, _, _) => "was stopped".to_owned(),
        (Cause::StartFailed, _, _) => "could not be started".to_owned(),
        (Cause::PortTaken, _, _) => "found its port taken".to_owned(),
        (Cause::Misplaced, _, _) => "could not be held by its node".to_owned(),
        (Cause::Unhealthy, _, _) => "failed its probe".to_owned(),
        (Cause::NodeLost, _, _) => "was lost with its node".to_owned(),
        (Cause::ShimLost, _, _) => "was lost with its shim".to_owned(),
        (Cause::Evicted, _, _) => "was removed by somebody else".to_owned(),
    };
    if end.message.is_empty() {
        format!("{member} {what}")
    } else {
        format!("{member} {what}: {}", end.message)
    }
}
