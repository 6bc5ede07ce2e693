//! What the scheduler proposes. The caller commits each decision in one transaction, or rejects it.

use crate::event::{NodeId, SlotId, TaskId};
use base::{Bytes, Time};
use std::fmt;

/// Numbers decisions from 1, in the order they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(pub u64);

/// One proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its number, for the answer.
    pub id: DecisionId,
    /// What to do.
    pub kind: DecisionKind,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionKind {
    /// Admit and place the whole gang (or, for an elastic one, at least its minimum).
    Start {
        /// Who starts.
        task: TaskId,
        /// The spec's generation that was decided on.
        generation: u64,
        /// One for every seat that starts.
        placements: Vec<Placement>,
    },
    /// Give a running elastic task more seats.
    Grow {
        /// Who grows.
        task: TaskId,
        /// The seats that are new.
        placements: Vec<Placement>,
    },
    /// Stop a running task, or only `slots` of it, in two phases: ask, then end by the deadline.
    Evict {
        /// Who stops.
        task: TaskId,
        /// Which seats; empty means all of them.
        slots: Vec<SlotId>,
        /// Why.
        reason: EvictReason,
        /// Who will use the capacity.
        on_behalf_of: Option<TaskId>,
        /// When the grace ends.
        deadline: Time,
    },
    /// Remember that `task` waits for capacity that is being freed for it on these nodes.
    Nominate {
        /// Who waits.
        task: TaskId,
        /// Where.
        nodes: Vec<NodeId>,
        /// Until when the claim stands.
        until: Time,
    },
}

/// Why a running task is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvictReason {
    /// A higher priority in the same queue needs it.
    Preempted,
    /// The capacity is guaranteed to another queue.
    Reclaimed,
    /// Another queue is further below its fair share.
    FairShare,
    /// The node or device is drained or sick.
    Drained,
    /// A reserved window begins.
    Calendar,
    /// A move that joins scattered free devices.
    Defragmented,
}

/// A seat with its node and devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which seat.
    pub slot: SlotId,
    /// Where.
    pub node: NodeId,
    /// Which devices; empty in `counted` pools.
    pub devices: Vec<DeviceShare>,
}

/// A device, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceShare {
    /// Position in [`crate::NodeSpec::devices`].
    pub device: u16,
    /// Thousandths of it; 1000 is the whole device.
    pub milli: u16,
    /// Memory of it that the task may use; 0 means in proportion.
    pub memory: Bytes,
    /// The part that is cut out of it, where the device is cut.
    pub partition: Option<Partition>,
}

/// Neighbouring slices of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The first slice, from 0.
    pub first: u8,
    /// How many.
    pub slices: u8,
}

impl fmt::Display for EvictReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EvictReason::Preempted => "preempted by a higher priority",
            EvictReason::Reclaimed => "reclaimed for a guaranteed quota",
            EvictReason::FairShare => "reclaimed for a fair share",
            EvictReason::Drained => "its node or device is drained",
            EvictReason::Calendar => "a reserved window begins",
            EvictReason::Defragmented => "moved to join free devices",
        })
    }
}
