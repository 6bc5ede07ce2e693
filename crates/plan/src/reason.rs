//! Why something is as it is: a stable code for programs, a sentence for people.

use std::fmt;

/// A code with its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// For programs; never changes its meaning.
    pub code: ReasonCode,
    /// For people.
    pub sentence: String,
}

/// Stable codes of Jobs and Apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonCode {
    // ---- Jobs ----
    /// Its tasks wait for capacity or quota.
    WaitingForCapacity,
    /// The next attempt waits for its backoff.
    BackingOff,
    /// Replicas are being prepared.
    Preparing,
    /// Replicas run.
    Running,
    /// Replicas are being stopped: an attempt ends.
    Stopping,
    /// The owner asked to pause.
    Suspended,
    /// The owner asked to stop.
    Cancelled,
    /// The success rule holds.
    Succeeded,
    /// A replica failed and its cause is not retried.
    ReplicaFailed,
    /// A replica used more memory than its limit and that is not retried.
    OutOfMemory,
    /// A replica could not be started.
    StartFailed,
    /// Failures used up the retry limit.
    RetryLimit,
    /// Attempts kept ending through no fault of the program.
    Unstable,
    /// The time limit is over.
    TimeLimit,
    /// It waited longer than its queue time limit.
    QueueTimeLimit,
    /// Indexes of the array failed.
    IndexesFailed,
    // ---- Apps ----
    /// All replicas of the wanted Revision are ready.
    Ready,
    /// A Revision is being rolled out, or the replica count is changing.
    RollingOut,
    /// The rollout is paused.
    Paused,
    /// Fewer replicas than wanted are ready.
    TooFewReady,
    /// A Revision did not become ready in time.
    ProgressDeadline,
    /// No replicas are wanted.
    ScaledToZero,
    /// It is being deleted.
    Deleting,
}

impl ReasonCode {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            ReasonCode::WaitingForCapacity => "WaitingForCapacity",
            ReasonCode::BackingOff => "BackingOff",
            ReasonCode::Preparing => "Preparing",
            ReasonCode::Running => "Running",
            ReasonCode::Stopping => "Stopping",
            ReasonCode::Suspended => "Suspended",
            ReasonCode::Cancelled => "Cancelled",
            ReasonCode::Succeeded => "Succeeded",
            ReasonCode::ReplicaFailed => "ReplicaFailed",
            ReasonCode::OutOfMemory => "OutOfMemory",
            ReasonCode::StartFailed => "StartFailed",
            ReasonCode::RetryLimit => "RetryLimit",
            ReasonCode::Unstable => "Unstable",
            ReasonCode::TimeLimit => "TimeLimit",
            ReasonCode::QueueTimeLimit => "QueueTimeLimit",
            ReasonCode::IndexesFailed => "IndexesFailed",
            ReasonCode::Ready => "Ready",
            ReasonCode::RollingOut => "RollingOut",
            ReasonCode::Paused => "Paused",
            ReasonCode::TooFewReady => "TooFewReady",
            ReasonCode::ProgressDeadline => "ProgressDeadline",
            ReasonCode::ScaledToZero => "ScaledToZero",
            ReasonCode::Deleting => "Deleting",
        }
    }
}

impl Reason {
    /// Puts both together.
    pub fn new(code: ReasonCode, sentence: impl Into<String>) -> Self {
        Reason {
            code,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.sentence)
    }
}
