//! What nodes are told to have: how many devices of each class, and the labels of those claims that could be fulfilled there now.

use super::allocate::{allocate, tolerates};
use super::known::Taken;
use super::objects::Offer;
use super::pods::Part;
use super::{COUNTED, Devices, FREE};
use crate::affinity::{Labels, Site};
use crate::view::Place;
use k8s_openapi::api::resource::v1::DeviceClaim;
use std::collections::{BTreeMap, BTreeSet};

/// Classes that are counted although no pod claims one.
const COUNTED_MAX: usize = 6;

/// What a node is told to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// Devices of each class, as extended resources.
    pub(crate) counts: BTreeMap<String, u64>,
    /// GPUs, where they are claimed too.
    pub(crate) gpus: u64,
    pub(crate) labels: Labels,
}

impl Devices {
    /// What a node is told to have.
    pub(crate) fn share(&self, node: &str) -> Option<&Share> {
        self.told.get(node)
    }

    /// Looks at nodes anew: those whose share is another, and pods that may stand differently.
    pub(crate) fn look(&mut self, sites: &[Site<'_>]) -> (Vec<String>, BTreeSet<Place>) {
        let (mut news, mut pods) = (Vec::new(), BTreeSet::new());
        for (&site, (counts, gpus)) in sites.iter().zip(self.n_devices(sites)) {
            let labels = self.free_labels(site, &mut pods);
            let share = Share {
                counts,
                gpus,
                labels,
            };
            if self.told.get(site.name) != Some(&share) {
                self.told.insert(site.name.to_owned(), share);
                news.push(site.name.to_owned());
            }
        }
        (news, pods)
    }

    /// Classes that are counted before a pod claims one, so that Jobs and Apps can ask for them: the first by name, for a pool of nodes
    /// has room for a few extended resources only.
    pub(super) fn always_counted(&self) -> impl Iterator<Item = &str> {
        let classes = self.known.classes.keys().map(String::as_str);
        let gpus = self.gpus.as_deref();
        classes
            .filter(move |class| Some(*class) != gpus)
            .take(COUNTED_MAX)
            .chain(gpus)
    }

    /// How many devices of each class that is counted nodes have, and how many GPUs. Who counts is looked for once, however many nodes
    /// there are.
    fn n_devices(&self, sites: &[Site<'_>]) -> Vec<(BTreeMap<String, u64>, u64)> {
        let mut classes: BTreeSet<&str> = self.always_counted().collect();
        let mut own: BTreeSet<&str> = BTreeSet::new();
        for pod in self.pods.values().filter(|pod| !pod.counted.is_empty()) {
            classes.extend(pod.counted.keys().map(String::as_str));
            own.extend(pod.own.iter().map(String::as_str));
        }
        // What the scheduler counts as used by pods is not taken by others.
        let taken = Taken {
            holders: &self.holders,
            except: &own,
        };
        let counts = sites.iter().map(|site| {
            let (mut counts, mut gpus) = (BTreeMap::new(), 0);
            if classes.is_empty() {
                return (counts, gpus);
            }
            let offers = self.known.offers(*site);
            let free: Vec<&Offer> = offers
                .all
                .iter()
                .copied()
                .filter(|offer| {
                    offer.is_whole()
                        && tolerates(&[], offer.device.taints.as_deref())
                        && !taken.has(&offer.id)
                })
                .collect();
            for class in &classes {
                let is_meant = |offer: &&&Offer| self.known.is_meant(class, &[], offer) == Ok(true);
                let count = free.iter().filter(is_meant).count() as u64;
                if self.gpus.as_deref() == Some(*class) {
                    gpus = count;
                } else if count > 0 {
                    counts.insert(format!("{COUNTED}{class}"), count);
                }
            }
            (counts, gpus)
        });
        counts.collect()
    }

    /// The labels of what pods ask for and a node has now. Adds the pods that may stand differently.
    fn free_labels(&mut self, site: Site<'_>, pods: &mut BTreeSet<Place>) -> Labels {
        let mut found = Labels::new();
        let labels: Vec<String> = self.asks.keys().cloned().collect();
        for label in labels {
            let can = self.can(&self.asks[&label].parts, site);
            let ask = self.asks.get_mut(&label).expect("it was there");
            let before = (ask.nodes.is_empty(), ask.errors.is_empty());
            ask.errors.remove(site.name);
            let is_free = match can {
                Ok(is_free) => is_free,
                Err(error) => {
                    ask.errors.insert(site.name.to_owned(), error);
                    false
                }
            };
            if is_free {
                ask.nodes.insert(site.name.to_owned());
                found.insert(label, FREE.to_owned());
            } else {
                ask.nodes.remove(site.name);
            }
            if before != (ask.nodes.is_empty(), ask.errors.is_empty()) {
                pods.extend(ask.pods.iter().cloned());
            }
        }
        found
    }

    pub(crate) fn forget_node(&mut self, node: &str) {
        self.told.remove(node);
        for ask in self.asks.values_mut() {
            ask.nodes.remove(node);
            ask.errors.remove(node);
        }
    }

    /// Whether all parts can be had on a node now.
    fn can(&self, parts: &[Part], site: Site<'_>) -> Result<bool, String> {
        let mut open: Vec<&DeviceClaim> = Vec::new();
        for part in parts {
            match part {
                Part::Own(spec) => open.push(spec),
                Part::Shared(place) => {
                    let Some(claim) = self.claims.get(place) else {
                        return Ok(false);
                    };
                    let kept = self.reserved.get(&claim.uid).map(|kept| &kept.allocation);
                    match claim.allocation.as_ref().or(kept) {
                        Some(allocation) if !allocation.is_reached(site) => return Ok(false),
                        Some(_) => {}
                        None => open.push(&claim.spec),
                    }
                }
            }
        }
        if open.is_empty() {
            return Ok(true);
        }
        let taken = Taken {
            holders: &self.holders,
            except: &BTreeSet::new(),
        };
        Ok(allocate(&self.known, &taken, &open, site)?.is_some())
    }
}
