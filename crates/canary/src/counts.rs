//! What callers saw of one version: answers, errors, and how long an answer took.
//!
//! Counters only grow, so that a reader takes the difference of two readings.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets end at four points of each octave, so that a quantile is known to a fifth. The first holds up to 64 µs.
const FIRST_US: u64 = 64;
/// See [`FIRST_US`]; the last one holds what took more than 67 s.
const OCTAVES: usize = 20;
const N_BUCKETS: usize = OCTAVES * 4 + 2;

/// The counters of one version.
#[derive(Debug)]
pub struct Counts {
    errors: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; N_BUCKETS],
}

/// Counters at one moment, or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    errors: u64,
    buckets: [u64; N_BUCKETS],
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            errors: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; N_BUCKETS],
        }
    }
}

/// The bucket of a time: each holds what is longer than the end of the one before, up to its own.
fn bucket(micros: u64) -> usize {
    let above = micros.saturating_sub(1) / FIRST_US;
    if above == 0 {
        return 0;
    }
    let octave = above.ilog2();
    let quarter = (micros - 1) >> (octave + FIRST_US.ilog2() - 2) & 3;
    let at = 1 + octave as usize * 4 + usize::try_from(quarter).unwrap_or(3);
    at.min(N_BUCKETS - 1)
}

/// The end of a bucket, in microseconds; of the last one, twice its beginning.
fn end(at: usize) -> u64 {
    match at.checked_sub(1) {
        None => FIRST_US,
        Some(above) => (FIRST_US << (above / 4)) / 4 * (5 + above as u64 % 4),
    }
}

impl Counts {
    /// Counts one answer.
    pub fn record(&self, is_error: bool, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        if is_error {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters now.
    pub fn read(&self) -> Reading {
        Reading {
            errors: self.errors.load(Ordering::Relaxed),
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
        }
    }

    /// Appends the Prometheus lines, a bucket for each octave: `PREFIX_answer_seconds` and `PREFIX_errors_total`;
    /// `labels` is what stands between the braces.
    pub fn write(&self, text: &mut String, prefix: &str, labels: &str) {
        let name = format!("{prefix}_answer_seconds");
        let reading = self.read();
        let mut sum = 0;
        for (at, n) in reading.buckets.iter().enumerate() {
            sum += n;
            let bound = match at {
                at if at == N_BUCKETS - 1 => "+Inf".to_owned(),
                at if at % 4 == 0 => seconds(end(at)),
                _ => continue,
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let took = seconds(self.micros.load(Ordering::Relaxed));
        let _ = writeln!(text, "{name}_sum{{{labels}}} {took}");
        let _ = writeln!(text, "{name}_count{{{labels}}} {sum}");
        let errors = reading.errors;
        let _ = writeln!(text, "{prefix}_errors_total{{{labels}}} {errors}");
    }
}

impl Reading {
    /// What was counted since an earlier reading.
    pub fn since(&self, earlier: &Reading) -> Reading {
        Reading {
            errors: self.errors.saturating_sub(earlier.errors),
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
        }
    }

    /// Answers.
    pub fn n_answers(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Answers that were errors.
    pub fn n_errors(&self) -> u64 {
        self.errors
    }

    /// The time within which this share of the answers came; within a bucket they are taken as spread evenly.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut rest = self.n_answers() as f64 * share;
        for (at, n) in self.buckets.iter().enumerate() {
            let n = *n as f64;
            if rest <= n && n > 0.0 {
                let from = at.checked_sub(1).map_or(0, end) as f64;
                let micros = from + (end(at) as f64 - from) * rest / n;
                return Duration::from_secs_f64(micros / 1e6);
            }
            rest -= n;
        }
        Duration::ZERO
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another() {
        for at in 0..N_BUCKETS - 1 {
            assert_eq!(bucket(end(at)), at, "{at} ends at {}", end(at));
            assert_eq!(bucket(end(at) + 1), at + 1, "{at}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, N_BUCKETS - 1));
    }

    #[test]
    fn answers_fall_into_the_bucket_that_holds_them() {
        let counts = Counts::default();
        counts.record(false, Duration::from_micros(512));
        counts.record(true, Duration::from_micros(513));
        counts.record(false, Duration::from_secs(90));
        let mut text = String::new();
        counts.write(&mut text, "moonshot_gateway", "app=\"a\"");
        for line in [
            "moonshot_gateway_answer_seconds_bucket{app=\"a\",le=\"0.000512\"} 1",
            "moonshot_gateway_answer_seconds_bucket{app=\"a\",le=\"0.001024\"} 2",
            "moonshot_gateway_answer_seconds_bucket{app=\"a\",le=\"67.108864\"} 2",
            "moonshot_gateway_answer_seconds_bucket{app=\"a\",le=\"+Inf\"} 3",
            "moonshot_gateway_answer_seconds_sum{app=\"a\"} 90.001025",
            "moonshot_gateway_answer_seconds_count{app=\"a\"} 3",
            "moonshot_gateway_errors_total{app=\"a\"} 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn quantiles_are_right_to_a_fifth() {
        let counts = Counts::default();
        for ms in 1..=1_000 {
            counts.record(false, Duration::from_millis(ms));
        }
        let reading = counts.read();
        for (share, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = reading.quantile(share).as_secs_f64() * 1e3;
            assert!((found / ms - 1.0).abs() < 0.2, "{share}: {found} ms");
        }
        assert_eq!(reading.since(&reading).quantile(0.9), Duration::ZERO);
    }
}
