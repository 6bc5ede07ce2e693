//! The versioned record of events and decisions, for replay.
//!
//! A log is JSON lines: a header with the version and the scheduler's settings, then in the order of
//! time every event, every `decide(now, steps)`, and what was decided. A snapshot is nothing special:
//! a scheduler is rebuilt by events, so a log that begins after a restart begins with those. The same
//! log gives the same decisions on every machine; [`fn@replay`] checks it line by line.
//!
//! It does not say where logs are kept or for how long. Start with [`Recorder`] and [`fn@replay`];
//! [`Reader`] gives the entries one by one.

mod read;
mod record;
mod replay;
mod wire;

pub use read::{Entry, Reader};
pub use record::{Recorder, VERSION};
pub use replay::{Replay, ReplayError, replay};
