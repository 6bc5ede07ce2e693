//! What is published, and what of it is meant: pools that are whole, classes, and expressions with what is known of them already.

use super::allocate::{Offers, wishes};
use super::objects::{Class, DeviceId, Offer, PoolId, Slice};
use super::selector::Selector;
use crate::affinity::Site;
use k8s_openapi::api::resource::v1::{DeviceClaim, DeviceSelector};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// Expressions whose meaning is remembered.
const SELECTORS_MAX: usize = 1_000;

/// What is published: devices and their classes.
#[derive(Default)]
pub(crate) struct Known {
    pub(super) pools: BTreeMap<PoolId, BTreeMap<String, Slice>>,
    /// The pool of each slice, by the slice's name.
    pub(super) slices: HashMap<String, PoolId>,
    /// Pools with devices of one node alone, by node; the others.
    pub(super) local: BTreeMap<String, BTreeSet<PoolId>>,
    pub(super) wide: BTreeSet<PoolId>,
    pub(super) classes: BTreeMap<String, Class>,
    selectors: Mutex<HashMap<String, Meaning>>,
}

/// What an expression means, and of which devices that is known already.
struct Meaning {
    selector: Result<Selector, String>,
    devices: HashMap<DeviceId, Result<bool, String>>,
}

/// What is held by others than those that are excepted.
pub(crate) struct Taken<'a> {
    pub(super) holders: &'a HashMap<DeviceId, BTreeSet<String>>,
    pub(super) except: &'a BTreeSet<&'a str>,
}

impl Taken<'_> {
    pub(super) fn has(&self, device: &DeviceId) -> bool {
        let mut holders = self.holders.get(device).into_iter().flatten();
        holders.any(|uid| !self.except.contains(uid.as_str()))
    }
}

impl Known {
    /// Devices that are reached from a node.
    pub(super) fn offers(&self, site: Site<'_>) -> Offers<'_> {
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
    pub(super) fn is_meant(
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
    pub(super) fn forget(&self, slice: &Slice) {
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
    pub(super) fn refuses(&self, claim: &DeviceClaim) -> Option<String> {
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
