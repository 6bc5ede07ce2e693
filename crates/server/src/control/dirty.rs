//! Which objects a controller must look at: a set that anybody may add to, with times to look again.
//!
//! An object that is added while it is being looked at is looked at once more afterwards, so no change is
//! missed, and no object is looked at twice at once.

use base::{Time, Uid};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The set. Cheap to clone; all clones are the same set.
#[derive(Clone, Default)]
pub struct Dirty {
    state: Arc<Mutex<State>>,
    notify: Arc<Notify>,
}

#[derive(Default)]
struct State {
    waiting: HashSet<Uid>,
    busy: HashSet<Uid>,
    wakes: BTreeSet<(Time, Uid)>,
    wake_of: HashMap<Uid, Time>,
}

impl Dirty {
    /// The object shall be looked at.
    pub fn add(&self, uid: Uid) {
        self.state().waiting.insert(uid);
        self.notify.notify_one();
    }

    /// All of these shall be looked at.
    pub fn add_all(&self, uids: impl IntoIterator<Item = Uid>) {
        self.state().waiting.extend(uids);
        self.notify.notify_one();
    }

    /// Takes up to `most` objects to look at now; each must be given back with [`Dirty::done`].
    pub fn take(&self, now: Time, most: usize) -> Vec<Uid> {
        let mut state = self.state();
        while let Some((at, uid)) = state.wakes.first().copied() {
            if at > now {
                break;
            }
            state.wakes.remove(&(at, uid));
            state.wake_of.remove(&uid);
            state.waiting.insert(uid);
        }
        let State { waiting, busy, .. } = &mut *state;
        let taken: Vec<Uid> = waiting
            .iter()
            .filter(|uid| !busy.contains(uid))
            .take(most)
            .copied()
            .collect();
        for uid in &taken {
            waiting.remove(uid);
            busy.insert(*uid);
        }
        taken
    }

    /// The object was looked at; `wake` is when to look again if nothing else happens.
    pub fn done(&self, uid: Uid, wake: Option<Time>) {
        let mut state = self.state();
        state.busy.remove(&uid);
        if let Some(old) = state.wake_of.remove(&uid) {
            state.wakes.remove(&(old, uid));
        }
        if let Some(at) = wake {
            state.wakes.insert((at, uid));
            state.wake_of.insert(uid, at);
        }
        let again = state.waiting.contains(&uid);
        drop(state);
        if again {
            self.notify.notify_one();
        }
    }

    /// When the first wake is due.
    pub fn next_wake(&self) -> Option<Time> {
        self.state().wakes.first().map(|(at, _)| *at)
    }

    /// Waits until something is added.
    pub async fn added(&self) {
        self.notify.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock leaves whole sets behind: each operation is a few inserts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missed_and_nothing_is_done_twice_at_once() {
        let dirty = Dirty::default();
        let (a, now) = (Uid(1), Time::from_ms(0));
        dirty.add(a);
        assert_eq!(dirty.take(now, 9), [a]);
        dirty.add(a);
        assert_eq!(dirty.take(now, 9), [], "it is busy");
        dirty.done(a, None);
        assert_eq!(dirty.take(now, 9), [a], "it changed meanwhile");
        dirty.done(a, None);
        assert_eq!(dirty.take(now, 9), []);
    }

    #[test]
    fn the_last_wake_counts() {
        let dirty = Dirty::default();
        let a = Uid(1);
        dirty.add(a);
        dirty.take(Time::from_ms(0), 9);
        dirty.done(a, Some(Time::from_ms(50)));
        dirty.add(a);
        dirty.take(Time::from_ms(0), 9);
        dirty.done(a, Some(Time::from_ms(90)));
        assert_eq!(dirty.next_wake(), Some(Time::from_ms(90)));
        assert_eq!(dirty.take(Time::from_ms(60), 9), []);
        assert_eq!(dirty.take(Time::from_ms(90), 9), [a]);
    }
}
