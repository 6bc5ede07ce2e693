//! A piece of work over all its attempts: what it asks for, and how it behaves when it runs.

use base::{Span, Time};
use sched::{GroupSpec, Placement, SlotId, TaskId, TaskSpec};
use std::collections::BTreeMap;

/// Work as it arrives.
#[derive(Clone, Debug)]
pub struct Work {
    /// The first attempt. The simulation gives ids; the one here is not looked at.
    pub spec: TaskSpec,
    /// How long it runs with all its members; it takes longer with fewer. `None` serves until stopped.
    pub runs: Option<Span>,
    /// What survives a stop.
    pub saves: Saves,
    /// Time from each start until it makes progress (or serves).
    pub loads: Span,
    /// Which kind it is in tables: the stream it came from.
    pub class: String,
}

/// What work saves of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saves {
    /// It writes a checkpoint this often.
    pub every: Option<Span>,
    /// When asked to stop it needs this long to write one (or to finish its requests).
    pub on_stop: Option<Span>,
}

/// What became of a piece of work.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// When it arrived.
    pub arrived: Time,
    /// Time without seats, over all attempts, until it ended or the simulation did.
    pub waited: Span,
    /// When it first got seats.
    pub started: Option<Time>,
    /// When it finished or was withdrawn.
    pub ended: Option<Time>,
    /// How often it was stopped for others.
    pub evictions: u32,
    /// How often a fault ended an attempt.
    pub faults: u32,
    /// Thousandths of GPUs times milliseconds that were done and lost.
    pub lost: u128,
    /// Thousandths of GPUs times milliseconds that it held.
    pub held: u128,
}

impl Fate {
    pub(super) fn waits_for(&mut self, span: Span) {
        self.waited = Span::from_ms(self.waited.as_ms() + span.as_ms());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not there yet.
    Absent,
    Waiting,
    Running,
    /// Told to stop; it does so at its next turn.
    Stopping {
        /// Done work that is kept.
        kept: u128,
        /// Whether it waits again afterwards.
        again: bool,
    },
    Over,
}

/// Work with its present state.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) work: Work,
    pub(super) phase: Phase,
    pub(super) task: TaskId,
    pub(super) attempt: u32,
    pub(super) seats: BTreeMap<SlotId, Placement>,
    /// Member-milliseconds done at `updated`.
    pub(super) done: u128,
    /// Member-milliseconds that the last checkpoint holds.
    pub(super) saved: u128,
    pub(super) updated: Time,
    /// From when it makes progress.
    pub(super) ready: Time,
    pub(super) since: Time,
    /// Numbers its turns, so that outdated ones are known.
    pub(super) turn: u32,
    pub(super) fate: Fate,
}

impl Item {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work,
            phase: Phase::Absent,
            task: TaskId(base::Uid(0)),
            attempt: 0,
            seats: BTreeMap::new(),
            done: 0,
            saved: 0,
            updated: Time::default(),
            ready: Time::default(),
            since: Time::default(),
            turn: 0,
            fate: Fate::default(),
        }
    }

    pub(super) fn group(&self, slot: SlotId) -> &GroupSpec {
        &self.work.spec.groups[slot.group as usize]
    }

    pub(super) fn members(&self) -> u64 {
        let groups = self.work.spec.groups.iter();
        groups
            .map(|group| u64::from(group.count))
            .sum::<u64>()
            .max(1)
    }

    /// All work in member-milliseconds.
    pub(super) fn total(&self) -> Option<u128> {
        let runs = u128::from(self.work.runs?.as_ms().max(1));
        Some(runs * u128::from(self.members()))
    }

    /// Thousandths of GPUs that it holds.
    pub(super) fn gpu_milli(&self) -> u64 {
        let slots = self.seats.keys();
        slots.map(|slot| self.group(*slot).request.gpu_milli).sum()
    }

    /// Counts what was done since the last time.
    pub(super) fn advance(&mut self, now: Time) {
        let held = now.since(self.updated).as_ms();
        self.fate.held += u128::from(held) * u128::from(self.gpu_milli());
        if self.phase == Phase::Running {
            let from = self.updated.max(self.ready);
            let before = self.done;
            self.done += u128::from(now.since(from).as_ms()) * self.seats.len() as u128;
            if let Some(every) = self.work.saves.every {
                // Checkpoints are as far apart as work goes on with all members.
                let step = (u128::from(every.as_ms()) * u128::from(self.members())).max(1);
                if self.done / step > before / step {
                    self.saved = self.saved.max(self.done / step * step);
                }
            }
        }
        self.updated = now;
    }

    /// When it will be done with the seats that it has.
    pub(super) fn end(&self) -> Option<Time> {
        let left = self.total()?.saturating_sub(self.done);
        let seats = self.seats.len() as u128;
        let ms = left.checked_add(seats.checked_sub(1)?)? / seats;
        let from = self.updated.max(self.ready);
        Some(from + Span::from_ms(u64::try_from(ms).unwrap_or(u64::MAX >> 1)))
    }

    /// What is left to run with all members.
    pub(super) fn left(&self) -> Option<Span> {
        let left = self.total()?.saturating_sub(self.done);
        let ms = left / u128::from(self.members());
        Some(Span::from_ms(u64::try_from(ms).unwrap_or(u64::MAX)))
    }

    /// Gives up what was done beyond `kept`; answers it in thousandths of GPUs times milliseconds.
    pub(super) fn fall_back(&mut self, kept: u128) {
        let lost = self.done.saturating_sub(kept);
        let groups = self.work.spec.groups.iter();
        let gpus: u64 = groups
            .map(|g| g.request.gpu_milli * u64::from(g.count))
            .sum();
        self.fate.lost += lost * u128::from(gpus) / u128::from(self.members());
        self.done = self.done.min(kept);
        self.saved = self.saved.min(self.done);
    }
}
