//! The trait that every engine implements, and the two ports that are handed to an engine.

use crate::foreign::{Note, PodName, Prepared};
use crate::group::{Group, Keeps, ReplicaKey};
use crate::observation::{Cursor, Observation};
use crate::project::Project;
use base::{Code, Digest, Epoch, Seq, Span, Time, Uid};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use tokio::sync::mpsc;

/// A boxed future: ports are used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs programs. Every call may be repeated and carries the caller's epoch; a lower epoch than the
/// highest seen is refused with [`EngineError::Superseded`] and has no effect.
pub trait Engine: Send + Sync {
    /// Takes the lead: from now on lower epochs are refused, durably.
    fn lead(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Makes the group's slots exist. Slots that exist are left as they are; slots not listed too.
    /// Returns when the request is durable here, not when programs run.
    fn ensure<'a>(
        &'a self,
        epoch: Epoch,
        group: &'a Group,
    ) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Keeps a Project's programs, those that run too, to what was said of it; what was said last holds. Groups of a Project that
    /// was not told are kept as if nothing had been said. An engine whose programs share the network and the users of one machine
    /// keeps no Projects apart: nothing is done there.
    fn project<'a>(
        &'a self,
        _epoch: Epoch,
        _project: &'a Project,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    /// Stops a replica: SIGTERM to its processes, after `grace` SIGKILL. Once it has ended it is observed as
    /// `Ended`; a second `remove` of an ended replica forgets it (`replicas_gone`). An unknown key is observed as gone
    /// too: a server that died between its decision and `ensure` leaves seats that no engine has heard of.
    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        key: &'a ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> BoxFuture<'a, Result<(), EngineError>>;

    /// What changed since `cursor`; `None` asks for everything. Waits until something changed or `wait` is over.
    fn observe(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> BoxFuture<'_, Result<Observation, EngineError>>;

    /// Owners (Jobs) of which checkpoints are kept here; an engine that keeps none has none.
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Uid>, EngineError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Removes the checkpoints of an owner that is no more. Unknown owners are no error.
    fn drop_checkpoints(
        &self,
        _epoch: Epoch,
        _owner: Uid,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    /// Node labels that replicas must find because of what they keep between attempts: it may be reached from some nodes alone. Asked
    /// before each attempt waits for its place; [`EngineError::Unsupported`] where it cannot be kept as it is asked for.
    fn ties(&self, _keeps: &Keeps) -> Result<BTreeMap<String, String>, EngineError> {
        Ok(BTreeMap::new())
    }

    /// The host name by which other members reach this one once it runs on `node`.
    fn peer_host(&self, key: &ReplicaKey, node: &str) -> String;

    /// Brings what a pod of others needs besides its place, as its volumes, to a node. Repeated until it is [`Prepared::Ready`].
    fn prepare<'a>(
        &'a self,
        _epoch: Epoch,
        pod: &'a PodName,
        _node: &'a str,
    ) -> BoxFuture<'a, Result<Prepared, EngineError>> {
        Box::pin(async move { Err(no_foreign(pod)) })
    }

    /// Gives a pod of others its node. `false` where it is not there or not without a node any more.
    fn bind<'a>(
        &'a self,
        _epoch: Epoch,
        pod: &'a PodName,
        _node: &'a str,
    ) -> BoxFuture<'a, Result<bool, EngineError>> {
        Box::pin(async move { Err(no_foreign(pod)) })
    }

    /// Asks a pod of others to end, as far as its disruption budget allows now. Gone pods are no error.
    fn evict<'a>(
        &'a self,
        _epoch: Epoch,
        pod: &'a PodName,
        _grace: Span,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { Err(no_foreign(pod)) })
    }

    /// Tells the people of a pod of others something about it.
    fn tell<'a>(
        &'a self,
        _epoch: Epoch,
        pod: &'a PodName,
        _note: &'a Note,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { Err(no_foreign(pod)) })
    }

    /// Runs another program inside a running replica.
    fn exec<'a>(
        &'a self,
        key: &'a ReplicaKey,
        command: &'a [String],
        terminal: Option<(u16, u16)>,
    ) -> BoxFuture<'a, Result<Exec, EngineError>>;
}

fn no_foreign(pod: &PodName) -> EngineError {
    EngineError::Unsupported {
        field: "pod".to_owned(),
        why: format!("this engine has no pods of others, such as `{pod}`"),
    }
}

/// Why a replica is stopped: recorded with its end, shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StopReason {
    /// The owner asked (cancel, delete, scale down).
    Cancelled,
    /// The owner asked to pause.
    Suspended,
    /// A higher claim needs the place.
    Preempted,
    /// Its time limit is over.
    TimeLimit,
    /// Its gang's success is decided, or another member failed.
    GangDone,
    /// A newer Revision replaces it.
    Replaced,
    /// The record was read; forget it.
    Forget,
    /// Its node is drained.
    Drained,
}

impl StopReason {
    /// The stable word for API, database and disk.
    pub fn as_str(self) -> &'static str {
        match self {
            StopReason::Cancelled => "Cancelled",
            StopReason::Suspended => "Suspended",
            StopReason::Preempted => "Preempted",
            StopReason::TimeLimit => "TimeLimit",
            StopReason::GangDone => "GangDone",
            StopReason::Replaced => "Replaced",
            StopReason::Forget => "Forget",
            StopReason::Drained => "Drained",
        }
    }
}

/// A failed engine call.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A newer leader has acted.
    #[error("epoch {ours} was superseded by epoch {highest}")]
    Superseded {
        /// The caller's.
        ours: Epoch,
        /// The highest seen.
        highest: Epoch,
    },
    /// This engine does not do that; names the field.
    #[error("`{field}` is not supported here: {why}")]
    Unsupported {
        /// Path of the field in the template, such as `isolation`.
        field: String,
        /// What to do instead.
        why: String,
    },
    /// There is no such running replica.
    #[error("replica `{0}` is not running")]
    NotRunning(ReplicaKey),
    /// The engine cannot be reached or cannot write.
    #[error("{operation} failed")]
    Failed {
        /// What was tried.
        operation: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EngineError {
    /// The kind, for clients.
    pub fn code(&self) -> Code {
        match self {
            EngineError::Superseded { .. } => Code::Conflict,
            EngineError::Unsupported { .. } => Code::Unsupported,
            EngineError::NotRunning(_) => Code::NotFound,
            EngineError::Failed { .. } => Code::Unavailable,
        }
    }
}

/// Standard output or error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A remark of the platform about the output itself: a cut, a loss.
    Note,
}

/// A piece of a replica's output. `seq` is dense from 1 within (key); a replica restarted in place goes on counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub seq: Seq,
    /// Which stream.
    pub stream: Stream,
    /// When it was read from the pipe.
    pub time: Time,
    /// At most 64 KiB, not necessarily whole lines.
    pub bytes: Vec<u8>,
}

/// Where an engine delivers output. Handed to engines that hold the pipes.
pub trait OutputSink: Send + Sync {
    /// Keeps frames durably and returns the highest `seq` kept for the key: the engine may then drop its
    /// copy up to there. Frames already kept are ignored; no frames at all only asks. The key names which
    /// replica in which project.
    fn append<'a>(
        &'a self,
        project: &'a str,
        key: &'a ReplicaKey,
        frames: Vec<Frame>,
    ) -> BoxFuture<'a, Result<Seq, EngineError>>;
}

/// A Secret's opened entries: names and bytes.
pub type SecretEntries = Vec<(String, Vec<u8>)>;

/// What an engine needs from the rest of the platform to prepare and finish a replica.
pub trait Content: Send + Sync {
    /// A local file with the content of this digest (a tar, zstd-compressed). Cached; fails if it does not exist.
    fn blob<'a>(
        &'a self,
        project: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>>;
    /// A directory with the built Python environment of this digest.
    fn environment<'a>(
        &'a self,
        project: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>>;
    /// Keeps a file or directory as a compressed tar and returns its digest and the bytes of its files.
    fn keep<'a>(
        &'a self,
        project: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<(Digest, u64), EngineError>>;
    /// The opened entries of a Secret's version.
    fn secret<'a>(
        &'a self,
        project: &'a str,
        name: &'a str,
        version: u32,
    ) -> BoxFuture<'a, Result<SecretEntries, EngineError>>;
}

/// A program running inside a replica.
pub struct Exec {
    /// What it is sent. Dropping it closes its standard input.
    pub input: mpsc::Sender<ExecInput>,
    /// What it says; ends after `Exited`.
    pub output: mpsc::Receiver<ExecOutput>,
}

/// To a program under exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes for standard input.
    Stdin(Vec<u8>),
    /// The terminal's new size: columns, rows.
    Resize(u16, u16),
}

/// From a program under exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of a stream; with a terminal everything is `Stdout`.
    Bytes(Stream, Vec<u8>),
    /// It exited with this code (128 + signal, as shells count).
    Exited(i32),
}
