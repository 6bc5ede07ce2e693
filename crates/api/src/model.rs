//! Trained models with their lineage.

use base::{Bytes, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A family of versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSpec {
    /// What it predicts, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What is known of a Model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The newest version; 0 when there is none.
    pub latest: u32,
}

/// One immutable model. Its name is `<model>-v<version>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelVersionSpec {
    /// The family.
    pub model: String,
    /// From 1; given by the server when 0.
    #[serde(default)]
    pub version: u32,
    /// `xgboost`, `lightgbm`, `onnx`, `savedmodel` or another word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Its content (a tar), uploaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Sha256>)]
    pub digest: Option<Digest>,
    /// Bytes of its content as it is kept (the compressed tar); written by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Quantity>)]
    pub size: Option<Bytes>,
    /// Where it comes from.
    #[serde(default)]
    pub lineage: Lineage,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lineage {
    /// The Job's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The Job's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// The output of the Job it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The code's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Sha256>)]
    pub code: Option<Digest>,
    /// The commit that the code is of, where it comes from a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The Environment with its version: `flights@2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The Job's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, serde_json::Value>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}
