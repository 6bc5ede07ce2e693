//! Why a call failed.

use base::{Code, Digest};
use std::path::{Path, PathBuf};

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The project's name cannot be a place.
    #[error("project `{project}` {reason}")]
    Project {
        /// The name.
        project: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such content.
    #[error("content {0} is not kept here")]
    Missing(Digest),
    /// The content is larger than allowed.
    #[error("the content has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// What was sent is not what was announced, or what is kept is damaged.
    #[error("the content has digest {found}, not {wanted}")]
    Differs {
        /// As announced, or as it is named.
        wanted: Digest,
        /// As read.
        found: Digest,
    },
    /// The location is not understood.
    #[error("store `{location}` {reason}")]
    Location {
        /// As written.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk of this machine refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The sender failed: a broken connection.
    #[error("cannot read what is sent")]
    Sender(#[source] std::io::Error),
    /// The S3 service refused or cannot be reached.
    #[error("cannot {operation} `{key}` in the bucket")]
    S3 {
        /// What was tried.
        operation: &'static str,
        /// Which object.
        key: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A directory could not be packed.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
}

impl StoreError {
    /// The kind, for clients.
    pub fn code(&self) -> Code {
        match self {
            StoreError::Project { .. } | StoreError::Differs { .. } | StoreError::Sender(_) => {
                Code::Invalid
            }
            StoreError::Location { .. } => Code::Invalid,
            StoreError::Missing(_) => Code::NotFound,
            StoreError::TooLarge { .. } => Code::Exhausted,
            StoreError::Io { source, .. } if is_full(source) => Code::Exhausted,
            StoreError::Io { .. } | StoreError::S3 { .. } => Code::Unavailable,
            StoreError::Pack(error) if error.is_full() => Code::Exhausted,
            StoreError::Pack(_) => Code::Invalid,
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

pub(crate) fn io(
    operation: &'static str,
    path: &Path,
) -> impl Fn(std::io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        operation,
        path: path.clone(),
        source,
    }
}
