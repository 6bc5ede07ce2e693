//! What loading did, in numbers, since the server began.

use super::{Histogram, histogram};
use crate::models::{State, Table};
use crate::recent::Warmed;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The states that a version is counted in, with their words.
const STATES: [State; 5] = [
    State::OnDisk,
    State::Loading,
    State::Warming,
    State::Ready,
    State::Draining,
];

/// The numbers.
#[derive(Default)]
pub(crate) struct Loads {
    ok: AtomicU64,
    failed: AtomicU64,
    evictions: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    seconds: Histogram,
    waits: Histogram,
    /// As in [`Warmed`].
    warmed: [AtomicU64; 4],
}

impl Loads {
    /// A version was loaded and warmed, or could not be.
    pub(crate) fn loaded(&self, is_ok: bool, took: Duration) {
        let count = if is_ok { &self.ok } else { &self.failed };
        count.fetch_add(1, Relaxed);
        self.seconds.add(took);
    }

    /// A version went to make room.
    pub(crate) fn evicted(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }

    /// A request found its version in memory.
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Relaxed);
    }

    /// A request must wait for its version.
    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// A request got its version after this time.
    pub(crate) fn waited(&self, took: Duration) {
        self.waits.add(took);
    }

    pub(crate) fn warmed(&self, warmed: Warmed) {
        let Warmed {
            ok,
            failed,
            unfit,
            left,
        } = warmed;
        for (count, n) in self.warmed.iter().zip([ok, failed, unfit, left]) {
            count.fetch_add(n, Relaxed);
        }
    }

    pub(super) fn write(&self, out: &mut String, table: &Table) {
        let mut counter = |name: &str, help: &str, counts: &[(&str, &AtomicU64)]| {
            let name = format!("moonshot_serve_{name}_total");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for (labels, count) in counts {
                let _ = writeln!(out, "{name}{labels} {}", count.load(Relaxed));
            }
        };
        counter(
            "loads",
            "Versions that were loaded, or could not be.",
            &[
                ("{outcome=\"ok\"}", &self.ok),
                ("{outcome=\"failed\"}", &self.failed),
            ],
        );
        counter(
            "evictions",
            "Versions that went to disk to make room.",
            &[("", &self.evictions)],
        );
        counter(
            "hits",
            "Requests that found an on-demand version in memory.",
            &[("", &self.hits)],
        );
        counter(
            "misses",
            "Requests that had to wait for a load.",
            &[("", &self.misses)],
        );
        let [ok, failed, unfit, left] = &self.warmed;
        counter(
            "warm_up_requests",
            "Recorded requests that new versions were warmed with.",
            &[
                ("{outcome=\"ok\"}", ok),
                ("{outcome=\"failed\"}", failed),
                ("{outcome=\"unfit\"}", unfit),
                ("{outcome=\"left\"}", left),
            ],
        );
        for (name, help, of) in [
            (
                "moonshot_serve_load_seconds",
                "Time of a load, with warm-up and checks.",
                &self.seconds,
            ),
            (
                "moonshot_serve_load_wait_seconds",
                "Time that a request waited for a load.",
                &self.waits,
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
            histogram(out, name, "", of);
        }
        let name = "moonshot_serve_versions";
        let _ = writeln!(out, "# HELP {name} Versions by state.\n# TYPE {name} gauge");
        let statuses = || {
            table
                .models
                .values()
                .flat_map(|model| model.status.values())
        };
        let mut line = |state: &str, n: usize| {
            let _ = writeln!(out, "{name}{{state=\"{state}\"}} {n}");
        };
        for state in STATES {
            let n = statuses().filter(|status| status.state == state).count();
            line(state.word(), n);
        }
        line("failed", statuses().filter(|s| s.error.is_some()).count());
    }
}
