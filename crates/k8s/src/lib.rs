//! The engine on Kubernetes: standard objects only, bound to nodes by our scheduler.
//!
//! A batch replica is a Job of one completion, a service's Group one Deployment whose pods claim its Slots. What an
//! object is asked for stands in its annotations, so that a server that starts anew knows everything from one list. Pods run
//! `moonshot-pod` (crate `pod`), which asks the endpoint here what to run, ships output and reports its end.
//!
//! ```text
//! ensure ─► Job / Deployment ─► pods, unbound ─► claim ─► Binding ─► kubelet ─► moonshot-pod ⇄ endpoint
//!                 ▲                                                       │
//! remove ─────────┘            watches ─► cache ─► report (pure) ─► table ─► observe
//! ```
//!
//! Read [`names`] (how replicas are named there), [`manifest`] (what is made), [`report`](mod@report) (how what is seen is understood),
//! then [`keeper`] (the loop that binds, stops and remembers). The first three are pure. Pods that others made are understood in
//! [`foreign`] and acted on in [`others`]. Projects are namespaces: [`isolation`] says what keeps them apart, [`spaces`] writes it.
//! Volumes are read of in [`storage`], decided about in [`volumes`] and acted on in [`claims`]; devices that pods claim
//! are decided about in [`devices`] and written in [`allotments`]; where pods of others may be beside each other is decided in
//! [`relations`]. Services and templates beside an owner's objects are kept by [`companions`].
//!
//! What it deliberately does not do: choose nodes, count attempts, or restart batch work.

mod affinity;
mod allotments;
mod cache;
mod claims;
mod companions;
mod config;
mod devices;
mod endpoint;
mod error;
mod exec;
mod foreign;
mod isolation;
mod keeper;
mod lead;
mod manifest;
mod names;
mod others;
mod packing;
mod port;
mod registries;
mod relations;
mod report;
mod spaces;
mod spec;
mod storage;
mod view;
mod volumes;
mod watch;

pub use config::{Access, AccessMode, Checkpoints, Config, Images};
pub use names::host as peer_host;
pub use port::K8s;
