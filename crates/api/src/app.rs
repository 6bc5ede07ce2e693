//! An inference service.

use crate::common::ProgramSpec;
use crate::job::ReplicaStatus;
use crate::meta::Condition;
use crate::served::ServedModel;
use base::{Span, Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an App shall be. Only `template` and `model` are revisioned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSpec {
    /// How many replicas. Left out: not owned by apply; `scale` and the autoscaler own it (1 at first).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// The queue its replicas are charged to. Default: the project's first queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Higher goes first. Default 100: before Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// What each replica is. A change makes a new Revision.
    #[serde(default)]
    pub template: AppTemplate,
    /// A model to serve instead of a program: `template` then has no `command`. A change makes a new Revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ServedModel>,
    /// How a new Revision replaces the old one.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// How requests reach it. Absent: path `/<project>/<name>` with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteSpec>,
    /// Shares between Revisions; empty gives everything to the newest that is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficShare>,
}

/// What each replica is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppTemplate {
    /// What runs.
    #[serde(default, flatten)]
    pub program: ProgramSpec,
    /// How health is asked. Absent readiness: a TCP connection to the first port.
    #[serde(default)]
    pub probes: ProbesSpec,
}

/// All that replicas are made from, and what a Revision keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revised {
    /// What each replica is.
    #[serde(flatten)]
    pub template: AppTemplate,
    /// The model that it serves instead of running a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ServedModel>,
}

/// How health is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbesSpec {
    /// Until it succeeds the others wait; its failure restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<ProbeSpec>,
    /// Its failure takes the replica out of rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ProbeSpec>,
    /// Its failure restarts the replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<ProbeSpec>,
}

/// One question, asked again and again. Exactly one of `http`, `tcp`, `exec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeSpec {
    /// A GET that answers 200–399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// A connection that is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// A program that exits with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecProbe>,
    /// Before the first question. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub initial_delay: Option<Span>,
    /// Between questions. Default 10s (1s for startup and, until first ready, readiness).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub period: Option<Span>,
    /// For each answer. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub timeout: Option<Span>,
    /// Good answers in a row that make it good. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successes: Option<u32>,
    /// Bad answers in a row that make it bad. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// A GET.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// Beginning with `/`.
    pub path: String,
    /// Port by name. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {
    /// Port by name. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecProbe {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// How a new Revision replaces the old one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    /// Replicas above the count while rolling: a number or `25%`. Default `25%`, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrPercent>,
    /// Replicas that may be missing while rolling. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrPercent>,
    /// A Revision that is not ready in this time is rolled back. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub progress_deadline: Option<Span>,
    /// From leaving the gateway's table to SIGTERM, so that requests in flight finish. Default 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub drain: Option<Span>,
    /// When the newer of two Revisions that share requests by `traffic` is given up. Left out: by the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_back: Option<StepBack>,
    /// Old Revisions that are kept. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<u32>,
}

/// How much worse the newer of two Revisions may be before all requests go back to the older one, as after `rollout undo`.
/// The gateway judges by what callers saw in the last 25 s, and only where there are enough answers to tell it from chance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepBack {
    /// Errors (5xx) in a hundred answers more than the older one's. Default 3; 0: errors are not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// Times of the older one's time to answer, in the tail of both. Default 1.5; 0: times are not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
}

/// `2` or `25%`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum IntOrPercent {
    /// A count.
    Count(u32),
    /// A share of the replicas, `25%`.
    Percent(String),
}

/// How requests reach it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteSpec {
    /// `flights.example.org` or `*.example.org`. Absent: every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path prefix. Default `/<project>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the prefix is taken off before the program sees it. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<bool>,
    /// Who may call. Default `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RouteAuth>,
    /// The port requests go to, by name. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The longest a request may take. Default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub timeout: Option<Span>,
}

/// Who may call an App.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteAuth {
    /// Whoever has a token with access to the App (`moonshot token route APP` makes one).
    #[default]
    Token,
    /// Everybody.
    None,
}

/// A share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficShare {
    /// Which Revision.
    pub revision: u32,
    /// From 0 to 100; all shares add up to 100.
    #[schema(maximum = 100)]
    pub percent: u8,
}

/// What is known of an App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// `Progressing`, `Ready`, `Degraded`, `Stopped`, `Deleting`.
    pub phase: String,
    /// A stable code for the phase's cause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The spec that this status is about.
    pub observed_generation: u64,
    /// Wanted now (by spec, `scale` or the autoscaler).
    pub replicas: u32,
    /// Ready for traffic.
    pub ready: u32,
    /// Of the target Revision.
    pub updated: u32,
    /// The Revision that is being rolled out or stands.
    pub revision: u32,
    /// The last Revision that was wholly ready.
    pub stable_revision: u32,
    /// Where it is reached through the gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Its replicas, at most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<ReplicaStatus>,
    /// Details.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An immutable version of an App's replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// From 1.
    pub number: u32,
    /// What each replica is, with every reference pinned.
    pub template: Revised,
    /// When.
    #[schema(value_type = crate::schema::Timestamp)]
    pub created_at: Time,
    /// By whom.
    pub creator: String,
    /// `Target`, `Stable`, `Old`, `RolledBack`.
    pub state: String,
    /// Why it was rolled back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
