//! What shall happen to a Job, as data with a readable text.

use super::input::{JobPhase, Tally, UnitKey, UnitOutcome};
use crate::reason::Reason;
use crate::slot::{SlotEnd, member, show_ensure};
use base::{Attempt, Index, Span, Time};
use engine::{Group, ReplicaKey, StopReason};
use std::fmt;

/// What shall happen now, what the status says, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPlan {
    /// In this order.
    pub actions: Vec<JobAction>,
    /// What the status shall say once the actions are performed (a `Finish` among them is already in it);
    /// written only if it changed.
    pub status: JobStatusPlan,
    /// When something changes by time alone, if nothing else does before.
    pub wake: Option<Time>,
}

/// One step. Each may be repeated; each is conditional on what it names still being so.
#[derive(Clone, Debug, PartialEq)]
pub enum JobAction {
    /// Rows: give the attempt a task (`new` or `backing off` → `waiting`) and tell the scheduler.
    /// The unit's row is made if it is missing.
    Submit {
        /// Which unit.
        unit: UnitKey,
        /// Which attempt.
        attempt: Attempt,
        /// The task goes first in its queue.
        readmit: bool,
    },
    /// Rows: take back a task that waits (`waiting` → `new`) and tell the scheduler.
    Withdraw {
        /// Which unit.
        unit: UnitKey,
        /// Which attempt.
        attempt: Attempt,
    },
    /// Rows: placements `reserved` → `bound`, all in one transaction. From now on an engine may hold them.
    Bind {
        /// Which unit.
        unit: UnitKey,
        /// Which attempt.
        attempt: Attempt,
        /// Group and index of each.
        members: Vec<(String, Index)>,
    },
    /// Engine: `ensure`.
    Ensure(Box<Group>),
    /// Rows: placement → `releasing` (now + grace, reason) unless it is already or is not there; tell the
    /// scheduler. Then engine: `remove`.
    Stop {
        /// Which replica.
        key: ReplicaKey,
        /// From SIGTERM to SIGKILL.
        grace: Span,
        /// Why.
        reason: StopReason,
    },
    /// Rows: placement → `released` with how it ended, and tell the scheduler: the capacity is back.
    Release {
        /// Which unit.
        unit: UnitKey,
        /// Which replica.
        key: ReplicaKey,
        /// How it ended.
        end: SlotEnd,
    },
    /// Engine: `remove` of an ended replica with [`StopReason::Forget`], so that its record is dropped.
    Forget {
        /// Which replica.
        key: ReplicaKey,
    },
    /// Rows: a member of an elastic gang is replaced by itself: its `rank` unit gets this attempt, `backing off`.
    Replace {
        /// The `rank` unit; its row is made if it is missing.
        unit: UnitKey,
        /// The new incarnation.
        attempt: Attempt,
        /// The unit's tally from now on.
        tally: Tally,
        /// When it may be submitted.
        not_before: Time,
        /// Whether its task goes first.
        readmit: bool,
        /// What happened to the last one.
        reason: Reason,
    },
    /// Rows: the attempt is over. All its placements are released.
    EndAttempt {
        /// Which unit.
        unit: UnitKey,
        /// Which attempt.
        attempt: Attempt,
        /// What happened, for the history.
        reason: Reason,
        /// Whether it counts against the retry limit.
        charged: bool,
        /// The unit's tally from now on.
        tally: Tally,
        /// What follows.
        then: Then,
    },
    /// Rows: the Job is over. Nothing of it holds capacity (refuse the step if a unit was admitted
    /// meanwhile); tasks that still wait are withdrawn in the same transaction.
    Finish {
        /// `Succeeded`, `Failed` or `Cancelled`.
        phase: JobPhase,
        /// Why.
        reason: Reason,
    },
    /// Rows: delete the Job; its time to live is over.
    Expire,
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another: the unit goes to this attempt, `backing off`, without members.
    Next {
        /// Its number.
        attempt: Attempt,
        /// When it may be submitted.
        not_before: Time,
        /// Whether its task goes first in its queue.
        readmit: bool,
    },
    /// None: the unit is `done`.
    Over(UnitOutcome),
}

/// What the status shall say.
#[derive(Clone, Debug, PartialEq)]
pub struct JobStatusPlan {
    /// Where it stands.
    pub phase: JobPhase,
    /// Why, in one sentence.
    pub reason: Reason,
    /// When it first ran since submission or resume. Kept, and handed back as [`crate::JobInput::started`].
    pub started: Option<Time>,
    /// How many units stand where.
    pub units: UnitCounts,
    /// Units that were given up, by unit: the first [`FAILURES_SHOWN_MAX`].
    pub failures: Vec<UnitFailure>,
}

/// The most failures that a status lists one by one; counts are always exact.
pub const FAILURES_SHOWN_MAX: usize = 10;

/// How many units stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCounts {
    /// Without a task.
    pub pending: u32,
    /// Waiting for their backoff.
    pub backing_off: u32,
    /// With a task that waits.
    pub waiting: u32,
    /// Admitted, and not all members run yet.
    pub starting: u32,
    /// With all members running.
    pub running: u32,
    /// With members being stopped.
    pub stopping: u32,
    /// Done well.
    pub succeeded: u32,
    /// Given up.
    pub failed: u32,
    /// Stopped with the Job.
    pub stopped: u32,
}

/// A unit that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFailure {
    /// Which.
    pub unit: UnitKey,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for JobPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        writeln!(f, "status {}", self.status)?;
        match self.wake {
            Some(wake) => writeln!(f, "wake {wake}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for JobAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobAction::Submit {
                unit,
                attempt,
                readmit,
            } => write!(
                f,
                "submit {unit} attempt {attempt}{}",
                if *readmit { ", first in its queue" } else { "" }
            ),
            JobAction::Withdraw { unit, attempt } => write!(f, "withdraw {unit} attempt {attempt}"),
            JobAction::Bind {
                unit,
                attempt,
                members,
            } => {
                write!(f, "bind {unit} attempt {attempt}:")?;
                for (group, index) in members {
                    write!(f, " {group}/{index}")?;
                }
                Ok(())
            }
            JobAction::Ensure(group) => show_ensure(f, group),
            JobAction::Stop { key, grace, reason } => {
                write!(f, "stop {} within {grace}: {reason:?}", member(key))
            }
            JobAction::Release { unit, key, end } => {
                write!(f, "release {} of {unit}: {end}", member(key))
            }
            JobAction::Forget { key } => write!(f, "forget {}", member(key)),
            JobAction::Replace {
                unit,
                attempt,
                tally,
                not_before,
                readmit,
                reason,
            } => write!(
                f,
                "replace {unit} by attempt {attempt} not before {not_before}{} ({tally}): {reason}",
                if *readmit { ", first in its queue" } else { "" }
            ),
            JobAction::EndAttempt {
                unit,
                attempt,
                reason,
                charged,
                tally,
                then,
            } => write!(
                f,
                "end {unit} attempt {attempt}{} ({tally}): {reason}; {then}",
                if *charged { ", charged" } else { "" }
            ),
            JobAction::Finish { phase, reason } => write!(f, "finish {phase}: {reason}"),
            JobAction::Expire => f.write_str("expire"),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Then::Next {
                attempt,
                not_before,
                readmit,
            } => write!(
                f,
                "then attempt {attempt} not before {not_before}{}",
                if *readmit { ", first in its queue" } else { "" }
            ),
            Then::Over(UnitOutcome::Succeeded) => f.write_str("the unit succeeded"),
            Then::Over(UnitOutcome::Failed(reason)) => write!(f, "the unit failed: {reason}"),
            Then::Over(UnitOutcome::Stopped) => f.write_str("the unit is stopped"),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "charged {}, faults {}", self.charged, self.faults)
    }
}

impl fmt::Display for JobStatusPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] {}", self.phase, self.units, self.reason)?;
        for failure in &self.failures {
            write!(f, "\n  failed {}: {}", failure.unit, failure.reason)?;
        }
        Ok(())
    }
}

impl fmt::Display for UnitCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("pending", self.pending),
            ("backing off", self.backing_off),
            ("waiting", self.waiting),
            ("starting", self.starting),
            ("running", self.running),
            ("stopping", self.stopping),
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("stopped", self.stopped),
        ];
        let mut first = true;
        for (word, count) in counts.into_iter().filter(|(_, count)| *count != 0) {
            write!(f, "{}{count} {word}", if first { "" } else { ", " })?;
            first = false;
        }
        Ok(())
    }
}
