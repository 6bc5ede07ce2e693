//! Counts of requests in Prometheus' text format.

use axum::http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Requests by method and status class, with their latency.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<(String, u16), Series>>);

#[derive(Debug, Default)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BOUNDS.len()],
}

impl Requests {
    /// A request was answered.
    pub fn count(&self, method: &Method, status: StatusCode, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all
            .entry((method.to_string(), status.as_u16() / 100))
            .or_default();
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.seconds += seconds;
        for (bucket, bound) in series.buckets.iter_mut().zip(BOUNDS) {
            if seconds <= bound {
                *bucket += 1;
            }
        }
    }

    /// All series.
    pub fn text(&self) -> String {
        let mut text = String::from("# TYPE moonshot_http_request_seconds histogram\n");
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, class), series) in all.iter() {
            let labels = format!("method=\"{method}\",status=\"{class}xx\"");
            for (bound, bucket) in BOUNDS.iter().zip(series.buckets) {
                let _ = writeln!(
                    text,
                    "moonshot_http_request_seconds_bucket{{{labels},le=\"{bound}\"}} {bucket}"
                );
            }
            let _ = writeln!(
                text,
                "moonshot_http_request_seconds_bucket{{{labels},le=\"+Inf\"}} {}",
                series.count
            );
            let _ = writeln!(
                text,
                "moonshot_http_request_seconds_sum{{{labels}}} {}",
                series.seconds
            );
            let _ = writeln!(
                text,
                "moonshot_http_request_seconds_count{{{labels}}} {}",
                series.count
            );
        }
        text
    }
}

/// Bytes of output that senders had no room for, as their notes say.
#[derive(Debug, Default)]
pub struct Dropped(AtomicU64);

impl Dropped {
    /// A note came in.
    pub fn note(&self, text: &[u8]) {
        let dropped = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split_once(" bytes of output were dropped"))
            .and_then(|(number, _)| number.parse::<u64>().ok());
        if let Some(dropped) = dropped {
            self.0.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    /// All of them since the process began.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What became of programs' output.
pub fn output(stats: &logs::Stats, dropped: u64) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("moonshot_output_kept_bytes_total", stats.kept_bytes),
        ("moonshot_output_dropped_bytes_total", dropped),
        ("moonshot_output_refused_total", stats.refused),
        ("moonshot_output_missing_frames_total", stats.missing),
        ("moonshot_output_late_frames_total", stats.late),
        ("moonshot_output_damaged_bytes_total", stats.damaged_bytes),
    ] {
        let _ = writeln!(text, "# TYPE {name} counter\n{name} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_senders_dropped_is_counted_from_their_notes() {
        let dropped = Dropped::default();
        // The shim's words: see `shim::frame::loss_note`.
        dropped.note(b"1234 bytes of output were dropped here: no space for them\n");
        dropped.note(b"the output was cut here\n");
        assert_eq!(dropped.total(), 1_234);
        let text = output(&logs::Stats::default(), dropped.total());
        assert!(
            text.contains("moonshot_output_dropped_bytes_total 1234\n"),
            "{text}"
        );
    }

    #[test]
    fn buckets_add_up() {
        let requests = Requests::default();
        requests.count(&Method::GET, StatusCode::OK, Duration::from_millis(3));
        requests.count(&Method::GET, StatusCode::CREATED, Duration::from_secs(3));
        let text = requests.text();
        assert!(
            text.contains("_bucket{method=\"GET\",status=\"2xx\",le=\"0.005\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("_bucket{method=\"GET\",status=\"2xx\",le=\"+Inf\"} 2\n"),
            "{text}"
        );
    }
}
