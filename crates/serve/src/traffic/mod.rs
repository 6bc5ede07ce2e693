//! Requests that name no version, where several versions share them: whose turn it is, what their callers saw, and
//! when the newer one is given up.

mod compare;
mod settings;
pub(crate) mod shadow;

pub(crate) use settings::Settings;

use crate::error::{Result, ServeError};
use crate::models::{Model, Pick};
use canary::{Counts, Window, turns};
use serde_json::{Value, json};
use shadow::{Shadow, Ticket};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is known of a model's shared requests since its settings were read.
pub(crate) struct Traffic {
    pub(crate) settings: Settings,
    arms: Vec<Arm>,
    /// One round of [`Traffic::arms`].
    turns: Vec<usize>,
    next: AtomicUsize,
    begun: Instant,
    window: Mutex<Window>,
    has_stepped_back: AtomicBool,
    stepped_back: Mutex<Option<SteppedBack>>,
    shadow: Option<Arc<Shadow>>,
    /// Requests that might have been copied.
    n_shadowed: AtomicU64,
}

/// One of the versions.
struct Arm {
    number: u64,
    percent: u32,
    counts: Arc<Counts>,
}

struct SteppedBack {
    from: u64,
    to: u64,
    why: String,
    at: Instant,
}

/// A request that was given its version here.
#[derive(Clone)]
pub(crate) struct Trial {
    counts: Arc<Counts>,
    /// A copy of it is for the shadow.
    pub(crate) ticket: Option<Ticket>,
}

impl Trial {
    /// Counts its answer.
    pub(crate) fn answered(&self, is_error: bool, took: Duration) {
        self.counts.record(is_error, took);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traffic {
    pub(crate) fn new(settings: Settings) -> Traffic {
        let arms = settings.percent.iter();
        let arms: Vec<Arm> = arms
            .map(|(&number, &percent)| Arm {
                number,
                percent,
                counts: Arc::default(),
            })
            .collect();
        let shares: Vec<u32> = arms.iter().map(|arm| arm.percent).collect();
        Traffic {
            turns: turns(&shares, 1),
            arms,
            next: AtomicUsize::new(0),
            begun: Instant::now(),
            window: Mutex::default(),
            has_stepped_back: AtomicBool::new(false),
            stepped_back: Mutex::default(),
            shadow: settings.shadow.as_ref().map(|_| Arc::default()),
            n_shadowed: AtomicU64::new(0),
            settings,
        }
    }

    /// The version of a request that names none; `header` reads one of its headers.
    pub(crate) fn route(
        &self,
        name: &str,
        model: &Model,
        header: impl FnOnce(&str) -> Option<String>,
    ) -> Result<(Pick<'static>, Option<Trial>)> {
        let asked = self.settings.header.as_deref();
        if let Some((asked, value)) = asked.and_then(|asked| Some((asked, header(asked)?))) {
            let number = value.parse().ok().or(model.labels.get(&value).copied());
            return match number {
                Some(number) => Ok((Pick::Number(number), None)),
                None => Err(ServeError::invalid(format!(
                    "header `{asked}`: `{value}` is neither a version's number nor a label of model `{name}`"
                ))),
            };
        }
        if self.arms.is_empty() {
            return Ok((Pick::Latest, None));
        }
        let turn = self.next.fetch_add(1, Relaxed);
        // While none of them is ready, the version before them is held and answers.
        let Some(arm) = self.arm(model, turn) else {
            return Ok((Pick::Latest, None));
        };
        let trial = Trial {
            counts: Arc::clone(&arm.counts),
            ticket: self.ticket(model),
        };
        Ok((Pick::Number(arm.number), Some(trial)))
    }

    /// The version that stands for the model where nothing is predicted: the one with the largest share.
    pub(crate) fn standing(&self, model: &Model) -> Pick<'static> {
        let fit = |arm: &&Arm| model.answers(arm.number) && !self.is_given_up(arm.number);
        let standing = self.arms.iter().filter(fit).max_by_key(|arm| arm.percent);
        standing.map_or(Pick::Latest, |arm| Pick::Number(arm.number))
    }

    /// Whose turn it is of those that answer.
    fn arm(&self, model: &Model, turn: usize) -> Option<&Arm> {
        let n = self.turns.len();
        let in_turn = (0..n).map(|more| &self.arms[self.turns[(turn % n + more) % n]]);
        let mut answering = in_turn.filter(|arm| model.answers(arm.number));
        let found = answering.clone().find(|arm| !self.is_given_up(arm.number));
        // Rather the worse version than none.
        found.or_else(|| answering.next())
    }

    fn is_given_up(&self, number: u64) -> bool {
        self.has_stepped_back.load(Relaxed)
            && self.settings.pair().is_some_and(|(_, new)| new == number)
    }

    /// For a request that is to be copied.
    fn ticket(&self, model: &Model) -> Option<Ticket> {
        let (settings, shadow) = (self.settings.shadow.as_ref()?, self.shadow.as_ref()?);
        let n = self.n_shadowed.fetch_add(1, Relaxed);
        let copied = |n: u64| n * u64::from(settings.percent) / 100;
        if copied(n) == copied(n + 1) {
            return None;
        }
        let Some(version) = model.ready.get(&settings.version) else {
            shadow.missed();
            return None;
        };
        Some(Ticket {
            shadow: Arc::clone(shadow),
            version: Arc::clone(version),
        })
    }

    /// Judges the newer of two versions; why it is given up, once.
    pub(crate) fn look(&self) -> Option<(u64, String)> {
        let limits = self.settings.limits();
        let (from, to) = self.settings.pair().map(|(old, new)| (new, old))?;
        if limits.is_off() || self.has_stepped_back.load(Relaxed) {
            return None;
        }
        let read = |number: u64| {
            let arm = self.arms.iter().find(|arm| arm.number == number);
            arm.map(|arm| arm.counts.read())
        };
        let (old, new) = (read(to)?, read(from)?);
        let before = format!("version {to}");
        let now = self.begun.elapsed();
        let why = lock(&self.window).look(now, &limits, &before, old, new)?;
        self.has_stepped_back.store(true, Relaxed);
        *lock(&self.stepped_back) = Some(SteppedBack {
            from,
            to,
            why: why.clone(),
            at: Instant::now(),
        });
        Some((from, why))
    }

    /// For people and programs that look.
    pub(crate) fn json(&self) -> Value {
        let share = |arm: &Arm| {
            let reading = arm.counts.read();
            let ms = |share| reading.quantile(share).as_secs_f64() * 1e3;
            json!({
                "version": arm.number,
                "percent": arm.percent,
                "answers": reading.n_answers(),
                "errors": reading.n_errors(),
                "p50Ms": ms(0.5),
                "p99Ms": ms(0.99),
            })
        };
        let stepped_back = lock(&self.stepped_back);
        let stepped_back = stepped_back.as_ref().map(|back| {
            json!({
                "from": back.from,
                "to": back.to,
                "why": back.why,
                "secondsAgo": back.at.elapsed().as_secs(),
            })
        });
        let settings = self.settings.shadow.as_ref();
        let shadow = settings.zip(self.shadow.as_ref());
        json!({
            "header": self.settings.header,
            "shares": self.arms.iter().map(share).collect::<Vec<_>>(),
            "steppedBack": stepped_back,
            "shadow": shadow.map(|(own, shadow)| shadow.json(own.version, own.percent)),
        })
    }

    /// Appends the Prometheus lines; `model` is its label, escaped.
    pub(crate) fn write(&self, out: &mut String, model: &str) {
        for arm in &self.arms {
            let labels = format!("model=\"{model}\",version=\"{}\"", arm.number);
            arm.counts.write(out, "moonshot_serve_traffic", &labels);
            let given_up = u8::from(self.is_given_up(arm.number));
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "moonshot_serve_traffic_given_up{{{labels}}} {given_up}"
            );
        }
        let settings = self.settings.shadow.as_ref();
        if let Some((own, shadow)) = settings.zip(self.shadow.as_ref()) {
            let labels = format!("model=\"{model}\",version=\"{}\"", own.version);
            for (outcome, n) in shadow.outcomes() {
                let _ = writeln!(
                    out,
                    "moonshot_serve_shadow_requests_total{{{labels},outcome=\"{outcome}\"}} {n}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
