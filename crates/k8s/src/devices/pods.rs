//! Where pods stand with their claims: what the scheduler counts for them, which label they need, or what hinders them.

use super::allocate::wishes;
use super::objects::{Claim, Named};
use super::{COUNTED, Devices, FREE, Touched, shown};
use crate::view::Place;
use base::Bytes;
use engine::{DeviceGrant, ForeignPod, PodName};
use k8s_openapi::api::resource::v1::DeviceClaim;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// A pod that names claims and is not over.
pub(super) struct Asker {
    pub(super) uid: String,
    pub(super) named: Vec<Named>,
    /// It has no node yet.
    pub(super) waits: bool,
    pub(super) standing: Standing,
    /// Devices of each class that the scheduler counts.
    pub(super) counted: BTreeMap<String, u64>,
    /// The claims of its own that have these, by uid.
    pub(super) own: BTreeSet<String>,
    /// When it was last about to be bound, or seen first.
    pub(super) at: Instant,
    /// A claim of its own should have been made by now.
    pub(super) is_late: bool,
}

/// Where a pod stands with its claims.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// No node will do, whatever is free there.
    Hindered(String),
    /// Counting says everything.
    Counted,
    /// Only nodes with this label will do.
    Labelled(String),
}

/// What was found out of a pod.
struct Stood {
    standing: Standing,
    counted: BTreeMap<String, u64>,
    own: BTreeSet<String>,
    parts: Vec<Part>,
}

/// What pods with the same label ask for.
pub(super) struct Ask {
    pub(super) parts: Vec<Part>,
    pub(super) pods: BTreeSet<Place>,
    /// Where it can be had now, and where that cannot be said.
    pub(super) nodes: BTreeSet<String>,
    pub(super) errors: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// Devices for one pod alone.
    Own(Arc<DeviceClaim>),
    /// A claim that others may use, too, or that has its devices already.
    Shared(Place),
}

impl Devices {
    /// A pod that is not over, with the claims that it names; it `waits` while it has no node.
    pub(crate) fn put_pod(
        &mut self,
        pod: &PodName,
        waits: bool,
        named: &[Named],
        now: Instant,
    ) -> Touched {
        let place = (pod.namespace.clone(), pod.name.clone());
        let before = self.pods.get(&place);
        let uid = pod.uid.clone();
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
            own: BTreeSet::new(),
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
        touched.is_all |= gone.counted.keys().any(|class| !self.is_counted(class));
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
    pub(super) fn stand_anew(&mut self, pods: Vec<Place>) -> Touched {
        let mut touched = Touched::default();
        for place in pods {
            let Some(pod) = self.pods.get(&place) else {
                continue;
            };
            let Stood {
                standing,
                counted,
                own,
                parts,
            } = self.stand(pod);
            let is_same = (&standing, &counted, &own) == (&pod.standing, &pod.counted, &pod.own);
            if is_same && pod.is_in(&self.asks, &place) {
                continue;
            }
            touched.add(self.unask(&place));
            touched.is_all |= counted.keys().any(|class| !self.is_counted(class));
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
            (pod.standing, pod.counted, pod.own) = (standing, counted, own);
            touched.pods.insert(place);
        }
        touched
    }

    /// Whether the scheduler counts devices of a class already.
    fn is_counted(&self, class: &str) -> bool {
        let mut pods = self.pods.values();
        pods.any(|pod| pod.counted.contains_key(class))
            || self.always_counted().any(|always| always == class)
    }

    fn stand(&self, pod: &Asker) -> Stood {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let mut own = BTreeSet::new();
        let mut parts = Vec::new();
        let mut is_plain = true;
        let mut hindered = None;
        for named in &pod.named {
            let claim = named
                .claim
                .as_ref()
                .and_then(|place| self.claims.get(place));
            // One that has its node counts as long as it is there.
            let hindrance = self.hindered(pod, named, claim);
            if let Some(sentence) = hindrance.filter(|_| pod.waits) {
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
                if is_counted {
                    own.insert(claim.uid.clone());
                }
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
        Stood {
            standing,
            counted,
            own,
            parts,
        }
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

    /// Why a pod that has no node yet cannot be given devices now.
    pub(crate) fn hindrance(&self, pod: &PodName) -> Option<&str> {
        match &self.asker(pod).filter(|asker| asker.waits)?.standing {
            Standing::Hindered(sentence) => Some(sentence),
            Standing::Counted | Standing::Labelled(_) => None,
        }
    }

    /// The devices that a pod's claims have, as `DRIVER/POOL/DEVICE`.
    pub(crate) fn given(&self, pod: &PodName) -> Vec<DeviceGrant> {
        let Some(asker) = self.asker(pod) else {
            return Vec::new();
        };
        let claims = self.claims_of(asker);
        let allocations = claims.filter_map(|claim| claim.allocation.as_ref());
        let results =
            allocations.filter_map(|known| known.result.devices.as_ref()?.results.as_ref());
        let grants = results.flatten().map(|result| DeviceGrant {
            id: format!("{}/{}/{}", result.driver, result.pool, result.device),
            class: result.driver.clone(),
            milli: 1000,
            memory: Bytes(0),
        });
        grants.collect()
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
            if self.gpus.as_ref() == Some(class) {
                pod.request.gpu_milli += count * 1000;
                continue;
            }
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
}

impl Asker {
    pub(super) fn is_unmade(&self) -> bool {
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
pub(super) fn classes(claim: &DeviceClaim) -> impl Iterator<Item = &str> {
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
