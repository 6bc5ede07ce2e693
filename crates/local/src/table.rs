//! The replicas of this engine: their reports in a [`Journal`], and how their tasks are reached.

use crate::layout::{ReplicaDir, dir_name};
use crate::record::Stop;
use base::{Epoch, Span};
use engine::journal::Journal;
use engine::{Cursor, NodeReport, Observation, ReplicaKey, ReplicaReport};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What a replica's task is asked by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// That it shall end.
    pub(crate) stop: Option<Stop>,
    /// That it shall be forgotten once it has ended.
    pub(crate) forget: bool,
}

/// What others hold of a replica.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) dir: ReplicaDir,
    pub(crate) asked: watch::Sender<Asked>,
    /// Counts wakes by the shim.
    pub(crate) poked: watch::Sender<u64>,
}

pub(crate) struct Table {
    journal: Journal<Handle>,
    /// Shims name their replica by its directory.
    by_name: Mutex<HashMap<String, ReplicaKey>>,
}

impl Table {
    pub(crate) fn new(incarnation: u64, nodes: Vec<NodeReport>) -> Table {
        let journal = Journal::new(incarnation);
        for node in nodes {
            journal.put_node(node);
        }
        Table {
            journal,
            by_name: Mutex::default(),
        }
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<String, ReplicaKey>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, report: ReplicaReport, handle: Handle) {
        self.by_name()
            .insert(dir_name(&report.key), report.key.clone());
        self.journal.put(report, handle);
    }

    /// Changes a report. Nobody is told where it stays the same.
    pub(crate) fn update(&self, key: &ReplicaKey, change: impl FnOnce(&mut ReplicaReport)) {
        self.journal.update(key, change);
    }

    pub(crate) fn remove(&self, key: &ReplicaKey) {
        self.by_name().remove(&dir_name(key));
        self.journal.remove(key);
    }

    pub(crate) fn absent(&self, key: &ReplicaKey) {
        self.journal.absent(key);
    }

    pub(crate) fn report(&self, key: &ReplicaKey) -> Option<ReplicaReport> {
        self.journal.report(key)
    }

    pub(crate) fn handle(&self, key: &ReplicaKey) -> Option<Handle> {
        self.journal.beside(key)
    }

    pub(crate) fn keys(&self) -> Vec<ReplicaKey> {
        self.journal.keys()
    }

    pub(crate) fn has_node(&self, name: &str) -> bool {
        self.journal.has_node(name)
    }

    /// A shim woke the engine for the replica with this directory name.
    pub(crate) fn poke(&self, name: &str) {
        let key = self.by_name().get(name).cloned();
        if let Some(handle) = key.and_then(|key| self.handle(&key)) {
            handle.poked.send_modify(|n| *n += 1);
        }
    }

    pub(crate) fn raise_epoch(&self, key: &ReplicaKey, epoch: Epoch) {
        self.update(key, |report| report.epoch = report.epoch.max(epoch));
    }

    /// What changed since `cursor`, waiting for something.
    pub(crate) async fn observe(&self, cursor: Option<Cursor>, wait: Span) -> Observation {
        self.journal.observe(cursor, wait).await
    }
}
