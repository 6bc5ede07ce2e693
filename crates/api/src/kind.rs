//! The table of kinds: names, scopes, and one struct a kind.

use crate::meta::{API_VERSION, Metadata};
use crate::{app, environment, event, job, model, platform, pods};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an object lives and which names must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One name space for the whole cell.
    Global,
    /// Within a tenant.
    Tenant,
    /// Within a project.
    Project,
}

/// An object of any kind, its `spec` and `status` not yet looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// Always `moonshot/v1`.
    pub api_version: String,
    /// One of [`Kind::ALL`].
    pub kind: String,
    /// Identity.
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(default)]
    pub spec: serde_json::Value,
    /// What is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident { plural: $plural:literal, short: [$($short:literal),*], scope: $scope:ident, spec: $spec:ty, status: $status:ty })*) => {
        /// Everything that has a name and a spec.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind),* }

        impl Kind {
            /// All kinds, in the order of their dependence.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// As written in `kind:`.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind)),* }
            }
            /// As written in paths and by people: `jobs`.
            pub fn plural(self) -> &'static str {
                match self { $(Kind::$kind => $plural),* }
            }
            /// Other words people use for it.
            pub fn short_names(self) -> &'static [&'static str] {
                match self { $(Kind::$kind => &[$($short),*]),* }
            }
            /// Where it lives.
            pub fn scope(self) -> Scope {
                match self { $(Kind::$kind => Scope::$scope),* }
            }
        }

        /// A checked object with its own types.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Typed { $($(#[$doc])* $kind(Box<$kind>)),* }

        impl Typed {
            /// Reads a spec that has been checked for structure.
            pub(crate) fn new(kind: Kind, metadata: Metadata, spec: serde_json::Value) -> Result<Typed, serde_json::Error> {
                let api_version = API_VERSION.to_owned();
                Ok(match kind {
                    $(Kind::$kind => Typed::$kind(Box::new($kind {
                        api_version,
                        kind: kind.as_str().to_owned(),
                        metadata,
                        spec: serde_json::from_value(spec)?,
                        status: None,
                    }))),*
                })
            }
            /// Which kind it is.
            pub fn kind(&self) -> Kind {
                match self { $(Typed::$kind(_) => Kind::$kind),* }
            }
            /// Its identity.
            pub fn metadata(&self) -> &Metadata {
                match self { $(Typed::$kind(object) => &object.metadata),* }
            }
            /// Its spec in the one form in which equal specs are equal: absent fields left out, quantities
            /// and times as this version writes them.
            pub fn canonical_spec(&self) -> serde_json::Value {
                let value = match self { $(Typed::$kind(object) => serde_json::to_value(&object.spec)),* };
                value.expect("a spec of string keys and finite numbers always serialises")
            }
        }

        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            pub struct $kind {
                /// Always `moonshot/v1`.
                pub api_version: String,
                /// The kind's name.
                pub kind: String,
                /// Identity.
                pub metadata: Metadata,
                /// What is wanted.
                pub spec: $spec,
                /// What is. Written by the server alone.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub status: Option<$status>,
            }
        )*
    };
}

kinds! {
    /// Who pays.
    Tenant { plural: "tenants", short: [], scope: Global, spec: platform::TenantSpec, status: platform::Empty }
    /// The unit of isolation; one namespace on Kubernetes. Names are globally unique.
    Project { plural: "projects", short: ["proj"], scope: Global, spec: platform::ProjectSpec, status: platform::ProjectStatus }
    /// A node of the quota tree.
    Queue { plural: "queues", short: ["q"], scope: Global, spec: platform::QueueSpec, status: platform::QueueStatus }
    /// A selector over nodes with its packing policy and device mode.
    Pool { plural: "pools", short: [], scope: Global, spec: platform::PoolSpec, status: platform::PoolStatus }
    /// One engine instance: this machine, one Kubernetes.
    Cluster { plural: "clusters", short: [], scope: Global, spec: platform::ClusterSpec, status: platform::ClusterStatus }
    /// A machine.
    Node { plural: "nodes", short: ["no"], scope: Global, spec: platform::NodeSpec, status: platform::NodeStatus }
    /// What code runs in.
    Environment { plural: "environments", short: ["env"], scope: Project, spec: environment::EnvironmentSpec, status: environment::EnvironmentStatus }
    /// Values that are never shown.
    Secret { plural: "secrets", short: [], scope: Project, spec: environment::SecretSpec, status: environment::SecretStatus }
    /// A family of ModelVersions.
    Model { plural: "models", short: [], scope: Project, spec: model::ModelSpec, status: model::ModelStatus }
    /// One immutable model with its lineage.
    ModelVersion { plural: "modelversions", short: ["mv"], scope: Project, spec: model::ModelVersionSpec, status: platform::Empty }
    /// A training run.
    Job { plural: "jobs", short: [], scope: Project, spec: job::JobSpec, status: job::JobStatus }
    /// An inference service.
    App { plural: "apps", short: [], scope: Project, spec: app::AppSpec, status: app::AppStatus }
    /// Pods of others that start together. Written by the server alone.
    PodGroup { plural: "podgroups", short: ["pg"], scope: Project, spec: pods::PodGroupSpec, status: pods::PodGroupStatus }
    /// What happened. Written by the server alone.
    Event { plural: "events", short: ["ev"], scope: Project, spec: event::EventSpec, status: platform::Empty }
}

impl Kind {
    /// The kind that `word` means: its name, plural or short name, in any case.
    pub fn find(word: &str) -> Option<Kind> {
        let lower = word.to_ascii_lowercase();
        Kind::ALL.iter().copied().find(|kind| {
            kind.as_str().to_ascii_lowercase() == lower
                || kind.plural() == lower
                || kind.short_names().contains(&lower.as_str())
        })
    }
}
