//! Which log, and why a call failed.

use base::{Attempt, Code, Index, Uid};
use std::io;
use std::path::{Path, PathBuf};

/// Names a replica's attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaLog {
    /// The Job or App.
    pub owner: Uid,
    /// The group.
    pub group: String,
    /// The member.
    pub index: Index,
    /// Its try.
    pub attempt: Attempt,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A project or group name that cannot be a file name.
    #[error("`{0}` cannot name a log")]
    Name(String),
    /// A frame that no reader would take.
    #[error("frame {seq} has {len} bytes; at most {limit} are kept as one")]
    TooLarge {
        /// Its number.
        seq: u64,
        /// Its bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl LogError {
    /// The kind, for clients.
    pub fn code(&self) -> Code {
        match self {
            LogError::Name(_) | LogError::TooLarge { .. } => Code::Invalid,
            LogError::Io { .. } if self.is_full() => Code::Exhausted,
            LogError::Io { .. } => Code::Unavailable,
        }
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, LogError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

pub(crate) fn failed(
    operation: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> LogError + use<> {
    let path = path.to_owned();
    move |source| LogError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

/// A name that stays where it is put.
pub(crate) fn checked(name: &str) -> Result<&str, LogError> {
    match base::name::check(name) {
        Ok(()) => Ok(name),
        Err(_) => Err(LogError::Name(name.chars().take(80).collect())),
    }
}

/// `worker.0.1.log`.
pub(crate) fn file_name(log: &ReplicaLog) -> Result<String, LogError> {
    let group = checked(&log.group)?;
    Ok(format!("{group}.{}.{}.log", log.index, log.attempt))
}

pub(crate) fn parse(owner: Uid, name: &str) -> Option<ReplicaLog> {
    let mut parts = name.strip_suffix(".log")?.split('.');
    let (group, index, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ReplicaLog {
        owner,
        group: group.to_owned(),
        index: index.parse().ok()?,
        attempt: attempt.parse().ok()?,
    })
}
