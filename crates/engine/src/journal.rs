//! What an engine reports: one row a replica and a node, with a counter that says when it last changed.
//!
//! A cursor is (incarnation of the engine, counter). One from another incarnation, or from before
//! what is still known of what is gone, is answered with everything.

use crate::foreign::ForeignPod;
use crate::group::ReplicaKey;
use crate::observation::{Cursor, NodeReport, Observation, ReplicaReport};
use base::Span;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Forgotten replicas and nodes that are remembered for those who ask by cursor.
const GONE_MAX: usize = 10_000;
/// Bits of a cursor that count changes; the rest is the incarnation.
const COUNTER_BITS: u32 = 40;

/// Rows with what an engine holds beside each replica's report.
pub struct Journal<A> {
    rows: Mutex<Rows<A>>,
    counter: watch::Sender<u64>,
}

struct Rows<A> {
    counter: u64,
    /// Cursors below were before this process, or before what `gone` still knows.
    floor: u64,
    nodes: BTreeMap<String, (u64, NodeReport)>,
    replicas: BTreeMap<ReplicaKey, Row<A>>,
    /// By uid.
    foreign: BTreeMap<String, (u64, ForeignPod)>,
    gone: VecDeque<(u64, Gone)>,
}

struct Row<A> {
    changed: u64,
    report: ReplicaReport,
    beside: A,
}

#[derive(PartialEq)]
enum Gone {
    Replica(ReplicaKey),
    Node(String),
    Foreign(String),
}

impl<A: Clone> Journal<A> {
    /// Empty, of this incarnation: a number that is higher than at any earlier start.
    pub fn new(incarnation: u64) -> Journal<A> {
        let floor = incarnation << COUNTER_BITS;
        Journal {
            rows: Mutex::new(Rows {
                counter: floor,
                floor,
                nodes: BTreeMap::new(),
                replicas: BTreeMap::new(),
                foreign: BTreeMap::new(),
                gone: VecDeque::new(),
            }),
            counter: watch::Sender::new(floor),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows<A>> {
        // No code that holds it can leave rows half-changed.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, rows: &mut Rows<A>) -> u64 {
        rows.counter += 1;
        self.counter.send_replace(rows.counter);
        rows.counter
    }

    /// Adds or replaces a replica. Nobody is told where the report stays the same.
    pub fn put(&self, report: ReplicaReport, beside: A) {
        let mut rows = self.rows();
        if let Some(row) = rows.replicas.get_mut(&report.key)
            && row.report == report
        {
            row.beside = beside;
            return;
        }
        let changed = self.changed(&mut rows);
        // One that was forgotten and is there again is not gone.
        let gone = Gone::Replica(report.key.clone());
        rows.gone.retain(|(_, name)| *name != gone);
        let row = Row {
            changed,
            beside,
            report,
        };
        rows.replicas.insert(row.report.key.clone(), row);
    }

    /// Changes a report. Nobody is told where it stays the same.
    pub fn update(&self, key: &ReplicaKey, change: impl FnOnce(&mut ReplicaReport)) {
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

    /// Forgets a replica.
    pub fn remove(&self, key: &ReplicaKey) {
        let mut rows = self.rows();
        if rows.replicas.remove(key).is_some() {
            self.is_gone(&mut rows, Gone::Replica(key.clone()));
        }
    }

    /// Answers whoever asks to remove a replica that is not here: it is gone, also for those who never heard of it.
    pub fn absent(&self, key: &ReplicaKey) {
        let mut rows = self.rows();
        if rows.replicas.contains_key(key) {
            return;
        }
        let gone = Gone::Replica(key.clone());
        rows.gone.retain(|(_, name)| *name != gone);
        self.is_gone(&mut rows, gone);
    }

    fn is_gone(&self, rows: &mut Rows<A>, gone: Gone) {
        let changed = self.changed(rows);
        rows.gone.push_back((changed, gone));
        if rows.gone.len() > GONE_MAX
            && let Some((forgotten, _)) = rows.gone.pop_front()
        {
            rows.floor = forgotten;
        }
    }

    /// Adds or replaces a node.
    pub fn put_node(&self, node: NodeReport) {
        let mut rows = self.rows();
        if rows
            .nodes
            .get(&node.name)
            .is_some_and(|(_, known)| *known == node)
        {
            return;
        }
        let changed = self.changed(&mut rows);
        let gone = Gone::Node(node.name.clone());
        rows.gone.retain(|(_, name)| *name != gone);
        rows.nodes.insert(node.name.clone(), (changed, node));
    }

    /// Forgets a node.
    pub fn remove_node(&self, name: &str) {
        let mut rows = self.rows();
        if rows.nodes.remove(name).is_some() {
            self.is_gone(&mut rows, Gone::Node(name.to_owned()));
        }
    }

    /// Adds or replaces a pod of others.
    pub fn put_foreign(&self, pod: ForeignPod) {
        let mut rows = self.rows();
        let uid = pod.pod.uid.clone();
        if rows
            .foreign
            .get(&uid)
            .is_some_and(|(_, known)| *known == pod)
        {
            return;
        }
        let changed = self.changed(&mut rows);
        rows.foreign.insert(uid, (changed, pod));
    }

    /// Forgets a pod of others.
    pub fn remove_foreign(&self, uid: &str) {
        let mut rows = self.rows();
        if rows.foreign.remove(uid).is_some() {
            self.is_gone(&mut rows, Gone::Foreign(uid.to_owned()));
        }
    }

    /// A replica's report.
    pub fn report(&self, key: &ReplicaKey) -> Option<ReplicaReport> {
        self.rows().replicas.get(key).map(|row| row.report.clone())
    }

    /// What is held beside it.
    pub fn beside(&self, key: &ReplicaKey) -> Option<A> {
        self.rows().replicas.get(key).map(|row| row.beside.clone())
    }

    /// All replicas.
    pub fn keys(&self) -> Vec<ReplicaKey> {
        self.rows().replicas.keys().cloned().collect()
    }

    /// Names of all nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.rows().nodes.keys().cloned().collect()
    }

    /// Whether a node of this name is known.
    pub fn has_node(&self, name: &str) -> bool {
        self.rows().nodes.contains_key(name)
    }

    /// What changed since `cursor`, waiting for something.
    pub async fn observe(&self, cursor: Option<Cursor>, wait: Span) -> Observation {
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
        let foreign = rows
            .foreign
            .values()
            .filter(|(changed, _)| is_new(*changed));
        let mut observation = Observation {
            cursor: Cursor(rows.counter),
            complete: from.is_none(),
            nodes: nodes.map(|(_, node)| node.clone()).collect(),
            replicas: replicas.map(|row| row.report.clone()).collect(),
            foreign: foreign.map(|(_, pod)| pod.clone()).collect(),
            ..Observation::default()
        };
        let gone = rows
            .gone
            .iter()
            .filter(|(changed, _)| from.is_some() && is_new(*changed));
        for (_, gone) in gone {
            match gone {
                Gone::Replica(key) => observation.replicas_gone.push(key.clone()),
                Gone::Node(name) => observation.nodes_gone.push(name.clone()),
                Gone::Foreign(uid) => observation.foreign_gone.push(uid.clone()),
            }
        }
        observation
    }
}
