//! Pieces that Jobs and Apps share: resources, variables, mounts, ports, placement wishes.

use base::{Bytes, Digest, MilliCpu, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What one replica asks for and may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSpec {
    /// `500m`, `2`: what it is counted with, and its bound. Without it, it is counted with 100m and uses what is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub cpu: Option<MilliCpu>,
    /// `512Mi`, `4Gi`: also the limit; more is killed. Default 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub memory: Option<Bytes>,
    /// Whole GPUs or a fraction of one: `2`, `0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<f64>,
    /// Accepted GPU models in order of preference; empty accepts any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu_model: Vec<String>,
    /// Least memory of each GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub gpu_memory: Option<Bytes>,
    /// Other resources by their full names, whole units.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<String, u64>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Letters, digits and `_`, not beginning with a digit.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Or a key of a Secret. Exactly one of `value` and `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
}

/// One entry of a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    /// The Secret's name.
    pub name: String,
    /// The entry.
    pub key: String,
}

/// A Secret as files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretMount {
    /// The Secret's name.
    pub name: String,
    /// The directory, relative to the replica's root; one file an entry. Default `secrets/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Where the code comes from. Exactly one of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeSource {
    /// An uploaded directory, by digest (`moonshot run` and `apply` with `dir` upload it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Sha256>)]
    pub digest: Option<Digest>,
    /// A directory beside the manifest: the CLI uploads it and sends `digest` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// A repository; resolved to a commit when the object is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
}

/// A git repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitSource {
    /// `https://…`, `http://…` or `ssh://…`.
    pub url: String,
    /// A branch, tag or commit. Default: the repository's default branch.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub ref_: Option<String>,
    /// Only this directory of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A Secret for a repository that is not public: `password` or `token` (and `username`) for `https`,
    /// `ssh-privatekey` and `known_hosts` for `ssh`. Submodules are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// An output of a Job, or a ModelVersion, put into the replica's file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// The directory it appears in, under `inputs/`.
    pub name: String,
    /// From a Job's named output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobOutputRef>,
    /// From a Model: `name` (its newest version) or `name@3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Pinned by the server when the object is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Sha256>)]
    pub digest: Option<Digest>,
}

/// A named output of a Job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobOutputRef {
    /// The Job's name.
    pub name: String,
    /// The output's name.
    pub output: String,
}

/// A port the program listens on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSpec {
    /// The program reads `$PORT_<NAME>`; `$PORT` is the first port. Default `http`.
    #[serde(default = "http")]
    pub name: String,
    /// The number where the replica has its own address; on one machine another is given. Default 8080.
    #[serde(default = "default_port")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
    /// `http`, `h2c` (gRPC) or `tcp`. Default `http`.
    #[serde(default = "http")]
    pub protocol: String,
}

fn http() -> String {
    "http".to_owned()
}
fn default_port() -> u16 {
    8080
}

/// A wish or consent about nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlacementSpec {
    /// Pools it may run in; empty accepts any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// Node labels that must match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Consents to taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<TolerationSpec>,
    /// All members, or replicas of an App, share the value of this node label (`rack`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologySpec>,
    /// At most this many members, or replicas of an App, on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node_max: Option<u32>,
    /// Members, or replicas of an App, are spread over the values of node labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadSpec>,
    /// Only where replicas of these Apps are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<RelationSpec>,
    /// Only where replicas of these Apps are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<RelationSpec>,
}

/// The node label that stands for the node itself.
pub const HOST: &str = "host";

fn host() -> String {
    HOST.to_owned()
}

/// Members spread over the values of a node label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpreadSpec {
    /// The node label: `zone`, `rack`; `host` is the node itself. Default `host`.
    #[serde(default = "host")]
    pub level: String,
    /// How many more one value may have than the one with the fewest. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<u32>,
    /// Wait rather than exceed it.
    #[serde(default)]
    pub required: bool,
}

/// A relation to an App of the same project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelationSpec {
    /// Its name.
    pub app: String,
    /// The node label whose value is shared or not: `rack`; `host` is the node itself. Default `host`.
    #[serde(default = "host")]
    pub level: String,
    /// Wait rather than start elsewhere.
    #[serde(default)]
    pub required: bool,
}

/// Keep members close.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopologySpec {
    /// The node label whose value all members share.
    pub level: String,
    /// Wait rather than start apart.
    #[serde(default)]
    pub required: bool,
}

/// A consent to a taint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TolerationSpec {
    /// The taint's key; absent tolerates every key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The taint's value; absent tolerates every value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`; absent tolerates every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How strongly a taint keeps tasks away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TaintEffect {
    /// Nothing new starts here.
    NoSchedule,
    /// Only if nothing else fits.
    PreferNoSchedule,
    /// What runs here is stopped too.
    NoExecute,
}

/// How far a replica is kept from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// A process like any other.
    #[default]
    None,
    /// Own mounts, processes and limits.
    Sandbox,
    /// A user-space kernel.
    Gvisor,
    /// A virtual machine.
    Kata,
}

/// What runs, for one replica. Part of a Job's group and of an App's template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProgramSpec {
    /// Program and arguments; `$(NAME)` is replaced by a variable. Required, also for images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Appended to `command`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Where it starts, relative to the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// An Environment: `name` or `name@3`. Absent: the machine's own programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeSource>,
    /// What it asks for.
    #[serde(default)]
    pub resources: ResourceSpec,
    /// Where it may run.
    #[serde(default)]
    pub placement: PlacementSpec,
    /// Ports it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    /// Secrets as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretMount>,
    /// Outputs of other Jobs and ModelVersions as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// How far it is kept from others.
    #[serde(default, skip_serializing_if = "is_none_isolation")]
    pub isolation: Isolation,
    /// From SIGTERM to SIGKILL. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub grace: Option<Span>,
}

fn is_none_isolation(isolation: &Isolation) -> bool {
    *isolation == Isolation::None
}
