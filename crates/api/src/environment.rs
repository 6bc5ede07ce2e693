//! What code runs in, and values that are never shown.

use base::{Digest, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What code runs in. Exactly one of `pip` and `image`. Each change makes an immutable version; a Job at
/// creation and a Revision pin the version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// Requirements as pip writes them: `xgboost-cpu==3.1.1`. Built once with `uv` into a venv.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pip: Option<Vec<String>>,
    /// The Python version, such as `3.11`. Default: the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// Not supported; the error says what to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conda: Option<serde_json::Value>,
    /// A container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Variables for everything that runs in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// What is known of an Environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// `Building`, `Ready` or `Failed`.
    pub phase: String,
    /// The resolver's or installer's own message when it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The newest version, from 1.
    pub version: u32,
    /// The digest that the newest version is built under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Sha256>)]
    pub digest: Option<Digest>,
    /// Every package with its exact version, as resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// When it became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub built_at: Option<Time>,
}

/// Values that are never shown. Each change makes an immutable version; a Job at creation and a Revision pin it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSpec {
    /// Entries as text. Write-only: never returned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(write_only)]
    pub data: BTreeMap<String, String>,
    /// Entries in base64, for bytes. Write-only: never returned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(write_only)]
    pub binary_data: BTreeMap<String, String>,
}

/// What may be known of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// The newest version, from 1.
    pub version: u32,
    /// The names of its entries.
    pub keys: Vec<String>,
}
