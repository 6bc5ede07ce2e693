//! Where pods of others may be for the sake of pods and nodes: node affinity, ports of nodes, affinity and anti-affinity between pods, spread. Pure.
//!
//! The scheduler knows its tasks, and not the labels of all pods of a cluster. So nodes are told to have a label where a pod's rules
//! allow it now, and the pod asks for it; of pods that want the same of each other the scheduler is told besides
//! ([`engine::Relation`]), for it places many at once. What holds at last is asked when a pod is about to be bound
//! ([`Relations::keep`]): by then the one before it may have taken the room.
//!
//! Read `rules` (what a pod says), `table` (what nodes it allows), then this.

use crate::affinity::{Labels, Site};
use crate::view::Place;
use engine::{ForeignPod, NodeReport, PodName, Prepared};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

mod rules;
mod table;

pub(crate) use rules::{Rules, selector};
use table::{Placed, Sites, Subject, Table, World};

/// Before the names of labels and keys of ours. Kubernetes never sees them.
const RELATED: &str = "affinity/";
/// The value of labels that say where a pod may go.
const FREE: &str = "free";
/// A place that is kept for a pod that is not bound is let go after this.
const KEPT_MAX: Duration = Duration::from_secs(30);
/// Nodes are looked at anew at most so often: each pod that is bound may change many of them.
pub(crate) const LOOK: Duration = Duration::from_millis(300);

/// A pod that is not over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Neighbour {
    pub(crate) uid: String,
    pub(crate) labels: Arc<Labels>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) node: Option<String>,
    /// It waits for a node from us.
    pub(crate) waits: bool,
    /// It was asked to end.
    pub(crate) is_ending: bool,
}

struct Known {
    pod: Neighbour,
    /// A node that it is about to be bound to.
    kept: Option<(String, Instant)>,
    /// The label that it asks for.
    label: Option<String>,
}

/// What waiting pods ask for together.
struct Ask {
    pods: BTreeSet<Place>,
    /// Where it is allowed now.
    nodes: BTreeSet<String>,
}

/// Everything that is known of who is where.
#[derive(Default)]
pub(crate) struct Relations {
    pods: BTreeMap<Place, Known>,
    /// Labels of namespaces.
    spaces: BTreeMap<String, Arc<Labels>>,
    asks: BTreeMap<String, Ask>,
    /// Pods that keep others away.
    guards: BTreeSet<Place>,
    is_stale: bool,
    looked: Option<Instant>,
}

/// What is told differently now.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) pods: BTreeSet<Place>,
}

impl Relations {
    // ---- who is there ----

    /// A pod that is not over. What it is the first to ask for is to be looked at at once.
    pub(crate) fn put(&mut self, place: &Place, pod: Neighbour) -> Option<String> {
        let before = self.pods.get(place);
        if before.is_some_and(|before| before.pod == pod) {
            return None;
        }
        // The place that is kept for it is kept until it has one.
        let kept = before.filter(|before| before.pod.uid == pod.uid && pod.node.is_none());
        let kept = kept.and_then(|before| before.kept.clone());
        self.remove(place);
        if !pod.rules.against.is_empty() {
            self.guards.insert(place.clone());
        }
        self.is_stale |= pod.node.is_some();
        let known = Known {
            pod,
            kept,
            label: None,
        };
        self.pods.insert(place.clone(), known);
        self.ask(place)
    }

    pub(crate) fn remove(&mut self, place: &Place) {
        let Some(gone) = self.pods.remove(place) else {
            return;
        };
        self.guards.remove(place);
        self.is_stale |= gone.pod.node.is_some() || gone.kept.is_some();
        let Some(label) = gone.label else { return };
        if let Some(ask) = self.asks.get_mut(&label) {
            ask.pods.remove(place);
            // Nodes lose the label at the next look.
            self.is_stale |= ask.pods.is_empty();
        }
    }

    pub(crate) fn put_space(&mut self, name: &str, labels: Labels) {
        let before = self.spaces.insert(name.to_owned(), Arc::new(labels));
        self.is_stale |= before.as_ref() != self.spaces.get(name);
    }

    pub(crate) fn remove_space(&mut self, name: &str) {
        self.spaces.remove(name);
    }

    /// Nodes are not what they were.
    pub(crate) fn doubt(&mut self) {
        self.is_stale = true;
    }

    /// Notes what a waiting pod asks for, where that is not everything; whether it is the first.
    fn ask(&mut self, place: &Place) -> Option<String> {
        let known = self.pods.get(place).filter(|known| known.pod.waits)?;
        let pod = &known.pod;
        if known.label.is_some() || pod.rules.is_empty() && !self.is_guarded(place, pod) {
            return None;
        }
        let label = if pod.rules.is_empty() {
            // It says nothing itself.
            label(
                "othersAntiAffinity",
                &format!("{}: {:?}", place.0, pod.labels),
            )
        } else {
            label(&pod.rules.fields().join("+"), pod.rules.text())
        };
        let ask = self.asks.entry(label.clone()).or_insert_with(|| Ask {
            pods: BTreeSet::new(),
            nodes: BTreeSet::new(),
        });
        let is_first = ask.pods.is_empty();
        ask.pods.insert(place.clone());
        if let Some(known) = self.pods.get_mut(place) {
            known.label = Some(label.clone());
        }
        is_first.then_some(label)
    }

    /// Whether a pod that has a node may keep this one away from somewhere.
    fn is_guarded(&self, place: &Place, pod: &Neighbour) -> bool {
        let guards = self.guards.iter().filter_map(|guard| self.pods.get(guard));
        let mut terms = guards
            .filter(|guard| guard.node().is_some())
            .flat_map(|guard| &guard.pod.rules.against);
        terms.any(|term| {
            let is_near = term.spaces.marked.is_some() || term.spaces.names.contains(&place.0);
            is_near && term.marks.are_on(&pod.labels)
        })
    }

    // ---- what is told ----

    /// Whether nodes are to be looked at now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let is_long_ago = |at: Instant| now.saturating_duration_since(at) >= LOOK;
        self.is_stale() && self.looked.is_none_or(is_long_ago)
    }

    /// Whether they will have to be: where nobody asks and nobody keeps others away, nothing follows from what changed.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale && !(self.asks.is_empty() && self.guards.is_empty())
    }

    /// Looks anew at everything that is asked for.
    pub(crate) fn look(&mut self, nodes: &BTreeMap<String, NodeReport>, now: Instant) -> News {
        for known in self.pods.values_mut() {
            let is_idle =
                |(_, at): &mut (String, Instant)| now.saturating_duration_since(*at) > KEPT_MAX;
            known.kept.take_if(is_idle);
        }
        // A pod that has a node by now may keep some away that were free to go anywhere.
        let free = |known: &Known| known.pod.waits && known.label.is_none();
        let free = self.pods.iter().filter(|(_, known)| free(known));
        let free: Vec<Place> = free.map(|(place, _)| place.clone()).collect();
        let mut bound = BTreeSet::new();
        for place in free {
            self.ask(&place);
            if self.pods[&place].label.is_some() {
                bound.insert(place);
            }
        }
        let labels: Vec<String> = self.asks.keys().cloned().collect();
        let sites = sites(nodes);
        let mut changed = BTreeSet::new();
        for label in labels {
            changed.extend(self.look_at(&label, &sites));
        }
        self.asks.retain(|_, ask| !ask.pods.is_empty());
        (self.is_stale, self.looked) = (false, Some(now));
        News {
            nodes: changed,
            pods: bound,
        }
    }

    /// Looks anew at what pods with this label ask for: nodes that have it now, or no more.
    pub(crate) fn look_at(&mut self, label: &str, sites: &Sites<'_>) -> BTreeSet<String> {
        let free = self.free(label, sites).unwrap_or_default();
        let Some(ask) = self.asks.get_mut(label) else {
            return BTreeSet::new();
        };
        let changed = ask.nodes.symmetric_difference(&free).cloned().collect();
        ask.nodes = free;
        changed
    }

    /// Where what is asked for is allowed.
    fn free(&self, label: &str, sites: &Sites<'_>) -> Option<BTreeSet<String>> {
        let pods = &self.asks.get(label)?.pods;
        // One that has its place takes room from those that have none.
        let is_open = |place: &&Place| self.pods.get(*place).is_some_and(|pod| pod.kept.is_none());
        let place = pods.iter().find(is_open).or(pods.first())?;
        let table = self.table(place, sites)?;
        let free = sites.iter().filter(|(name, labels)| {
            let site = Site { name, labels };
            table.refuses(site).is_none()
        });
        Some(free.map(|(name, _)| (*name).to_owned()).collect())
    }

    /// What matters for one pod.
    fn table<'a>(&'a self, place: &'a Place, sites: &'a Sites<'a>) -> Option<Table<'a>> {
        let others = self.pods.iter().filter(|(other, _)| *other != place);
        let placed = others.filter_map(|(other, known)| {
            Some(Placed {
                subject: known.subject(other),
                node: known.node()?,
                is_ending: known.pod.is_ending,
            })
        });
        let world = World {
            sites,
            spaces: &self.spaces,
        };
        let subject = self.pods.get(place)?.subject(place);
        Some(Table::new(subject, placed, world))
    }

    /// Labels of ours for a node.
    pub(crate) fn labels<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = (String, String)> + 'a {
        let free = self.asks.iter().filter(|(_, ask)| ask.nodes.contains(node));
        free.map(|(label, _)| (label.clone(), FREE.to_owned()))
    }

    /// Adds to a pod of others where it may go.
    pub(crate) fn tie(&self, pod: &mut ForeignPod) {
        let place = (pod.pod.namespace.clone(), pod.pod.name.clone());
        let known = self.pods.get(&place);
        let known = known.filter(|known| known.pod.uid == pod.pod.uid);
        if let Some(label) = known.and_then(|known| known.label.as_ref()) {
            pod.node_selector.insert(label.clone(), FREE.to_owned());
        }
    }

    // ---- a pod is about to be bound ----

    /// Keeps a place on a node for a pod, if it is still allowed there.
    pub(crate) fn keep(
        &mut self,
        pod: &PodName,
        node: &str,
        nodes: &BTreeMap<String, NodeReport>,
        now: Instant,
    ) -> Prepared {
        let place = (pod.namespace.clone(), pod.name.clone());
        let is_it = |known: &&Known| known.pod.uid == pod.uid;
        let Some(known) = self.pods.get(&place).filter(is_it) else {
            return Prepared::Ready;
        };
        let is_bound_to_rules = known.label.is_some()
            || !known.pod.rules.is_empty()
            || self.is_guarded(&place, &known.pod);
        if is_bound_to_rules {
            let sites = sites(nodes);
            let refused = self.table(&place, &sites).and_then(|table| {
                let labels = sites.get(node)?;
                table.refuses(Site { name: node, labels })
            });
            if let Some(field) = refused {
                self.is_stale = true;
                let why = field.sentence();
                return Prepared::Elsewhere(format!(
                    "the node `{node}` is not free for it any more: {why}"
                ));
            }
        }
        if let Some(known) = self.pods.get_mut(&place) {
            let is_new = known.node() != Some(node);
            known.kept = Some((node.to_owned(), now));
            self.is_stale |= is_new;
        }
        Prepared::Ready
    }
}

impl Known {
    /// Where it is, or is about to be.
    fn node(&self) -> Option<&str> {
        let kept = || self.kept.as_ref().map(|(node, _)| node.as_str());
        self.pod.node.as_deref().or_else(kept)
    }

    fn subject<'a>(&'a self, place: &'a Place) -> Subject<'a> {
        Subject {
            space: &place.0,
            labels: &self.pod.labels,
            rules: &self.pod.rules,
        }
    }
}

/// Labels of nodes by their names.
pub(crate) fn sites(nodes: &BTreeMap<String, NodeReport>) -> Sites<'_> {
    let all = nodes.iter();
    all.map(|(name, node)| (name.as_str(), &node.labels))
        .collect()
}

/// The label of nodes where pods that ask for the same may go; people read in it which fields decide.
fn label(fields: &str, text: &str) -> String {
    format!("{RELATED}{fields}-{}", hash(text))
}

fn hash(text: &str) -> String {
    base::hex(&Sha256::digest(text.as_bytes())[..5])
}

#[cfg(test)]
mod tests;
