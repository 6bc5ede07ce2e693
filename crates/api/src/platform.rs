//! Kinds that operators write: tenants, projects, queues, pools, clusters, nodes.

use crate::common::TaintEffect;
use crate::meta::Condition;
use crate::reservation::Reservation;
use base::{Bytes, MilliCpu, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Nothing is known beyond the spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Empty {}

/// Who pays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What a project may keep where its spec does not say.
pub const STORAGE_DEFAULT: Bytes = Bytes(100 << 30);

/// The unit of isolation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectSpec {
    /// Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Registries with their pull secret and mirror, for images of Environments. Applies to what starts from then on. Not on
    /// an engine that runs no images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<RegistrySpec>,
    /// The profile of Pod Security that its namespace on Kubernetes enforces; what runs goes on. Default `restricted` for a
    /// namespace that the platform made; one that was there before keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
    /// Who may connect to its programs, and what they may connect to, as NetworkPolicies on Kubernetes. Default: from its own
    /// programs and the gateway, to everywhere. Applies at once to what runs. Programs on one machine share its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSpec>,
    /// The most bytes of code, outputs and models. Default 100Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub storage: Option<Bytes>,
}

/// A profile of Kubernetes' Pod Security Standards. What the platform starts itself keeps to `restricted` in all of them; the
/// others are for pods that somebody else makes in the Project's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum PodSecurity {
    /// Nothing beyond what a program needs.
    Restricted,
    /// No known way to more rights.
    Baseline,
    /// Everything, the node included.
    Privileged,
}

/// Connections to and from a Project's programs. Its own programs always reach each other, and the gateway and the server always
/// reach them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// Who else may connect to its programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<NetworkPeer>,
    /// What its programs may connect to, besides name servers, its own programs and the server. Default: everything that lets
    /// them in. An empty list: nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<NetworkPeer>>,
}

/// The other end of a connection: another Project, or a range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPeer {
    /// Pods in the namespace of this name, which need not be there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Addresses, such as `10.0.0.0/8`. Addresses of pods may be matched or not: name their Project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// TCP ports that are connected to, as the listening program has them. Default: every port and protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<crate::schema::Port>)]
    pub ports: Vec<u16>,
}

/// A registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrySpec {
    /// Its host, as in image names.
    pub host: String,
    /// A Secret of the Project with `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Pull from here instead: a host that has the same images under the same names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
}

/// What is known of a Project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// Bytes kept.
    #[schema(value_type = crate::schema::Quantity)]
    pub stored: Bytes,
}

/// A node of the quota tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueSpec {
    /// The queue above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Projects whose work it takes; only for leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// Order among siblings: higher first. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Who of its own work goes first. Default `priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<QueueOrder>,
    /// Quotas by pool; `*` holds for every pool that is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quotas: BTreeMap<String, QuotaSpec>,
    /// What it will need at times: until then others may use it, if they leave in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
}

/// Who of a queue's work goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum QueueOrder {
    /// The highest priority, then the oldest.
    Priority,
    /// The oldest, whatever its priority; nobody is stopped for a priority.
    Fifo,
    /// The highest priority, then the shortest by `expectedTime`; who does not say comes last.
    Shortest,
}

/// What a queue may use of one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuotaSpec {
    /// Always available.
    #[serde(default, skip_serializing_if = "AmountSpec::is_empty")]
    pub guaranteed: AmountSpec,
    /// Never more.
    #[serde(default, skip_serializing_if = "AmountSpec::is_empty")]
    pub limit: AmountSpec,
    /// Share of what is over, against the siblings'. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whole nodes that are guaranteed on top of `guaranteed`, such as two with 8 A100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeQuota>,
}

/// Guaranteed nodes of one shape. Who stands in the way of one is stopped for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeQuota {
    /// How many.
    pub count: u32,
    /// What each of them has at least.
    pub each: AmountSpec,
    /// The model of its GPUs. Default: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gpu_model: String,
}

/// Amounts by resource; an absent one is not limited, or guarantees nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AmountSpec {
    /// `500m`, `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub cpu: Option<MilliCpu>,
    /// `4Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub memory: Option<Bytes>,
    /// `2`, `0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<f64>,
    /// Others, whole units.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<String, u64>,
}

impl AmountSpec {
    /// Whether no line is given.
    pub fn is_empty(&self) -> bool {
        *self == AmountSpec::default()
    }
}

/// What is known of a Queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// In use, by pool.
    pub used: BTreeMap<String, AmountSpec>,
    /// Tasks that wait.
    pub waiting: u32,
    /// Tasks that run.
    pub running: u32,
}

/// A selector over nodes with its policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// Node labels that put a node into this pool, unless the node names its pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Default `binPack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
    /// Default: what the cluster can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DeviceMode>,
    /// Topology levels from widest to narrowest, as node label keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<String>,
    /// Fair shares with a memory: what a queue used over its guarantee counts against its turn, and fades to half in
    /// each such time. Default: only what it uses now counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub half_life: Option<Span>,
}

/// How nodes are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Packing {
    /// Fill the fullest node that fits.
    BinPack,
    /// Use the emptiest node that fits.
    Spread,
}

/// Who picks the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeviceMode {
    /// The scheduler names each device.
    Named,
    /// A plugin on the node picks.
    Counted,
}

/// What is known of a Pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// How many nodes it has.
    pub nodes: u32,
    /// What they have in all.
    pub allocatable: AmountSpec,
    /// What is placed on them.
    pub used: AmountSpec,
}

/// One engine instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// `local` or `k8s`.
    pub engine: String,
}

/// What is known of a Cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Whether it answers.
    pub ready: bool,
    /// Nodes it has reported.
    pub nodes: u32,
    /// What is weaker there than it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What operators decide about a machine. Everything observed is status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Nothing new starts here (`moonshot cordon`).
    #[serde(default)]
    pub unschedulable: bool,
    /// Marks that keep work away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<TaintSpec>,
    /// Labels on top of the observed ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The pool, whatever the selectors say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// A mark that keeps work away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaintSpec {
    /// What it is about.
    pub key: String,
    /// Detail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// How strongly.
    pub effect: TaintEffect,
}

/// What is known of a Node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Which engine reports it.
    pub cluster: String,
    /// Whether it answers.
    pub ready: bool,
    /// Where its replicas are reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The pool it is in.
    pub pool: String,
    /// What programs may use.
    pub allocatable: AmountSpec,
    /// What is placed on it.
    pub used: AmountSpec,
    /// How many replicas are placed on it.
    #[serde(default)]
    pub replicas: u32,
    /// The most replicas at once, less what others have there; 0 for no bound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slots_max: u32,
    /// Observed marks that keep work away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<TaintSpec>,
    /// Observed labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceStatus>,
    /// What is weaker here than it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Details.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands fields over by reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// Its identity.
    pub id: String,
    /// `gpu`, `fpga`, `rdma`.
    pub class: String,
    /// Product name.
    pub model: String,
    /// Its memory.
    #[schema(value_type = crate::schema::Quantity)]
    pub memory: Bytes,
    /// Empty when well, else what ails it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sick: String,
    /// Thousandths in use.
    pub used_milli: u32,
}
