//! A restart unit's row as JSON: the planner's state with stable words. Its members are the unit's
//! placements, which have rows of their own.

use base::{Attempt, Time};
use plan::{Reason, ReasonCode, Tally, UnitOutcome, UnitStage};
use sched::TaskId;
use serde::{Deserialize, Serialize};

/// The row of one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnitRow {
    /// The current attempt.
    pub attempt: Attempt,
    /// Failures counted against the retry limit.
    pub charged: u32,
    /// Ends in a row that were nobody's fault.
    pub faults: u32,
    /// Whether its next task goes first.
    pub readmit: bool,
    /// Where it stands.
    pub stage: StageRow,
}

/// Where a unit stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "at", deny_unknown_fields)]
pub enum StageRow {
    /// Its attempt has no task.
    New,
    /// Its attempt gets a task at this time.
    BackingOff {
        /// When.
        until: Time,
    },
    /// Its task waits.
    Waiting {
        /// Its task.
        task: base::Uid,
        /// Since when.
        since: Time,
    },
    /// Its task was admitted.
    Placed {
        /// Its task.
        task: base::Uid,
        /// When.
        since: Time,
    },
    /// Nothing more happens to it.
    Succeeded,
    /// It was given up.
    Failed {
        /// A stable code.
        code: String,
        /// A sentence.
        sentence: String,
    },
    /// It was stopped with the Job.
    Stopped,
}

impl UnitRow {
    /// A unit that was never tried.
    pub fn new() -> UnitRow {
        UnitRow {
            attempt: Attempt(1),
            charged: 0,
            faults: 0,
            readmit: false,
            stage: StageRow::New,
        }
    }

    /// The planner's tally.
    pub fn tally(&self) -> Tally {
        Tally {
            charged: self.charged,
            faults: self.faults,
        }
    }

    /// Takes over a tally.
    pub fn set_tally(&mut self, tally: Tally) {
        self.charged = tally.charged;
        self.faults = tally.faults;
    }

    /// Its task, while it has one.
    pub fn task(&self) -> Option<TaskId> {
        match self.stage {
            StageRow::Waiting { task, .. } | StageRow::Placed { task, .. } => Some(TaskId(task)),
            StageRow::New
            | StageRow::BackingOff { .. }
            | StageRow::Succeeded
            | StageRow::Failed { .. }
            | StageRow::Stopped => None,
        }
    }

    /// The planner's stage.
    pub fn stage(&self) -> UnitStage {
        match &self.stage {
            StageRow::New => UnitStage::New,
            StageRow::BackingOff { until } => UnitStage::BackingOff { until: *until },
            StageRow::Waiting { since, .. } => UnitStage::Waiting { since: *since },
            StageRow::Placed { since, .. } => UnitStage::Placed { since: *since },
            StageRow::Succeeded => UnitStage::Done(UnitOutcome::Succeeded),
            StageRow::Failed { code, sentence } => {
                UnitStage::Done(UnitOutcome::Failed(reason(code, sentence)))
            }
            StageRow::Stopped => UnitStage::Done(UnitOutcome::Stopped),
        }
    }

    /// The stage of a unit that is over.
    pub fn over(outcome: &UnitOutcome) -> StageRow {
        match outcome {
            UnitOutcome::Succeeded => StageRow::Succeeded,
            UnitOutcome::Stopped => StageRow::Stopped,
            UnitOutcome::Failed(reason) => StageRow::Failed {
                code: reason.code.as_str().to_owned(),
                sentence: reason.sentence.clone(),
            },
        }
    }

    /// The word by which rows are counted.
    pub fn word(&self) -> &'static str {
        match self.stage {
            StageRow::New => "new",
            StageRow::BackingOff { .. } => "backing-off",
            StageRow::Waiting { .. } => "waiting",
            StageRow::Placed { .. } => "placed",
            StageRow::Succeeded => "succeeded",
            StageRow::Failed { .. } => "failed",
            StageRow::Stopped => "stopped",
        }
    }
}

impl Default for UnitRow {
    fn default() -> Self {
        Self::new()
    }
}

/// A reason from its stored words. An unknown code comes from a newer version; its sentence still tells.
pub fn reason(code: &str, sentence: &str) -> Reason {
    const ENDS: [ReasonCode; 10] = [
        ReasonCode::Cancelled,
        ReasonCode::Succeeded,
        ReasonCode::ReplicaFailed,
        ReasonCode::OutOfMemory,
        ReasonCode::StartFailed,
        ReasonCode::RetryLimit,
        ReasonCode::Unstable,
        ReasonCode::TimeLimit,
        ReasonCode::QueueTimeLimit,
        ReasonCode::IndexesFailed,
    ];
    let known = ENDS.into_iter().find(|end| end.as_str() == code);
    Reason::new(known.unwrap_or(ReasonCode::ReplicaFailed), sentence)
}
