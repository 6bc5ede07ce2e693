//! What the engine reports: one row a replica, with a counter that says when it last changed.
//!
//! A cursor is (incarnation of the engine, counter). One from another incarnation, or from before
//! what is still known of forgotten replicas, is answered with everything.

use crate::layout::{ReplicaDir, dir_name};
use crate::record::Stop;
use base::{Epoch, Span};
use engine::{Cursor, NodeReport, Observation, ReplicaKey, ReplicaReport};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Forgotten replicas that are remembered for those who ask by cursor.
const GONE_MAX: usize = 10_000;
/// Bits of a cursor that count changes; the rest is the incarnation.
const COUNTER_BITS: u32 = 40;

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
    rows: Mutex<Rows>,
    counter: watch::Sender<u64>,
}

struct Rows {
    counter: u64,
    /// Cursors below were before this process, or before what `gone` still knows.
    floor: u64,
    nodes: BTreeMap<String, (u64, NodeReport)>,
    replicas: BTreeMap<ReplicaKey, Row>,
    by_name: HashMap<String, ReplicaKey>,
    gone: VecDeque<(u64, ReplicaKey)>,
}

struct Row {
    changed: u64,
    report: ReplicaReport,
    handle: Handle,
}

impl Table {
    pub(crate) fn new(incarnation: u64, nodes: Vec<NodeReport>) -> Table {
        let floor = incarnation << COUNTER_BITS;
        let named = nodes
            .into_iter()
            .map(|node| (node.name.clone(), (floor, node)));
        let rows = Rows {
            counter: floor,
            floor,
            nodes: named.collect(),
            replicas: BTreeMap::new(),
            by_name: HashMap::new(),
            gone: VecDeque::new(),
        };
        Table {
            rows: Mutex::new(rows),
            counter: watch::Sender::new(floor),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // No code that holds it can leave rows half-changed.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, rows: &mut Rows) -> u64 {
        rows.counter += 1;
        self.counter.send_replace(rows.counter);
        rows.counter
    }

    pub(crate) fn insert(&self, report: ReplicaReport, handle: Handle) {
        let mut rows = self.rows();
        let changed = self.changed(&mut rows);
        rows.by_name
            .insert(dir_name(&report.key), report.key.clone());
        // One that was forgotten and is asked for again is not gone.
        rows.gone.retain(|(_, key)| *key != report.key);
        let key = report.key.clone();
        rows.replicas.insert(
            key,
            Row {
                changed,
                report,
                handle,
            },
        );
    }

    /// Changes a report. Nobody is told where it stays the same.
    pub(crate) fn update(&self, key: &ReplicaKey, change: impl FnOnce(&mut ReplicaReport)) {
        let mut rows = self.rows();
        let Some(row) = rows.replicas.get_mut(key) else {
            return;
        };
        let before = row.report.clone();
        change(&mut row.report);
        if row.report == before {
            return;
        }
        let changed = self.changed(&mut rows);
        if let Some(row) = rows.replicas.get_mut(key) {
            row.changed = changed;
        }
    }

    pub(crate) fn remove(&self, key: &ReplicaKey) {
        let mut rows = self.rows();
        if rows.replicas.remove(key).is_none() {
            return;
        }
        rows.by_name.remove(&dir_name(key));
        let changed = self.changed(&mut rows);
        rows.gone.push_back((changed, key.clone()));
        if rows.gone.len() > GONE_MAX
            && let Some((forgotten, _)) = rows.gone.pop_front()
        {
            rows.floor = forgotten;
        }
    }

    pub(crate) fn report(&self, key: &ReplicaKey) -> Option<ReplicaReport> {
        self.rows().replicas.get(key).map(|row| row.report.clone())
    }

    pub(crate) fn handle(&self, key: &ReplicaKey) -> Option<Handle> {
        self.rows().replicas.get(key).map(|row| row.handle.clone())
    }

    pub(crate) fn keys(&self) -> Vec<ReplicaKey> {
        self.rows().replicas.keys().cloned().collect()
    }

    pub(crate) fn has_node(&self, name: &str) -> bool {
        self.rows().nodes.contains_key(name)
    }

    /// A shim woke the engine for the replica with this directory name.
    pub(crate) fn poke(&self, name: &str) {
        let rows = self.rows();
        let row = rows
            .by_name
            .get(name)
            .and_then(|key| rows.replicas.get(key));
        if let Some(row) = row {
            row.handle.poked.send_modify(|n| *n += 1);
        }
    }

    pub(crate) fn raise_epoch(&self, key: &ReplicaKey, epoch: Epoch) {
        self.update(key, |report| report.epoch = report.epoch.max(epoch));
    }

    /// What changed since `cursor`, waiting for something.
    pub(crate) async fn observe(&self, cursor: Option<Cursor>, wait: Span) -> Observation {
        let mut counter = self.counter.subscribe();
        let deadline = tokio::time::Instant::now() + wait.as_std();
        loop {
            counter.mark_unchanged();
            let observation = self.since(cursor);
            let is_news = observation.complete || cursor != Some(observation.cursor);
            if is_news {
                return observation;
            }
            let changed = tokio::time::timeout_at(deadline, counter.changed()).await;
            if changed.is_err() {
                return observation;
            }
        }
    }

    fn since(&self, cursor: Option<Cursor>) -> Observation {
        let rows = self.rows();
        let known = cursor.map(|cursor| cursor.0);
        let from = known.filter(|from| (rows.floor..=rows.counter).contains(from));
        let is_new = |changed: u64| from.is_none_or(|from| changed > from);
        let nodes = rows.nodes.values().filter(|(changed, _)| is_new(*changed));
        let replicas = rows.replicas.values().filter(|row| is_new(row.changed));
        let gone = rows
            .gone
            .iter()
            .filter(|(changed, _)| from.is_some() && is_new(*changed));
        Observation {
            cursor: Cursor(rows.counter),
            complete: from.is_none(),
            nodes: nodes.map(|(_, node)| node.clone()).collect(),
            nodes_gone: Vec::new(),
            replicas: replicas.map(|row| row.report.clone()).collect(),
            replicas_gone: gone.map(|(_, key)| key.clone()).collect(),
        }
    }
}
