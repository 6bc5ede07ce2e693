//! Bodies of requests and answers that are not objects: results of apply, why, status, log lines, tokens.

use crate::app::Revised;
use crate::job::ReplicaStatus;
use crate::kind::Object;
use crate::platform::AmountSpec;
use base::{Bytes, Digest, MilliCpu, Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What apply did, or would do, document by document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAnswer {
    /// In the order of the manifest.
    pub results: Vec<ApplyResult>,
}

/// What apply did, or would do, to one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResult {
    /// The kind.
    pub kind: String,
    /// The project; empty for kinds of a wider scope.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// The name.
    pub name: String,
    /// What happened.
    pub action: ApplyAction,
    /// What changes in the object, line by line: see [`crate::diff`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<String>,
    /// What the platform would do next. Only with `?dryRun=true`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
}

/// What happened to an applied object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApplyAction {
    /// It is new.
    Created,
    /// Its spec, labels or annotations changed.
    Configured,
    /// It was like this already.
    Unchanged,
    /// A finished one gave way to a new one (`?replace=true`).
    Replaced,
}

impl ApplyAction {
    /// As written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ApplyAction::Created => "created",
            ApplyAction::Configured => "configured",
            ApplyAction::Unchanged => "unchanged",
            ApplyAction::Replaced => "replaced",
        }
    }
}

/// One change of an object, on a watch stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Whether the object is there after it.
    pub op: ChangeOp,
    /// The object as it is now, or was last.
    pub object: Object,
}

/// Whether an object is there after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    /// Made or changed.
    Put,
    /// Gone.
    Delete,
}

/// Why something waits or does not become ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The exact blocker in one sentence.
    pub sentence: String,
    /// A stable code, such as `QuotaExhausted` or `NeverFits`.
    pub reason: String,
    /// More, one line each: node by node, quota by quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// The state of the platform on one page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The server's version.
    pub version: String,
    /// Nodes that answer.
    pub nodes_ready: u32,
    /// All nodes.
    pub nodes: u32,
    /// What programs may use on ready nodes.
    pub allocatable: AmountSpec,
    /// What is placed.
    pub used: AmountSpec,
    /// Jobs by phase.
    pub jobs: BTreeMap<String, u32>,
    /// Apps by phase.
    pub apps: BTreeMap<String, u32>,
    /// Queues with their counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueCount>,
    /// What is weaker than it should be, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where Apps are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_url: Option<String>,
    /// Where the console is; absent when it is not built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_url: Option<String>,
}

/// How long a queue is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueCount {
    /// Its name.
    pub name: String,
    /// Tasks that wait.
    pub waiting: u32,
    /// Tasks that run.
    pub running: u32,
}

/// Who the caller is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    /// The principal's name.
    pub name: String,
    /// `token`, `user`, `attempt` …
    pub kind: String,
    /// What it may do.
    pub role: Role,
    /// The only project it may touch; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Read and change objects of projects.
    Editor,
    /// Read.
    Viewer,
    /// Call one App through the gateway, nothing else.
    Route,
}

/// Asks for a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// For people; unique.
    pub name: String,
    /// What it allows. Default `editor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The only project it is good for; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The App it may call, for `route` tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// How long it is good. Default 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub expires_in: Option<Span>,
}

/// A token, without its text but at its making.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its identity, for revoking it.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The only project it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The App it may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// When it was made.
    #[schema(value_type = crate::schema::Timestamp)]
    pub created_at: Time,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub expires_at: Option<Time>,
    /// The text to send as `Authorization: Bearer`. Shown once, in the answer that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Several values that come whole, not page by page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Items<T> {
    /// The values.
    pub items: Vec<T>,
}

/// Opens a session of the console.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginRequest {
    /// A token.
    pub token: String,
}

/// Wants this many replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many.
    pub replicas: u32,
}

/// Goes back to a Revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollbackRequest {
    /// Which. Absent: the stable one before the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// Why, for the App's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Adds a version to a Model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PushRequest {
    /// Its content, uploaded before. Or `job` and `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Sha256>)]
    pub digest: Option<Digest>,
    /// The Job it comes from: fills in the lineage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The Job's output it is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// `xgboost`, `lightgbm`, `onnx`, `savedmodel` or another word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// What was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// Content that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Its digest.
    #[schema(value_type = crate::schema::Sha256)]
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// A piece of a replica's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFrame {
    /// The group, or the Revision (`r3`) of an App.
    pub group: String,
    /// The rank or seat.
    pub index: u32,
    /// Which try.
    pub attempt: u32,
    /// Which of its streams.
    pub stream: LogStream,
    /// Numbers the frames of a replica's attempt, from 1.
    pub seq: u64,
    /// When it was written.
    #[schema(value_type = crate::schema::Timestamp)]
    pub time: Time,
    /// The bytes as text; what is not UTF-8 is replaced.
    pub text: String,
}

/// A stream of a replica's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform's own words: a cut, a loss.
    System,
}

/// Frames that a replica's shim sends under its attempt token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngestRequest {
    /// In order.
    pub frames: Vec<IngestFrame>,
}

/// One frame as it is sent in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngestFrame {
    /// Which stream.
    pub stream: LogStream,
    /// Its number; one that is known already is dropped.
    pub seq: u64,
    /// When it was written.
    #[schema(value_type = crate::schema::Timestamp)]
    pub time: Time,
    /// The bytes in base64.
    pub data: String,
}

/// What is kept of a replica's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestAnswer {
    /// The highest number that is kept: the sender may drop its copy up to there, and goes on after it.
    pub kept: u64,
}

/// One try of a Job's restart unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobAttempt {
    /// The array index; absent for gangs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    /// From 1.
    pub attempt: u32,
    /// How it stands or ended.
    pub phase: String,
    /// A stable code for its end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether it counts against the retry limit.
    #[serde(default)]
    pub charged: bool,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub finished_at: Option<Time>,
    /// Its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
}

/// What differs between two Revisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDiff {
    /// The older one.
    pub from: Revised,
    /// The newer one.
    pub to: Revised,
    /// Line by line.
    pub diff: Vec<String>,
}

/// One entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// When.
    #[schema(value_type = crate::schema::Timestamp)]
    pub time: Time,
    /// Who.
    pub actor: String,
    /// `create`, `apply`, `delete`, `cancel` …
    pub verb: String,
    /// The object's kind.
    pub kind: String,
    /// Its project.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Digest of the spec before; keyed for secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// Digest of the spec after; keyed for secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
    /// The request it came by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// Who uses what right now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// By node.
    pub nodes: Vec<NodeUse>,
    /// By replica.
    pub replicas: Vec<ReplicaUse>,
}

/// What is used of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeUse {
    /// The node.
    pub name: String,
    /// What programs may use.
    pub allocatable: AmountSpec,
    /// What is placed.
    pub placed: AmountSpec,
    /// Processor time in use.
    #[schema(value_type = crate::schema::Quantity)]
    pub cpu: MilliCpu,
    /// Memory in use.
    #[schema(value_type = crate::schema::Quantity)]
    pub memory: Bytes,
}

/// What a replica uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaUse {
    /// The project.
    pub project: String,
    /// `Job` or `App`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The group, or the Revision of an App.
    pub group: String,
    /// The rank or seat.
    pub index: u32,
    /// The node.
    pub node: String,
    /// Processor time in use.
    #[schema(value_type = crate::schema::Quantity)]
    pub cpu: MilliCpu,
    /// Memory in use.
    #[schema(value_type = crate::schema::Quantity)]
    pub memory: Bytes,
}
