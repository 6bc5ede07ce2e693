//! Who stays in memory where models are loaded on demand: what fits, who goes for it, which load is next. Pure: the
//! loader observes, asks and performs.
//!
//! A load gets its room before it begins, so that what is loaded and what is being loaded are never more than the
//! bound. Those go that were asked for least recently and that no request uses; nobody goes in vain. A load whose
//! room is held by running requests waits, and smaller ones pass it, but only so often.

use std::collections::VecDeque;

/// Loads that may pass one that waits for room; then it is next.
pub(crate) const PASSED_MAX: u32 = 32;

/// A version: its model and number.
pub(crate) type Key = (String, u64);

/// A version in memory.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    /// When a request last asked for it.
    pub(crate) used_us: u64,
    /// A request has it, or it must stay for another reason.
    pub(crate) is_busy: bool,
}

/// Whether there is room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Once these are gone; often there are none.
    Without(Vec<Key>),
    /// Once requests that run have ended.
    Later,
    /// The bound itself is less.
    Never,
}

/// Finds room for `needed` bytes beside `held` and beside what cannot go: loads that run, versions that drain.
pub(crate) fn room(needed: u64, fixed: u64, max: u64, held: &[Held]) -> Room {
    if needed > max {
        return Room::Never;
    }
    let mut used = held
        .iter()
        .fold(fixed, |sum, held| sum.saturating_add(held.bytes));
    let mut idle: Vec<&Held> = held.iter().filter(|held| !held.is_busy).collect();
    idle.sort_by(|a, b| (a.used_us, &a.key).cmp(&(b.used_us, &b.key)));
    let mut without = Vec::new();
    for held in idle {
        if used <= max - needed {
            break;
        }
        used = used.saturating_sub(held.bytes);
        without.push(held.key.clone());
    }
    if used <= max - needed {
        Room::Without(without)
    } else {
        Room::Later
    }
}

/// A load that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) key: Key,
    /// Bytes to find room for.
    pub(crate) needed: u64,
    /// Its size shows in what the process grows by: no other such load may run beside it.
    pub(crate) is_alone: bool,
    /// Requests wait for it; else it prepares a new version beside one that answers.
    pub(crate) is_awaited: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let these go, then ask again.
    LetGo(Vec<Key>),
    /// It has its room.
    Start(Load),
    /// It can never have it.
    Refuse(Load),
}

/// Loads that wait and loads that run.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<(Load, u32)>,
    running: Vec<Load>,
    /// Loads that may run at a time.
    n_threads: usize,
}

impl Queue {
    pub(crate) fn new(n_threads: usize) -> Queue {
        Queue {
            waiting: VecDeque::new(),
            running: Vec::new(),
            n_threads,
        }
    }

    /// Whether the load waits or runs.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.running.iter().any(|load| load.key == *key) || self.waits(key)
    }

    fn waits(&self, key: &Key) -> bool {
        self.waiting.iter().any(|(load, _)| load.key == *key)
    }

    /// Queues a load that is not there yet; awaited ones before the others.
    pub(crate) fn add(&mut self, load: Load) {
        if self.has(&load.key) {
            return;
        }
        let end = self.waiting.len();
        let at = if load.is_awaited {
            let first = self.waiting.iter().position(|(load, _)| !load.is_awaited);
            first.unwrap_or(end)
        } else {
            end
        };
        self.waiting.insert(at, (load, 0));
    }

    /// Leaves out loads that nobody wants any more; those that run go on.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&Load) -> bool) {
        self.waiting.retain(|(load, _)| wanted(load));
    }

    /// A load has ended.
    pub(crate) fn ended(&mut self, key: &Key) {
        self.running.retain(|load| load.key != *key);
    }

    /// Bytes of the loads that run.
    pub(crate) fn running_bytes(&self) -> u64 {
        let sizes = self.running.iter().map(|load| load.needed);
        sizes.fold(0, u64::saturating_add)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next step, where `room` says what is there for a load; `None` where all must wait.
    pub(crate) fn next(&mut self, mut room: impl FnMut(&Load) -> Room) -> Option<Step> {
        if self.running.len() >= self.n_threads {
            return None;
        }
        let is_alone = self.running.iter().any(|load| load.is_alone);
        let mut passed = Vec::new();
        for at in 0..self.waiting.len() {
            let (load, n_passed) = &self.waiting[at];
            if load.is_alone && is_alone {
                continue;
            }
            match room(load) {
                Room::Without(gone) if gone.is_empty() => {
                    for at in passed {
                        let (_, n_passed): &mut (Load, u32) = &mut self.waiting[at];
                        *n_passed += 1;
                    }
                    let (load, _) = self.waiting.remove(at)?;
                    self.running.push(load.clone());
                    return Some(Step::Start(load));
                }
                Room::Without(gone) => return Some(Step::LetGo(gone)),
                Room::Never => return self.waiting.remove(at).map(|(load, _)| Step::Refuse(load)),
                Room::Later if *n_passed >= PASSED_MAX => return None,
                Room::Later => passed.push(at),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
