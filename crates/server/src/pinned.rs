//! What the references of a Job or a Revision meant when it was created. Stored beside the spec as the
//! user wrote it, so that applying the same file again changes nothing, and a newer Environment,
//! Secret or model never changes what is already there.

use base::{Digest, Uid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Pins of every program of an object, by group name; an App's template is `template`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// By group name, or `template`.
    pub programs: BTreeMap<String, PinnedProgram>,
}

/// The key of an App's only program.
pub const TEMPLATE: &str = "template";

/// Pins of one program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedProgram {
    /// Its Environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<PinnedEnvironment>,
    /// Its code, uploaded or packed from a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// Where the code was taken from, if from a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<PinnedGit>,
    /// The versions of the Secrets it names, in `env` or as files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, u32>,
    /// Its inputs by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Digest>,
    /// The model that it serves, by version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub model: BTreeMap<u32, Digest>,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedGit {
    /// The repository, without credentials.
    pub url: String,
    /// The commit's full hash.
    pub commit: String,
}

/// A version of an Environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedEnvironment {
    /// The Environment's uid.
    pub uid: Uid,
    /// Its name, for sentences.
    pub name: String,
    /// The version, from 1.
    pub version: u32,
    /// Its image, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}
