//! The control plane: the HTTP API, its use cases, and the loops that make them true.
//!
//! [`http`] turns requests into calls of [`usecase`]; a use case authorises, writes the database and
//! pokes. [`control`] holds the loops of the leader: the scheduler, the controllers of Jobs and Apps,
//! the engine's observer, environments and retention. They meet only in the database and in
//! [`platform`]. Start with `platform`, then `control`.
//!
//! What it does not do: run programs (engines do), carry the traffic of Apps (the gateway does).

pub mod auth;
pub mod check;
pub mod content;
pub mod control;
mod elsewhere;
pub mod error;
pub mod git;
pub mod http;
pub mod metrics;
pub mod pinned;
pub mod platform;
pub mod program;
pub mod shares;
pub mod usecase;
