//! Which nodes have devices for the claims of pods, ours and those of others, and which devices a pod gets. Pure.
//!
//! Dynamic resource allocation: drivers publish devices (ResourceSlice), pods claim them (ResourceClaim) by class (DeviceClass), and
//! whoever schedules a pod writes into the claim which devices it has, before the pod is bound. The rules are those of
//! kube-scheduler's plug-in `dynamicresources`.
//!
//! The scheduler hears of it in words that it knows. How many devices of a class a node has is an extended resource
//! `device/CLASS`; what a count cannot say (expressions, alternatives, constraints, claims that are shared) is a label of the nodes
//! where it could be had now. Which devices these are is decided when a pod is about to be bound ([`Devices::reserve`]): kept here
//! until it is written, so that no two pods get the same.
//!
//! Read `objects` (what the cluster tells), `known` (what is published), `allocate` (the search), `pods` and `nodes` (what the scheduler
//! hears), then `reserve`.

use crate::view::Place;
use std::collections::{BTreeMap, BTreeSet, HashMap};

mod allocate;
mod known;
mod nodes;
mod objects;
mod pods;
mod quantity;
mod reserve;
mod selector;

use known::Known;
use nodes::Share;
pub(crate) use objects::{Claim, Class, FINALIZER, Named, Slice, named};
use objects::{DeviceId, PoolId};
use pods::{Ask, Asker};
use reserve::Reserved;
pub(crate) use reserve::{Grant, Release, Reserve};

/// Before the name of a class, as an extended resource.
pub(crate) const COUNTED: &str = "device/";
/// The value of labels that say where claims can be fulfilled.
const FREE: &str = "free";

/// Everything that is known of devices; bounded by what the cluster holds.
#[derive(Default)]
pub(crate) struct Devices {
    /// Why nothing is known, where the cluster does not tell of devices.
    pub(crate) missing: Option<&'static str>,
    /// The class whose devices are the GPUs of nodes, where these are claimed.
    pub(crate) gpus: Option<String>,
    known: Known,
    claims: BTreeMap<Place, Claim>,
    /// Claims by the devices that they hold, or for which they are reserved, by uid.
    holders: HashMap<DeviceId, BTreeSet<String>>,
    held: HashMap<String, Vec<DeviceId>>,
    reserved: BTreeMap<String, Reserved>,
    pods: BTreeMap<Place, Asker>,
    users: BTreeMap<Place, BTreeSet<Place>>,
    asks: BTreeMap<String, Ask>,
    told: BTreeMap<String, Share>,
    /// Pods that claim devices and wait for another scheduler.
    pub(crate) rivals: BTreeSet<Place>,
}

/// What follows from a change.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Nodes whose share may be another; all of them where `is_all`.
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) is_all: bool,
    /// Pods that may stand differently.
    pub(crate) pods: BTreeSet<Place>,
}

impl Devices {
    // ---- what is published ----

    pub(crate) fn put_slice(&mut self, slice: Slice) -> Touched {
        let mut touched = self.remove_slice(&slice.name);
        touched.slice(&slice);
        self.known.forget(&slice);
        match slice.only_node() {
            Some(node) => {
                let local = self.known.local.entry(node.to_owned()).or_default();
                local.insert(slice.pool.clone());
            }
            None => drop(self.known.wide.insert(slice.pool.clone())),
        }
        // The pool of a driver may have parts on several nodes: whether it is whole is the same everywhere.
        self.known
            .slices
            .insert(slice.name.clone(), slice.pool.clone());
        let slices = self.known.pools.entry(slice.pool.clone()).or_default();
        slices.values().for_each(|other| touched.slice(other));
        slices.insert(slice.name.clone(), slice);
        touched
    }

    pub(crate) fn remove_slice(&mut self, name: &str) -> Touched {
        let mut touched = Touched::default();
        let known = &mut self.known;
        let Some(pool) = known.slices.remove(name) else {
            return touched;
        };
        let slices = known.pools.entry(pool.clone()).or_default();
        slices.values().for_each(|slice| touched.slice(slice));
        let gone = slices.remove(name);
        if let Some(gone) = &gone {
            known.forget(gone);
        }
        let slices = known
            .pools
            .get(&pool)
            .into_iter()
            .flat_map(BTreeMap::values);
        let node = gone.as_ref().and_then(Slice::only_node);
        let is_same = |slice: &Slice| slice.only_node() == node;
        if !slices.into_iter().any(is_same) {
            match node {
                Some(node) => {
                    if let Some(local) = known.local.get_mut(node) {
                        local.remove(&pool);
                    }
                }
                None => drop(known.wide.remove(&pool)),
            }
        }
        known.pools.retain(|_, slices| !slices.is_empty());
        known.local.retain(|_, pools| !pools.is_empty());
        touched
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &String> {
        self.known.slices.keys()
    }

    pub(crate) fn put_class(&mut self, class: Class) -> Touched {
        self.known.classes.insert(class.name.clone(), class);
        self.all()
    }

    pub(crate) fn remove_class(&mut self, name: &str) -> Touched {
        self.known.classes.remove(name);
        self.all()
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = &String> {
        self.known.classes.keys()
    }

    /// Everything may be different.
    pub(crate) fn all(&mut self) -> Touched {
        let pods: Vec<Place> = self.pods.keys().cloned().collect();
        let mut touched = self.stand_anew(pods);
        touched.is_all = true;
        touched
    }

    // ---- claims ----

    pub(crate) fn put_claim(&mut self, claim: Claim) -> Touched {
        let mut touched = Touched::default();
        let before = self.claims.get(&claim.place);
        if before.is_some_and(|before| before == &claim) {
            return touched;
        }
        let place = claim.place.clone();
        let another = before
            .filter(|before| before.uid != claim.uid)
            .map(|old| old.uid.clone());
        // What was kept for it is written, or somebody else has decided.
        if claim.allocation.is_some() {
            self.reserved.remove(&claim.uid);
        }
        for uid in another.iter().chain([&claim.uid]) {
            touched.add(self.let_go(uid));
        }
        self.claims.insert(place.clone(), claim);
        touched.add(self.hold(&place));
        touched.add(self.stand_anew(self.users_of(&place)));
        touched
    }

    pub(crate) fn remove_claim(&mut self, place: &Place) -> Touched {
        let Some(claim) = self.claims.remove(place) else {
            return Touched::default();
        };
        self.reserved.remove(&claim.uid);
        let mut touched = self.let_go(&claim.uid);
        touched.add(self.stand_anew(self.users_of(place)));
        touched
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = &Place> {
        self.claims.keys()
    }

    fn users_of(&self, claim: &Place) -> Vec<Place> {
        self.users
            .get(claim)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// A claim's devices are held by nobody now.
    fn let_go(&mut self, uid: &str) -> Touched {
        let held = self.held.remove(uid).unwrap_or_default();
        for device in &held {
            if let Some(holders) = self.holders.get_mut(device) {
                holders.remove(uid);
                if holders.is_empty() {
                    self.holders.remove(device);
                }
            }
        }
        self.reaching(&held)
    }

    /// A claim holds what it has, or what is kept for it.
    fn hold(&mut self, place: &Place) -> Touched {
        let Some(claim) = self.claims.get(place) else {
            return Touched::default();
        };
        let kept = self.reserved.get(&claim.uid).map(|kept| &kept.allocation);
        let Some(allocation) = claim.allocation.as_ref().or(kept) else {
            return Touched::default();
        };
        let held: Vec<DeviceId> = DeviceId::held(&allocation.result).collect();
        let uid = claim.uid.clone();
        for device in &held {
            self.holders
                .entry(device.clone())
                .or_default()
                .insert(uid.clone());
        }
        let touched = self.reaching(&held);
        self.held.insert(uid, held);
        touched
    }

    /// The nodes that reach devices.
    fn reaching(&self, devices: &[DeviceId]) -> Touched {
        let mut touched = Touched::default();
        let pools: BTreeSet<&PoolId> = devices.iter().map(|device| &device.pool).collect();
        let pools = pools
            .into_iter()
            .filter_map(|pool| self.known.pools.get(pool));
        pools
            .flat_map(BTreeMap::values)
            .for_each(|slice| touched.slice(slice));
        touched
    }
}

impl Touched {
    fn slice(&mut self, slice: &Slice) {
        match slice.only_node() {
            Some(node) => drop(self.nodes.insert(node.to_owned())),
            None => self.is_all = true,
        }
    }

    pub(crate) fn add(&mut self, more: Touched) {
        self.nodes.extend(more.nodes);
        self.pods.extend(more.pods);
        self.is_all |= more.is_all;
    }
}

/// How people read of a claim.
fn shown((namespace, name): &Place) -> String {
    format!("`{namespace}/{name}`")
}

#[cfg(test)]
mod tests;
