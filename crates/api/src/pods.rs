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
