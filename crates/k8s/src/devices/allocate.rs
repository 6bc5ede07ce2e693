//! Which devices of a node fulfil claims together. Pure.
//!
//! A search with steps back, as that of kube-scheduler: claims and requests in their order, the first devices that do, counted from the end. What is
//! published in parts, shared, or waited for is not offered. The search is cut off, for it can be as long as there are
//! combinations.

use super::known::{Known, Taken};
use super::objects::{DeviceId, Offer, node_selector};
use crate::affinity::Site;
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceAttribute,
    DeviceClaim, DeviceRequest, DeviceRequestAllocationResult, DeviceSelector, DeviceTaint,
    DeviceToleration,
};
use std::collections::BTreeSet;

/// Devices in one claim; the API server takes no more.
const RESULTS_MAX: usize = 32;
/// Devices that are tried for one set of claims on one node.
const TRIES_MAX: usize = 20_000;

/// What one request, or one of its alternatives, asks for.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) request: &'a str,
    /// The name of the alternative.
    pub(super) part: Option<&'a str>,
    pub(super) class: &'a str,
    pub(super) selectors: &'a [DeviceSelector],
    pub(super) tolerations: &'a [DeviceToleration],
    /// `None` for all that there are.
    pub(super) count: Option<usize>,
}

impl Wish<'_> {
    /// As results name it.
    fn full(&self) -> String {
        match self.part {
            Some(part) => format!("{}/{part}", self.request),
            None => self.request.to_owned(),
        }
    }

    /// Whether a list of requests, empty for all, has this one.
    fn is_in(&self, requests: Option<&Vec<String>>) -> bool {
        let requests = requests.map_or(&[][..], Vec::as_slice);
        let full = self.full();
        requests.is_empty()
            || requests
                .iter()
                .any(|name| name == self.request || *name == full)
    }
}

/// The alternatives of a request, the best first; the reason where it is not supported.
pub(super) fn wishes(request: &DeviceRequest) -> Result<Vec<Wish<'_>>, String> {
    let name = request.name.as_str();
    let count = |mode: Option<&str>, count: Option<i64>| match mode {
        None | Some("ExactCount") => {
            let count = usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX);
            Ok(Some(count))
        }
        Some("All") => Ok(None),
        Some(other) => Err(format!("`allocationMode: {other}` is not known")),
    };
    if let Some(exactly) = &request.exactly {
        if exactly.admin_access == Some(true) {
            return Err("`adminAccess` is not supported".to_owned());
        }
        if exactly.capacity.is_some() {
            return Err("`capacity` (parts of devices) is not supported".to_owned());
        }
        return Ok(vec![Wish {
            request: name,
            part: None,
            class: &exactly.device_class_name,
            selectors: exactly.selectors.as_deref().unwrap_or_default(),
            tolerations: exactly.tolerations.as_deref().unwrap_or_default(),
            count: count(exactly.allocation_mode.as_deref(), exactly.count)?,
        }]);
    }
    let parts = request.first_available.iter().flatten().map(|part| {
        if part.capacity.is_some() {
            return Err("`capacity` (parts of devices) is not supported".to_owned());
        }
        Ok(Wish {
            request: name,
            part: Some(&part.name),
            class: &part.device_class_name,
            selectors: part.selectors.as_deref().unwrap_or_default(),
            tolerations: part.tolerations.as_deref().unwrap_or_default(),
            count: count(part.allocation_mode.as_deref(), part.count)?,
        })
    });
    let parts: Vec<Wish<'_>> = parts.collect::<Result<_, String>>()?;
    if parts.is_empty() {
        return Err("it has neither `exactly` nor `firstAvailable`".to_owned());
    }
    Ok(parts)
}

/// What a node has for claims.
#[derive(Default)]
pub(super) struct Offers<'a> {
    pub(super) all: Vec<&'a Offer>,
    /// Some of its pools are being published, so that nobody knows what `All` means.
    pub(super) is_incomplete: bool,
}

/// What is given to each of these claims; `None` where the node has not enough, the reason where that cannot be said.
pub(super) fn allocate(
    known: &Known,
    taken: &Taken<'_>,
    claims: &[&DeviceClaim],
    site: Site<'_>,
) -> Result<Option<Vec<AllocationResult>>, String> {
    let offers = known.offers(site);
    let mut asked = Vec::new();
    for (at, claim) in claims.iter().enumerate() {
        for request in claim.requests.iter().flatten() {
            let mut options = Vec::new();
            for wish in wishes(request)? {
                options.extend(option(known, taken, &offers, wish)?);
            }
            if options.is_empty() {
                return Ok(None);
            }
            asked.push(Asked { claim: at, options });
        }
    }
    let mut search = Search {
        offers: &offers.all,
        claims,
        asked: &asked,
        chosen: Vec::new(),
        used: BTreeSet::new(),
        n_tries: 0,
    };
    if !search.request(0) {
        return if search.n_tries >= TRIES_MAX {
            Err(format!(
                "{TRIES_MAX} combinations of devices were tried in vain"
            ))
        } else {
            Ok(None)
        };
    }
    let chosen = std::mem::take(&mut search.chosen);
    let results = claims.iter().enumerate().map(|(at, claim)| {
        let of_claim: Vec<&Chosen<'_>> = chosen.iter().filter(|one| one.claim == at).collect();
        result(known, claim, &of_claim, &offers.all)
    });
    Ok(Some(results.collect()))
}

/// A request of one of the claims, with what could fulfil it.
struct Asked<'a> {
    claim: usize,
    options: Vec<Choice<'a>>,
}

/// An alternative and the devices that are meant by it and free, by position.
struct Choice<'a> {
    wish: Wish<'a>,
    devices: Vec<usize>,
    count: usize,
}

/// A device for a request.
#[derive(Clone)]
struct Chosen<'a> {
    claim: usize,
    wish: Wish<'a>,
    device: usize,
}

/// `None` where too few devices are meant and free.
fn option<'a>(
    known: &Known,
    taken: &Taken<'_>,
    offers: &Offers<'_>,
    wish: Wish<'a>,
) -> Result<Option<Choice<'a>>, String> {
    if wish.count.is_none() && offers.is_incomplete {
        return Ok(None);
    }
    let mut devices = Vec::new();
    // From the end: kube-scheduler begins at the other, so that the two seldom want the same device at the same moment.
    for (at, offer) in offers.all.iter().enumerate().rev() {
        let is_free = offer.is_whole()
            && tolerates(wish.tolerations, offer.device.taints.as_deref())
            && !taken.has(&offer.id);
        // Of all devices none may be missing.
        if !is_free && wish.count.is_some() {
            continue;
        }
        if known.is_meant(wish.class, wish.selectors, offer)? {
            if !is_free {
                return Ok(None);
            }
            devices.push(at);
        }
    }
    let count = wish.count.unwrap_or(devices.len());
    let is_enough = count > 0 && count <= devices.len() && count <= RESULTS_MAX;
    Ok(is_enough.then_some(Choice {
        wish,
        devices,
        count,
    }))
}

/// Whether every taint is consented to.
pub(super) fn tolerates(tolerations: &[DeviceToleration], taints: Option<&[DeviceTaint]>) -> bool {
    let is_tolerated = |taint: &DeviceTaint| {
        tolerations.iter().any(|toleration| {
            let has = |word: &Option<String>, of: &str| {
                word.as_deref()
                    .is_none_or(|word| word.is_empty() || word == of)
            };
            let value = taint.value.as_deref().unwrap_or_default();
            has(&toleration.effect, &taint.effect)
                && has(&toleration.key, &taint.key)
                && match toleration.operator.as_deref() {
                    None | Some("" | "Equal") => {
                        toleration.value.as_deref().unwrap_or_default() == value
                    }
                    Some("Exists") => true,
                    Some(_) => false,
                }
        })
    };
    // One with the effect `None` is only there to be seen.
    let mut taints = taints
        .into_iter()
        .flatten()
        .filter(|taint| taint.effect != "None");
    taints.all(is_tolerated)
}

struct Search<'a, 's> {
    offers: &'s [&'a Offer],
    claims: &'s [&'a DeviceClaim],
    asked: &'s [Asked<'a>],
    chosen: Vec<Chosen<'a>>,
    used: BTreeSet<usize>,
    n_tries: usize,
}

impl Search<'_, '_> {
    /// Fulfils this request and all that follow.
    fn request(&mut self, at: usize) -> bool {
        let Some(asked) = self.asked.get(at) else {
            return true;
        };
        (0..asked.options.len()).any(|option| self.devices(at, option, 0, 0))
    }

    /// Chooses the devices that an alternative still needs, from this position on: their order says nothing.
    fn devices(&mut self, at: usize, option: usize, n_chosen: usize, from: usize) -> bool {
        let asked = &self.asked[at];
        let choice = &asked.options[option];
        if n_chosen == choice.count {
            return self.request(at + 1);
        }
        let of_claim = self
            .chosen
            .iter()
            .filter(|one| one.claim == asked.claim)
            .count();
        if of_claim + choice.count - n_chosen > RESULTS_MAX {
            return false;
        }
        for position in from..choice.devices.len() {
            let device = choice.devices[position];
            if self.n_tries >= TRIES_MAX {
                return false;
            }
            self.n_tries += 1;
            let next = Chosen {
                claim: asked.claim,
                wish: choice.wish,
                device,
            };
            if self.used.contains(&device) || !self.agrees(&next) {
                continue;
            }
            self.used.insert(device);
            self.chosen.push(next);
            if self.devices(at, option, n_chosen + 1, position + 1) {
                return true;
            }
            self.chosen.pop();
            self.used.remove(&device);
        }
        false
    }

    /// Whether the constraints of its claim hold with one device more.
    fn agrees(&self, next: &Chosen<'_>) -> bool {
        let constraints = self.claims[next.claim].constraints.iter().flatten();
        let mut constraints =
            constraints.filter(|constraint| next.wish.is_in(constraint.requests.as_ref()));
        constraints.all(|constraint| {
            let Some(name) = &constraint.match_attribute else {
                return false;
            };
            let Some(value) = attribute(self.offers[next.device], name) else {
                return false;
            };
            let mut others = self.chosen.iter().filter(|one| {
                one.claim == next.claim && one.wish.is_in(constraint.requests.as_ref())
            });
            others.all(|one| attribute(self.offers[one.device], name) == Some(value))
        })
    }
}

/// An attribute by its full name; the device may leave its driver's domain out.
fn attribute<'a>(offer: &'a Offer, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = offer.device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        attributes
            .get(id)
            .filter(|_| domain == offer.id.pool.driver)
    })
}

/// What is written into a claim's status.
fn result(
    known: &Known,
    claim: &DeviceClaim,
    chosen: &[&Chosen<'_>],
    offers: &[&Offer],
) -> AllocationResult {
    let results = chosen.iter().map(|one| {
        let DeviceId { pool, device } = &offers[one.device].id;
        let tolerations = Some(one.wish.tolerations.to_vec());
        DeviceRequestAllocationResult {
            request: one.wish.full(),
            driver: pool.driver.clone(),
            pool: pool.pool.clone(),
            device: device.clone(),
            tolerations: tolerations.filter(|all| !all.is_empty()),
            ..DeviceRequestAllocationResult::default()
        }
    });
    // One entry for each request that was fulfilled, in their order.
    let mut fulfilled: Vec<Wish<'_>> = Vec::new();
    for one in chosen {
        if fulfilled.iter().all(|wish| wish.full() != one.wish.full()) {
            fulfilled.push(one.wish);
        }
    }
    let mut config = Vec::new();
    let mut classes: Vec<&str> = Vec::new();
    for wish in &fulfilled {
        if !classes.contains(&wish.class) {
            classes.push(wish.class);
        }
    }
    for class in classes {
        let of_class = fulfilled.iter().filter(|wish| wish.class == class);
        let requests: Vec<String> = of_class.map(Wish::full).collect();
        let class = known.classes.get(class);
        let configs = class.into_iter().flat_map(|class| &class.config);
        config.extend(configs.map(|of_class| DeviceAllocationConfiguration {
            source: "FromClass".to_owned(),
            requests: Some(requests.clone()),
            opaque: of_class.opaque.clone(),
        }));
    }
    let of_claim = claim.config.iter().flatten().filter(|config| {
        fulfilled
            .iter()
            .any(|wish| wish.is_in(config.requests.as_ref()))
    });
    config.extend(of_claim.map(|of_claim| DeviceAllocationConfiguration {
        source: "FromClaim".to_owned(),
        requests: of_claim.requests.clone(),
        opaque: of_claim.opaque.clone(),
    }));
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            results: Some(results.collect()),
            config: Some(config).filter(|config| !config.is_empty()),
        }),
        node_selector: node_selector(chosen.iter().map(|one| offers[one.device])),
    }
}
