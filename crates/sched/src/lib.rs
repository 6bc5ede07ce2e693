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

mod sched;

mod change;
mod claims;
mod decide;
mod hold;
mod place;
mod room;
mod why;

mod board;
mod fragmentation;
mod ledger;
mod task;
mod waiting;

mod class;
mod cluster;
mod domains;

mod amount;
mod hash;
mod names;

pub use config::{Backfill, Config, ModelOrder, Scoring};
pub use decision::{Decision, DecisionId, DecisionKind, DeviceShare, EvictReason, Placement};
pub use event::{
    Affinity, CalendarEntry, DeviceMode, DeviceSpec, Event, GroupSpec, NodeId, NodeSpec, Packing,
    PoolSpec, QueueSpec, Quota, RunningTask, SlotId, Taint, TaintEffect, TaskId, TaskKind,
    TaskSpec, Toleration, TopologyRequest,
};
pub use explain::{Blocker, Explanation, Standing};
pub use sched::Sched;
