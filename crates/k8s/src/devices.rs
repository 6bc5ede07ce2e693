//! Which nodes have devices for the claims of pods of others, and which devices a pod gets. Pure.
//!
//! Dynamic resource allocation: drivers publish devices (ResourceSlice), pods claim them (ResourceClaim) by class (DeviceClass), and
//! whoever schedules a pod writes into the claim which devices it has, before the pod is bound. The rules are those of
//! kube-scheduler's plug-in `dynamicresources`.
//!
//! The scheduler hears of it in words that it knows. How many devices of a class a node has is an extended resource
//! `device/CLASS`; what a count cannot say (expressions, alternatives, constraints, claims that are shared) is a label of the nodes
//! where it could be had now. Which devices these are is decided when a pod is about to be bound ([`Devices::reserve`]): kept here
//! until it is written, so that no two pods get the same.

use crate::affinity::{Labels, Site};
use crate::view::Place;
use engine::{ForeignPod, PodName, Prepared};
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClaim, DeviceSelector};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

mod allocate;
mod objects;
mod quantity;
mod selector;

use allocate::{Offers, allocate, tolerates, wishes};
use objects::{Allocation, Offer};
pub(crate) use objects::{Claim, Class, DeviceId, FINALIZER, Named, PoolId, Slice, named};
use selector::Selector;

/// Before the name of a class, as an extended resource.
const COUNTED: &str = "device/";
/// The value of labels that say where claims can be fulfilled.
const FREE: &str = "free";
/// What is kept for a pod that is not bound is let go after this. One that is about to be bound asks again each second.
const RESERVED_MAX: Duration = Duration::from_secs(30);
/// Kubernetes makes claims from templates a moment after their pods; nobody is told before this.
const MADE_MAX: Duration = Duration::from_secs(5);
/// Expressions whose meaning is remembered.
const SELECTORS_MAX: usize = 1_000;

/// What is published: devices and their classes.
#[derive(Default)]
pub(crate) struct Known {
    pools: BTreeMap<PoolId, BTreeMap<String, Slice>>,
    /// Pools with devices of one node alone, by node; the others.
    local: BTreeMap<String, BTreeSet<PoolId>>,
    wide: BTreeSet<PoolId>,
    classes: BTreeMap<String, Class>,
    selectors: Mutex<HashMap<String, Meaning>>,
}

/// What an expression means, and of which devices that is known already.
struct Meaning {
    selector: Result<Selector, String>,
    devices: HashMap<DeviceId, Result<bool, String>>,
}

/// What is held by others than those that are excepted.
pub(crate) struct Taken<'a> {
    holders: &'a HashMap<DeviceId, BTreeSet<String>>,
    except: &'a BTreeSet<&'a str>,
}

impl Taken<'_> {
    fn has(&self, device: &DeviceId) -> bool {
        let mut holders = self.holders.get(device).into_iter().flatten();
        holders.any(|uid| !self.except.contains(uid.as_str()))
    }
}

/// Everything that is known of devices; bounded by what the cluster holds.
#[derive(Default)]
pub(crate) struct Devices {
    /// Why nothing is known, where the cluster does not tell of devices.
    pub(crate) missing: Option<&'static str>,
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
}

/// Devices that are a claim's before that is written.
#[derive(Clone)]
struct Reserved {
    /// For this pod, by uid.
    pod: String,
    allocation: Allocation,
    at: Instant,
}

/// A pod of others that names claims and is not over.
struct Asker {
    uid: String,
    named: Vec<Named>,
    /// It has no node yet.
    waits: bool,
    standing: Standing,
    /// Devices of each class that the scheduler counts.
    counted: BTreeMap<String, u64>,
    /// When it was last about to be bound, or seen first.
    at: Instant,
    /// A claim of its own should have been made by now.
    is_late: bool,
}

/// Where a pod stands with its claims.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// No node will do, whatever is free there.
    Hindered(String),
    /// Counting says everything.
    Counted,
    /// Only nodes with this label will do.
    Labelled(String),
}

/// What pods with the same label ask for.
struct Ask {
    parts: Vec<Part>,
    pods: BTreeSet<Place>,
    /// Where it can be had now, and where that cannot be said.
    nodes: BTreeSet<String>,
    errors: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// Devices for one pod alone.
    Own(Arc<DeviceClaim>),
    /// A claim that others may use, too, or that has its devices already.
    Shared(Place),
}

/// What a node is told to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Share {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) labels: Labels,
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

impl Known {
    /// Devices that are reached from a node.
    fn offers(&self, site: Site<'_>) -> Offers<'_> {
        let mut offers = Offers::default();
        let local = self.local.get(site.name).into_iter().flatten();
        let pools = local
            .chain(&self.wide)
            .filter_map(|pool| self.pools.get(pool));
        for slices in pools {
            let generation = slices.values().map(|slice| slice.generation).max();
            let current: Vec<&Slice> = slices
                .values()
                .filter(|slice| Some(slice.generation) == generation)
                .collect();
            let devices = || current.iter().flat_map(|slice| &slice.devices);
            let names: BTreeSet<&str> = devices().map(|offer| offer.id.device.as_str()).collect();
            let is_twofold = names.len() < devices().count();
            let n_slices = i64::try_from(current.len()).unwrap_or(i64::MAX);
            let is_whole = current.iter().all(|slice| slice.n_slices == n_slices) && !is_twofold;
            let reached = devices().filter(|offer| offer.reach.is_reached(site));
            if is_whole {
                offers.all.extend(reached);
            } else {
                offers.is_incomplete |= reached.count() > 0;
            }
        }
        offers
    }

    /// Whether a device is of a class and meant by the selectors of a request.
    fn is_meant(
        &self,
        class: &str,
        selectors: &[DeviceSelector],
        offer: &Offer,
    ) -> Result<bool, String> {
        let Some(known) = self.classes.get(class) else {
            return Ok(false);
        };
        for selector in known.selectors.iter().chain(selectors) {
            let text = selector.cel.as_ref().map_or("", |cel| &cel.expression);
            let is_meant = self
                .means(text, offer)
                .map_err(|why| not_said(class, text, &why))?;
            if !is_meant {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn means(&self, text: &str, offer: &Offer) -> Result<bool, String> {
        self.with(text, |meaning| {
            let selector = meaning.selector.as_ref().map_err(Clone::clone)?;
            let known = meaning.devices.entry(offer.id.clone());
            let means =
                known.or_insert_with(|| selector.means(&offer.id.pool.driver, &offer.device));
            means.clone()
        })
    }

    /// The reason where an expression is not understood.
    fn is_understood(&self, text: &str) -> Result<(), String> {
        self.with(text, |meaning| {
            meaning.selector.as_ref().map(drop).map_err(Clone::clone)
        })
    }

    fn with<T>(&self, text: &str, ask: impl FnOnce(&mut Meaning) -> T) -> T {
        let mut selectors = self
            .selectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if selectors.len() >= SELECTORS_MAX && !selectors.contains_key(text) {
            selectors.clear();
        }
        let meaning = selectors.entry(text.to_owned()).or_insert_with(|| Meaning {
            selector: Selector::new(text),
            devices: HashMap::new(),
        });
        ask(meaning)
    }

    /// Forgets what expressions mean for the devices of a slice that is another now.
    fn forget(&self, slice: &Slice) {
        let mut selectors = self
            .selectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for meaning in selectors.values_mut() {
            for offer in &slice.devices {
                meaning.devices.remove(&offer.id);
            }
        }
    }

    /// Why a claim cannot be fulfilled by any node, whatever is published there.
    fn refuses(&self, claim: &DeviceClaim) -> Option<String> {
        for request in claim.requests.iter().flatten() {
            let name = &request.name;
            let wishes = match wishes(request) {
                Ok(wishes) => wishes,
                Err(why) => {
                    return Some(format!("its request `{name}` cannot be fulfilled: {why}"));
                }
            };
            for wish in wishes {
                let Some(class) = self.classes.get(wish.class) else {
                    let class = wish.class;
                    return Some(format!(
                        "its request `{name}` names the device class `{class}`, which is not there"
                    ));
                };
                for selector in class.selectors.iter().chain(wish.selectors) {
                    let Some(cel) = &selector.cel else {
                        return Some(format!(
                            "a selector of its request `{name}` is not in `cel`"
                        ));
                    };
                    if let Err(why) = self.is_understood(&cel.expression) {
                        return Some(not_said(wish.class, &cel.expression, &why));
                    }
                }
            }
        }
        let mut constraints = claim.constraints.iter().flatten();
        let is_unknown = constraints.any(|constraint| constraint.match_attribute.is_none());
        is_unknown.then(|| "of its `constraints` only `matchAttribute` is supported".to_owned())
    }
}

fn not_said(class: &str, text: &str, why: &str) -> String {
    format!("the selector `{text}` of a device of class `{class}` cannot be evaluated: {why}")
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
        let slices = self.known.pools.entry(slice.pool.clone()).or_default();
        slices.values().for_each(|other| touched.slice(other));
        slices.insert(slice.name.clone(), slice);
        touched
    }

    pub(crate) fn remove_slice(&mut self, name: &str) -> Touched {
        let mut touched = Touched::default();
        let known = &mut self.known;
        let pool = known
            .pools
            .iter()
            .find(|(_, slices)| slices.contains_key(name));
        let Some(pool) = pool.map(|(pool, _)| pool.clone()) else {
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
        self.known.pools.values().flat_map(BTreeMap::keys)
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

    // ---- pods ----

    /// A pod of others that is not over, with the claims that it names.
    pub(crate) fn put_pod(&mut self, pod: &ForeignPod, named: &[Named], now: Instant) -> Touched {
        let place = (pod.pod.namespace.clone(), pod.pod.name.clone());
        let before = self.pods.get(&place);
        let (uid, waits) = (pod.pod.uid.clone(), pod.node.is_none());
        let is_same =
            |asker: &Asker| asker.uid == uid && asker.named == named && asker.waits == waits;
        if before.is_some_and(is_same) {
            return Touched::default();
        }
        let before = before.filter(|before| before.uid == uid);
        let at = before.map_or(now, |before| before.at);
        let before_is_late = before.is_some_and(|before| before.is_late);
        let mut touched = self.remove_pod(&place);
        for claim in named.iter().filter_map(|named| named.claim.clone()) {
            self.users.entry(claim).or_default().insert(place.clone());
        }
        let asker = Asker {
            uid,
            named: named.to_vec(),
            waits,
            standing: Standing::Counted,
            counted: BTreeMap::new(),
            at,
            is_late: before_is_late,
        };
        self.pods.insert(place.clone(), asker);
        touched.add(self.stand_anew(vec![place]));
        touched
    }

    /// It is over, gone, or names none.
    pub(crate) fn remove_pod(&mut self, place: &Place) -> Touched {
        let mut touched = self.unask(place);
        let Some(gone) = self.pods.remove(place) else {
            return touched;
        };
        touched.is_all |= gone.counted.keys().any(|class| !self.counts(class));
        for claim in gone.named.iter().filter_map(|named| named.claim.as_ref()) {
            if let Some(users) = self.users.get_mut(claim) {
                users.remove(place);
            }
            // Its devices count as those of nobody known now.
            touched.add(self.hold(claim));
        }
        self.users.retain(|_, users| !users.is_empty());
        let kept = self
            .reserved
            .iter()
            .filter(|(_, kept)| kept.pod == gone.uid);
        let kept: Vec<String> = kept.map(|(uid, _)| uid.clone()).collect();
        for uid in kept {
            self.reserved.remove(&uid);
            touched.add(self.let_go(&uid));
        }
        touched
    }

    fn unask(&mut self, place: &Place) -> Touched {
        let mut touched = Touched::default();
        let Some(Standing::Labelled(label)) = self.pods.get(place).map(|pod| &pod.standing) else {
            return touched;
        };
        let label = label.clone();
        if let Some(ask) = self.asks.get_mut(&label) {
            ask.pods.remove(place);
            if ask.pods.is_empty() {
                touched.nodes = std::mem::take(&mut ask.nodes);
                self.asks.remove(&label);
            }
        }
        touched
    }

    /// Finds out anew where pods stand.
    fn stand_anew(&mut self, pods: Vec<Place>) -> Touched {
        let mut touched = Touched::default();
        for place in pods {
            let Some(pod) = self.pods.get(&place) else {
                continue;
            };
            let (standing, counted, parts) = self.stand(pod);
            if (&standing, &counted) == (&pod.standing, &pod.counted)
                && pod.is_in(&self.asks, &place)
            {
                // What is counted as its own may be another device now.
                continue;
            }
            touched.add(self.unask(&place));
            touched.is_all |= counted.keys().any(|class| !self.counts(class));
            if let Standing::Labelled(label) = &standing {
                let ask = self.asks.entry(label.clone()).or_insert_with(|| {
                    touched.is_all = true;
                    Ask {
                        parts,
                        pods: BTreeSet::new(),
                        nodes: BTreeSet::new(),
                        errors: BTreeMap::new(),
                    }
                });
                ask.pods.insert(place.clone());
            }
            let pod = self.pods.get_mut(&place).expect("it was there");
            (pod.standing, pod.counted) = (standing, counted);
            touched.pods.insert(place);
        }
        touched
    }

    /// Whether the scheduler counts devices of a class.
    fn counts(&self, class: &str) -> bool {
        self.pods
            .values()
            .any(|pod| pod.counted.contains_key(class))
    }

    fn stand(&self, pod: &Asker) -> (Standing, BTreeMap<String, u64>, Vec<Part>) {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let mut parts = Vec::new();
        let mut is_plain = true;
        let mut hindered = None;
        for named in &pod.named {
            let claim = named
                .claim
                .as_ref()
                .and_then(|place| self.claims.get(place));
            if let Some(sentence) = self.hindered(pod, named, claim) {
                hindered.get_or_insert(sentence);
                continue;
            }
            let Some(claim) = claim else { continue };
            let is_own = claim.pod.as_ref() == Some(&pod.uid);
            let mut is_counted = is_own;
            if is_own {
                let count = plainly(&claim.spec);
                is_plain &= count.as_ref().is_some_and(|count| count.is_exact);
                is_counted &= count.is_some();
                for (class, n) in count.into_iter().flat_map(|count| count.classes) {
                    *counted.entry(class).or_default() += n;
                }
            }
            // One that a pod found fulfilled, after whoever began that was interrupted, is where it is.
            let is_decided = claim.allocation.is_some() && pod.waits;
            is_plain &= is_counted && !is_decided;
            parts.push(if is_own && !is_decided {
                Part::Own(Arc::clone(&claim.spec))
            } else {
                Part::Shared(claim.place.clone())
            });
        }
        let standing = match hindered {
            _ if !pod.waits => Standing::Counted,
            Some(sentence) => Standing::Hindered(sentence),
            None if parts.is_empty() || is_plain && counted.len() == 1 => Standing::Counted,
            None => Standing::Labelled(label(&parts)),
        };
        (standing, counted, parts)
    }

    /// Why a pod can have no node at all because of one of its claims.
    fn hindered(&self, pod: &Asker, named: &Named, claim: Option<&Claim>) -> Option<String> {
        if let Some(missing) = self.missing {
            return Some(format!(
                "`spec.resourceClaims` cannot be fulfilled: {missing}"
            ));
        }
        let Some(place) = &named.claim else {
            let name = &named.name;
            return Some(format!(
                "its claim `{name}` is not made from its template yet"
            ));
        };
        let what = shown(place);
        let Some(claim) = claim else {
            return Some(format!("the claim {what} is not there"));
        };
        if named.is_own && claim.pod.as_ref() != Some(&pod.uid) {
            return Some(format!(
                "the claim {what} was not made for this pod: delete one of the two"
            ));
        }
        if claim.is_deleting {
            return Some(format!("the claim {what} is being deleted"));
        }
        if claim.is_full() && !claim.is_used_by(&pod.uid) {
            return Some(format!(
                "the claim {what} is used by as many pods as may use one"
            ));
        }
        if claim.allocation.is_some() {
            return None;
        }
        let why = self.known.refuses(&claim.spec)?;
        Some(format!("the claim {what} cannot be fulfilled: {why}"))
    }

    /// Whether a claim of a pod is about to be made: until then nothing is to be told of the pod.
    pub(crate) fn is_early(&self, pod: &PodName) -> bool {
        let asker = self
            .asker(pod)
            .filter(|asker| asker.waits && !asker.is_late);
        asker.is_some_and(Asker::is_unmade) && self.missing.is_none()
    }

    /// Adds to a pod of others what its claims say: what it counts for, where it can go, or why nowhere.
    pub(crate) fn tie(&self, pod: &mut ForeignPod) {
        let place = (pod.pod.namespace.clone(), pod.pod.name.clone());
        let Some(asker) = self
            .pods
            .get(&place)
            .filter(|asker| asker.uid == pod.pod.uid)
        else {
            return;
        };
        for (class, count) in &asker.counted {
            pod.request
                .extended
                .insert(format!("{COUNTED}{class}"), *count);
        }
        match &asker.standing {
            Standing::Counted => {}
            Standing::Hindered(sentence) => drop(pod.lacks.get_or_insert(sentence.clone())),
            Standing::Labelled(label) => {
                pod.node_selector.insert(label.clone(), FREE.to_owned());
                if let Some(ask) = self.asks.get(label).filter(|ask| ask.nodes.is_empty()) {
                    let error = ask.errors.values().next();
                    pod.lacks = pod.lacks.take().or_else(|| error.cloned());
                }
            }
        }
    }

    // ---- nodes ----

    /// What a node is told to have.
    pub(crate) fn share(&self, node: &str) -> Option<&Share> {
        self.told.get(node)
    }

    /// Looks at a node anew: whether its share is another, and pods that may stand differently.
    pub(crate) fn look(&mut self, site: Site<'_>) -> (bool, BTreeSet<Place>) {
        let mut share = Share::default();
        let mut pods = BTreeSet::new();
        let mut classes: BTreeSet<&str> = BTreeSet::new();
        let mut own: BTreeSet<&str> = BTreeSet::new();
        for pod in self.pods.values().filter(|pod| !pod.counted.is_empty()) {
            classes.extend(pod.counted.keys().map(String::as_str));
            let claims = pod.named.iter().filter(|named| named.is_own);
            let claims = claims.filter_map(|named| self.claims.get(named.claim.as_ref()?));
            own.extend(claims.map(|claim| claim.uid.as_str()));
        }
        if !classes.is_empty() {
            let offers = self.known.offers(site);
            // What the scheduler counts as used by pods is not taken by others.
            let taken = Taken {
                holders: &self.holders,
                except: &own,
            };
            for class in classes {
                let is_there = |offer: &&&Offer| {
                    offer.is_whole()
                        && tolerates(&[], offer.device.taints.as_deref())
                        && !taken.has(&offer.id)
                        && self.known.is_meant(class, &[], offer) == Ok(true)
                };
                let count = offers.all.iter().filter(is_there).count() as u64;
                if count > 0 {
                    share.counts.insert(format!("{COUNTED}{class}"), count);
                }
            }
        }
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
                share.labels.insert(label, FREE.to_owned());
            } else {
                ask.nodes.remove(site.name);
            }
            if before != (ask.nodes.is_empty(), ask.errors.is_empty()) {
                pods.extend(ask.pods.iter().cloned());
            }
        }
        let before = self.told.insert(site.name.to_owned(), share);
        (before.as_ref() != self.told.get(site.name), pods)
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

    // ---- devices for a pod ----

    fn claims_of<'a>(&'a self, pod: &'a Asker) -> impl Iterator<Item = &'a Claim> {
        let places = pod.named.iter().filter_map(|named| named.claim.as_ref());
        places.filter_map(|place| self.claims.get(place))
    }

    fn asker(&self, pod: &PodName) -> Option<&Asker> {
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

impl Asker {
    fn is_unmade(&self) -> bool {
        self.named.iter().any(|named| named.claim.is_none())
    }

    /// Whether it is known to its ask, where it has one.
    fn is_in(&self, asks: &BTreeMap<String, Ask>, place: &Place) -> bool {
        match &self.standing {
            Standing::Labelled(label) => {
                asks.get(label).is_some_and(|ask| ask.pods.contains(place))
            }
            Standing::Hindered(_) | Standing::Counted => true,
        }
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

/// What of a claim the scheduler can count.
struct Plain {
    classes: BTreeMap<String, u64>,
    /// The count says everything.
    is_exact: bool,
}

/// `None` where nothing can be counted.
fn plainly(claim: &DeviceClaim) -> Option<Plain> {
    let mut plain = Plain {
        classes: BTreeMap::new(),
        is_exact: claim.constraints.as_ref().is_none_or(Vec::is_empty),
    };
    for request in claim.requests.iter().flatten() {
        let exactly = request.exactly.as_ref()?;
        let wishes = wishes(request).ok()?;
        let wish = wishes.first()?;
        // A taint that is consented to does not lessen what there is.
        if !wish.tolerations.is_empty() {
            return None;
        }
        plain.is_exact &= wish.selectors.is_empty();
        let count = plain
            .classes
            .entry(exactly.device_class_name.clone())
            .or_default();
        *count += wish.count? as u64;
    }
    Some(plain)
}

/// The classes that a claim names.
fn classes(claim: &DeviceClaim) -> impl Iterator<Item = &str> {
    let wishes = claim
        .requests
        .iter()
        .flatten()
        .filter_map(|request| wishes(request).ok());
    wishes.flatten().map(|wish| wish.class)
}

/// The label of nodes that have what is asked for. Known here alone: Kubernetes never sees it.
fn label(parts: &[Part]) -> String {
    if let [Part::Shared((namespace, name))] = parts {
        return format!("{COUNTED}{namespace}/{name}");
    }
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut hash = Sha256::new();
    for part in parts {
        match part {
            Part::Own(claim) => {
                names.extend(classes(claim));
                let text = serde_json::to_string(claim).unwrap_or_default();
                hash.update(text);
            }
            Part::Shared((namespace, name)) => {
                names.insert(name);
                hash.update(format!("{namespace}/{name}"));
            }
        }
        hash.update([0]);
    }
    let names = names.into_iter().collect::<Vec<_>>().join("+");
    let hash = hash.finalize();
    format!(
        "{COUNTED}{names}/{:02x}{:02x}{:02x}{:02x}",
        hash[0], hash[1], hash[2], hash[3]
    )
}

/// How people read of a claim.
fn shown((namespace, name): &Place) -> String {
    format!("`{namespace}/{name}`")
}

#[cfg(test)]
mod tests;
