//! What is known of a Job: its spec, its rows, and what the engine reports.

use crate::preset::Framework;
use crate::slot::{Placement, Sight};
use base::{Attempt, Index, Resources, Span, Time, Uid};
use engine::{ReplicaKey, Template};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// All that is known of one Job.
#[derive(Clone, Debug)]
pub struct JobInput {
    /// Its identity.
    pub uid: Uid,
    /// Its name; the title is `job/<name>`.
    pub name: String,
    /// The tenant's name.
    pub tenant: String,
    /// The project's name.
    pub project: String,
    /// What is wanted.
    pub spec: JobSpec,
    /// What the owner wants done with it.
    pub intent: Intent,
    /// When a replica first ran, since the last resume: [`crate::JobStatusPlan::started`] as it was kept.
    pub started: Option<Time>,
    /// Set by [`crate::JobAction::Finish`]; from then on only leftovers are cleared.
    pub finished: Option<Finished>,
    /// Units that have a row. A unit without one is new, with attempt 1 and an empty tally.
    pub units: BTreeMap<UnitKey, UnitState>,
    /// What is known of its replicas, also of earlier attempts.
    pub replicas: BTreeMap<ReplicaKey, Sight>,
}

/// What a Job asks for, with all defaults filled in.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Its groups, in rank order. At least one; exactly one for [`Restart::Index`].
    pub groups: Vec<GroupSpec>,
    /// Which framework's environment its members find.
    pub framework: Framework,
    /// What restarts together.
    pub restart: Restart,
    /// Who decides about success; not used for [`Restart::Index`]. Default: [`Framework::success`].
    pub success: Success,
    /// What is tried again.
    pub retry: RetrySpec,
    /// The longest it may run, counted on the wall from its first start after submission or resume,
    /// waits between attempts included (as Kubernetes' `activeDeadlineSeconds` does).
    pub time_limit: Option<Span>,
    /// The longest it may wait without anything of it being admitted: each wait of a gang, and for an
    /// array the wait until its first index starts.
    pub queue_time_limit: Option<Span>,
    /// How long it is kept once finished.
    pub ttl: Option<Span>,
}

/// Identical members.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// `worker`, `ps`, …
    pub name: String,
    /// How many; for an array the count stands in [`Restart::Index`] and this is 1.
    pub count: u32,
    /// How many must be there; equal to `count` unless the restart unit is `rank`.
    pub min: u32,
    /// What each is.
    pub template: Template,
    /// What each asks the scheduler for.
    pub request: Resources,
}

/// What restarts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// All groups together.
    Gang,
    /// Each index of an array by itself.
    Index {
        /// How many indexes.
        count: u32,
        /// How many may be submitted at once.
        parallelism: u32,
        /// How many may fail before the rest is stopped; `None` lets all others run to their end.
        failed_max: Option<u32>,
    },
    /// Members by themselves as long as each group keeps `min` of them, else all together.
    Rank,
}

/// Who decides about success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// The groups that decide.
    pub groups: Vec<String>,
    /// How many of their members must succeed.
    pub rule: SuccessRule,
}

/// How many members must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessRule {
    /// Every one.
    All,
    /// One of them.
    Any,
    /// The first of each group.
    Index0,
}

/// What is tried again. Ends that nobody is to blame for (preempted, suspended, node or shim lost,
/// port taken, evicted) are not charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySpec {
    /// Charged failures that a unit survives: with 0 the first is final. The members of an elastic gang
    /// share one limit.
    pub limit: u32,
    /// How long the next attempt waits.
    pub backoff: Backoff,
    /// Which exits are tried again.
    pub failed: FailedRetry,
    /// Whether an end for want of memory is tried again.
    pub out_of_memory: bool,
    /// Whether a lost node, shim or pod is survived by a new attempt.
    pub node_lost: bool,
    /// Whether a program that cannot be started is tried again.
    pub start_failed: bool,
}

/// Doubles from `base` up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub base: Span,
    /// Never more than this.
    pub cap: Span,
}

/// Which exits are tried again. A program killed by signal N counts as exit code 128 + N.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailedRetry {
    /// None.
    Never,
    /// All but 0.
    Always,
    /// Those in one of the ranges.
    Codes(Vec<RangeInclusive<i32>>),
}

/// What the owner wants done with a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Run it.
    Run,
    /// Pause it; its checkpoint directory stays.
    Suspend,
    /// Stop it for good.
    Cancel,
}

/// Where a Job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobPhase {
    /// Nothing of it is admitted.
    Queued,
    /// Something is admitted, nothing runs yet.
    Starting,
    /// Replicas run.
    Running,
    /// Replicas are being stopped for a pause.
    Suspending,
    /// Paused.
    Suspended,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
    /// Stopped by its owner.
    Cancelled,
}

/// How and when a Job finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// `Succeeded`, `Failed` or `Cancelled`.
    pub phase: JobPhase,
    /// Why.
    pub reason: crate::Reason,
    /// When.
    pub at: Time,
}

/// Names a restart unit of a Job. Its text (`gang`, `index/7`, `rank/worker/2`) is stable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKey {
    /// All groups.
    Gang,
    /// One index of an array.
    Index(Index),
    /// One member of an elastic gang that was replaced by itself. The gang's own unit holds the
    /// member's first incarnation; the scheduler never gives a released seat of the gang's task
    /// again, so each replacement is a task of one seat.
    Rank {
        /// Its group.
        group: String,
        /// Its rank in the group.
        index: Index,
    },
}

/// The row of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitState {
    /// The current attempt, from 1.
    pub attempt: Attempt,
    /// What its earlier attempts cost.
    pub tally: Tally,
    /// Whether its next task goes first in its queue ([`Then::Next`](crate::Then::Next) or
    /// [`Replace`](crate::JobAction::Replace) said so).
    pub readmit: bool,
    /// Where it stands.
    pub stage: UnitStage,
    /// The members of the current attempt that were given a placement, released ones included. They stay
    /// when the unit is done, and go when it gets its next attempt.
    pub members: Vec<MemberState>,
}

/// What earlier attempts of a unit cost. Written whole, never added to by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Failures counted against the retry limit.
    pub charged: u32,
    /// Ends in a row that were nobody's fault, each after a short run.
    pub faults: u32,
}

/// Where a unit stands.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitStage {
    /// Its attempt has no task.
    New,
    /// Its attempt gets a task at this time.
    BackingOff {
        /// When.
        until: Time,
    },
    /// Its task waits.
    Waiting {
        /// Since when.
        since: Time,
    },
    /// Its task was admitted; the members are there.
    Placed {
        /// When.
        since: Time,
    },
    /// Nothing more happens to it.
    Done(UnitOutcome),
}

/// How a unit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitOutcome {
    /// It reached its goal.
    Succeeded,
    /// It was given up.
    Failed(crate::Reason),
    /// It was stopped along with the Job, or its gang starts anew.
    Stopped,
}

/// One member with its placement.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberState {
    /// Its group.
    pub group: String,
    /// Its rank in the group; the array index for [`Restart::Index`].
    pub index: Index,
    /// Its seat.
    pub placement: Placement,
}

/// The members of a unit in one group: what the unit's scheduler task asks for.
#[derive(Clone, Copy, Debug)]
pub struct UnitSeats<'a> {
    /// The group.
    pub group: &'a GroupSpec,
    /// How many members.
    pub count: u32,
    /// How many must start for the task to start.
    pub min: u32,
    /// The index of the task's first seat: seat `i` of the task is the member `first + i`.
    pub first: Index,
}

/// What a unit's scheduler task asks for, group by group.
pub fn unit_seats<'a>(spec: &'a JobSpec, unit: &UnitKey) -> Vec<UnitSeats<'a>> {
    let single = |group: &'a GroupSpec, index: Index| UnitSeats {
        group,
        count: 1,
        min: 1,
        first: index,
    };
    match unit {
        UnitKey::Gang => spec
            .groups
            .iter()
            .map(|group| UnitSeats {
                group,
                count: group.count,
                min: group.min,
                first: Index(0),
            })
            .collect(),
        UnitKey::Index(index) => spec
            .groups
            .iter()
            .take(1)
            .map(|group| single(group, *index))
            .collect(),
        UnitKey::Rank { group: name, index } => spec
            .groups
            .iter()
            .filter(|group| group.name == *name)
            .map(|group| single(group, *index))
            .collect(),
    }
}

impl JobPhase {
    /// All phases.
    pub const ALL: [JobPhase; 8] = [
        JobPhase::Queued,
        JobPhase::Starting,
        JobPhase::Running,
        JobPhase::Suspending,
        JobPhase::Suspended,
        JobPhase::Succeeded,
        JobPhase::Failed,
        JobPhase::Cancelled,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            JobPhase::Queued => "Queued",
            JobPhase::Starting => "Starting",
            JobPhase::Running => "Running",
            JobPhase::Suspending => "Suspending",
            JobPhase::Suspended => "Suspended",
            JobPhase::Succeeded => "Succeeded",
            JobPhase::Failed => "Failed",
            JobPhase::Cancelled => "Cancelled",
        }
    }

    /// The phase with this word.
    pub fn from_word(word: &str) -> Option<JobPhase> {
        JobPhase::ALL
            .into_iter()
            .find(|phase| phase.as_str() == word)
    }

    /// Whether nothing more happens.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled
        )
    }
}

impl fmt::Display for JobPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnitKey::Gang => f.write_str("gang"),
            UnitKey::Index(index) => write!(f, "index/{index}"),
            UnitKey::Rank { group, index } => write!(f, "rank/{group}/{index}"),
        }
    }
}

/// Text that names no unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAUnit(String);

impl fmt::Display for NotAUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a restart unit (expected `gang`, `index/<n>` or `rank/<group>/<n>`)",
            self.0
        )
    }
}
impl std::error::Error for NotAUnit {}

impl FromStr for UnitKey {
    type Err = NotAUnit;
    fn from_str(text: &str) -> Result<Self, NotAUnit> {
        let refuse = || NotAUnit(text.chars().take(80).collect());
        let number = |digits: &str| digits.parse().map(Index).map_err(|_| refuse());
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("gang"), None, None) => Ok(UnitKey::Gang),
            (Some("index"), Some(index), None) => Ok(UnitKey::Index(number(index)?)),
            (Some("rank"), Some(group), Some(index)) => Ok(UnitKey::Rank {
                group: group.to_owned(),
                index: number(index)?,
            }),
            _ => Err(refuse()),
        }
    }
}
