//! What the engine keeps of a replica beside what the shim keeps: all that a new process needs.

use base::{Epoch, Time};
use engine::{End, Group, Life, ReplicaKey, Slot, StopReason, Template};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was asked for: a Group with this one Slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Replica {
    /// [`shim::record::VERSION`]: these files change together.
    pub(crate) version: u32,
    pub(crate) epoch: Epoch,
    /// The boot in which it was asked for: it does not outlive it.
    pub(crate) boot: String,
    pub(crate) group: Group,
}

impl Replica {
    pub(crate) fn new(epoch: Epoch, boot: &str, group: &Group, slot: &Slot) -> Replica {
        let group = Group {
            slots: vec![slot.clone()],
            ..group.clone()
        };
        Replica {
            version: shim::record::VERSION,
            epoch,
            boot: boot.to_owned(),
            group,
        }
    }
    pub(crate) fn slot(&self) -> &Slot {
        self.group
            .slots
            .first()
            .expect("`new` and `is_whole` make sure of one slot")
    }
    pub(crate) fn is_whole(&self) -> bool {
        self.group.slots.len() == 1
    }
    pub(crate) fn key(&self) -> ReplicaKey {
        self.group.key(self.slot())
    }
    pub(crate) fn life(&self) -> Life {
        self.group.life
    }
    pub(crate) fn template(&self) -> &Template {
        &self.group.template
    }
    pub(crate) fn ports(&self) -> BTreeMap<String, u16> {
        self.slot().ports.clone()
    }
}

/// That a replica shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    /// [`shim::record::VERSION`].
    pub(crate) version: u32,
    pub(crate) reason: StopReason,
    pub(crate) grace_ms: u64,
}

/// How it ended, after everything of it was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// [`shim::record::VERSION`].
    pub(crate) version: u32,
    pub(crate) end: End,
    pub(crate) started: Option<Time>,
    pub(crate) restarts: u32,
    /// Bytes of output that were lost.
    pub(crate) lost: u64,
}
