//! What an engine on this machine needs from the platform: content, environments, secrets, and where output goes.

use crate::control::venv::Venvs;
use crate::metrics::Dropped;
use crate::usecase::{content, seal};
use base::{Digest, Seq};
use db::{Db, objects, versions};
use engine::{BoxFuture, EngineError, Frame, OutputSink, ReplicaKey};
use logs::{Logs, ReplicaLog};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Store, TenantPath};

/// The engine's view of the platform.
#[derive(Clone)]
pub struct Content {
    /// The control database.
    pub db: Db,
    /// Code, outputs, models.
    pub store: Store,
    /// Output of replicas.
    pub logs: Logs,
    /// Python environments.
    pub venvs: Venvs,
    /// Under which Secrets are sealed.
    pub key: Vec<u8>,
    /// Counts what senders dropped.
    pub dropped: Arc<Dropped>,
}

fn failed(
    operation: impl Into<String>,
) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    let operation = operation.into();
    move |source| EngineError::Failed { operation, source }
}

impl engine::Content for Content {
    fn blob<'a>(
        &'a self,
        project: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        Box::pin(async move {
            let reading = || format!("reading content {digest}");
            let tenant =
                TenantPath::new(project).map_err(|error| failed(reading())(error.into()))?;
            let path = self.store.fetch(&tenant, digest).await;
            path.map_err(|error| failed(reading())(error.into()))
        })
    }

    fn environment<'a>(
        &'a self,
        _project: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        Box::pin(async move {
            self.venvs.path(digest).ok_or_else(|| {
                failed(format!("finding environment {digest}"))(
                    "its directory is gone; apply the environment again".into(),
                )
            })
        })
    }

    fn keep<'a>(
        &'a self,
        project: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<(Digest, u64), EngineError>> {
        Box::pin(async move {
            let kept =
                content::put_files(&self.db, &self.store, project, path, content::OUTPUT_MAX).await;
            let (kept, of_files) =
                kept.map_err(|error| failed("keeping an output")(error.into()))?;
            Ok((kept.digest, of_files))
        })
    }

    fn secret<'a>(
        &'a self,
        project: &'a str,
        name: &'a str,
        version: u32,
    ) -> BoxFuture<'a, Result<Vec<(String, Vec<u8>)>, EngineError>> {
        Box::pin(async move {
            let operation = || format!("opening secret `{name}`");
            let object = objects::read(&self.db, "Secret", project, name)
                .await
                .map_err(|error| failed(operation())(error.into()))?;
            let object = object.ok_or_else(|| failed(operation())("it was deleted".into()))?;
            let sealed = versions::secret(&self.db, object.uid, version)
                .await
                .map_err(|error| failed(operation())(error.into()))?;
            let sealed =
                sealed.ok_or_else(|| failed(operation())("this version is not kept".into()))?;
            let entries = seal::open(&self.key, object.uid, version, &sealed)
                .map_err(|error| failed(operation())(error.into()))?;
            Ok(entries.into_iter().collect())
        })
    }
}

impl OutputSink for Content {
    fn append<'a>(
        &'a self,
        project: &'a str,
        key: &'a ReplicaKey,
        frames: Vec<Frame>,
    ) -> BoxFuture<'a, Result<Seq, EngineError>> {
        Box::pin(async move {
            let log = ReplicaLog {
                owner: key.owner,
                group: key.group.clone(),
                index: key.index,
                attempt: key.attempt,
            };
            let frames: Vec<logs::Frame> = frames.into_iter().map(frame).collect();
            let notes: Vec<Vec<u8>> = frames
                .iter()
                .filter(|frame| frame.stream == logs::Stream::Note)
                .map(|frame| frame.bytes.clone())
                .collect();
            let (logs, project) = (self.logs.clone(), project.to_owned());
            let appended =
                tokio::task::spawn_blocking(move || logs.append(&project, &log, &frames)).await;
            let appended = appended.map_err(|error| failed("keeping output")(error.into()))?;
            let kept = appended.map_err(|error| failed("keeping output")(error.into()))?;
            // Counted once they are kept: what is refused comes again.
            notes.iter().for_each(|note| self.dropped.note(note));
            Ok(kept)
        })
    }
}

fn frame(frame: Frame) -> logs::Frame {
    logs::Frame {
        seq: frame.seq,
        stream: match frame.stream {
            engine::Stream::Stdout => logs::Stream::Stdout,
            engine::Stream::Stderr => logs::Stream::Stderr,
            engine::Stream::Note => logs::Stream::Note,
        },
        time: frame.time,
        bytes: frame.bytes,
    }
}
