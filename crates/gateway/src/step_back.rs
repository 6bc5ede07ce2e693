//! Takes a canary's requests away from it when its callers fare worse than those of the Revision before.
//!
//! Looks at the counters every two seconds and compares what came since at most 25 s. Differences count only where
//! there are enough answers to tell them from chance. The server then goes back, as `moonshot rollout undo` would: this
//! gateway, and all others, learn of it by the table.

use crate::counts::Reading;
use crate::feed::Source;
use crate::table::{Route, StepBackSpec, Table};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// What is compared is at most this old.
const WINDOW: Duration = Duration::from_secs(25);
/// Fewer errors than this may be chance.
const ERRORS_MIN: u64 = 3;
/// Fewer answers than this tell nothing of errors.
const ANSWERS_MIN: u64 = 20;
/// Fewer answers than this tell nothing of times.
const TIMES_MIN: u64 = 40;
/// Answers that must be slower than the compared quantile: one slow answer is not a slow Revision.
const TAIL: f64 = 3.0;
/// A difference smaller than this is noise of the machine, whatever the ratio.
const SLOWER_MIN: Duration = Duration::from_millis(2);
/// For the server to answer.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Why the canary should get no more requests; `None` where it should go on.
pub fn verdict(spec: &StepBackSpec, old: &Reading, canary: &Reading) -> Option<String> {
    let share = |reading: &Reading| {
        let n = reading.n_answers();
        if n == 0 {
            0.0
        } else {
            reading.n_errors() as f64 * 100.0 / n as f64
        }
    };
    let (n, n_errors) = (canary.n_answers(), canary.n_errors());
    let is_enough = n >= ANSWERS_MIN && n_errors >= ERRORS_MIN;
    if spec.errors > 0.0 && is_enough && share(canary) >= share(old) + spec.errors {
        return Some(format!(
            "{n_errors} of its last {n} answers were errors ({:.1} %), of the Revision before {:.1} %",
            share(canary),
            share(old)
        ));
    }
    if spec.latency <= 0.0 || n < TIMES_MIN || old.n_answers() < TIMES_MIN {
        return None;
    }
    let quantile = (1.0 - TAIL / n as f64).min(0.99);
    let (before, now) = (old.quantile(quantile), canary.quantile(quantile));
    let is_slower = now > before.mul_f64(spec.latency) && now > before + SLOWER_MIN;
    is_slower.then(|| {
        format!(
            "{:.0} % of its last {n} answers took up to {:.1} ms, of the Revision before {:.1} ms",
            quantile * 100.0,
            now.as_secs_f64() * 1e3,
            before.as_secs_f64() * 1e3
        )
    })
}

/// One canary, with what was read of both Revisions, oldest first.
#[derive(Default)]
struct Watched {
    readings: VecDeque<(Instant, Reading, Reading)>,
}

impl Watched {
    fn look(
        &mut self,
        now: Instant,
        spec: &StepBackSpec,
        old: Reading,
        new: Reading,
    ) -> Option<String> {
        self.readings.push_back((now, old, new));
        while self
            .readings
            .front()
            .is_some_and(|(at, ..)| now.duration_since(*at) > WINDOW)
        {
            self.readings.pop_front();
        }
        let (_, old_first, new_first) = self.readings.front()?;
        let (_, old, new) = self.readings.back()?;
        verdict(spec, &old.since(old_first), &new.since(new_first))
    }
}

/// Judges the canaries of the table until `stop`.
pub(crate) async fn watch(
    source: Source,
    table: watch::Receiver<Option<Arc<Table>>>,
    stop: CancellationToken,
) {
    let mut watched: HashMap<(String, String, u32), Watched> = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let Some(table) = table.borrow().clone() else {
            continue;
        };
        let mut present: HashMap<(String, String, u32), Watched> = HashMap::new();
        for canary in table.canaries() {
            let spec = canary.route.spec();
            let key = (spec.project.clone(), spec.app.clone(), canary.revision);
            let mut watching = watched.remove(&key).unwrap_or_default();
            let why = watching.look(Instant::now(), canary.rule, canary.old, canary.new);
            if let Some(why) = why {
                let why = format!("revision {}: {why}", canary.revision);
                match ask(&source, canary.route, canary.before, &why).await {
                    Ok(()) => tracing::warn!(app = spec.app, why, "stepped back"),
                    // The next look tries again.
                    Err(error) => tracing::warn!(app = spec.app, why, error, "cannot step back"),
                }
            }
            present.insert(key, watching);
        }
        watched = present;
    }
}

/// Has a server go back to a Revision.
async fn ask(source: &Source, route: &Route, to: u32, why: &str) -> Result<(), String> {
    let servers = (source.servers)();
    let spec = route.spec();
    let path = format!("/v1/projects/{}/apps/{}/rollback", spec.project, spec.app);
    let body = serde_json::json!({"revision": to, "reason": why}).to_string();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut last = "no server is known".to_owned();
    for server in servers {
        let request = Request::post(format!("http://{server}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", source.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.clone())))
            .map_err(|error| error.to_string())?;
        match tokio::time::timeout(ASK_MAX, client.request(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return Ok(()),
            Ok(Ok(response)) => last = format!("`{server}` answered {}", response.status()),
            Ok(Err(error)) => last = format!("`{server}` cannot be reached: {error}"),
            Err(_) => last = format!("`{server}` did not answer"),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    const RULE: StepBackSpec = StepBackSpec {
        errors: 3.0,
        latency: 1.5,
    };

    /// Answers of 10 ms times `slow`, spread by a half, of which every `nth` is an error.
    fn reading(n: u64, nth: u64, slow: f64) -> Reading {
        let counts = Counts::default();
        for at in 0..n {
            let spread = 0.75 + 0.5 * (at as f64 * 0.618).fract();
            let took = Duration::from_secs_f64(0.01 * slow * spread);
            counts.record(nth > 0 && at % nth == nth - 1, took);
        }
        counts.read()
    }

    #[test]
    fn errors_and_slow_answers_are_told_from_chance() {
        let good = reading(1_000, 0, 1.0);
        let judge = |canary: Reading| verdict(&RULE, &good, &canary);
        assert_eq!(judge(reading(100, 0, 1.0)), None);
        let errors = judge(reading(100, 20, 1.0)).expect("5 % of errors");
        assert_eq!(
            errors,
            "5 of its last 100 answers were errors (5.0 %), of the Revision before 0.0 %"
        );
        assert_eq!(judge(reading(40, 20, 1.0)), None, "2 of 40 may be chance");
        assert_eq!(judge(reading(100, 100, 1.0)), None, "1 % is allowed");
        let slow = judge(reading(60, 0, 2.0)).expect("twice as slow");
        assert!(
            slow.starts_with("95 % of its last 60 answers took up to 2"),
            "{slow}"
        );
        assert_eq!(judge(reading(60, 0, 1.2)), None);
        assert_eq!(judge(reading(30, 0, 9.0)), None, "too few to tell");
        let as_bad = reading(1_000, 20, 1.0);
        assert_eq!(verdict(&RULE, &as_bad, &reading(100, 20, 1.0)), None);
        let off = StepBackSpec {
            errors: 0.0,
            latency: 0.0,
        };
        assert_eq!(verdict(&off, &good, &reading(100, 2, 9.0)), None);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut watched = Watched::default();
        let begun = Instant::now();
        let good = |n| reading(n, 0, 1.0);
        // Errors that lie before the window do not count.
        let bad = reading(100, 2, 1.0);
        for seconds in [0, 10, 20, 30, 40] {
            let now = begun + Duration::from_secs(seconds);
            let told = watched.look(now, &RULE, good(1_000), bad.clone());
            assert_eq!(told, None, "at {seconds} s");
        }
        assert_eq!(watched.readings.len(), 3);
    }
}
