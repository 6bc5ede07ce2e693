//! The part of the cache that knows volumes. What changes there may change which nodes reach waiting work, and what pods wait for.

use super::{Cache, Inner};
use crate::affinity::{Labels, Site};
use crate::claims;
use crate::storage::{Claim, Class, Named, Volume};
use crate::view::{Place, PodView};
use crate::volumes::Needs;
use base::Uid;
use engine::{ForeignPod, PodName};
use std::collections::HashSet;

/// Kubernetes' word for a claim that one pod at a time may use.
const ONE_POD: &str = "ReadWriteOncePod";

impl Cache {
    // ---- what the watches tell ----

    pub(crate) fn put_claim(&self, claim: Option<Claim>) {
        let Some(claim) = claim else { return };
        self.change_volumes(|inner| {
            inner.volumes.claims.insert(claim.place.clone(), claim);
        });
    }

    pub(crate) fn remove_claim(&self, place: &Place) {
        self.change_volumes(|inner| inner.volumes.remove_claim(place));
    }

    /// After a new list.
    pub(crate) fn keep_claims(&self, there: &HashSet<Place>) {
        self.change_volumes(|inner| {
            let claims = inner.volumes.claims.keys();
            let gone: Vec<Place> = claims
                .filter(|place| !there.contains(*place))
                .cloned()
                .collect();
            for place in gone {
                inner.volumes.remove_claim(&place);
            }
        });
    }

    pub(crate) fn put_volume(&self, volume: Volume) {
        self.change_volumes(|inner| {
            inner.volumes.volumes.insert(volume.name.clone(), volume);
        });
    }

    pub(crate) fn remove_volume(&self, name: &str) {
        self.change_volumes(|inner| {
            inner.volumes.volumes.remove(name);
        });
    }

    /// After a new list.
    pub(crate) fn keep_volumes(&self, there: &HashSet<Place>) {
        self.change_volumes(|inner| {
            let volumes = &mut inner.volumes.volumes;
            volumes.retain(|name, _| there.contains(&(String::new(), name.clone())));
        });
    }

    pub(crate) fn put_class(&self, class: Class) {
        self.change_volumes(|inner| {
            inner.volumes.classes.insert(class.name.clone(), class);
        });
    }

    pub(crate) fn remove_class(&self, name: &str) {
        self.change_volumes(|inner| {
            inner.volumes.classes.remove(name);
        });
    }

    /// After a new list.
    pub(crate) fn keep_classes(&self, there: &HashSet<Place>) {
        self.change_volumes(|inner| {
            let classes = &mut inner.volumes.classes;
            classes.retain(|name, _| there.contains(&(String::new(), name.clone())));
        });
    }

    /// What Kubernetes said of a claim.
    pub(crate) fn hear(&self, claim: &Claim, said: Option<String>) {
        let is_news = self.inner().volumes.hear(&claim.uid, said);
        if is_news {
            self.change_volumes(|_| {});
        }
    }

    /// Changes what is known of volumes, and tells whom it concerns.
    fn change_volumes(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner();
        change(&mut inner);
        self.tell_sites(&mut inner);
        for place in inner.waiting.values().flatten() {
            if let Some(other) = inner.others.get(place) {
                self.tell_other(&inner, other);
            }
        }
        let unbound = inner.pods.values().filter(|pod| waits(pod));
        for key in unbound.filter_map(PodView::key) {
            self.understand(&inner, &key);
        }
        drop(inner);
        self.poke.notify_one();
    }

    /// Nodes get their labels, unless there were none and are none.
    pub(super) fn tell_sites(&self, inner: &mut Inner) {
        let wish = claims::wish(&self.checkpoints, inner.volumes.default_class());
        let is_labelled = !inner.waiting.is_empty()
            || inner.volumes.is_asked()
            || !inner.volumes.new_ties(&wish).is_empty();
        if is_labelled || inner.is_labelled {
            inner.is_labelled = is_labelled;
            for name in inner.nodes.keys() {
                self.tell_node(inner, name);
            }
        }
    }

    /// Labels of ours for a node.
    pub(super) fn site_labels(&self, inner: &Inner, site: Site<'_>) -> Labels {
        if !inner.is_labelled {
            return Labels::new();
        }
        let wish = claims::wish(&self.checkpoints, inner.volumes.default_class());
        let volumes = &inner.volumes;
        volumes.labels(site, inner.waiting.keys(), &wish, |name| {
            inner.nodes.contains_key(name)
        })
    }

    // ---- what others ask ----

    pub(crate) fn has_claim(&self, place: &Place) -> bool {
        self.inner().volumes.claims.contains_key(place)
    }

    /// Jobs that keep checkpoints.
    pub(crate) fn owners(&self) -> Vec<Uid> {
        self.inner().volumes.owners().into_iter().collect()
    }

    /// The claims of a Job that nobody deletes yet.
    pub(crate) fn claims_of(&self, owner: Uid) -> Vec<Claim> {
        let inner = self.inner();
        let claims = inner.volumes.claims.values();
        claims
            .filter(|claim| claim.owner == Some(owner) && !claim.is_deleting)
            .cloned()
            .collect()
    }

    /// Node labels that a claim for checkpoints asks for; it may not be there yet.
    pub(crate) fn ties(&self, place: &Place) -> Labels {
        let mut inner = self.inner();
        let Some(claim) = inner.volumes.claims.get(place) else {
            let wish = claims::wish(&self.checkpoints, inner.volumes.default_class());
            return inner.volumes.new_ties(&wish);
        };
        let ties = inner.volumes.ties(claim);
        // As long as this may change, nodes say who they are.
        if !claim.is_bound() {
            inner.volumes.ask(place);
            self.tell_sites(&mut inner);
        }
        ties
    }

    /// What is to be done before a pod of others goes to a node.
    pub(crate) fn needs_of_other(&self, pod: &PodName, node: &str) -> Needs {
        let inner = self.inner();
        let place = (pod.namespace.clone(), pod.name.clone());
        let other = inner
            .others
            .get(&place)
            .filter(|other| other.uid == pod.uid);
        let Some(other) = other.filter(|other| !other.claims.is_empty()) else {
            return Needs::default();
        };
        let mut needs = inner.needs(&other.claims, node);
        if needs.waits.is_none() {
            needs.waits = inner.taken(&other.claims, &place);
        }
        needs
    }
}

impl Inner {
    /// What is to be done before a pod with these claims goes to a node.
    pub(super) fn needs(&self, named: &[Named], node: &str) -> Needs {
        let nothing = Labels::new();
        let site = Site {
            name: node,
            labels: self.nodes.get(node).map_or(&nothing, |node| &node.labels),
        };
        self.volumes
            .needs(named, site, |name| self.nodes.contains_key(name))
    }

    /// A claim of these that one pod at a time may use, and another does.
    fn taken(&self, named: &[Named], by: &Place) -> Option<String> {
        named.iter().find_map(|named| {
            let claim = self.volumes.claims.get(&named.claim)?;
            let is_for_one = claim.wish.modes.iter().any(|mode| mode == ONE_POD);
            let mut users = self.used.get(&named.claim)?.iter();
            let (namespace, name) = users.find(|user| is_for_one && *user != by)?;
            let claim = &claim.place.1;
            Some(format!(
                "the claim `{claim}` is `{ONE_POD}`, and the pod `{namespace}/{name}` uses it"
            ))
        })
    }

    /// A pod of others comes, or goes: its claims have one user more or less.
    pub(super) fn use_claims(&mut self, pod: &Place, is_there: bool) {
        let Some(other) = self.others.get(pod) else {
            return;
        };
        let list = match (other.waits_with_claims(), other.is_there) {
            (true, _) => &mut self.waiting,
            (false, true) => &mut self.used,
            (false, false) => return,
        };
        for named in &other.claims {
            let pods = list.entry(named.claim.clone()).or_default();
            if is_there {
                pods.insert(pod.clone());
            } else {
                pods.remove(pod);
            }
            if pods.is_empty() {
                list.remove(&named.claim);
            }
        }
    }

    /// Adds to a pod of others what its claims say: which nodes it needs, or that it must wait outside.
    pub(super) fn tie(&self, pod: &mut ForeignPod, named: &[Named]) {
        for named in named {
            if let Some(hindered) = self.volumes.hindered(named) {
                pod.lacks.get_or_insert(hindered);
                continue;
            }
            let Some(claim) = self.volumes.claims.get(&named.claim) else {
                continue;
            };
            let ties = self.volumes.ties(claim);
            let contradicts = |(key, value): (&String, &String)| {
                pod.node_selector.get(key).is_some_and(|own| own != value)
            };
            // One label cannot have two values: that of the claim says that no node will do.
            if ties.iter().any(contradicts) {
                pod.node_selector.extend(self.volumes.own_tie(claim));
            } else {
                pod.node_selector.extend(ties);
            }
        }
    }
}

/// Whether a pod of ours has claims to wait for.
pub(super) fn waits(pod: &PodView) -> bool {
    !pod.claims.is_empty() && pod.is_unbound()
}
