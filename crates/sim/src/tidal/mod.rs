//! A week in which Apps and Jobs share one pool: what Apps miss, what Jobs get, what stops cost.
//!
//! Apps' demand is the hourly sum of a published QPS curve (Alibaba's GenAI serving trace, 2026), stretched to
//! 24 hours, its peak hour set to half of the GPUs. Every day has its own log-normal size, a shift of up to
//! 45 minutes and its weekday's factor, from its quietest hour on; the week before is the forecaster's history,
//! and on the fifth day comes a flash crowd that history does not know. A replica has one GPU; it drains for
//! 30 s and loads for 20 s. Jobs are two weeks of the Philly trace laid over one another, three times, with
//! seeded flags: who can run with fewer members, and who writes checkpoints and so consents to being stopped.
//!
//! What policies differ in is how many replicas they want, and when. Everything else is the core's.

mod demand;
mod jobs;
mod replicas;

pub use demand::{Demand, read_curve};

use crate::life::{Happening, Life, Pace};
use crate::philly::{self, Job};
use crate::policy::Moonshot;
use crate::specs;
use base::{Span, Time};
use replicas::Replicas;
use sched::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NODE_GPUS: u64 = 8;
const DAYS: usize = 7;
const MINUTES: usize = 24 * 60;
/// A replica that is given up finishes its requests, and a job that is stopped writes its checkpoint, in this time.
const DRAIN: Span = Span::from_secs(30);
const LOAD: Span = Span::from_secs(20);
/// How often replicas are set and counted.
const STEP: Span = Span::from_secs(20);
/// What is wanted above what is needed now.
const HEADROOM: f64 = 1.10;
/// What Moonshot's Apps keep above what is needed now: a crowd that makes demand rise by so much at once finds
/// its replicas loaded. The static division keeps a fifth of the peak for it all day.
const SPARE: f64 = 1.40;
/// Apps of the static division have the peak hour and a fifth more.
const STATIC_SHARE: f64 = 1.2;
/// How often Apps' needs are promised anew, from when on, and how many hours of them. What comes sooner than that Apps
/// ask for themselves.
const PROMISE_EVERY: usize = 15;
const PROMISED_AFTER: usize = 90;
const PROMISED_HOURS: usize = 24;
/// The moments with the most missing replicas that are told.
const WORST_SHOWN: usize = 20;

/// Who sets the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaler {
    /// What is needed now with room for a crowd and for the steepest rise of the days before; what these needed hour by
    /// hour is promised, so that who cannot be stopped does not stand in the way.
    Moonshot,
    /// What is needed now with some headroom.
    Reactive,
    /// A fixed division of the pool.
    Static,
    /// What will be needed, known in advance, and promised.
    Oracle,
}

/// Lives through the week; answers the figures.
pub fn run(curve: &[f64], trace: &[Job], gpus: u64, scaler: Scaler, seed: u64) -> Value {
    let peak = gpus as f64 / 2.0;
    let demand = Demand::new(curve, peak, seed);
    let mut policy = Moonshot::new(Config {
        // Jobs can be told to go on with fewer members.
        shrinks: true,
        ..Config::standard()
    });
    let pace = Pace {
        tick: Some(Span::from_secs(60)),
        sample: None,
        told: false,
    };
    let mut life = Life::new(&mut policy, pace);
    let start = Time::default();
    let end = start + Span::from_secs(DAYS as u64 * 86_400);
    let nodes = (gpus / NODE_GPUS) as u32;
    philly::cluster(&mut life, start, nodes, NODE_GPUS);
    let all = u64::from(nodes) * NODE_GPUS;
    let fixed = ((peak * STATIC_SHARE) as u64).min(all);
    // Apps take back what they need whenever they need it; the fixed division keeps both apart.
    for (name, guaranteed) in [("apps", all), ("jobs", 0)] {
        let limit = match (scaler, name) {
            (Scaler::Static, "apps") => Some(fixed * 1_000),
            (Scaler::Static, _) => Some((all - fixed) * 1_000),
            (Scaler::Moonshot | Scaler::Reactive | Scaler::Oracle, _) => None,
        };
        let limit: Vec<(&str, u64)> = limit.into_iter().map(|most| ("gpu", most)).collect();
        let quota = specs::quota(specs::amount(0, 0, guaranteed * 1_000), &limit, 1);
        life.at(
            start,
            Happening::Queue(QueueSpec {
                quotas: BTreeMap::from([("*".to_owned(), quota)]),
                ..specs::queue(name)
            }),
        );
    }
    let jobs = jobs::jobs(trace, seed);
    let mut asked = 0.0;
    for (number, (job, elastic, saves)) in jobs.iter().enumerate() {
        asked += job.gpus as f64 * job.runs.as_ms() as f64 / 3.6e6;
        life.arrive(jobs::work(number as u64, job, *elastic, *saves));
    }
    let mut apps = Replicas::default();
    let (mut missed, mut needed, mut free) = (0.0, 0.0, 0.0);
    let mut worst: Vec<(f64, usize)> = Vec::new();
    let steps = DAYS * MINUTES * 60_000 / STEP.as_ms() as usize;
    let hours = STEP.as_ms() as f64 / 3.6e6;
    for step in 0..steps {
        let now = start + Span::from_ms(step as u64 * STEP.as_ms());
        let minute = step * STEP.as_ms() as usize / 60_000;
        let day = minute / MINUTES;
        let need = demand.now(minute);
        // A measurement is a minute old.
        let measured = demand.now(minute.saturating_sub(1));
        let wanted = match scaler {
            Scaler::Static => fixed as f64,
            Scaler::Reactive => measured * HEADROOM,
            Scaler::Moonshot => (measured * SPARE).max(measured + demand.steepest(day)),
            Scaler::Oracle => (0..3)
                .map(|ahead| demand.now(minute + ahead))
                .fold(0.0, f64::max),
        };
        if step % (PROMISE_EVERY * 60_000 / STEP.as_ms() as usize) == 0 {
            let hour = |first: usize| -> Option<f64> {
                let minutes = first..first + 60;
                match scaler {
                    Scaler::Static | Scaler::Reactive => None,
                    Scaler::Moonshot => Some(
                        minutes
                            .map(|minute| demand.forecast(day, minute) * HEADROOM)
                            .fold(0.0, f64::max),
                    ),
                    Scaler::Oracle => Some(minutes.map(|m| demand.now(m)).fold(0.0, f64::max)),
                }
            };
            promise(&mut life, minute, now, hour);
        }
        apps.set(&mut life, wanted.ceil() as usize, minute, now);
        life.run(Some(now));
        // The first hour fills an empty cluster; it is lived but not counted.
        if minute >= 60 {
            let ready = apps.ready(&life) as f64;
            missed += (need - ready).max(0.0) * hours;
            worst.push((need - ready, minute));
            needed += need * hours;
            free += (all as f64 - need) * hours;
        }
    }
    life.run(Some(end));
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let worst: Vec<Value> = worst
        .iter()
        .filter(|(missing, _)| *missing > 0.0)
        .take(WORST_SHOWN)
        .map(|(missing, minute)| json!({"minute": minute, "gpus": round3(*missing)}))
        .collect();
    let outcome = life.finish();
    let of_jobs = || outcome.works.iter().filter(|(work, _)| work.class == "job");
    let gpu_h = |milli_ms: u128| milli_ms as f64 / 1e3 / 3.6e6;
    let held = gpu_h(of_jobs().map(|(_, fate)| fate.held).sum());
    let lost = gpu_h(of_jobs().map(|(_, fate)| fate.lost).sum());
    let round = round3;
    json!({
        "gpus": all, "seed": seed,
        "apps_needed_gpu_h": needed.round(), "apps_missed_gpu_h": round(missed),
        "apps_missed_most": worst,
        "apps_missed_percent": round(missed * 100.0 / needed.max(1.0)),
        "free_gpu_h": free.round(), "jobs_asked_gpu_h": asked.round(), "jobs": jobs.len(),
        "jobs_held_gpu_h": held.round(),
        "jobs_share_of_free_percent": round(held * 100.0 / free.max(1.0)),
        "lost_gpu_h": round(lost), "lost_percent": round(lost * 100.0 / held.max(1.0)),
        "jobs_finished": of_jobs().filter(|(_, fate)| fate.ended.is_some()).count(),
        "evictions": outcome.evictions,
        "complaints": outcome.complaints,
    })
}

/// Promises Apps what they are expected to hold, hour by hour: whoever cannot be stopped is not let in before.
fn promise(life: &mut Life<'_>, minute: usize, now: Time, hour: impl Fn(usize) -> Option<f64>) {
    let mut steps = Vec::new();
    for number in 0..PROMISED_HOURS {
        let first = minute + PROMISED_AFTER + number * 60;
        let Some(gpus) = hour(first) else { return };
        let from = now + Span::from_secs(60 * (PROMISED_AFTER + number * 60) as u64);
        let amount = specs::amount(0, 0, gpus.ceil() as u64 * 1_000);
        steps.push(CalendarStep { from, amount });
    }
    let entry = CalendarEntry {
        name: "apps".to_owned(),
        pool: "gpu".to_owned(),
        queue: "apps".to_owned(),
        steps,
        until: now + Span::from_secs((PROMISED_AFTER * 60 + PROMISED_HOURS * 3_600) as u64),
    };
    life.at(now, Happening::Fact(Event::Calendar(entry)));
}

fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
