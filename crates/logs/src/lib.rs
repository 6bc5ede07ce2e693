//! Output that outlives replicas, in append-only segments: one file for each project, hour and replica's attempt.
//! Frames are numbered from 1 and kept once, however often they are sent.
//!
//! ```text
//! <root>/<project>/<hour since 1970>/<owner>/<group>.<index>.<attempt>.log
//! ```
//!
//! The hour is that of the arrival, so that all of an hour's output is in one place: retention removes whole
//! hours, the oldest first, by age and by bytes. A reader needs one replica and reads its files alone.
//!
//! What is durable: [`Logs::append`] returns when the kernel has the bytes, which a crash of this process does not
//! take. They are not synchronised to the disk each time: a power failure may take the last seconds. Damage that a
//! file then shows is told in the log, never covered up.
//!
//! A full disk: `append` refuses and keeps nothing of what it was given; the sender keeps it and comes again.
//! Senders have a bounded spool; what does not fit there any more is dropped, counted and marked in the log by a
//! note of the sender. Programs go on.
//!
//! What it does not do: search (later, on the same segments).
//!
//! Read [`Logs`], then `segment` (one file) and `record` (its format).

mod gaps;
mod logs;
mod name;
mod record;
mod segment;

pub use logs::{Clock, Logs, Position, Stats};
pub use name::{LogError, ReplicaLog};
pub use record::{FRAME_BYTES_MAX, Frame, Stream};

#[cfg(test)]
mod tests;
