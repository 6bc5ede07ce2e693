//! Waiting for a condition instead of sleeping for a while.

use std::time::{Duration, Instant};

/// Waits until `holds`; panics with `what` when it does not in time.
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    eventually_some(what, patience, || holds().then_some(()));
}

/// Waits until `attempt` succeeds; panics with `what` and the last failure when it does not in time.
pub fn eventually_ok<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(why) => assert!(
                Instant::now() < deadline,
                "not in {} s: {what}: {why}",
                patience.as_secs()
            ),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `find` finds something; panics with `what` when it does not in time.
pub fn eventually_some<T>(
    what: &str,
    patience: Duration,
    mut find: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "not in {} s: {what}",
            patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
