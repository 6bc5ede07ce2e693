//! A training run.

use crate::common::ProgramSpec;
use crate::deliver::{DeliverSpec, DeliveryStatus};
use crate::meta::Condition;
use base::{Bytes, Digest, Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a Job shall do. Everything but `suspend`, `priority`, `timeLimit` and `ttl` is immutable once it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    /// The queue it waits in. Default: the project's first queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Higher goes first. Default 0; from -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Sets what the framework's launcher expects, and its success rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// Variables and code common to all groups; a group's own fields win.
    #[serde(default, flatten)]
    pub program: ProgramSpec,
    /// Identical members by role. Absent: one group `worker` of one, from the fields above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSpec>,
    /// Many independent runs of one group. Excludes groups of more than one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<ArraySpec>,
    /// Parameters, apart from the code: `$MOONSHOT_PARAM_<NAME>` and `$MOONSHOT_PARAMS` (JSON).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, serde_json::Value>,
    /// When the Job has succeeded. Default: by framework, else all of every group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<SuccessRule>,
    /// What is started anew after a failure. Default `index` for arrays, else `gang`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_unit: Option<RestartUnit>,
    /// How often and why it is tried again.
    #[serde(default)]
    pub retry: RetrySpec,
    /// The longest it may run, from its first start; then it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub time_limit: Option<Span>,
    /// The longest it may wait; then it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub queue_time_limit: Option<Span>,
    /// How long it is expected to run once it has started: for the queue's order `shortest` and for estimates. Nothing ends
    /// because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub expected_time: Option<Span>,
    /// It may not be preempted before it has run this long. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub min_runtime: Option<Span>,
    /// How long it is kept after its end. Default: history's retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub ttl: Option<Span>,
    /// Whether a higher claim may stop it. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemptible: Option<bool>,
    /// It saves its work into `$MOONSHOT_CHECKPOINT` when asked to stop, and resumes from there.
    #[serde(default)]
    pub checkpoint: bool,
    /// Files under `$MOONSHOT_OUTPUTS` that are kept by name. Default: one output `outputs` with everything there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputSpec>,
    /// Once it has succeeded, an output becomes the next version of a Model and, if its check holds, of an App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver: Option<DeliverSpec>,
    /// Wait: nothing starts, what runs is stopped with grace.
    #[serde(default)]
    pub suspend: bool,
}

/// The variable that carries a parameter: `lr-max` is `MOONSHOT_PARAM_LR_MAX`.
pub fn param_variable(name: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!(
        "MOONSHOT_PARAM_{}",
        name.chars().map(word).collect::<String>()
    )
}

/// A framework whose launcher's variables are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// XGBoost's collective; rank 0 runs the tracker.
    Xgboost,
    /// `TF_CONFIG` with chief, worker, ps, evaluator.
    Tensorflow,
    /// `MASTER_ADDR`, `RANK`, `WORLD_SIZE`, `LOCAL_RANK`.
    Pytorch,
    /// A launcher that reaches workers by `moonshot rsh`.
    Mpi,
    /// ps-lite's `DMLC_*`.
    Mxnet,
    /// ps-lite's `DMLC_*`.
    Caffe,
}

/// Identical members of a Job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSpec {
    /// Its role: `worker`, `ps`, `chief`, `launcher`. A DNS label.
    pub name: String,
    /// How many. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Elastic: the fewest it can run with. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// What runs; absent fields come from the Job.
    #[serde(default, flatten)]
    pub program: ProgramSpec,
}

/// Many independent runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArraySpec {
    /// How many, each with its own `$MOONSHOT_ARRAY_INDEX`. At most 10,000.
    pub count: u32,
    /// The most at once. Default: as many as fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
}

/// When a Job has succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuccessRule {
    /// The group that decides. Default: every group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Which of its members.
    pub rule: SuccessWho,
}

/// Which members decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SuccessWho {
    /// All of them end with 0.
    All,
    /// The first that ends with 0.
    Any,
    /// Member 0.
    Index0,
}

/// What is started anew after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum RestartUnit {
    /// The whole attempt.
    Gang,
    /// One index of an array.
    Index,
    /// One rank of an elastic group.
    Rank,
}

/// How often and why a restart unit is tried again. Preemption, a lost node and failed starts that are
/// the platform's fault are always tried again and do not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrySpec {
    /// Tries after the first that may fail. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Before the first retry; doubles each time. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub backoff: Option<Span>,
    /// The longest backoff. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub backoff_max: Option<Span>,
    /// Exit codes that are tried again; empty means all but 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
    /// Whether a kill for memory is tried again. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_memory: Option<bool>,
}

/// A kept output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputSpec {
    /// Its name.
    pub name: String,
    /// Relative to `$MOONSHOT_OUTPUTS`; a file or a directory. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The group whose member 0 writes it. Default: the first group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Where a Job stands, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum JobPhase {
    /// Waits for its environment, its queue or its backoff; see `why`.
    #[default]
    Queued,
    /// Admitted; being prepared.
    Starting,
    /// Runs.
    Running,
    /// Being stopped to be suspended.
    Suspending,
    /// Stopped by `suspend`.
    Suspended,
    /// Being stopped by `cancel` or deletion.
    Cancelling,
    /// Over, as declared by its success rule.
    Succeeded,
    /// Over; the reason says why.
    Failed,
    /// Over by `cancel`.
    Cancelled,
}

impl JobPhase {
    /// All phases, in the order a Job goes through them.
    pub const ALL: [JobPhase; 9] = [
        JobPhase::Queued,
        JobPhase::Starting,
        JobPhase::Running,
        JobPhase::Suspending,
        JobPhase::Suspended,
        JobPhase::Cancelling,
        JobPhase::Succeeded,
        JobPhase::Failed,
        JobPhase::Cancelled,
    ];

    /// As written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            JobPhase::Queued => "Queued",
            JobPhase::Starting => "Starting",
            JobPhase::Running => "Running",
            JobPhase::Suspending => "Suspending",
            JobPhase::Suspended => "Suspended",
            JobPhase::Cancelling => "Cancelling",
            JobPhase::Succeeded => "Succeeded",
            JobPhase::Failed => "Failed",
            JobPhase::Cancelled => "Cancelled",
        }
    }

    /// Whether nothing more happens.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled
        )
    }
}

/// What is known of a Job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// In one word.
    pub phase: JobPhase,
    /// A stable code for the phase's cause, such as `OutOfMemory`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The spec that this status is about.
    pub observed_generation: u64,
    /// When it first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub started_at: Option<Time>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub finished_at: Option<Time>,
    /// Tries so far, over all restart units.
    pub attempts: u32,
    /// Failures that count against the retry limit.
    pub failures: u32,
    /// Restart units by state, for arrays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitCounts>,
    /// Members of the present attempts (the last ones when over); at most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
    /// What was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputStatus>,
    /// What became of `spec.deliver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
    /// Details.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Restart units by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitCounts {
    /// Waiting.
    pub waiting: u32,
    /// Running.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended for good otherwise.
    pub failed: u32,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its group, or the Revision (`r3`) for Apps.
    pub group: String,
    /// Its rank or seat.
    pub index: u32,
    /// Which try.
    pub attempt: u32,
    /// `Pending`, `Preparing`, `Running`, `BackingOff`, `Stopping` or the cause of its end.
    pub phase: String,
    /// Where.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Device identities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// `ip:port` by port name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, String>,
    /// Ready for traffic (Apps).
    #[serde(default)]
    pub ready: bool,
    /// Restarts in place (Apps).
    #[serde(default)]
    pub restarts: u32,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended or restarted last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The most memory it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub memory_peak: Option<Bytes>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub finished_at: Option<Time>,
}

/// A kept output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// Its name.
    pub name: String,
    /// Who wrote it: `worker/0`.
    pub replica: String,
    /// Its content.
    #[schema(value_type = crate::schema::Sha256)]
    pub digest: Digest,
    /// Bytes of its files.
    #[schema(value_type = crate::schema::Quantity)]
    pub size: Bytes,
}
