//! Writing a log.

use crate::wire::{Entry, Wire};
use base::Time;
use sched::{Config, Decision, Event};
use std::io::{self, Write};

/// The version that is written. Older ones are read for as long as their golden file is kept.
pub const VERSION: u32 = 1;

/// Writes what a scheduler is told and what it answers, one line each.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
}

impl<W: Write> Recorder<W> {
    /// Begins a log for a scheduler with these settings.
    pub fn new(out: W, config: &Config) -> io::Result<Self> {
        let mut recorder = Self { out };
        recorder.line(&Entry::Header {
            version: VERSION,
            settings: Wire::of(config),
        })?;
        Ok(recorder)
    }

    /// Notes an event, before or after it is applied.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.line(&Entry::Event(Box::new(Wire::of(event))))
    }

    /// Notes a call of `decide` with its answer.
    pub fn decided(&mut self, now: Time, steps: u32, decisions: &[Decision]) -> io::Result<()> {
        self.line(&Entry::Decide {
            now: Wire::of(&now),
            steps,
        })?;
        let decisions = decisions.iter().map(Wire::of).collect();
        self.line(&Entry::Decided(decisions))
    }

    /// Has the writer pass on what it holds.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The writer, with everything written to it.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn line(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, entry)?;
        self.out.write_all(b"\n")
    }
}
