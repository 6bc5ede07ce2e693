//! The wire contract: every kind, its validation, errors and the OpenAPI document.
//!
//! Kubernetes habits: `apiVersion: moonshot/v1`, `kind`, `metadata`, `spec`, `status`. Types here
//! are for the wire; services convert them to their own at the edge. Start with [`kind`] (the table
//! of kinds), [`meta`], then [`job`] and [`app`].

pub mod app;
pub mod common;
pub mod environment;
pub mod event;
pub mod job;
pub mod kind;
pub mod meta;
pub mod model;
pub mod platform;
pub mod problem;

pub use kind::{Kind, Object, Scope};
pub use meta::{Condition, List, Metadata};
pub use problem::{FieldError, Problem};
