//! The engine, as a pod reaches it. Every call is tried again until it is answered: a server that restarts is no reason to
//! lose anything, and a pod has nothing better to do.

use pod::wire::{self, Grace, Kept, Report, Spec};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// For one whole request, but for those that carry files.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between tries at first; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Answers that are not files.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Why a call failed for good.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The engine does not want this pod any more: a newer attempt runs, or it was forgotten.
    Superseded,
    /// The engine said no, with a sentence.
    No(String),
    /// The pod is asked to end, or time is over, before the engine answered.
    GivenUp,
}

pub(crate) struct Engine {
    agent: ureq::Agent,
    base: String,
}

impl Engine {
    /// As the pod's environment says.
    pub(crate) fn from_env() -> Result<Engine, String> {
        let base = std::env::var(wire::ENDPOINT)
            .map_err(|_| format!("`{}` is not set", wire::ENDPOINT))?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .proxy(None)
            .build();
        Ok(Engine {
            agent: config.into(),
            base,
        })
    }

    /// What to run. Waits while the pod is nobody's yet; gives up when `stop` is set.
    pub(crate) fn spec(&self, stop: &AtomicBool) -> Result<Spec, Refused> {
        let answer = self.again(None, Some(stop), || {
            self.short(self.agent.get(self.url(wire::SPEC))).call()
        })?;
        json(answer)
    }

    /// Hands frames over; the highest number that is kept.
    pub(crate) fn frames(&self, frames: &[u8]) -> Result<u64, Refused> {
        let mut answer = self.again(None, None, || {
            let request = self.agent.post(self.url(wire::FRAMES));
            self.short(request).send(frames)
        })?;
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        text.trim()
            .parse()
            .map_err(|_| Refused::No(format!("the engine answered frames with `{text}`")))
    }

    /// Writes a blob to a file.
    pub(crate) fn blob(&self, kind: &str, digest: &str, to: &Path) -> Result<(), Refused> {
        let url = self.url(&format!("{kind}/{digest}"));
        let fetch = || -> Result<(), Refused> {
            let request = self.agent.get(&url).header("Authorization", self.token());
            let mut answer = self.once(request.call())?;
            let written = fs::File::create(to).and_then(|mut file| {
                io::copy(&mut answer.body_mut().as_reader(), &mut file)?;
                file.sync_data()
            });
            written.map_err(|error| Refused::No(error.to_string()))
        };
        let mut pause = PAUSE_MIN;
        for _ in 0..20 {
            match fetch() {
                Err(Refused::GivenUp) => wait(&mut pause),
                other => return other,
            }
        }
        Err(Refused::No("the engine cannot be reached".to_owned()))
    }

    /// Keeps an output; `open` opens its packed form, anew for each try.
    pub(crate) fn output(
        &self,
        name: &str,
        open: impl Fn() -> io::Result<fs::File>,
        until: Instant,
    ) -> Result<Kept, Refused> {
        let url = self.url(&format!("{}/{name}", wire::OUTPUTS));
        let answer = self.again(Some(until), None, || {
            let file = open().map_err(ureq::Error::Io)?;
            let request = self.agent.put(&url).header("Authorization", self.token());
            request.send(file)
        })?;
        json(answer)
    }

    /// Tells how it ended.
    pub(crate) fn end(&self, report: &Report, until: Instant) -> Result<(), Refused> {
        let body = serde_json::to_vec(report).map_err(|error| Refused::No(error.to_string()))?;
        self.again(Some(until), None, || {
            let request = self.agent.post(self.url(wire::END));
            self.short(request).send(&body[..])
        })
        .map(drop)
    }

    /// How long a stop may take, if the engine says it at once.
    pub(crate) fn grace(&self) -> Option<u64> {
        let until = Instant::now() + Duration::from_millis(500);
        let answer = self.again(Some(until), None, || {
            self.short(self.agent.get(self.url(wire::STOP))).call()
        });
        json::<Grace>(answer.ok()?).ok()?.grace_ms
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The kubelet replaces the token before it expires.
    fn token(&self) -> String {
        let token = fs::read_to_string(wire::TOKEN).unwrap_or_default();
        format!("Bearer {}", token.trim())
    }

    fn short<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        request
            .header("Authorization", self.token())
            .config()
            .timeout_global(Some(PATIENCE))
            .build()
    }

    /// Repeats a call until it is answered with yes or no.
    fn again(
        &self,
        until: Option<Instant>,
        stop: Option<&AtomicBool>,
        mut call: impl FnMut() -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, Refused> {
        let mut pause = PAUSE_MIN;
        loop {
            match self.once(call()) {
                Err(Refused::GivenUp) => {}
                other => return other,
            }
            let is_over = until.is_some_and(|until| Instant::now() + pause > until);
            if is_over || stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(Refused::GivenUp);
            }
            wait(&mut pause);
        }
    }

    /// Yes, no, or `GivenUp` for what may go through later.
    fn once(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, Refused> {
        let mut answer = answer.map_err(|_| Refused::GivenUp)?;
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            403 | 410 => Err(Refused::Superseded),
            // Not yet known (401, 425), too much at once (429), or the server is not well (5xx).
            401 | 408 | 425 | 429 | 500.. => Err(Refused::GivenUp),
            status => {
                let text = answer.body_mut().read_to_string().unwrap_or_default();
                Err(Refused::No(format!(
                    "the engine answered {status}: {}",
                    text.trim()
                )))
            }
        }
    }
}

fn json<T: DeserializeOwned>(mut answer: ureq::http::Response<ureq::Body>) -> Result<T, Refused> {
    let mut bytes = Vec::new();
    let read = answer
        .body_mut()
        .as_reader()
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut bytes);
    read.map_err(|error| Refused::No(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Refused::No(error.to_string()))
}

fn wait(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(PAUSE_MAX);
}
