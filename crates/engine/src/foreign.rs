//! Pods that others made and that wait for our scheduler: a plain Deployment's, a gang's, Spark's executors.
//!
//! They are observed like everything else, become tasks of the scheduler, and are then bound to the nodes that it chose. An
//! engine that runs only what the platform made never reports any.

use base::{Resources, Time};
use std::collections::BTreeMap;
use std::fmt;

/// Names one pod, for good: another pod of the same name has another uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Its namespace, which is a Project.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid in the cluster.
    pub uid: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod of others. By default one that asks for nothing and may go anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignPod {
    /// Which.
    pub pod: PodName,
    /// With whom it starts.
    pub gang: Gang,
    /// The Queue that its label names.
    pub queue: Option<String>,
    /// Higher goes first.
    pub priority: i32,
    /// What it asks for in all.
    pub request: Resources,
    /// Node labels that must match.
    pub node_selector: BTreeMap<String, String>,
    /// Consents to taints.
    pub tolerations: Vec<Toleration>,
    /// How it wants to stand to pods that want the same.
    pub relations: Vec<Relation>,
    /// What it asks for that is not supported, in words that name the field: it stays where it is.
    pub refused: Option<String>,
    /// What must be there before it can have any place, in words: it waits outside until then.
    pub lacks: Option<String>,
    /// When it was made.
    pub created: Time,
    /// Its node, once it is bound.
    pub node: Option<String>,
    /// Its containers run no more, for good.
    pub is_over: bool,
}

/// What pods with the same key want of each other's places. Those of other pods are known to the engine alone, which says by
/// [`ForeignPod::node_selector`] where they leave room; this is what the scheduler must know to place many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// What they want.
    pub kind: RelationKind,
    /// The same for pods that mean each other.
    pub key: String,
    /// The node label whose values are the domains.
    pub label: String,
}

/// How pods want to stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// They had better share a domain.
    Near,
    /// No two of them share one.
    Apart,
    /// No domain has so many more of them than the one with the fewest.
    Spread(u32),
}

/// Whether a pod of others can be bound to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Now.
    Ready,
    /// Soon, in words what is waited for.
    Waits(String),
    /// Not to this node, and why: it must be placed again.
    Elsewhere(String),
}

/// With whom a pod starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gang {
    /// Alone.
    #[default]
    Single,
    /// With so many others of this name in its namespace that they are `size`.
    Of {
        /// The gang's name.
        name: String,
        /// Its least number of members.
        size: u32,
    },
    /// It names a gang, and nobody says how large that is: alone, with a warning.
    Unsized {
        /// The gang's name.
        name: String,
    },
}

/// A consent to a taint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; empty for every key.
    pub key: String,
    /// The taint's value; `None` for every value.
    pub value: Option<String>,
    /// The taint's effect; `None` for every effect.
    pub effect: Option<TaintEffect>,
}

/// A mark of a node that keeps pods away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// What it is about.
    pub key: String,
    /// Detail.
    pub value: String,
    /// How strongly.
    pub effect: TaintEffect,
}

/// How strongly a taint keeps pods away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// Nothing new starts there.
    NoSchedule,
    /// Only if nothing else fits.
    PreferNoSchedule,
    /// What runs there is evicted too.
    NoExecute,
}

/// What is said to a pod's people, where they look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// A stable word: `Waiting`, `Unsupported`.
    pub reason: String,
    /// The sentence.
    pub sentence: String,
}
