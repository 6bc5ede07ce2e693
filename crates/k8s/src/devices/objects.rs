//! ResourceSlices, ResourceClaims and DeviceClasses, cut to what matters for who gets which device. Pure.

use crate::affinity::{Site, Terms};
use crate::view::{Place, place};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use k8s_openapi::api::resource::v1::{
    AllocationResult, Device, DeviceClaim, DeviceClass, DeviceClassConfiguration,
    DeviceRequestAllocationResult, DeviceSelector, ResourceClaim, ResourceClaimConsumerReference,
    ResourceSlice,
};
use std::sync::Arc;

/// Keeps a claim that holds devices from being deleted; whoever allocates sets it.
pub(crate) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Pods that may share a claim.
const USERS_MAX: usize = 256;

/// Devices that a driver publishes together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolId {
    pub(crate) driver: String,
    pub(crate) pool: String,
}

/// A device by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeviceId {
    pub(crate) pool: PoolId,
    pub(crate) device: String,
}

impl DeviceId {
    /// The devices that an allocation holds alone.
    pub(crate) fn held(allocation: &AllocationResult) -> impl Iterator<Item = DeviceId> + '_ {
        let all = allocation
            .devices
            .as_ref()
            .and_then(|devices| devices.results.as_ref());
        let alone = |result: &&DeviceRequestAllocationResult| result.admin_access != Some(true);
        all.into_iter()
            .flatten()
            .filter(alone)
            .map(|result| DeviceId {
                pool: PoolId {
                    driver: result.driver.clone(),
                    pool: result.pool.clone(),
                },
                device: result.device.clone(),
            })
    }
}

/// From which nodes devices are reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reach {
    Node(String),
    Everywhere,
    Where(Terms, NodeSelector),
    /// Each device says so itself.
    EachItsOwn,
    /// It is said in a word of a newer Kubernetes.
    Unknown,
}

impl Reach {
    fn new(node: Option<&String>, all: Option<bool>, selector: Option<&NodeSelector>) -> Reach {
        match (node.filter(|name| !name.is_empty()), all, selector) {
            (Some(node), ..) => Reach::Node(node.clone()),
            (None, Some(true), _) => Reach::Everywhere,
            (None, _, Some(selector)) => {
                Reach::Where(Terms::of_selector(selector), selector.clone())
            }
            (None, _, None) => Reach::Unknown,
        }
    }

    pub(super) fn is_reached(&self, site: Site<'_>) -> bool {
        match self {
            Reach::Node(name) => name == site.name,
            Reach::Everywhere => true,
            Reach::Where(terms, _) => terms.mean(site),
            Reach::EachItsOwn | Reach::Unknown => false,
        }
    }
}

/// One ResourceSlice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slice {
    pub(crate) name: String,
    pub(crate) pool: PoolId,
    pub(crate) generation: i64,
    /// How many slices its pool has in this generation.
    pub(crate) n_slices: i64,
    pub(crate) reach: Reach,
    pub(crate) devices: Vec<Offer>,
}

/// A device that is published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) id: DeviceId,
    pub(crate) reach: Reach,
    pub(crate) device: Device,
}

impl Offer {
    /// Whether it can be given to one claim as a whole, without anything to wait for or to share.
    pub(super) fn is_whole(&self) -> bool {
        let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let counters = self.device.consumes_counters.as_ref();
        counters.is_none_or(Vec::is_empty)
            && !has(&self.device.binding_conditions)
            && self.device.allow_multiple_allocations != Some(true)
    }
}

impl Slice {
    pub(crate) fn new(slice: ResourceSlice) -> Option<Slice> {
        let spec = slice.spec;
        let pool = PoolId {
            driver: spec.driver,
            pool: spec.pool.name,
        };
        let reach = if spec.per_device_node_selection == Some(true) {
            Reach::EachItsOwn
        } else {
            Reach::new(
                spec.node_name.as_ref(),
                spec.all_nodes,
                spec.node_selector.as_ref(),
            )
        };
        let devices = spec.devices.into_iter().flatten().map(|device| Offer {
            id: DeviceId {
                pool: pool.clone(),
                device: device.name.clone(),
            },
            reach: match &reach {
                Reach::EachItsOwn => Reach::new(
                    device.node_name.as_ref(),
                    device.all_nodes,
                    device.node_selector.as_ref(),
                ),
                of_all => of_all.clone(),
            },
            device,
        });
        Some(Slice {
            name: slice.metadata.name?,
            generation: spec.pool.generation,
            n_slices: spec.pool.resource_slice_count,
            devices: devices.collect(),
            pool,
            reach,
        })
    }

    /// The node that alone reaches it, where there is one.
    pub(crate) fn only_node(&self) -> Option<&str> {
        match &self.reach {
            Reach::Node(name) => Some(name),
            _ => None,
        }
    }
}

/// A ResourceClaim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) place: Place,
    pub(crate) uid: String,
    pub(crate) version: String,
    /// The pod for which it was made from a template, by uid.
    pub(crate) pod: Option<String>,
    pub(crate) spec: Arc<DeviceClaim>,
    pub(crate) allocation: Option<Allocation>,
    /// The pods that may use it.
    pub(crate) users: Vec<ResourceClaimConsumerReference>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) is_deleting: bool,
}

/// What a claim holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Allocation {
    pub(crate) result: Arc<AllocationResult>,
    /// From where all of it is reached; `None` for everywhere.
    terms: Option<Terms>,
}

impl Allocation {
    pub(crate) fn new(result: AllocationResult) -> Allocation {
        Allocation {
            terms: result.node_selector.as_ref().map(Terms::of_selector),
            result: Arc::new(result),
        }
    }

    pub(crate) fn is_reached(&self, site: Site<'_>) -> bool {
        self.terms.as_ref().is_none_or(|terms| terms.mean(site))
    }
}

impl Claim {
    pub(crate) fn new(claim: ResourceClaim) -> Option<Claim> {
        let status = claim.status.unwrap_or_default();
        let meta = claim.metadata;
        let mut owners = meta.owner_references.iter().flatten();
        let pod = owners.find(|owner| owner.kind == "Pod" && owner.controller == Some(true));
        Some(Claim {
            place: place(&meta),
            pod: pod.map(|pod| pod.uid.clone()),
            spec: Arc::new(claim.spec.devices.unwrap_or_default()),
            allocation: status.allocation.map(Allocation::new),
            users: status.reserved_for.unwrap_or_default(),
            is_deleting: meta.deletion_timestamp.is_some(),
            uid: meta.uid?,
            version: meta.resource_version?,
            finalizers: meta.finalizers.unwrap_or_default(),
        })
    }

    pub(crate) fn is_used_by(&self, pod: &str) -> bool {
        self.users.iter().any(|user| user.uid == pod)
    }

    /// Nobody but this pod may use it.
    pub(crate) fn is_at_most_for(&self, pod: &str) -> bool {
        self.users.iter().all(|user| user.uid == pod)
    }

    pub(super) fn is_full(&self) -> bool {
        self.users.len() >= USERS_MAX
    }
}

/// A DeviceClass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) selectors: Vec<DeviceSelector>,
    pub(crate) config: Vec<DeviceClassConfiguration>,
}

impl Class {
    pub(crate) fn new(class: DeviceClass) -> Option<Class> {
        Some(Class {
            name: class.metadata.name?,
            selectors: class.spec.selectors.unwrap_or_default(),
            config: class.spec.config.unwrap_or_default(),
        })
    }
}

/// A claim of devices that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// As the pod calls it.
    pub(crate) name: String,
    /// `None` before it is made.
    pub(crate) claim: Option<Place>,
    /// It is made for this pod alone.
    pub(crate) is_own: bool,
}

/// Those that a pod names, those that Kubernetes makes for it too.
pub(crate) fn named(pod: &Pod) -> Vec<Named> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let claims = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.resource_claims.as_ref());
    let made = pod.status.as_ref();
    let made = made.and_then(|status| status.resource_claim_statuses.as_ref());
    let claims = claims.into_iter().flatten().filter_map(|claim| {
        let name = claim.name.clone();
        if let Some(claim) = &claim.resource_claim_name {
            return Some(Named {
                name,
                claim: Some((namespace.clone(), claim.clone())),
                is_own: false,
            });
        }
        let made = made.into_iter().flatten().find(|made| made.name == name);
        let claim = match made {
            // Its template asks for nothing.
            Some(made) => Some(made.resource_claim_name.clone()?),
            None => None,
        };
        Some(Named {
            name,
            claim: claim.map(|claim| (namespace.clone(), claim)),
            is_own: true,
        })
    });
    claims.collect()
}

/// The nodes from which all of these devices are reached, as an allocation says it.
pub(super) fn node_selector<'a>(offers: impl Iterator<Item = &'a Offer>) -> Option<NodeSelector> {
    let mut all = NodeSelectorTerm::default();
    let add = |to: &mut Option<Vec<NodeSelectorRequirement>>, more: &Option<Vec<_>>| {
        for requirement in more.iter().flatten() {
            let to = to.get_or_insert_default();
            if !to.contains(requirement) {
                to.push(requirement.clone());
            }
        }
    };
    for offer in offers {
        match &offer.reach {
            // One that is on a node ties all of them to it.
            Reach::Node(name) => {
                let node = NodeSelectorRequirement {
                    key: "metadata.name".to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![name.clone()]),
                };
                all = NodeSelectorTerm {
                    match_expressions: None,
                    match_fields: Some(vec![node]),
                };
                break;
            }
            Reach::Where(_, selector) => {
                for term in &selector.node_selector_terms {
                    add(&mut all.match_expressions, &term.match_expressions);
                    add(&mut all.match_fields, &term.match_fields);
                }
            }
            Reach::Everywhere | Reach::EachItsOwn | Reach::Unknown => {}
        }
    }
    (all != NodeSelectorTerm::default()).then(|| NodeSelector {
        node_selector_terms: vec![all],
    })
}
