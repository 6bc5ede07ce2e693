//! Reading a log entry by entry.

use crate::record::VERSION;
use crate::replay::ReplayError;
use crate::wire::{self, Wire};
use base::Time;
use sched::{Config, Decision, Event};
use std::io::{BufRead, Lines};

/// One line of a log after the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What the scheduler was told.
    Event(Box<Event>),
    /// It was asked what to do.
    Decide {
        /// When.
        now: Time,
        /// With how many steps.
        steps: u32,
    },
    /// What it answered.
    Decided(Vec<Decision>),
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reader<R: BufRead> {
    lines: Lines<R>,
    config: Config,
    line: usize,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn open(log: R) -> Result<Self, ReplayError> {
        let mut lines = log.lines();
        let no_header = ReplayError::Header { line: 1 };
        let text = lines.next().ok_or(no_header)?;
        let text = text.map_err(|source| ReplayError::Read { line: 1, source })?;
        match parse(&text, 1)? {
            wire::Entry::Header { version, .. } if version > VERSION => {
                Err(ReplayError::Version { version })
            }
            wire::Entry::Header { settings, .. } => Ok(Self {
                lines,
                config: settings.back(),
                line: 1,
            }),
            wire::Entry::Event(_) | wire::Entry::Decide { .. } | wire::Entry::Decided(_) => {
                Err(ReplayError::Header { line: 1 })
            }
        }
    }

    /// The settings of the scheduler that was recorded.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The line that was read last, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.lines.next()?;
        self.line += 1;
        let line = self.line;
        let entry = text
            .map_err(|source| ReplayError::Read { line, source })
            .and_then(|text| parse(&text, line))
            .and_then(|entry| match entry {
                wire::Entry::Header { .. } => Err(ReplayError::SecondHeader { line }),
                wire::Entry::Event(event) => Ok(Entry::Event(Box::new(event.back()))),
                wire::Entry::Decide { now, steps } => Ok(Entry::Decide {
                    now: now.back(),
                    steps,
                }),
                wire::Entry::Decided(decisions) => Ok(Entry::Decided(decisions.back())),
            });
        Some(entry)
    }
}

fn parse(text: &str, line: usize) -> Result<wire::Entry, ReplayError> {
    serde_json::from_str(text).map_err(|source| ReplayError::Parse { line, source })
}
