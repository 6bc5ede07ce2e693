//! The engine on this machine: processes, cgroups, mounts, ports, devices.
//!
//! Each replica is a program under its own shim (crate `shim`) and, here, one task that prepares its
//! files, starts the shim, watches it, restarts it in place where its life says so, carries its
//! output to the [`engine::OutputSink`], and cleans up. All that the task knows is in the replica's
//! directory, so a new process goes on where a killed one was: [`Local::open`] re-adopts every shim.
//!
//! What it deliberately does not do: decide what shall run or how often a Job is tried (`plan`),
//! keep output or files (`logs`, `store` behind [`engine::Content`]), or run images: isolation here is
//! that of processes and cgroups.
//!
//! Read [`config`], `layout` (what lies where), `gate` (who may act), `table` (what is reported), then `replica` (one
//! replica's life). The rest are its parts: `environment` and `prepare` before a start,
//! `launch`, `probe`, `pump` while it runs, `outputs` and `sweep` at its end; `port` is the trait; `offline` is what can be done without an engine.

pub mod config;
pub mod gpu;
pub mod limits;

mod checkpoints;
mod ctx;
mod end;
mod environment;
mod exec;
mod fd;
mod gate;
mod host;
mod launch;
mod layout;
mod offline;
mod outputs;
mod port;
mod prepare;
mod probe;
mod pump;
mod record;
mod replica;
mod sweep;
mod table;

pub use config::{Backoff, Config};
pub use offline::stop_programs;
pub use port::{Local, OpenError};
