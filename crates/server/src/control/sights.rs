//! What the engine last said of each replica, by owner. In memory only: a new leader asks the engine for
//! everything before it plans anything.

use base::Uid;
use engine::{Observation, ReplicaKey, ReplicaReport};
use plan::{Seen, Sight};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

/// Gone replicas kept per owner, so that a plan sees them at least once; older ones were long released.
const GONE_MAX: usize = 4_096;

/// A replica as last reported, or gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Sighting {
    /// The engine's last report.
    Reported(Box<ReplicaReport>),
    /// Nothing of it runs and nothing is kept.
    Gone,
    /// Its node is fenced.
    Fenced,
}

/// All replicas.
#[derive(Debug, Default)]
pub struct Sights {
    owners: RwLock<HashMap<Uid, BTreeMap<ReplicaKey, Sighting>>>,
}

impl Sights {
    /// Takes in an observation; the owners of everything that changed.
    pub fn observe(&self, observation: &Observation) -> HashSet<Uid> {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = HashSet::new();
        if observation.complete {
            let listed: HashSet<&ReplicaKey> = observation
                .replicas
                .iter()
                .map(|report| &report.key)
                .collect();
            for (owner, replicas) in owners.iter_mut() {
                for (key, sighting) in replicas.iter_mut() {
                    if matches!(sighting, Sighting::Reported(_)) && !listed.contains(key) {
                        *sighting = Sighting::Gone;
                        changed.insert(*owner);
                    }
                }
            }
        }
        for report in &observation.replicas {
            let replicas = owners.entry(report.key.owner).or_default();
            let sighting = Sighting::Reported(Box::new(report.clone()));
            if replicas.get(&report.key) != Some(&sighting) {
                replicas.insert(report.key.clone(), sighting);
                changed.insert(report.key.owner);
            }
        }
        for key in &observation.replicas_gone {
            let replicas = owners.entry(key.owner).or_default();
            if replicas.insert(key.clone(), Sighting::Gone) != Some(Sighting::Gone) {
                changed.insert(key.owner);
            }
            bound_gone(replicas);
        }
        changed
    }

    /// Every replica on a node is fenced: it was unheard for too long.
    pub fn fence(&self, node: &str) -> HashSet<Uid> {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = HashSet::new();
        for (owner, replicas) in owners.iter_mut() {
            for sighting in replicas.values_mut() {
                if matches!(sighting, Sighting::Reported(report) if report.node == node) {
                    *sighting = Sighting::Fenced;
                    changed.insert(*owner);
                }
            }
        }
        changed
    }

    /// What is known of an owner's replicas.
    pub fn of(&self, owner: Uid) -> BTreeMap<ReplicaKey, Sighting> {
        self.owners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&owner)
            .cloned()
            .unwrap_or_default()
    }

    /// An owner is over: nothing of it is asked for again.
    pub fn forget(&self, owner: Uid) {
        self.owners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&owner);
    }
}

impl Sighting {
    /// What plans need of it.
    pub fn sight(&self) -> Sight {
        match self {
            Sighting::Reported(report) => Sight::Seen(Seen::from(report.as_ref())),
            Sighting::Gone => Sight::Gone,
            Sighting::Fenced => Sight::Fenced,
        }
    }

    /// The report, if there is one.
    pub fn report(&self) -> Option<&ReplicaReport> {
        match self {
            Sighting::Reported(report) => Some(report),
            Sighting::Gone | Sighting::Fenced => None,
        }
    }
}

fn bound_gone(replicas: &mut BTreeMap<ReplicaKey, Sighting>) {
    let n_gone = replicas
        .values()
        .filter(|sighting| **sighting == Sighting::Gone)
        .count();
    if n_gone > GONE_MAX {
        let oldest = replicas
            .iter()
            .find(|(_, sighting)| **sighting == Sighting::Gone)
            .map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            replicas.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Attempt, Epoch, Index};
    use engine::{Cursor, Phase, Usage};

    fn key(index: u32) -> ReplicaKey {
        ReplicaKey {
            owner: Uid(1),
            group: "worker".to_owned(),
            index: Index(index),
            attempt: Attempt(1),
        }
    }

    fn report(index: u32) -> ReplicaReport {
        ReplicaReport {
            key: key(index),
            epoch: Epoch(1),
            node: "node-1".to_owned(),
            devices: Vec::new(),
            ports: BTreeMap::new(),
            phase: Phase::Running,
            started: None,
            restarts: 0,
            last_failure: None,
            unready: None,
            endpoint: None,
            usage: Usage::default(),
            output_lost: base::Bytes(0),
        }
    }

    fn seen(complete: bool, replicas: Vec<ReplicaReport>) -> Observation {
        Observation {
            cursor: Cursor(1),
            complete,
            replicas,
            ..Observation::default()
        }
    }

    #[test]
    fn only_a_complete_observation_makes_absence_a_fact() {
        let sights = Sights::default();
        assert_eq!(
            sights.observe(&seen(true, vec![report(0), report(1)])),
            HashSet::from([Uid(1)])
        );
        assert!(
            sights.observe(&seen(false, vec![report(0)])).is_empty(),
            "nothing changed"
        );
        assert_eq!(
            sights.observe(&seen(true, vec![report(0)])),
            HashSet::from([Uid(1)])
        );
        assert_eq!(sights.of(Uid(1))[&key(1)], Sighting::Gone);
        assert_eq!(sights.fence("node-1"), HashSet::from([Uid(1)]));
        assert_eq!(sights.of(Uid(1))[&key(0)], Sighting::Fenced);
    }
}
