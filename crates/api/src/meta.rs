//! What every object carries.

use base::{Generation, Time, Uid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The only version so far.
pub const API_VERSION: &str = "moonshot/v1";

/// Identity and bookkeeping of an object. A client writes `name` (or `generateName`), `project`,
/// `labels`, `annotations`; the server fills in the rest and ignores what a client sends for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among current objects of the kind in its project. A DNS label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Instead of `name`: the server appends random characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// The project; empty for kinds of a wider scope.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// The tenant; empty for kinds of a wider scope.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Never reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::UidText>)]
    pub uid: Option<Uid>,
    /// Counts changes of `spec`, from 1. Send it as `If-Match` to change only what you read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub generation: Option<Generation>,
    /// Position in the change feed of the last change of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<u64>,
    /// For selection: keys and values of at most 63 characters each, at most 64 of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For tools: at most 64 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who made it. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// Who answers for it. Changes only by hand-over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub created_at: Option<Time>,
    /// When its deletion was asked for; it is gone once what runs has stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub deleted_at: Option<Time>,
}

/// One aspect of an object's state, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Available`, `Progressing`, `Ready` …
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: bool,
    /// A stable code.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when.
    #[schema(value_type = crate::schema::Timestamp)]
    pub since: Time,
}

/// One page of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// Always `moonshot/v1`.
    pub api_version: String,
    /// `<Kind>List`.
    pub kind: String,
    /// The objects.
    pub items: Vec<T>,
    /// Whether another page follows.
    pub has_more: bool,
    /// Pass as `?continue=` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "continue")]
    pub continue_: Option<String>,
    /// Feed position of the list: watch from here.
    pub resource_version: u64,
}
