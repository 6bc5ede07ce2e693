//! The scheduler core from outside: tables in text, and properties against naive checks.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where it finds something wrong"
)]

mod evictions;
mod placing;
mod properties;
mod queues;
mod script;
mod stopping;
mod stories;
mod whys;
