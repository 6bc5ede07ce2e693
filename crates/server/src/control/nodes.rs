//! Which nodes answer, and which replicas must leave theirs.
//!
//! A node that does not answer takes nothing new. After `nodeLostAfter` it is *fenced*: its Placements are released
//! as lost, and with them their attempts' tokens, so that work can go on elsewhere whatever still runs there. A
//! fenced node takes nothing until it answers again *and* a complete observation has listed what is on it: only then
//! is what was left there known, and stopped.
//!
//! In memory: a new leader counts anew, and it begins with a complete observation.

use super::lock;
use base::Span;
use engine::NodeReport;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use tokio::time::Instant;

/// The nodes as the observer and the scheduler's teller see them.
#[derive(Debug, Default)]
pub struct Nodes {
    silent: Mutex<BTreeMap<String, Silence>>,
    leaving: Mutex<BTreeMap<String, Leaving>>,
}

/// A node that does not answer, or did not until a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// Not yet for too long.
    Since(Instant),
    /// For too long.
    Fenced,
    /// Fenced, and it answers again; what is on it is not known yet.
    Back,
}

/// What on a node must go elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leaving {
    /// Taints that move away whoever does not tolerate them.
    pub taints: Vec<sched::Taint>,
    /// Devices that are sick.
    pub devices: BTreeSet<String>,
}

impl Nodes {
    /// What an observation says. `missing` are the nodes that the engine does not have any more.
    pub fn observed(
        &self,
        reports: &[NodeReport],
        missing: &[String],
        complete: bool,
        now: Instant,
    ) {
        let mut silent = lock(&self.silent);
        for report in reports {
            match (report.ready, silent.get(&report.name)) {
                (true, Some(Silence::Fenced | Silence::Back)) if !complete => {
                    silent.insert(report.name.clone(), Silence::Back);
                }
                (true, _) => {
                    silent.remove(&report.name);
                }
                (false, Some(Silence::Back)) => {
                    silent.insert(report.name.clone(), Silence::Fenced);
                }
                (false, _) => {
                    silent
                        .entry(report.name.clone())
                        .or_insert(Silence::Since(now));
                }
            }
        }
        for name in missing {
            silent.entry(name.clone()).or_insert(Silence::Since(now));
        }
    }

    /// Nodes that have been silent for too long; they are fenced from now on.
    pub fn fence(&self, after: Span, now: Instant) -> Vec<String> {
        let mut fenced = Vec::new();
        for (name, silence) in lock(&self.silent).iter_mut() {
            if matches!(silence, Silence::Since(at) if now.duration_since(*at) >= after.as_std()) {
                *silence = Silence::Fenced;
                fenced.push(name.clone());
            }
        }
        fenced
    }

    /// Whether a fenced node is back, so that everything must be asked for.
    pub fn must_list(&self) -> bool {
        let back = |silence: &Silence| *silence == Silence::Back;
        lock(&self.silent).values().any(back)
    }

    /// Whether the node answers and what is on it is known.
    pub fn answers(&self, name: &str) -> bool {
        !lock(&self.silent).contains_key(name)
    }

    /// What must leave a node; whether that changed.
    pub fn set_leaving(&self, name: &str, leaving: Leaving) -> bool {
        let mut all = lock(&self.leaving);
        let before = if leaving == Leaving::default() {
            all.remove(name)
        } else {
            all.insert(name.to_owned(), leaving.clone())
        };
        before.unwrap_or_default() != leaving
    }

    /// Whether a replica with these devices and consents must leave the node.
    pub fn must_leave<'a>(
        &self,
        name: &str,
        devices: impl IntoIterator<Item = &'a str>,
        tolerations: &[sched::Toleration],
    ) -> bool {
        let all = lock(&self.leaving);
        let Some(leaving) = all.get(name) else {
            return false;
        };
        let is_driven = |taint: &sched::Taint| !sched::tolerates(tolerations, taint);
        leaving.taints.iter().any(is_driven)
            || devices.into_iter().any(|id| leaving.devices.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const AFTER: Span = Span::from_secs(60);

    fn report(ready: bool) -> NodeReport {
        NodeReport {
            name: "a".to_owned(),
            ready,
            address: String::new(),
            ports: None,
            allocatable: base::Resources::default(),
            slots_max: 0,
            taints: Vec::new(),
            labels: BTreeMap::new(),
            devices: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_fenced_node_answers_only_after_a_complete_observation() {
        let (nodes, start) = (Nodes::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let see = |ready, complete, secs| {
            nodes.observed(&[report(ready)], &[], complete, at(secs));
        };
        see(true, true, 0);
        assert!(nodes.answers("a"));
        see(false, false, 10);
        assert!(!nodes.answers("a"), "at once nothing new goes there");
        see(false, false, 50);
        assert_eq!(nodes.fence(AFTER, at(69)), Vec::<String>::new());
        see(true, false, 69);
        assert!(nodes.answers("a"), "it was not fenced: it is as it was");
        see(false, false, 70);
        assert_eq!(nodes.fence(AFTER, at(130)), ["a"]);
        assert_eq!(nodes.fence(AFTER, at(131)), Vec::<String>::new(), "once");
        see(true, false, 140);
        assert!(nodes.must_list() && !nodes.answers("a"));
        see(false, false, 141);
        assert!(!nodes.must_list());
        see(true, false, 142);
        see(true, true, 143);
        assert!(!nodes.must_list() && nodes.answers("a"));
    }

    #[test]
    fn a_node_that_the_engine_has_no_more_is_silent() {
        let (nodes, now) = (Nodes::default(), Instant::now());
        nodes.observed(&[report(true)], &["b".to_owned()], true, now);
        assert!(nodes.answers("a") && !nodes.answers("b"));
        nodes.observed(&[], &["a".to_owned()], false, now);
        assert!(!nodes.answers("a"));
    }

    #[test]
    fn who_must_leave() {
        let nodes = Nodes::default();
        let taint = sched::Taint {
            key: "drain".to_owned(),
            value: String::new(),
            effect: sched::TaintEffect::NoExecute,
        };
        let leaving = Leaving {
            taints: vec![taint],
            devices: BTreeSet::from(["gpu-1".to_owned()]),
        };
        assert!(nodes.set_leaving("a", leaving.clone()));
        assert!(!nodes.set_leaving("a", leaving), "nothing changed");
        let all = [sched::Toleration {
            key: String::new(),
            value: None,
            effect: None,
        }];
        assert!(nodes.must_leave("a", [], &[]));
        assert!(!nodes.must_leave("a", ["gpu-0"], &all));
        assert!(nodes.must_leave("a", ["gpu-1"], &all));
        assert!(!nodes.must_leave("b", ["gpu-1"], &[]));
        assert!(nodes.set_leaving("a", Leaving::default()));
        assert!(!nodes.must_leave("a", ["gpu-1"], &[]));
    }
}
