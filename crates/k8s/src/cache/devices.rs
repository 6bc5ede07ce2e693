//! The part of the cache that knows devices. What changes there may change what nodes have to give, and where pods can go.

use super::{Cache, Inner};
use crate::affinity::{Labels, Site};
use crate::devices::{Claim, Class, Devices, Grant, Release, Reserve, Slice, Touched};
use crate::foreign::Other;
use crate::view::{Place, PodView};
use engine::PodName;
use std::collections::{BTreeSet, HashSet};
use tokio::time::Instant;

impl Cache {
    // ---- what the watches tell ----

    pub(crate) fn put_slice(&self, slice: Slice) {
        self.change_devices(|inner| inner.devices.put_slice(slice));
    }

    pub(crate) fn remove_slice(&self, name: &str) {
        self.change_devices(|inner| inner.devices.remove_slice(name));
    }

    /// After a new list.
    pub(crate) fn keep_slices(&self, there: &HashSet<Place>) {
        self.keep_devices(
            |devices| absent(devices.slices(), there),
            |devices, name| devices.remove_slice(name),
        );
    }

    pub(crate) fn put_device_class(&self, class: Class) {
        self.change_devices(|inner| inner.devices.put_class(class));
    }

    pub(crate) fn remove_device_class(&self, name: &str) {
        self.change_devices(|inner| inner.devices.remove_class(name));
    }

    /// After a new list.
    pub(crate) fn keep_device_classes(&self, there: &HashSet<Place>) {
        self.keep_devices(
            |devices| absent(devices.classes(), there),
            |devices, name| devices.remove_class(name),
        );
    }

    /// From a watch, in the order in which claims were written.
    pub(crate) fn see_device_claim(&self, claim: Claim) {
        let version: u64 = claim.version.parse().unwrap_or_default();
        self.put_device_claim(claim);
        self.seen_claims.send_if_modified(|seen| {
            let is_newer = version > *seen;
            *seen = version.max(*seen);
            is_newer
        });
    }

    /// As it was just written.
    pub(crate) fn put_device_claim(&self, claim: Claim) {
        self.change_devices(|inner| inner.devices.put_claim(claim));
    }

    pub(crate) fn remove_device_claim(&self, place: &Place) {
        self.change_devices(|inner| inner.devices.remove_claim(place));
    }

    /// After a new list.
    pub(crate) fn keep_device_claims(&self, there: &HashSet<Place>) {
        self.keep_devices(
            |devices| {
                let claims = devices.claims();
                let gone = claims.filter(|place| !there.contains(*place));
                gone.cloned().collect()
            },
            |devices, place| devices.remove_claim(place),
        );
    }

    /// Removes what is gone.
    fn keep_devices<K>(
        &self,
        gone: impl FnOnce(&Devices) -> Vec<K>,
        remove: impl Fn(&mut Devices, &K) -> Touched,
    ) {
        self.change_devices(|inner| {
            let mut touched = Touched::default();
            for key in gone(&inner.devices) {
                touched.add(remove(&mut inner.devices, &key));
            }
            touched
        });
    }

    /// The cluster does not tell of devices, and why.
    pub(crate) fn miss_devices(&self, why: &'static str) {
        self.change_devices(|inner| {
            inner.devices.missing = Some(why);
            inner.devices.all()
        });
    }

    fn change_devices(&self, change: impl FnOnce(&mut Inner) -> Touched) {
        let mut inner = self.inner();
        let touched = change(&mut inner);
        self.tell_touched(&mut inner, touched);
        drop(inner);
        self.poke.notify_one();
    }

    /// Nodes and pods whom a change concerns are told of anew.
    pub(super) fn tell_touched(&self, inner: &mut Inner, touched: Touched) {
        let Touched {
            nodes,
            is_all,
            mut pods,
        } = touched;
        let nodes: Vec<String> = if is_all {
            inner.nodes.keys().cloned().collect()
        } else {
            nodes.into_iter().collect()
        };
        for name in inner.look_at_devices(&nodes, &mut pods) {
            self.tell_node(inner, &name);
        }
        for place in pods {
            if let Some(other) = inner.others.get(&place) {
                self.tell_other(inner, other);
            }
            if let Some(key) = inner.pods.get(&place).and_then(PodView::key) {
                self.understand(inner, &key);
            }
        }
    }

    /// A pod of others is as it is told now.
    pub(super) fn claim_devices(inner: &mut Inner, other: &Other) -> Touched {
        let live = other
            .foreign
            .as_ref()
            .map(|(pod, _)| pod)
            .filter(|pod| !pod.is_over);
        if other.foreign.is_none() && other.is_unbound && !other.devices.is_empty() {
            inner.devices.rivals.insert(other.place.clone());
        } else {
            inner.devices.rivals.remove(&other.place);
        }
        match live.filter(|_| !other.devices.is_empty()) {
            Some(pod) => {
                inner
                    .devices
                    .put_pod(&pod.pod, pod.node.is_none(), &other.devices, Instant::now())
            }
            None => inner.devices.remove_pod(&other.place),
        }
    }

    /// A pod of ours is as it is told now; one that is not there any more claims nothing.
    pub(super) fn claim_own_devices(inner: &mut Inner, place: &Place) -> Touched {
        let Inner { pods, devices, .. } = inner;
        let live = pods.get(place).filter(|pod| !pod.is_over);
        match live.filter(|pod| !pod.devices.is_empty()) {
            Some(pod) => {
                let waits = pod.node.is_none();
                devices.put_pod(&pod.name(), waits, &pod.devices, Instant::now())
            }
            None => devices.remove_pod(place),
        }
    }

    // ---- what others ask ----

    /// Keeps devices of a node for a pod.
    pub(crate) fn reserve_devices(&self, pod: &PodName, node: &str) -> Reserve {
        let mut inner = self.inner();
        let Inner { nodes, devices, .. } = &mut *inner;
        let nothing = Labels::new();
        let site = Site {
            name: node,
            labels: nodes.get(node).map_or(&nothing, |node| &node.labels),
        };
        let (reserve, touched) = devices.reserve(pod, site, Instant::now());
        self.tell_touched(&mut inner, touched);
        reserve
    }

    /// Claims of a pod that must be written before it is bound.
    pub(crate) fn device_grants(&self, pod: &PodName) -> Vec<Grant> {
        self.inner().devices.grants(pod)
    }

    /// Whether somebody else has a device of a pod's, too.
    pub(crate) fn is_contested(&self, pod: &PodName) -> bool {
        self.inner().devices.is_pod_contested(pod)
    }

    /// Whether another scheduler may be giving devices away at this moment.
    pub(crate) fn has_rivals(&self) -> bool {
        !self.inner().devices.rivals.is_empty()
    }

    /// What is written in claims for pods that did not come.
    pub(super) fn idle_devices(&self, inner: &mut Inner) -> Vec<Release> {
        let (releases, touched) = inner.devices.idle(Instant::now());
        self.tell_touched(inner, touched);
        releases
    }
}

impl Inner {
    /// Looks at nodes' devices anew: those that are told to have something else now. Adds the pods that it concerns.
    pub(super) fn look_at_devices(
        &mut self,
        names: &[String],
        pods: &mut BTreeSet<Place>,
    ) -> Vec<String> {
        let Inner { nodes, devices, .. } = self;
        let mut sites = Vec::new();
        for name in names {
            match nodes.get(name) {
                Some(node) => sites.push(Site {
                    name,
                    labels: &node.labels,
                }),
                None => devices.forget_node(name),
            }
        }
        let (news, concerned) = devices.look(&sites);
        pods.extend(concerned);
        news
    }
}

fn absent<'a>(known: impl Iterator<Item = &'a String>, there: &HashSet<Place>) -> Vec<String> {
    let is_absent = |name: &&String| !there.contains(&(String::new(), (*name).clone()));
    known.filter(is_absent).cloned().collect()
}
