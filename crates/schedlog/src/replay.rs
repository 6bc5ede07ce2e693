//! Running a log again.

use crate::read::{Entry, Reader};
use crate::record::VERSION;
use sched::{Decision, Sched};
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
    /// A header stands where an entry should: two logs in one file.
    #[error("line {line} begins another log; replay one at a time")]
    SecondHeader {
        /// Line from 1.
        line: usize,
    },
    /// The decisions differ from those that were recorded.
    #[error(
        "line {line}: decision {number} of the round differs:\n  recorded {recorded}\n  decided  {found}"
    )]
    Differs {
        /// Line from 1.
        line: usize,
        /// Which decision of the round, from 1.
        number: usize,
        /// What was recorded there; `nothing` where the record has fewer.
        recorded: String,
        /// What was decided now; `nothing` where there are fewer.
        found: String,
    },
}

/// What a replay gave.
#[derive(Debug)]
pub struct Replay {
    /// The scheduler as it stood at the end.
    pub sched: Sched,
    /// All decisions in order.
    pub decisions: Vec<Decision>,
    /// How often it was asked.
    pub rounds: usize,
}

/// Replays a log and checks that every decision comes out as it was recorded.
pub fn replay(log: impl BufRead) -> Result<Replay, ReplayError> {
    let mut reader = Reader::open(log)?;
    let mut replay = Replay {
        sched: Sched::new(reader.config().clone()),
        decisions: Vec::new(),
        rounds: 0,
    };
    let mut last: Vec<Decision> = Vec::new();
    while let Some(entry) = reader.next() {
        match entry? {
            Entry::Event(event) => replay.sched.apply(*event),
            Entry::Decide { now, steps } => {
                last = replay.sched.decide(now, steps);
                replay.decisions.extend(last.iter().cloned());
                replay.rounds += 1;
            }
            Entry::Decided(recorded) => compare(reader.line(), &recorded, &last)?,
        }
    }
    Ok(replay)
}

fn compare(line: usize, recorded: &[Decision], found: &[Decision]) -> Result<(), ReplayError> {
    let most = recorded.len().max(found.len());
    let Some(at) = (0..most).find(|at| recorded.get(*at) != found.get(*at)) else {
        return Ok(());
    };
    let show = |decision: Option<&Decision>| match decision {
        Some(decision) => format!("{:?}", decision.kind),
        None => "nothing".to_owned(),
    };
    Err(ReplayError::Differs {
        line,
        number: at + 1,
        recorded: show(recorded.get(at)),
        found: show(found.get(at)),
    })
}
