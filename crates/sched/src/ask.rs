//! What a member asks of a node of one pool, and the rules by which a node is out of the question.

use crate::amount::Amount;
use crate::devices::Device;
use crate::event::{GroupSpec, Taint, Toleration};
use crate::names::Name;

/// What a member asks of a node of one pool, in that pool's lanes.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) amount: Amount,
    /// Whole GPUs, then the part of one more.
    pub(crate) gpus: u32,
    pub(crate) part: i32,
    pub(crate) gpu_memory: i64,
    pub(crate) models: Vec<Name>,
    /// Extended resources, some of which are devices or parts of them.
    pub(crate) others: Vec<Other>,
    /// A resource that no node of the pool has.
    pub(crate) unknown: Option<Name>,
    pub(crate) per_node_max: u32,
    /// The fast group that all GPUs of a member must share.
    pub(crate) within: Option<Within>,
    pub(crate) tolerations: Vec<Toleration>,
}

/// An extended resource that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    pub(crate) name: Name,
    pub(crate) count: u32,
    pub(crate) lane: usize,
}

/// Levels below the node, as topology levels: `link` and `numa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    LinkGroup,
    Numa,
}

impl Within {
    pub(crate) fn of(level: &str) -> Option<Within> {
        match level {
            "link" => Some(Within::LinkGroup),
            "numa" => Some(Within::Numa),
            _ => None,
        }
    }

    pub(crate) fn group_of(self, device: &Device) -> u16 {
        match self {
            Within::LinkGroup => device.link_group,
            Within::Numa => device.numa,
        }
    }
}

/// Why a node is out of the question for a class, full or empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excluded {
    Cordoned,
    Selector(String),
    Taint(String),
    Model,
    GpuMemory,
    Fraction,
    Affinity,
    /// Every device that would do is sick or tainted.
    Sick(String),
}

impl std::fmt::Display for Excluded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Excluded::Cordoned => f.write_str("being unschedulable"),
            Excluded::Selector(key) => write!(f, "the selector `{key}`"),
            Excluded::Taint(key) => write!(f, "the taint `{key}`"),
            Excluded::Model => f.write_str("the GPU model"),
            Excluded::GpuMemory => f.write_str("the memory of their GPUs"),
            Excluded::Fraction => f.write_str("counted GPUs, which cannot be shared"),
            Excluded::Affinity => f.write_str("the affinity"),
            Excluded::Sick(why) => write!(f, "sick devices (`{why}`)"),
        }
    }
}

/// Whether a group consents to a taint.
pub(crate) fn tolerated(group: &GroupSpec, taint: &Taint) -> bool {
    tolerates(&group.tolerations, taint)
}

/// Whether one of the consents is for the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        (toleration.key.is_empty() || toleration.key == taint.key)
            && toleration
                .value
                .as_ref()
                .is_none_or(|value| *value == taint.value)
            && toleration
                .effect
                .is_none_or(|effect| effect == taint.effect)
    })
}

/// A taint as people write it.
pub(crate) fn taint_text(taint: &Taint) -> String {
    if taint.value.is_empty() {
        taint.key.clone()
    } else {
        format!("{}={}", taint.key, taint.value)
    }
}
