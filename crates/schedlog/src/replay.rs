//! Running a log again.

use crate::record::VERSION;
use crate::wire::{Entry, Wire};
use sched::{Decision, Event, Sched};
use std::io::{self, BufRead};
use thiserror::Error;

/// A log that could not be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The log could not be read.
    #[error("could not read the log at line {line}")]
    Read {
        /// Line from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not part of a log.
    #[error("line {line} is not an entry of a scheduler log")]
    Parse {
        /// Line from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The log does not begin with a header.
    #[error("the log has no header at line {line}")]
    Header {
        /// Line from 1.
        line: usize,
    },
    /// The log was written by a newer program.
    #[error("the log has version {version}, this program reads up to {VERSION}")]
    Version {
        /// Its version.
        version: u32,
    },
    /// The decisions differ from those that were recorded.
    #[error("line {line}: decided {found} times where the log says {recorded}, or differently")]
    Differs {
        /// Line from 1.
        line: usize,
        /// How many decisions were made now.
        found: usize,
        /// How many were recorded.
        recorded: usize,
    },
}

/// What a replay gave.
#[derive(Debug)]
pub struct Replay {
    /// The scheduler as it stood at the end.
    pub sched: Sched,
    /// All decisions in order.
    pub decisions: Vec<Decision>,
}

/// Replays a log and checks that every decision comes out as it was recorded.
pub fn replay(log: impl BufRead) -> Result<Replay, ReplayError> {
    run(log, true, |event| event)
}

/// Replays a log with changed events, for what-if questions; decisions may differ. A recorded answer
/// to a decision is applied as it stands, so keep to changes that the answers still fit.
pub fn replay_with(
    log: impl BufRead,
    change: impl FnMut(Event) -> Event,
) -> Result<Replay, ReplayError> {
    run(log, false, change)
}

fn run(
    log: impl BufRead,
    check: bool,
    mut change: impl FnMut(Event) -> Event,
) -> Result<Replay, ReplayError> {
    let mut state: Option<Replay> = None;
    let mut last: Vec<Decision> = Vec::new();
    for (at, text) in log.lines().enumerate() {
        let line = at + 1;
        let text = text.map_err(|source| ReplayError::Read { line, source })?;
        let entry: Entry =
            serde_json::from_str(&text).map_err(|source| ReplayError::Parse { line, source })?;
        let header = || ReplayError::Header { line };
        match entry {
            Entry::Header { version, settings } => {
                if version > VERSION {
                    return Err(ReplayError::Version { version });
                }
                state = Some(Replay {
                    sched: Sched::new(settings.back()),
                    decisions: Vec::new(),
                });
            }
            Entry::Event(event) => {
                let event = change(event.back());
                state.as_mut().ok_or_else(header)?.sched.apply(event);
            }
            Entry::Decide { now, steps } => {
                let replay = state.as_mut().ok_or_else(header)?;
                last = replay.sched.decide(now.back(), steps);
                replay.decisions.extend(last.iter().cloned());
            }
            Entry::Decided(recorded) => {
                let recorded: Vec<Decision> = recorded.back();
                if check && recorded != last {
                    return Err(ReplayError::Differs {
                        line,
                        found: last.len(),
                        recorded: recorded.len(),
                    });
                }
            }
        }
    }
    state.ok_or(ReplayError::Header { line: 1 })
}
