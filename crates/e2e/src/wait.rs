//! Waiting for a condition instead of sleeping for a while.

use std::time::{Duration, Instant};

/// Waits until `holds`; panics with `what` when it does not in time.
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    eventually_some(what, patience, || holds().then_some(()));
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
