//! What an engine is handed in tests: a sink in memory, contents in a directory.

use super::SECRET;
use crate::group::ReplicaKey;
use crate::port::{BoxFuture, Content, EngineError, Frame, OutputSink, SecretEntries};
use base::{Digest, Seq};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Output in memory, deduplicated as a sink must.
#[derive(Default)]
pub struct Memory {
    frames: Mutex<BTreeMap<ReplicaKey, Vec<Frame>>>,
    /// Says no to everything while set.
    is_down: Mutex<bool>,
}

impl Memory {
    /// Whether it says no to everything.
    pub fn set_down(&self, is_down: bool) {
        *self.is_down.lock().expect("not poisoned") = is_down;
    }

    /// What a replica said.
    pub fn of(&self, key: &ReplicaKey) -> Vec<Frame> {
        let frames = self.frames.lock().expect("not poisoned");
        frames.get(key).cloned().unwrap_or_default()
    }
}

impl OutputSink for Memory {
    fn append<'a>(
        &'a self,
        _: &'a str,
        key: &'a ReplicaKey,
        new: Vec<Frame>,
    ) -> BoxFuture<'a, Result<Seq, EngineError>> {
        Box::pin(async move {
            if *self.is_down.lock().expect("not poisoned") {
                return Err(EngineError::Failed {
                    operation: "keeping output".to_owned(),
                    source: "the sink is down".into(),
                });
            }
            let mut frames = self.frames.lock().expect("not poisoned");
            let kept = frames.entry(key.clone()).or_default();
            for frame in new {
                let next = kept.last().map_or(1, |last| last.seq.0 + 1);
                if frame.seq.0 >= next {
                    assert_eq!(frame.seq.0, next, "a gap in the output of {key}");
                    kept.push(frame);
                }
            }
            Ok(kept.last().map_or(Seq(0), |last| last.seq))
        })
    }
}

/// Blobs `<hex>` in a directory; the Secret `suite` of every project.
pub struct Files(pub PathBuf);

impl Content for Files {
    fn blob<'a>(
        &'a self,
        _: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        let path = self.0.join(digest.hex());
        Box::pin(async move {
            let missing = || EngineError::Failed {
                operation: format!("reading {digest}"),
                source: "no such content".into(),
            };
            path.exists().then_some(path).ok_or_else(missing)
        })
    }

    fn environment<'a>(
        &'a self,
        project: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        self.blob(project, digest)
    }

    fn keep<'a>(
        &'a self,
        _: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<(Digest, u64), EngineError>> {
        Box::pin(async move {
            let bytes = if path.is_dir() {
                Vec::new()
            } else {
                std::fs::read(path).expect("an output that is there")
            };
            let mut digest = [0; 32];
            digest[0] = u8::try_from(bytes.len() % 256).expect("below 256");
            Ok((Digest(digest), bytes.len() as u64))
        })
    }

    fn secret<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
        version: u32,
    ) -> BoxFuture<'a, Result<SecretEntries, EngineError>> {
        Box::pin(async move {
            assert_eq!((name, version), ("suite", 1));
            let entries = [("username", "suite"), ("password", SECRET)];
            Ok(entries
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .to_vec())
        })
    }
}
