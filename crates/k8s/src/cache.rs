//! Everything that is known of the cluster: objects cut to views, found by replica. One lock; no I/O.
//!
//! Each change of an object is understood at once ([`crate::report`]) and lands in the journal that `observe` reads.

use crate::affinity::Site;
use crate::companions::{Companion, Companions};
use crate::config::Checkpoints;
use crate::devices::{Devices, Release, Touched};
use crate::foreign::{GroupRef, Other};
use crate::manifest;
use crate::relations::Relations;
use crate::report::report;
use crate::spaces::Spaces;
use crate::storage::Claim;
use crate::view::{Holder, HolderKind, Place, PodView};
use crate::volumes::{Act, Volumes};
use base::{Epoch, Resources};
use engine::journal::Journal;
use engine::{Cause, Gang, Group, NodeReport, Phase, PodName, Prepared, ReplicaKey, Slot};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

mod devices;
mod relations;
mod volumes;

/// Name of a holder.
pub(crate) type HolderId = (HolderKind, Place);

pub(crate) struct Cache {
    inner: Mutex<Inner>,
    pub(crate) journal: Journal<()>,
    /// Namespaces, with a lock of their own.
    pub(crate) spaces: Spaces,
    /// Something changed that the keeper may have to act on.
    pub(crate) poke: Notify,
    /// The highest epoch that was seen on an object.
    highest: AtomicU64,
    /// What claims for checkpoints ask for.
    checkpoints: Checkpoints,
    /// The newest version of a ResourceClaim that a watch told of: all that were written before are known.
    pub(crate) seen_claims: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    holders: BTreeMap<HolderId, Holder>,
    holder_of: HashMap<ReplicaKey, HolderId>,
    pods: BTreeMap<Place, PodView>,
    /// Pods of each replica: one, or for a moment the next beside it.
    pods_of: HashMap<ReplicaKey, BTreeSet<Place>>,
    /// Pods of services that have no seat.
    seatless: BTreeSet<Place>,
    /// Replicas that were forgotten here while their object is still being deleted.
    forgotten: HashSet<ReplicaKey>,
    /// Nodes as they are, without what others use there.
    nodes: BTreeMap<String, NodeReport>,
    /// Pods that are not of the platform's own making.
    others: BTreeMap<Place, Other>,
    /// What others use, and how many pods that is, by node.
    usage: BTreeMap<String, (Resources, u32)>,
    /// What is known of the PodGroups that pods name; `None` for those that say nothing.
    sizes: HashMap<GroupRef, Option<u32>>,
    volumes: Volumes,
    /// Pods of others by the claims that they name: those that wait for us, and those that have a node.
    waiting: BTreeMap<Place, BTreeSet<Place>>,
    used: BTreeMap<Place, BTreeSet<Place>>,
    /// Whether nodes have labels of ours for the sake of claims.
    is_labelled: bool,
    devices: Devices,
    companions: Companions,
    relations: Relations,
}

impl Cache {
    pub(crate) fn new(incarnation: u64, checkpoints: Checkpoints, gpus: Option<String>) -> Cache {
        let mut inner = Inner::default();
        inner.devices.gpus = gpus;
        Cache {
            inner: Mutex::new(inner),
            journal: Journal::new(incarnation),
            spaces: Spaces::default(),
            poke: Notify::new(),
            highest: AtomicU64::new(0),
            checkpoints,
            seen_claims: watch::Sender::default(),
        }
    }

    /// The highest epoch that was seen on an object: a leader with a lower one has lost.
    pub(crate) fn highest(&self) -> Epoch {
        Epoch(self.highest.load(Ordering::Acquire))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No code that holds it can leave it half-changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what the watches tell ----

    pub(crate) fn put_node(&self, node: NodeReport) {
        let mut inner = self.inner();
        let name = node.name.clone();
        let before = inner.nodes.insert(name.clone(), node);
        let is_new = before.is_none();
        let labels = inner.nodes.get(&name).map(|node| &node.labels);
        if before.as_ref().map(|before| &before.labels) != labels {
            inner.relations.doubt();
        }
        let mut touched = Touched::default();
        inner.look_at_devices(std::slice::from_ref(&name), &mut touched.pods);
        self.tell_node(&inner, &name);
        self.tell_touched(&mut inner, touched);
        if is_new {
            self.tell_sites(&mut inner);
        }
    }

    pub(crate) fn remove_node(&self, name: &str) {
        let mut inner = self.inner();
        inner.nodes.remove(name);
        inner.relations.doubt();
        inner.devices.forget_node(name);
        self.journal.remove_node(name);
        // A volume that was to be made for it may be made elsewhere.
        self.tell_sites(&mut inner);
    }

    /// A node as it is told: less what others use there, with the claims that are reached from there, and with its devices.
    fn tell_node(&self, inner: &Inner, name: &str) {
        let Some(mut node) = inner.nodes.get(name).cloned() else {
            return;
        };
        if let Some((used, n_pods)) = inner.usage.get(name) {
            node.allocatable.subtract(used);
            if node.slots_max != 0 {
                // 0 would mean that there is no bound.
                node.slots_max = node.slots_max.saturating_sub(*n_pods).max(1);
            }
        }
        let site = Site {
            name,
            labels: &node.labels,
        };
        let labels = self.site_labels(inner, site);
        node.labels.extend(labels);
        node.labels.extend(inner.relations.labels(name));
        if let Some(share) = inner.devices.share(name) {
            node.allocatable.extended.extend(share.counts.clone());
            if inner.devices.gpus.is_some() {
                node.allocatable.gpu_milli = share.gpus * 1000;
            }
            node.labels.extend(share.labels.clone());
        }
        self.journal.put_node(node);
    }

    /// A pod that is not of the platform's own making.
    pub(crate) fn put_other(&self, other: Other) {
        let mut inner = self.inner();
        let place = other.place.clone();
        inner.use_claims(&place, false);
        let before = inner.others.remove(&place);
        let usage = |other: &Other| other.usage.clone();
        let (was, is) = (before.as_ref().and_then(usage), other.usage.clone());
        if was != is {
            self.uses(&mut inner, was, is);
        }
        let uid = |other: &Other| other.foreign.as_ref().map(|(pod, _)| pod.pod.uid.clone());
        if let Some(old) = before.as_ref().and_then(uid)
            && uid(&other).as_ref() != Some(&old)
        {
            self.journal.remove_foreign(&old);
        }
        self.stands(&mut inner, &place, other.neighbour.clone());
        let mut touched = Cache::claim_devices(&mut inner, &other);
        touched.pods.remove(&place);
        self.tell_touched(&mut inner, touched);
        let is_asked = self.tell_other(&inner, &other);
        // Which claims somebody waits with decides about labels of nodes.
        let is_news =
            before.as_ref().is_some_and(Other::waits_with_claims) != other.waits_with_claims();
        inner.others.insert(place.clone(), other);
        inner.use_claims(&place, true);
        if is_news {
            self.tell_sites(&mut inner);
        }
        drop(inner);
        if is_asked {
            self.poke.notify_one();
        }
    }

    pub(crate) fn remove_other(&self, place: &Place) {
        let mut inner = self.inner();
        inner.use_claims(place, false);
        let Some(other) = inner.others.remove(place) else {
            return;
        };
        if other.waits_with_claims() {
            self.tell_sites(&mut inner);
        }
        self.stands(&mut inner, place, None);
        inner.devices.rivals.remove(place);
        let touched = inner.devices.remove_pod(place);
        self.tell_touched(&mut inner, touched);
        self.uses(&mut inner, other.usage, None);
        if let Some((pod, _)) = other.foreign {
            self.journal.remove_foreign(&pod.pod.uid);
        }
    }

    /// Tells of a pod of others; whether its PodGroup must be asked for first.
    fn tell_other(&self, inner: &Inner, other: &Other) -> bool {
        let Some((pod, group)) = &other.foreign else {
            return false;
        };
        if inner.devices.is_early(&pod.pod) {
            return false;
        }
        let mut pod = pod.clone();
        inner.tie(&mut pod, &other.claims);
        inner.devices.tie(&mut pod);
        inner.relations.tie(&mut pod);
        if let (Some(group), Gang::Unsized { name }) = (group, &pod.gang) {
            match inner.sizes.get(group) {
                None => return true,
                Some(None) => {}
                Some(Some(0 | 1)) => pod.gang = Gang::Single,
                Some(Some(size)) => {
                    let (name, size) = (name.clone(), *size);
                    pod.gang = Gang::Of { name, size };
                }
            }
        }
        self.journal.put_foreign(pod);
        false
    }

    /// Takes what others use to its node.
    fn uses(&self, inner: &mut Inner, was: Option<Usage>, is: Option<Usage>) {
        for (usage, sign) in [(was, false), (is, true)] {
            let Some((node, amount)) = usage else {
                continue;
            };
            let (used, n_pods) = inner.usage.entry(node.clone()).or_default();
            if sign {
                used.add(&amount);
                *n_pods += 1;
            } else {
                used.subtract(&amount);
                *n_pods = n_pods.saturating_sub(1);
            }
            if *n_pods == 0 {
                inner.usage.remove(&node);
            }
            self.tell_node(inner, &node);
        }
    }

    /// How many members a PodGroup wants, or that it says nothing.
    pub(crate) fn put_size(&self, group: GroupRef, size: Option<u32>) {
        let mut inner = self.inner();
        inner.sizes.insert(group.clone(), size);
        for other in inner.others.values() {
            if other
                .foreign
                .as_ref()
                .is_some_and(|(_, of)| of.as_ref() == Some(&group))
            {
                self.tell_other(&inner, other);
            }
        }
    }

    /// Whether a pod of others, by uid, is there and has no node yet.
    pub(crate) fn is_unbound(&self, pod: &PodName) -> bool {
        let place = (pod.namespace.clone(), pod.name.clone());
        let inner = self.inner();
        let foreign = inner
            .others
            .get(&place)
            .and_then(|other| other.foreign.as_ref());
        foreign.is_some_and(|(foreign, _)| {
            foreign.pod.uid == pod.uid && foreign.node.is_none() && !foreign.is_over
        })
    }

    /// After a new list of the pods of others.
    pub(crate) fn keep_others(&self, there: &HashSet<Place>) {
        let gone: Vec<Place> = self
            .inner()
            .others
            .keys()
            .filter(|place| !there.contains(*place))
            .cloned()
            .collect();
        for place in gone {
            self.remove_other(&place);
        }
    }

    pub(crate) fn put_holder(&self, holder: Holder) {
        self.highest.fetch_max(holder.epoch.0, Ordering::AcqRel);
        let mut inner = self.inner();
        let id = (holder.kind, holder.place.clone());
        let before: Vec<ReplicaKey> = inner
            .holders
            .get(&id)
            .map(|old| old.keys().collect())
            .unwrap_or_default();
        let now: HashSet<ReplicaKey> = holder.keys().collect();
        for key in &now {
            inner.holder_of.insert(key.clone(), id.clone());
        }
        for key in before.iter().filter(|key| !now.contains(*key)) {
            inner.holder_of.remove(key);
        }
        inner.holders.insert(id, holder);
        for key in before.iter().chain(&now) {
            self.understand(&inner, key);
        }
        drop(inner);
        self.poke.notify_one();
    }

    pub(crate) fn remove_holder(&self, id: &HolderId) {
        let mut inner = self.inner();
        if let Some(holder) = inner.holders.remove(id) {
            for key in holder.keys() {
                inner.holder_of.remove(&key);
                inner.forgotten.remove(&key);
                self.understand(&inner, &key);
            }
        }
        drop(inner);
        self.poke.notify_one();
    }

    pub(crate) fn put_pod(&self, pod: PodView) {
        self.highest.fetch_max(pod.epoch.0, Ordering::AcqRel);
        let mut inner = self.inner();
        let place = pod.place.clone();
        let (before, now) = (inner.pods.get(&place).and_then(PodView::key), pod.key());
        if before != now {
            inner.unseat(&place, before.as_ref());
            match &now {
                Some(key) => {
                    inner
                        .pods_of
                        .entry(key.clone())
                        .or_default()
                        .insert(place.clone());
                }
                None => {
                    inner.seatless.insert(place.clone());
                }
            }
        } else if now.is_none() {
            inner.seatless.insert(place.clone());
        }
        let neighbour = relations::neighbour(&pod);
        inner.pods.insert(place.clone(), pod);
        self.stands(&mut inner, &place, neighbour);
        let touched = Cache::claim_own_devices(&mut inner, &place);
        self.tell_touched(&mut inner, touched);
        for key in before.iter().chain(&now) {
            self.understand(&inner, key);
        }
        drop(inner);
        self.poke.notify_one();
    }

    pub(crate) fn remove_pod(&self, place: &Place) {
        let mut inner = self.inner();
        if let Some(pod) = inner.pods.remove(place) {
            let key = pod.key();
            inner.unseat(place, key.as_ref());
            inner.seatless.remove(place);
            self.stands(&mut inner, place, None);
            let touched = Cache::claim_own_devices(&mut inner, place);
            self.tell_touched(&mut inner, touched);
            if let Some(key) = key {
                self.understand(&inner, &key);
            }
        }
        drop(inner);
        self.poke.notify_one();
    }

    pub(crate) fn put_companion(&self, companion: Option<Companion>) {
        let Some(companion) = companion else { return };
        self.inner().companions.put(companion);
    }

    pub(crate) fn remove_companion(&self, is_service: bool, place: &Place) {
        self.inner().companions.remove(is_service, place);
        self.poke.notify_one();
    }

    /// After a new list.
    pub(crate) fn keep_companions(&self, is_service: bool, there: &HashSet<Place>) {
        self.inner().companions.keep(is_service, there);
        self.poke.notify_one();
    }

    /// After a new list of nodes.
    pub(crate) fn keep_nodes(&self, there: &HashSet<Place>) {
        for name in self.journal.nodes() {
            if !there.contains(&(String::new(), name.clone())) {
                self.remove_node(&name);
            }
        }
    }

    /// After a new list: what it did not name is gone.
    pub(crate) fn keep_pods(&self, there: &HashSet<Place>) {
        let gone: Vec<Place> = self
            .inner()
            .pods
            .keys()
            .filter(|place| !there.contains(*place))
            .cloned()
            .collect();
        for place in gone {
            self.remove_pod(&place);
        }
    }

    /// The same for Jobs or Deployments.
    pub(crate) fn keep_holders(&self, kind: HolderKind, there: &HashSet<Place>) {
        let of_kind = |id: &&HolderId| id.0 == kind && !there.contains(&id.1);
        let gone: Vec<HolderId> = self
            .inner()
            .holders
            .keys()
            .filter(of_kind)
            .cloned()
            .collect();
        for id in gone {
            self.remove_holder(&id);
        }
    }

    /// Brings a replica's report up to date. An end stays: its pod may be collected later.
    fn understand(&self, inner: &Inner, key: &ReplicaKey) {
        let holder = inner
            .holder_of
            .get(key)
            .and_then(|id| inner.holders.get(id));
        let slot = holder.and_then(|holder| slot(holder, key).map(|slot| (holder, slot)));
        let Some((holder, slot)) = slot.filter(|_| !inner.forgotten.contains(key)) else {
            self.journal.remove(key);
            return;
        };
        let pod = inner.pod(key);
        let claims = pod.filter(|pod| volumes::waits(pod)).map(|pod| &pod.claims);
        let needs = claims.map(|claims| inner.needs(claims, &slot.node));
        let waits = needs.and_then(|needs| needs.waits);
        let claimant = pod.filter(|pod| !pod.devices.is_empty());
        let claimant = claimant.map(PodView::name);
        let hindered = || {
            let why = inner.devices.hindrance(claimant.as_ref()?)?;
            Some(why.to_owned())
        };
        let mut now = report(holder, slot, pod, waits.or_else(hindered));
        if let Some(claimant) = &claimant {
            now.devices.extend(inner.devices.given(claimant));
        }
        if let (Some(before), Phase::Ended(end)) = (self.journal.report(key), &now.phase)
            && let Phase::Ended(known) = &before.phase
            && (end.exit_code, end.signal) == (None, None)
            && matches!(end.cause, Cause::Stopped | Cause::Evicted)
        {
            // What the pod said counts more than what its absence says.
            now.phase = Phase::Ended(known.clone());
        }
        self.journal.put(now, ());
    }

    // ---- what others ask ----

    /// The holder of a replica, with its Slot.
    pub(crate) fn holder(&self, key: &ReplicaKey) -> Option<(Holder, Slot)> {
        let inner = self.inner();
        let holder = inner.holders.get(inner.holder_of.get(key)?)?;
        Some((holder.clone(), slot(holder, key)?.clone()))
    }

    pub(crate) fn pod(&self, key: &ReplicaKey) -> Option<PodView> {
        self.inner().pod(key).cloned()
    }

    /// A pod by name, if it still has this uid.
    pub(crate) fn pod_at(&self, place: &Place, uid: &str) -> Option<PodView> {
        self.inner()
            .pods
            .get(place)
            .filter(|pod| pod.uid == uid)
            .cloned()
    }

    /// Marks a replica as forgotten before the cluster has deleted its object.
    pub(crate) fn forget(&self, key: &ReplicaKey) {
        let mut inner = self.inner();
        if inner.holder_of.contains_key(key) {
            inner.forgotten.insert(key.clone());
        }
        self.journal.remove(key);
    }

    /// Takes an earlier [`Cache::forget`] back, where the deletion failed.
    pub(crate) fn remember(&self, key: &ReplicaKey) {
        let mut inner = self.inner();
        inner.forgotten.remove(key);
        self.understand(&inner, key);
    }

    /// Every holder with a lower epoch, and every such pod: what a new leader stamps.
    pub(crate) fn below(&self, epoch: Epoch) -> (Vec<Holder>, Vec<PodView>) {
        let inner = self.inner();
        let holders = inner.holders.values().filter(|holder| holder.epoch < epoch);
        let pods = inner
            .pods
            .values()
            .filter(|pod| pod.epoch < epoch && !pod.is_over);
        (holders.cloned().collect(), pods.cloned().collect())
    }

    /// What the keeper has to do now.
    pub(crate) fn todo(&self) -> Vec<Todo> {
        let mut inner = self.inner();
        let mut todo: Vec<Todo> = self.spaces.due().into_iter().map(Todo::Space).collect();
        self.look_at_relations(&mut inner);
        let idle = self.idle_devices(&mut inner).into_iter();
        todo.extend(idle.map(Box::new).map(Todo::Release));
        let Inner {
            holders,
            companions,
            devices,
            ..
        } = &mut *inner;
        let claims_devices = |group: &Group| manifest::claims_devices(devices.gpus.as_ref(), group);
        let due = companions.due(holders.values(), claims_devices, Instant::now());
        todo.extend(due.make.into_iter().map(Todo::Companions));
        todo.extend(due.delete.into_iter().map(Todo::Tidy));
        let inner = inner;
        let named = inner
            .others
            .values()
            .filter_map(|other| other.foreign.as_ref()?.1.as_ref());
        let unknown: BTreeSet<&GroupRef> = named
            .filter(|group| !inner.sizes.contains_key(group))
            .collect();
        todo.extend(unknown.into_iter().cloned().map(Todo::Size));
        let unheard = inner.volumes.unheard(inner.waiting.keys());
        todo.extend(unheard.cloned().map(Box::new).map(Todo::Hear));
        for holder in inner.holders.values().filter(|holder| !holder.is_deleting) {
            let mut free = Vec::new();
            for slot in &holder.group.slots {
                let key = holder.group.key(slot);
                let state = holder.slots.get(slot.index, slot.attempt);
                let stop = state.and_then(|state| state.stop);
                let end = state.and_then(|state| state.end.as_ref());
                match (inner.pod(&key), stop) {
                    (Some(pod), None) if pod.is_unbound() => {
                        match end {
                            // It was misplaced, and is placed again as another attempt.
                            Some(_) => todo.push(Todo::Stop(pod.clone(), 0)),
                            None => inner.bind(&mut todo, holder, slot, pod),
                        }
                    }
                    (Some(pod), Some(stop)) if !pod.is_deleting && !pod.is_over => {
                        todo.push(Todo::Stop(pod.clone(), stop.grace_ms));
                    }
                    (None, None) if end.is_none() => free.push(slot),
                    _ => {}
                }
                let said = self.journal.report(&key).map(|report| report.phase);
                if let (Some(Phase::Ended(said)), None) = (said, end) {
                    todo.push(Todo::Record(key.clone(), said));
                }
            }
            if holder.kind == HolderKind::Deployment {
                todo.extend(inner.claims(holder, &free));
                if holder.replicas != Some(holder.n_live()) {
                    todo.push(Todo::Scale(Box::new(holder.clone())));
                }
            }
        }
        todo
    }
}

/// One thing that the keeper does; each may be repeated.
#[derive(Clone, Debug)]
pub(crate) enum Todo {
    /// A pod without a node goes to this one.
    Bind(PodView, String),
    /// A service's pod without a seat takes this Slot.
    Claim(PodView, Slot),
    /// A pod of a Slot that was asked to end is deleted.
    Stop(PodView, u64),
    /// Somebody else scaled a Deployment: it goes back to what its Slots need.
    Scale(Box<Holder>),
    /// An end is written down where it outlives the pod.
    Record(ReplicaKey, engine::End),
    /// A PodGroup that pods of others name is asked for its size.
    Size(GroupRef),
    /// A Project's namespace is not kept apart as it should be.
    Space(String),
    /// Claims of a Group are not there.
    Claims(Arc<Group>),
    /// A claim comes nearer to its volume.
    Volume(Act),
    /// Kubernetes is asked what keeps a claim from being bound.
    Hear(Box<Claim>),
    /// A replica's node does not reach its volume.
    Misplaced(ReplicaKey, String),
    /// A pod does not come for its devices.
    Release(Box<Release>),
    /// What stands beside a Group's objects is not there.
    Companions(Arc<Group>),
    /// Nobody needs one any more.
    Tidy(Companion),
}

/// What a pod uses on a node.
type Usage = (String, Resources);

impl Inner {
    /// The pod of a replica: of several the youngest that is not over.
    fn pod(&self, key: &ReplicaKey) -> Option<&PodView> {
        let pods = self
            .pods_of
            .get(key)?
            .iter()
            .filter_map(|place| self.pods.get(place));
        pods.max_by_key(|pod| (!pod.is_over, !pod.is_deleting, pod.created, &pod.place))
    }

    fn unseat(&mut self, place: &Place, key: Option<&ReplicaKey>) {
        match key {
            Some(key) => {
                if let Some(pods) = self.pods_of.get_mut(key) {
                    pods.remove(place);
                    if pods.is_empty() {
                        self.pods_of.remove(key);
                    }
                }
            }
            None => {
                self.seatless.remove(place);
            }
        }
    }

    /// A pod gets its node, once its volumes are where it goes and its claims of devices are made.
    fn bind(&self, todo: &mut Vec<Todo>, holder: &Holder, slot: &Slot, pod: &PodView) {
        if !pod.devices.is_empty() && self.devices.hindrance(&pod.name()).is_some() {
            return;
        }
        if pod.claims.is_empty() {
            todo.push(Todo::Bind(pod.clone(), slot.node.clone()));
            return;
        }
        let needs = self.needs(&pod.claims, &slot.node);
        todo.extend(needs.unheard.iter().cloned().map(Box::new).map(Todo::Hear));
        if needs.has_missing {
            todo.push(Todo::Claims(Arc::clone(&holder.group)));
        }
        todo.extend(needs.acts.iter().cloned().map(Todo::Volume));
        match needs.prepared() {
            Prepared::Ready => todo.push(Todo::Bind(pod.clone(), slot.node.clone())),
            Prepared::Waits(_) => {}
            Prepared::Elsewhere(sentence) => {
                todo.push(Todo::Misplaced(holder.group.key(slot), sentence));
            }
        }
    }

    /// Unbound pods of a Deployment take its free Slots, both in order.
    fn claims(&self, holder: &Holder, free: &[&Slot]) -> Vec<Todo> {
        let group: &Group = &holder.group;
        let unbound = self
            .seatless
            .iter()
            .filter_map(|place| self.pods.get(place))
            .filter(|pod| {
                let is_its = pod.owner == group.owner && pod.group == group.name;
                is_its && pod.is_unbound()
            });
        unbound
            .zip(free)
            .map(|(pod, slot)| Todo::Claim(pod.clone(), (*slot).clone()))
            .collect()
    }
}

fn slot<'a>(holder: &'a Holder, key: &ReplicaKey) -> Option<&'a Slot> {
    let group: &Arc<Group> = &holder.group;
    group
        .slots
        .iter()
        .find(|slot| (slot.index, slot.attempt) == (key.index, key.attempt))
}
