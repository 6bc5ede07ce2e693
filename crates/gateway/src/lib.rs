//! The data plane for Apps: one listener, host and path routes to ready replicas, in a process of its own.
//!
//! [`table`] decides where a request goes and is pure; [`proxy`] carries it; [`feed`] keeps the table fresh from
//! the server's stream of snapshots and keeps the last one on disk, so that a gateway that starts while the
//! server is away serves at once; `grpc` has what differs for gRPC; [`step_back`] has `canary` judge what callers saw of each Revision. Start with `table`.
//!
//! What it does not do yet: TLS, Gateway API, scaling from zero.

pub mod feed;
mod grpc;
mod once;
mod problem;
pub mod proxy;
pub mod step_back;
pub mod table;

pub use proxy::{Config, run};
