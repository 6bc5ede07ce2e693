//! Devices for a pod that is about to be bound: they are chosen and kept here, then written, or given back.

use super::allocate::allocate;
use super::known::Taken;
use super::objects::{Allocation, Claim, DeviceId};
use super::pods::{Asker, Standing, classes};
use super::{Devices, Touched, shown};
use crate::affinity::Site;
use crate::view::Place;
use engine::{PodName, Prepared};
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClaim};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is kept for a pod that is not bound is let go after this. One that is about to be bound asks again each second.
pub(super) const RESERVED_MAX: Duration = Duration::from_secs(30);
/// Kubernetes makes claims from templates a moment after their pods; nobody is told before this.
pub(super) const MADE_MAX: Duration = Duration::from_secs(5);

/// Devices that are a claim's before that is written.
#[derive(Clone)]
pub(super) struct Reserved {
    /// For this pod, by uid.
    pub(super) pod: String,
    pub(super) allocation: Allocation,
    pub(super) at: Instant,
}

/// A claim of a pod that is about to be bound.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) claim: Claim,
    /// What is to be written into it; `None` where it has its devices.
    pub(crate) result: Option<Arc<AllocationResult>>,
}

/// A pod that is a claim's user no more; its devices are free when there is no other.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) claim: Claim,
    pub(crate) pod: String,
}

/// What is to be done before a pod goes to a node.
pub(crate) enum Reserve {
    Done(Prepared),
    /// Its claims have devices elsewhere, and can give them back.
    First(Vec<Release>),
}

impl Devices {
    pub(super) fn claims_of<'a>(&'a self, pod: &'a Asker) -> impl Iterator<Item = &'a Claim> {
        let places = pod.named.iter().filter_map(|named| named.claim.as_ref());
        places.filter_map(|place| self.claims.get(place))
    }

    pub(super) fn asker(&self, pod: &PodName) -> Option<&Asker> {
        let place = (pod.namespace.clone(), pod.name.clone());
        self.pods.get(&place).filter(|asker| asker.uid == pod.uid)
    }

    /// Keeps devices of a node for a pod that is about to be bound there.
    pub(crate) fn reserve(
        &mut self,
        pod: &PodName,
        site: Site<'_>,
        now: Instant,
    ) -> (Reserve, Touched) {
        let done = |prepared| (Reserve::Done(prepared), Touched::default());
        let Some(asker) = self.asker(pod) else {
            return done(Prepared::Ready);
        };
        if let Standing::Hindered(sentence) = &asker.standing {
            return done(Prepared::Waits(sentence.clone()));
        }
        let node = site.name;
        let (mut open, mut again, mut release) = (Vec::new(), Vec::new(), Vec::new());
        for claim in self.claims_of(asker) {
            let what = shown(&claim.place);
            let give_back = || Release {
                claim: claim.clone(),
                pod: pod.uid.clone(),
            };
            let is_alone = claim.is_at_most_for(&pod.uid);
            match (&claim.allocation, self.reserved.get(&claim.uid)) {
                (Some(_), _) if self.is_contested(claim) && is_alone => release.push(give_back()),
                (Some(allocation), _) if allocation.is_reached(site) => {}
                (Some(_), _) if is_alone => release.push(give_back()),
                (Some(_), _) => {
                    return done(Prepared::Elsewhere(format!(
                        "the claim {what} has its devices where the node `{node}` does not reach them"
                    )));
                }
                (None, Some(kept)) if kept.allocation.is_reached(site) => {
                    again.push(claim.uid.clone());
                }
                (None, Some(kept)) if kept.pod != pod.uid => {
                    return done(Prepared::Elsewhere(format!(
                        "the claim {what} is being given devices that the node `{node}` does not reach"
                    )));
                }
                (None, _) => open.push(claim),
            }
        }
        if !release.is_empty() {
            return (Reserve::First(release), Touched::default());
        }
        let specs: Vec<&DeviceClaim> = open.iter().map(|claim| claim.spec.as_ref()).collect();
        // What was kept for it on another node is free again.
        let except: BTreeSet<&str> = open.iter().map(|claim| claim.uid.as_str()).collect();
        let taken = Taken {
            holders: &self.holders,
            except: &except,
        };
        let results = match allocate(&self.known, &taken, &specs, site) {
            Ok(Some(results)) => results,
            Ok(None) => {
                let classes = open.iter().flat_map(|claim| classes(&claim.spec));
                let classes: BTreeSet<&str> = classes.collect();
                let classes = classes.into_iter().collect::<Vec<_>>().join("`, `");
                return done(Prepared::Elsewhere(format!(
                    "the node `{node}` has not enough free devices of class `{classes}` for the pod's claims"
                )));
            }
            Err(sentence) => return done(Prepared::Elsewhere(sentence)),
        };
        let open: Vec<(String, Place)> = open
            .iter()
            .map(|claim| (claim.uid.clone(), claim.place.clone()))
            .collect();
        let mut touched = Touched::default();
        for ((uid, claim), result) in open.into_iter().zip(results) {
            touched.add(self.let_go(&uid));
            let kept = Reserved {
                pod: pod.uid.clone(),
                allocation: Allocation::new(result),
                at: now,
            };
            self.reserved.insert(uid, kept);
            touched.add(self.hold(&claim));
        }
        for uid in again {
            if let Some(kept) = self.reserved.get_mut(&uid) {
                kept.at = now;
            }
        }
        let place = (pod.namespace.clone(), pod.name.clone());
        if let Some(asker) = self.pods.get_mut(&place) {
            asker.at = now;
        }
        (Reserve::Done(Prepared::Ready), touched)
    }

    /// Whether another claim holds one of a claim's devices: another scheduler did not know of it, or we did not.
    fn is_contested(&self, claim: &Claim) -> bool {
        let Some(allocation) = &claim.allocation else {
            return false;
        };
        let mut held = DeviceId::held(&allocation.result);
        held.any(|device| {
            let holders = self.holders.get(&device);
            holders.is_some_and(|holders| holders.iter().any(|uid| *uid != claim.uid))
        })
    }

    /// The same of any claim of a pod.
    pub(crate) fn is_pod_contested(&self, pod: &PodName) -> bool {
        let asker = self.asker(pod);
        asker.is_some_and(|asker| self.claims_of(asker).any(|claim| self.is_contested(claim)))
    }

    /// Claims of a pod that must be written before it is bound.
    pub(crate) fn grants(&self, pod: &PodName) -> Vec<Grant> {
        let Some(asker) = self.asker(pod) else {
            return Vec::new();
        };
        let claims = self.claims_of(asker);
        let open = claims.filter(|claim| claim.allocation.is_none() || !claim.is_used_by(&pod.uid));
        open.map(|claim| {
            let kept = self
                .reserved
                .get(&claim.uid)
                .filter(|_| claim.allocation.is_none());
            Grant {
                claim: claim.clone(),
                result: kept.map(|kept| Arc::clone(&kept.allocation.result)),
            }
        })
        .collect()
    }

    /// What time brings: pods whose claims were not made, and devices that nobody came for: those that are kept here are free now, those that are written are to be given back.
    pub(crate) fn idle(&mut self, now: Instant) -> (Vec<Release>, Touched) {
        let is_idle = |at: Instant| now.saturating_duration_since(at) > RESERVED_MAX;
        let mut touched = Touched::default();
        let kept = self.reserved.iter().filter(|(_, kept)| is_idle(kept.at));
        let kept: Vec<String> = kept.map(|(uid, _)| uid.clone()).collect();
        for uid in kept {
            self.reserved.remove(&uid);
            touched.add(self.let_go(&uid));
        }
        for (place, pod) in &mut self.pods {
            let is_late = now.saturating_duration_since(pod.at) > MADE_MAX;
            if pod.waits && !pod.is_late && is_late && pod.is_unmade() {
                pod.is_late = true;
                touched.pods.insert(place.clone());
            }
        }
        let waiting = self
            .pods
            .values()
            .filter(|pod| pod.waits && is_idle(pod.at));
        let releases = waiting.flat_map(|pod| {
            let claims = self
                .claims_of(pod)
                .filter(|claim| claim.allocation.is_some());
            claims
                .filter(|claim| claim.is_used_by(&pod.uid))
                .map(|claim| Release {
                    claim: claim.clone(),
                    pod: pod.uid.clone(),
                })
        });
        (releases.collect(), touched)
    }
}
