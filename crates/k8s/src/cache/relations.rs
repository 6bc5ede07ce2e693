//! The part of the cache that knows how pods of others stand to other pods and to nodes.

use super::{Cache, Inner};
use crate::relations::{LOOK, Neighbour, sites};
use crate::view::{Place, PodView};
use engine::{PodName, Prepared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Cache {
    pub(crate) fn put_space_labels(&self, name: &str, labels: BTreeMap<String, String>) {
        self.inner().relations.put_space(name, labels);
    }

    pub(crate) fn remove_space_labels(&self, name: &str) {
        self.inner().relations.remove_space(name);
    }

    /// A pod is as it is told now; `None` where it is over or gone.
    pub(super) fn stands(&self, inner: &mut Inner, place: &Place, pod: Option<Neighbour>) {
        let Inner {
            relations, nodes, ..
        } = inner;
        let Some(pod) = pod else {
            relations.remove(place);
            return;
        };
        if let Some(label) = relations.put(place, pod) {
            for node in relations.look_at(&label, &sites(nodes)) {
                self.tell_node(inner, &node);
            }
        }
    }

    /// Looks at what changed since, where it is time for that.
    pub(super) fn look_at_relations(&self, inner: &mut Inner) {
        let now = Instant::now();
        if !inner.relations.is_due(now) {
            return;
        }
        let Inner {
            relations, nodes, ..
        } = inner;
        let news = relations.look(nodes, now);
        for node in &news.nodes {
            self.tell_node(inner, node);
        }
        for place in &news.pods {
            if let Some(other) = inner.others.get(place) {
                self.tell_other(inner, other);
            }
        }
    }

    /// How long the keeper may sleep.
    pub(crate) fn rest(&self, at_most: Duration) -> Duration {
        if self.inner().relations.is_stale() {
            LOOK.min(at_most)
        } else {
            at_most
        }
    }

    /// Keeps a place on a node for a pod of others, if its rules still allow it there.
    pub(crate) fn keep_place(&self, pod: &PodName, node: &str) -> Prepared {
        let mut inner = self.inner();
        let Inner {
            relations, nodes, ..
        } = &mut *inner;
        let prepared = relations.keep(pod, node, nodes, Instant::now());
        if relations.is_stale() {
            self.poke.notify_one();
        }
        prepared
    }
}

/// A pod of ours, as others see it.
pub(super) fn neighbour(pod: &PodView) -> Option<Neighbour> {
    (!pod.is_over).then(|| Neighbour {
        uid: pod.uid.clone(),
        labels: Arc::clone(&pod.labels),
        rules: Arc::default(),
        node: pod.node.clone(),
        waits: false,
        is_ending: pod.is_deleting,
    })
}
