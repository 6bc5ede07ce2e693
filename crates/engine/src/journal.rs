//! What an engine reports: one row a replica and a node, with a counter that says when it last changed.
//!
//! A cursor is (incarnation of the engine, counter). One from another incarnation, or from before
//! what is still known of what is gone, is answered with everything.

use crate::foreign::ForeignPod;
use crate::group::ReplicaKey;
use crate::observation::{Cursor, NodeReport, Observation, ReplicaReport};
use base::Span;
use std::collections::{BTreeMap, HashMap};
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
    /// All of these by their counter: who asks what changed is answered without a look at the rest.
    changes: BTreeMap<u64, Name>,
    /// What is gone, by its counter, and the same by name.
    gone: BTreeMap<u64, Name>,
    gone_at: HashMap<Name, u64>,
}

struct Row<A> {
    changed: u64,
    report: ReplicaReport,
    beside: A,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Replica(ReplicaKey),
    Node(String),
    Foreign(String),
}

impl<A> Rows<A> {
    /// Something is there, or there again, as of `changed`; `before` is its counter until now.
    fn note(&mut self, name: Name, before: Option<u64>, changed: u64) {
        match before {
            Some(before) => drop(self.changes.remove(&before)),
            None => {
                if let Some(at) = self.gone_at.remove(&name) {
                    self.gone.remove(&at);
                }
            }
        }
        self.changes.insert(changed, name);
    }
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
                changes: BTreeMap::new(),
                gone: BTreeMap::new(),
                gone_at: HashMap::new(),
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
        let key = report.key.clone();
        let row = Row {
            changed,
            beside,
            report,
        };
        let before = rows.replicas.insert(key.clone(), row);
        let before = before.map(|before| before.changed);
        rows.note(Name::Replica(key), before, changed);
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
            let before = std::mem::replace(&mut row.changed, changed);
            rows.note(Name::Replica(key.clone()), Some(before), changed);
        }
    }

    /// Forgets a replica.
    pub fn remove(&self, key: &ReplicaKey) {
        let mut rows = self.rows();
        if let Some(row) = rows.replicas.remove(key) {
            rows.changes.remove(&row.changed);
            self.is_gone(&mut rows, Name::Replica(key.clone()));
        }
    }

    /// Answers whoever asks to remove a replica that is not here: it is gone, also for those who never heard of it.
    pub fn absent(&self, key: &ReplicaKey) {
        let mut rows = self.rows();
        if rows.replicas.contains_key(key) {
            return;
        }
        self.is_gone(&mut rows, Name::Replica(key.clone()));
    }

    fn is_gone(&self, rows: &mut Rows<A>, name: Name) {
        let changed = self.changed(rows);
        if let Some(before) = rows.gone_at.insert(name.clone(), changed) {
            rows.gone.remove(&before);
        }
        rows.gone.insert(changed, name);
        if rows.gone.len() > GONE_MAX
            && let Some((forgotten, name)) = rows.gone.pop_first()
        {
            rows.gone_at.remove(&name);
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
        let name = node.name.clone();
        let before = rows.nodes.insert(name.clone(), (changed, node));
        rows.note(Name::Node(name), before.map(|(before, _)| before), changed);
    }

    /// Forgets a node.
    pub fn remove_node(&self, name: &str) {
        let mut rows = self.rows();
        if let Some((changed, _)) = rows.nodes.remove(name) {
            rows.changes.remove(&changed);
            self.is_gone(&mut rows, Name::Node(name.to_owned()));
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
        let before = rows.foreign.insert(uid.clone(), (changed, pod));
        rows.note(
            Name::Foreign(uid),
            before.map(|(before, _)| before),
            changed,
        );
    }

    /// Forgets a pod of others.
    pub fn remove_foreign(&self, uid: &str) {
        let mut rows = self.rows();
        if let Some((changed, _)) = rows.foreign.remove(uid) {
            rows.changes.remove(&changed);
            self.is_gone(&mut rows, Name::Foreign(uid.to_owned()));
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
        let mut observation = Observation {
            cursor: Cursor(rows.counter),
            complete: from.is_none(),
            ..Observation::default()
        };
        let Some(from) = from else {
            observation.nodes = rows.nodes.values().map(|(_, node)| node.clone()).collect();
            let replicas = rows.replicas.values();
            observation.replicas = replicas.map(|row| row.report.clone()).collect();
            observation.foreign = rows.foreign.values().map(|(_, pod)| pod.clone()).collect();
            return observation;
        };
        for name in rows.changes.range(from + 1..).map(|(_, name)| name) {
            match name {
                Name::Replica(key) => {
                    let row = rows.replicas.get(key);
                    observation
                        .replicas
                        .extend(row.map(|row| row.report.clone()));
                }
                Name::Node(name) => {
                    let row = rows.nodes.get(name);
                    observation.nodes.extend(row.map(|(_, node)| node.clone()));
                }
                Name::Foreign(uid) => {
                    let row = rows.foreign.get(uid);
                    observation.foreign.extend(row.map(|(_, pod)| pod.clone()));
                }
            }
        }
        for name in rows.gone.range(from + 1..).map(|(_, name)| name) {
            match name {
                Name::Replica(key) => observation.replicas_gone.push(key.clone()),
                Name::Node(name) => observation.nodes_gone.push(name.clone()),
                Name::Foreign(uid) => observation.foreign_gone.push(uid.clone()),
            }
        }
        observation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::PodName;

    fn pod(uid: usize, node: Option<usize>) -> ForeignPod {
        ForeignPod {
            pod: PodName {
                namespace: "a".to_owned(),
                name: format!("p{uid}"),
                uid: format!("{uid:04}"),
            },
            node: node.map(|node| node.to_string()),
            ..ForeignPod::default()
        }
    }

    /// What somebody knows who applies what is told, whenever it is asked for.
    #[derive(Default)]
    struct Follower {
        cursor: Option<Cursor>,
        pods: BTreeMap<String, ForeignPod>,
    }

    impl Follower {
        fn ask(&mut self, journal: &Journal<()>) -> usize {
            let told = journal.since(self.cursor);
            let n = told.foreign.len() + told.foreign_gone.len();
            if told.complete {
                self.pods.clear();
            }
            for pod in told.foreign {
                self.pods.insert(pod.pod.uid.clone(), pod);
            }
            for uid in told.foreign_gone {
                self.pods.remove(&uid);
            }
            self.cursor = Some(told.cursor);
            n
        }
    }

    #[test]
    fn followers_know_all_whenever_they_ask() {
        let journal = Journal::<()>::new(7);
        let mut followers: Vec<Follower> = (0..4).map(|_| Follower::default()).collect();
        // A walk without chance: each follower asks at its own pace.
        for step in 0..20_000_usize {
            let uid = step * 7_919 % 97;
            match step * 31 % 10 {
                0..=2 => journal.remove_foreign(&format!("{uid:04}")),
                3..=5 => journal.put_foreign(pod(uid, None)),
                node => journal.put_foreign(pod(uid, Some(node))),
            }
            for (at, follower) in followers.iter_mut().enumerate() {
                if step % (1 + at * 37) == 0 {
                    follower.ask(&journal);
                    let rows = journal.rows();
                    let there = rows.foreign.values().map(|(_, pod)| pod);
                    assert!(
                        follower.pods.values().eq(there),
                        "follower {at}, step {step}"
                    );
                }
            }
        }
        let rows = journal.rows();
        assert_eq!(rows.changes.len(), rows.foreign.len());
        assert_eq!(rows.gone.len(), rows.gone_at.len());
    }

    #[test]
    fn only_what_changed_is_told() {
        let journal = Journal::<()>::new(7);
        let mut follower = Follower::default();
        for uid in 0..100 {
            journal.put_foreign(pod(uid, None));
        }
        assert_eq!(follower.ask(&journal), 100);
        assert_eq!(follower.ask(&journal), 0);
        journal.put_foreign(pod(3, None));
        assert_eq!(follower.ask(&journal), 0, "it is as it was");
        journal.put_foreign(pod(3, Some(1)));
        journal.put_foreign(pod(3, Some(2)));
        journal.remove_foreign("0004");
        assert_eq!(follower.ask(&journal), 2);
        // Once too much is forgotten, who asks late is told everything.
        for uid in 1_000..=1_000 + GONE_MAX {
            journal.put_foreign(pod(uid, None));
            journal.remove_foreign(&format!("{uid:04}"));
        }
        assert_eq!(follower.ask(&journal), 99);
    }
}
