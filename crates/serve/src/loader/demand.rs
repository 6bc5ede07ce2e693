//! Requests that wait for a version to be loaded: all who wait for one get it from one load.

use crate::error::{Result, ServeError};
use crate::metrics::Loads;
use crate::models::Version;
use crate::residency::Key;
use base::Code;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// The version, or `None` where it could not be loaded or is gone: then the table of models says more.
pub(crate) type Found = Option<Arc<Version>>;

/// Who waits.
#[derive(Default)]
pub(super) struct Demand {
    waits: Mutex<Waits>,
    /// Whether the loader has not seen all keys yet.
    is_new: AtomicBool,
}

#[derive(Default)]
struct Waits {
    by_key: HashMap<Key, Wait>,
    /// Keys that the loader has not seen.
    new: Vec<Key>,
}

#[derive(Default)]
struct Wait {
    waiters: Vec<Waiter>,
    /// What it waits for besides the load itself.
    why: String,
}

struct Waiter {
    reply: oneshot::Sender<Found>,
    since: Instant,
}

impl Demand {
    fn lock(&self) -> MutexGuard<'_, Waits> {
        // No code that can panic runs under the lock.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who wait for a version, at most `max`; says whether the loader must be woken.
    pub(super) fn join(&self, key: Key, max: usize) -> Result<(oneshot::Receiver<Found>, bool)> {
        let (reply, found) = oneshot::channel();
        let mut waits = self.lock();
        let is_known = waits.by_key.contains_key(&key);
        let wait = waits.by_key.entry(key.clone()).or_default();
        if wait.waiters.len() >= max {
            wait.waiters.retain(|waiter| !waiter.reply.is_closed());
        }
        if let (true, Some(oldest)) = (wait.waiters.len() >= max, wait.waiters.first()) {
            return Err(ServeError::new(
                Code::Exhausted,
                format!(
                    "{} requests wait for version {} of model `{}` to be loaded, the oldest for {} ms; try again later",
                    wait.waiters.len(),
                    key.1,
                    key.0,
                    oldest.since.elapsed().as_millis()
                ),
            ));
        }
        let since = Instant::now();
        wait.waiters.push(Waiter { reply, since });
        if is_known {
            return Ok((found, false));
        }
        waits.new.push(key);
        drop(waits);
        Ok((found, !self.is_new.swap(true, SeqCst)))
    }

    /// The keys that came since the last call.
    pub(super) fn take_new(&self) -> Vec<Key> {
        if !self.is_new.swap(false, SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().new)
    }

    /// Whether anybody waits still; those who left are forgotten.
    pub(super) fn is_wanted(&self, key: &Key) -> bool {
        let mut waits = self.lock();
        let is_wanted = waits
            .by_key
            .get(key)
            .is_some_and(|wait| wait.waiters.iter().any(|waiter| !waiter.reply.is_closed()));
        if !is_wanted {
            waits.by_key.remove(key);
        }
        is_wanted
    }

    /// Tells all who wait.
    pub(super) fn answer(&self, key: &Key, found: &Found, loads: &Loads) {
        let wait = self.lock().by_key.remove(key);
        for waiter in wait.into_iter().flat_map(|wait| wait.waiters) {
            if found.is_some() {
                loads.waited(waiter.since.elapsed());
            }
            // Nobody may wait any more.
            let _ = waiter.reply.send(found.clone());
        }
    }

    /// Notes what the version waits for.
    pub(super) fn explain(&self, key: &Key, why: String) {
        if let Some(wait) = self.lock().by_key.get_mut(key) {
            wait.why = why;
        }
    }

    /// What the version waits for; empty where nothing special.
    pub(super) fn why(&self, key: &Key) -> String {
        let waits = self.lock();
        waits
            .by_key
            .get(key)
            .map_or_else(String::new, |wait| wait.why.clone())
    }
}

#[cfg(test)]
mod tests;
