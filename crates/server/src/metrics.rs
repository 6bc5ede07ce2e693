//! Counts of requests in Prometheus' text format.

use axum::http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::fmt::Write;
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

#[cfg(test)]
mod tests {
    use super::*;

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
