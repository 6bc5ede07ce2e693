//! What happened.

use base::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A stable code, typed parameters, and an English sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSpec {
    /// What it is about: `Job`, `App`, `Node` …
    pub object_kind: String,
    /// Its name.
    pub object_name: String,
    /// Its uid.
    pub object_uid: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub type_: EventType,
    /// A stable code, such as `Admitted` or `OutOfMemory`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Typed parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// When it first happened.
    #[schema(value_type = crate::schema::Timestamp)]
    pub first_at: Time,
    /// When it last happened.
    #[schema(value_type = crate::schema::Timestamp)]
    pub last_at: Time,
    /// How often.
    pub count: u32,
}

/// How alarming it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Look at it.
    Warning,
}
