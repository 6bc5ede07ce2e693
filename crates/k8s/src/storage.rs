//! Claims, volumes and storage classes, cut to what matters for where pods run. Pure.

use crate::affinity::{Labels, Marks, Terms};
use crate::names;
use crate::view::{Place, place, time};
use base::quantity::parse_whole;
use base::{Bytes, Time, Uid};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Tells whoever makes volumes for which node this one is. Whoever schedules writes it.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes whose volumes somebody makes by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// Marks the cluster's default class.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) place: Place,
    pub(crate) uid: String,
    pub(crate) version: String,
    /// The Job whose checkpoints it keeps, where it is one of ours.
    pub(crate) owner: Option<Uid>,
    /// The pod whose own it is, by uid (`volumes.ephemeral`).
    pub(crate) pod: Option<String>,
    pub(crate) stage: ClaimStage,
    pub(crate) wish: Wish,
    /// The node for which its volume is to be made.
    pub(crate) selected: Option<String>,
    pub(crate) is_deleting: bool,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimStage {
    Pending,
    /// To this volume.
    Bound(String),
    /// This volume is no more.
    Lost(String),
}

/// What a claim asks of a volume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    /// `None` or empty for none.
    pub(crate) class: Option<String>,
    pub(crate) modes: Vec<String>,
    pub(crate) size: Bytes,
    pub(crate) is_block: bool,
    pub(crate) marks: Marks,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) labels: Labels,
    pub(crate) class: String,
    pub(crate) modes: Vec<String>,
    pub(crate) size: Bytes,
    pub(crate) is_block: bool,
    /// Whose it is or is to be: the claim's place, and its uid once that is decided.
    pub(crate) claim: Option<(Place, Option<String>)>,
    /// From where it is reached; `None` for everywhere.
    pub(crate) affinity: Option<Terms>,
    /// Nobody has it or had it.
    pub(crate) is_free: bool,
}

/// A StorageClass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// Somebody makes volumes as they are asked for.
    pub(crate) is_dynamic: bool,
    /// Volumes are chosen or made once the pod's node is known.
    pub(crate) waits_for_node: bool,
    /// Where its volumes can be; `None` for everywhere.
    pub(crate) topologies: Option<Terms>,
    pub(crate) is_default: bool,
    /// The newest of several defaults counts.
    pub(crate) created: Option<Time>,
}

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) claim: Place,
    /// The pod's uid, where Kubernetes makes the claim for that pod alone.
    pub(crate) for_pod: Option<String>,
}

impl Claim {
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self.stage, ClaimStage::Bound(_))
    }

    pub(crate) fn new(claim: &PersistentVolumeClaim) -> Option<Claim> {
        let meta = &claim.metadata;
        let (spec, status) = (claim.spec.clone().unwrap_or_default(), &claim.status);
        let volume = spec.volume_name.filter(|name| !name.is_empty());
        let phase = status.as_ref().and_then(|status| status.phase.as_deref());
        let stage = match (phase, volume) {
            (Some("Bound"), Some(volume)) => ClaimStage::Bound(volume),
            (Some("Lost"), volume) => ClaimStage::Lost(volume.unwrap_or_default()),
            (_, _) => ClaimStage::Pending,
        };
        let nothing = BTreeMap::new();
        let labels = meta.labels.as_ref().unwrap_or(&nothing);
        let is_ours = labels.get(names::MANAGED.0).map(String::as_str) == Some(names::MANAGED.1);
        let owner = labels.get(names::OWNER).and_then(|text| text.parse().ok());
        let mut owners = meta.owner_references.iter().flatten();
        let pod = owners.find(|owner| owner.kind == "Pod" && owner.controller.unwrap_or_default());
        let asked = spec.resources.and_then(|resources| resources.requests);
        Some(Claim {
            place: place(meta),
            uid: meta.uid.clone()?,
            version: meta.resource_version.clone()?,
            owner: owner.filter(|_| is_ours),
            pod: pod.map(|pod| pod.uid.clone()),
            stage,
            wish: Wish {
                class: spec.storage_class_name,
                modes: spec.access_modes.unwrap_or_default(),
                size: storage(asked.as_ref()),
                is_block: is_block(spec.volume_mode.as_deref()),
                marks: spec.selector.as_ref().map(Marks::of).unwrap_or_default(),
            },
            selected: annotation(meta.annotations.as_ref(), SELECTED_NODE),
            is_deleting: meta.deletion_timestamp.is_some(),
        })
    }
}

impl Volume {
    pub(crate) fn new(volume: &PersistentVolume) -> Option<Volume> {
        let meta = &volume.metadata;
        let spec = volume.spec.clone()?;
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let claim = spec.claim_ref.as_ref().map(|claim| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let uid = claim.uid.clone().filter(|uid| !uid.is_empty());
            ((text(&claim.namespace), text(&claim.name)), uid)
        });
        let required = spec.node_affinity.and_then(|affinity| affinity.required);
        Some(Volume {
            name: meta.name.clone()?,
            version: meta.resource_version.clone()?,
            labels: meta.labels.clone().unwrap_or_default(),
            class: spec.storage_class_name.unwrap_or_default(),
            modes: spec.access_modes.unwrap_or_default(),
            size: storage(spec.capacity.as_ref()),
            is_block: is_block(spec.volume_mode.as_deref()),
            affinity: required.as_ref().map(Terms::of_selector),
            is_free: claim.is_none()
                && phase == Some("Available")
                && meta.deletion_timestamp.is_none(),
            claim,
        })
    }
}

impl Class {
    pub(crate) fn new(class: &StorageClass) -> Option<Class> {
        let annotations = class.metadata.annotations.as_ref();
        let is_default = annotation(annotations, DEFAULT_CLASS).as_deref() == Some("true");
        Some(Class {
            name: class.metadata.name.clone()?,
            is_dynamic: class.provisioner != NO_PROVISIONER,
            waits_for_node: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: Terms::of_topologies(class.allowed_topologies.as_deref()),
            is_default,
            created: class.metadata.creation_timestamp.as_ref().map(time),
        })
    }
}

/// The claims that a pod names, those that Kubernetes makes for it too.
pub(crate) fn named(pod: &Pod) -> Vec<Named> {
    let meta = &pod.metadata;
    let (namespace, name) = place(meta);
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let claims = volumes.into_iter().flatten().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Named {
                claim: (namespace.clone(), claim.claim_name.clone()),
                for_pod: None,
            });
        }
        volume.ephemeral.as_ref().map(|_| Named {
            claim: (namespace.clone(), format!("{name}-{}", volume.name)),
            for_pod: Some(meta.uid.clone().unwrap_or_default()),
        })
    });
    claims.collect()
}

fn annotation(annotations: Option<&BTreeMap<String, String>>, name: &str) -> Option<String> {
    annotations?.get(name).cloned()
}

fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> Bytes {
    let storage = amounts.and_then(|amounts| amounts.get("storage"));
    Bytes(storage.map_or(0, |amount| parse_whole(&amount.0).unwrap_or(0)))
}

fn is_block(mode: Option<&str>) -> bool {
    mode == Some("Block")
}
