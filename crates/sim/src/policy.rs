//! Who decides: one trait over events and decisions, so that every policy lives through the same life.

use base::Time;
use sched::{Config, Decision, Event, Sched};
use schedlog::Recorder;
use std::io::{self, Write};

/// A scheduler. It hears what the core hears and answers what the core answers.
pub trait Policy {
    /// A fact. Answers to decisions come back as [`Event::Committed`].
    fn apply(&mut self, event: Event);

    /// What to do now. It is called again until it answers nothing.
    fn decide(&mut self, now: Time) -> Vec<Decision>;

    /// Whether tasks tell it how long they will run (an oracle).
    fn knows_durations(&self) -> bool {
        false
    }

    /// The core, where this is it: for `explain`.
    fn core(&mut self) -> Option<&mut Sched> {
        None
    }

    /// Ends the record, where there is one.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Steps of one call of `decide`. A scheduler loop gives what ten milliseconds allow; here nothing is
/// gained by stopping early.
const STEPS: u32 = 1_000_000;

/// The scheduler core, with a record of what it heard and answered where one is wanted.
pub struct Moonshot {
    core: Sched,
    log: Option<Recorder<Box<dyn Write>>>,
    broken: Option<io::Error>,
}

impl Moonshot {
    /// The core with these settings.
    pub fn new(config: Config) -> Self {
        Self {
            core: Sched::new(config),
            log: None,
            broken: None,
        }
    }

    /// The same, with everything written to a log that `replay` reads.
    pub fn recorded(config: Config, log: Box<dyn Write>) -> io::Result<Self> {
        let log = Recorder::new(log, &config)?;
        Ok(Self {
            log: Some(log),
            ..Self::new(config)
        })
    }

    fn note(&mut self, note: impl FnOnce(&mut Recorder<Box<dyn Write>>) -> io::Result<()>) {
        if let Some(log) = &mut self.log
            && let Err(error) = note(log)
        {
            self.log = None;
            self.broken = Some(error);
        }
    }
}

impl Policy for Moonshot {
    fn apply(&mut self, event: Event) {
        self.note(|log| log.event(&event));
        self.core.apply(event);
    }

    fn decide(&mut self, now: Time) -> Vec<Decision> {
        let decisions = self.core.decide(now, STEPS);
        self.note(|log| log.decided(now, STEPS, &decisions));
        decisions
    }

    fn core(&mut self) -> Option<&mut Sched> {
        Some(&mut self.core)
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        match self.log.take() {
            Some(log) => log.finish().map(drop),
            None => Ok(()),
        }
    }
}
