//! Pods that others made and that name our scheduler, as the platform knows them.

use crate::common::TolerationSpec;
use crate::platform::AmountSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Pods that start together, as they were found on the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodGroupSpec {
    /// The gang's name on the cluster; absent for a pod that starts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<String>,
    /// How many start together.
    pub size: u32,
    /// The Queue that the pods' label names; absent for the Project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// The pods that are there.
    pub pods: Vec<PodMember>,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodMember {
    /// Its name.
    pub name: String,
    /// Its uid on the cluster.
    pub uid: String,
    /// What it asks for in all.
    pub request: AmountSpec,
    /// Node labels that must match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Consents to taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<TolerationSpec>,
    /// How it stands to pods that want the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<PodRelation>,
}

/// What pods with the same key want of each other's places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodRelation {
    /// What they want.
    pub kind: PodRelationKind,
    /// The same for pods that mean each other.
    pub key: String,
    /// The node label whose values are the domains.
    pub level: String,
    /// With `spread`: how many more one domain may have than the one with the fewest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<u32>,
}

/// How pods want to stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum PodRelationKind {
    /// They had better share a domain.
    Near,
    /// No two of them share one.
    Apart,
    /// They are spread evenly over the domains.
    Spread,
}

/// Where the pods stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodGroupStatus {
    /// `Gathering`, `Waiting` or `Running`.
    #[serde(default)]
    pub phase: String,
    /// A stable code.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
