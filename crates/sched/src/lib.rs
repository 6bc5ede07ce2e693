//! The scheduler core: which waiting task may start, where, on which devices, and why not.
//!
//! Pure and deterministic: the same events and the same `decide(now, steps)` calls give the same
//! decisions on every machine. No I/O, clock, thread or randomness. Start with [`event`] (what goes
//! in), [`decision`] (what comes out) and [`explain`] (what is said about it).
//!
//! Decisions are assumptions until the caller has committed them; it then answers each with
//! [`Event::Committed`] or [`Event::Rejected`].

pub mod config;
pub mod decision;
pub mod event;
pub mod explain;

mod answers;
mod sched;
mod usage;

mod calendar;
mod cells;
mod change;
mod claims;
mod decide;
mod defrag;
mod hold;
mod patience;
mod place;
mod rights;
mod room;
mod shrink;
mod standing;
mod why;

mod board;
mod fade;
mod fragmentation;
mod ledger;
mod seats;
mod task;
mod waiting;

mod class;

mod ask;
mod cluster;
mod devices;
mod domains;
mod pool;

mod amount;
mod hash;
mod names;

pub use ask::tolerates;
pub use config::{Backfill, Config, Defrag, ModelOrder, Scoring};
pub use decision::{
    Decision, DecisionId, DecisionKind, DeviceShare, EvictReason, Partition, Placement,
};
pub use event::{
    Affinity, CalendarEntry, CalendarStep, DeviceMode, DeviceSpec, Event, GroupSpec, NodeId,
    NodeSpec, PARTITION_SLICES_MAX, Packing, PartitionSpec, PoolSpec, QueueOrder, QueueSpec, Quota,
    RunningTask, ShapeQuota, SlotId, Spread, Taint, TaintEffect, TaskId, TaskKind, TaskSpec,
    Toleration, TopologyRequest,
};
pub use explain::{Blocker, Change, Explanation, Standing};
pub use sched::Sched;
