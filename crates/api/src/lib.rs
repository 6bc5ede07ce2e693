//! The wire contract: every kind, its validation, errors and the OpenAPI document.
//!
//! Kubernetes habits: `apiVersion: moonshot/v1`, `kind`, `metadata`, `spec`, `status`. Types here
//! are for the wire; services convert them to their own at the edge. Start with [`kind`] (the table
//! of kinds), [`meta`], then [`job`] and [`app`]. What comes in is read by [`manifest`] and checked by
//! [`validate`]; [`routes`] is the table of paths, from which [`openapi`] is made.
//!
//! No I/O: reading requests and files is the business of `server` and `client`.

// ---- what objects are ----
pub mod app;
pub mod common;
pub mod deliver;
pub mod environment;
pub mod event;
pub mod job;
pub mod kind;
pub mod meta;
pub mod model;
pub mod platform;
pub mod pods;
pub mod reservation;
pub mod served;
// ---- other bodies ----
pub mod answer;
pub mod exec;
pub mod problem;
// ---- reading and checking ----
pub mod manifest;
pub mod nearest;
mod node;
mod path;
mod structure;
pub mod validate;
// ---- changing ----
pub mod diff;
pub mod immutable;
pub mod patch;
pub mod selector;
// ---- the contract as data ----
pub mod openapi;
pub mod routes;
pub mod schema;

pub use kind::{Kind, Object, Scope, Typed};
pub use meta::{Condition, List, Metadata};
pub use problem::{FieldError, Problem};
pub use validate::{Purpose, check};
