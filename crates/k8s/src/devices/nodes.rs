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

/// What a node is told to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Share {
    pub(crate) counts: BTreeMap<String, u64>,
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
        for (&site, counts) in sites.iter().zip(self.n_devices(sites)) {
            let labels = self.free_labels(site, &mut pods);
            let share = Share { counts, labels };
            if self.told.get(site.name) != Some(&share) {
                self.told.insert(site.name.to_owned(), share);
                news.push(site.name.to_owned());
            }
        }
        (news, pods)
    }

    /// How many devices of each class that is counted nodes have. Who counts is looked for once, however many nodes there are.
    fn n_devices(&self, sites: &[Site<'_>]) -> Vec<BTreeMap<String, u64>> {
        let mut classes: BTreeSet<&str> = BTreeSet::new();
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
            let mut counts = BTreeMap::new();
            if classes.is_empty() {
                return counts;
            }
            let offers = self.known.offers(*site);
            for class in &classes {
                let is_there = |offer: &&&Offer| {
                    offer.is_whole()
                        && tolerates(&[], offer.device.taints.as_deref())
                        && !taken.has(&offer.id)
                        && self.known.is_meant(class, &[], offer) == Ok(true)
                };
                let count = offers.all.iter().filter(is_there).count() as u64;
                if count > 0 {
                    counts.insert(format!("{COUNTED}{class}"), count);
                }
            }
            counts
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
