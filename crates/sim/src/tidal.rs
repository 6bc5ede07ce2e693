//! A week in which Apps and Jobs share one pool: what Apps miss, what Jobs get, what stops cost.
//!
//! Apps' demand is the hourly sum of a published QPS curve (Alibaba's GenAI serving trace, 2026), stretched to
//! 24 hours, its peak hour set to half of the GPUs. Every day has its own log-normal size, a shift of up to
//! 45 minutes and its weekday's factor; the week before is the forecaster's history, and on the fifth day
//! comes a flash crowd that history does not know. A replica has one GPU; it drains for 30 s and loads for
//! 20 s. Jobs are two weeks of the Philly trace laid over one another, three times, with seeded flags: who can
//! run with fewer members, and who writes checkpoints.
//!
//! What policies differ in is how many replicas they want, and when. Everything else is the core's.

use crate::cells::Table;
use crate::data::DataError;
use crate::dice::Dice;
use crate::life::{Happening, Life, Pace, Saves, Work, WorkId};
use crate::philly::{self, Job};
use crate::policy::Moonshot;
use crate::specs;
use base::{Span, Time};
use sched::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const NODE_GPUS: u64 = 8;
const DAYS: usize = 7;
const MINUTES: usize = 24 * 60;
/// A replica that is given up finishes its requests, and a job that is stopped writes its checkpoint, in this time.
const DRAIN: Span = Span::from_secs(30);
const LOAD: Span = Span::from_secs(20);
/// How often replicas are set and counted.
const STEP: Span = Span::from_secs(20);
/// A replica that is not needed stays this long.
const COOL: usize = 5;
/// What is wanted above what is needed now.
const HEADROOM: f64 = 1.10;
/// What Moonshot's Apps keep above what is needed now: a crowd that makes demand rise by so much at once finds
/// its replicas loaded. The static division keeps a fifth of the peak for it all day.
const SPARE: f64 = 1.40;
/// Apps of the static division have the peak hour and a fifth more.
const STATIC_SHARE: f64 = 1.2;
/// Jobs: percent that can run with half of their members, percent that write checkpoints, and how often.
const ELASTIC_PERCENT: usize = 30;
const CHECKPOINT_PERCENT: usize = 70;
const CHECKPOINT_EVERY: Span = Span::from_secs(1_800);
/// The moments with the most missing replicas that are told.
const WORST_SHOWN: usize = 20;
/// Saturday and Sunday are quieter.
const WEEKEND: f64 = 0.75;

/// Who sets the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaler {
    /// What is needed now with room for a crowd, and what the days before needed in the next minutes.
    Moonshot,
    /// What is needed now with some headroom.
    Reactive,
    /// A fixed division of the pool.
    Static,
    /// What will be needed, known in advance.
    Oracle,
}

/// Demand in GPUs, minute by minute; the first week is history.
#[derive(Clone, Debug)]
pub struct Demand {
    history: Vec<Vec<f64>>,
    week: Vec<Vec<f64>>,
}

/// Reads the shape of a day: 24 values, of which the largest is 1.
pub fn read_curve(path: &Path) -> Result<Vec<f64>, DataError> {
    let table = Table::read(path)?;
    let mut samples: Vec<(f64, f64)> = Vec::new();
    for line in table.lines() {
        samples.push((line.number("timestamp_anon")?, line.number("value")?));
    }
    let first = samples
        .iter()
        .map(|(time, _)| *time)
        .fold(f64::INFINITY, f64::min);
    let last = samples.iter().map(|(time, _)| *time).fold(first, f64::max);
    let mut hours = vec![0.0; 24];
    for (time, value) in samples {
        // What was sampled in less than a day is stretched to one.
        let hour = ((time - first) / (last - first).max(1.0) * 24.0) as usize;
        hours[hour.min(23)] += value;
    }
    let most = hours.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    Ok(hours.into_iter().map(|hour| hour / most).collect())
}

impl Demand {
    /// Two weeks of demand from the shape of a day.
    pub fn new(curve: &[f64], peak: f64, seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x71da1);
        let mut days: Vec<Vec<f64>> = (0..2 * DAYS)
            .map(|day| {
                let size = (0.08 * dice.normal()).exp() * if day % 7 >= 5 { WEEKEND } else { 1.0 };
                let shift = (dice.unit() * 2.0 - 1.0) * 45.0;
                (0..MINUTES)
                    .map(|minute| peak * size * at(curve, minute as f64 - shift))
                    .collect()
            })
            .collect();
        let mut week = days.split_off(DAYS);
        // The flash crowd: within two minutes 300 GPUs more, for forty minutes, in the busy part of the day.
        let busiest = curve
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map_or(0, |(hour, _)| hour);
        for minute in 0..40 {
            let at = (busiest * 60 + 30 + minute).min(MINUTES - 1);
            week[4][at] += 0.3 * peak * ((minute + 1) as f64 / 2.0).min(1.0);
        }
        Self {
            history: days,
            week,
        }
    }

    fn now(&self, minute: usize) -> f64 {
        let minute = minute.min(DAYS * MINUTES - 1);
        self.week[minute / MINUTES][minute % MINUTES]
    }

    /// What the last seven days needed around this minute, at the upper quartile, weekdays and weekends apart.
    fn forecast(&self, minute: usize) -> f64 {
        let day = minute / MINUTES;
        let is_weekend = |day: usize| day % 7 >= 5;
        let past = self
            .history
            .iter()
            .chain(&self.week)
            .take(DAYS + day)
            .enumerate();
        let mut needed: Vec<f64> = past
            .skip(day)
            .filter(|(past, _)| is_weekend(*past) == is_weekend(day))
            .map(|(_, values)| {
                let minute = minute % MINUTES;
                let around = minute.saturating_sub(10)..(minute + 10).min(MINUTES);
                values[around].iter().copied().fold(0.0, f64::max)
            })
            .collect();
        needed.sort_by(f64::total_cmp);
        needed
            .get(needed.len() * 3 / 4)
            .or(needed.last())
            .copied()
            .unwrap_or(0.0)
    }

    /// GPU hours of the week.
    pub fn gpu_hours(&self) -> f64 {
        self.week.iter().flatten().sum::<f64>() / 60.0
    }
}

/// A day's curve between its hours.
fn at(curve: &[f64], minute: f64) -> f64 {
    let hour = (minute / 60.0 - 0.5).rem_euclid(curve.len() as f64);
    let (low, part) = (hour.floor() as usize % curve.len(), hour.fract());
    curve[low] * (1.0 - part) + curve[(low + 1) % curve.len()] * part
}

/// The jobs of two weeks of October 2017 in one week, three times.
fn jobs(trace: &[Job], seed: u64) -> Vec<(Job, bool, bool)> {
    let first = 1_507_507_200_000; // 2017-10-09T00:00Z
    let week = 7 * 86_400_000;
    let mut dice = Dice::new(seed ^ 0x70b5);
    let mut jobs = Vec::new();
    for copy in 0..3 {
        for job in trace {
            let since = job.submitted.as_ms() - first;
            if !(0..2 * week).contains(&since) {
                continue;
            }
            let mut job = job.clone();
            // Copies are a few minutes apart, so that they are not gangs.
            job.submitted = Time::from_ms(since % week + copy * 300_000);
            let elastic = job.gpus > 1 && dice.below(100) < ELASTIC_PERCENT;
            let saves = dice.below(100) < CHECKPOINT_PERCENT;
            jobs.push((job, elastic, saves));
        }
    }
    jobs.sort_by_key(|(job, ..)| job.submitted);
    jobs
}

/// Lives through the week; answers the figures.
pub fn run(curve: &[f64], trace: &[Job], gpus: u64, scaler: Scaler, seed: u64) -> Value {
    let peak = gpus as f64 / 2.0;
    let demand = Demand::new(curve, peak, seed);
    let mut policy = Moonshot::new(Config::standard());
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
    let jobs = jobs(trace, seed);
    let mut asked = 0.0;
    for (number, (job, elastic, saves)) in jobs.iter().enumerate() {
        asked += job.gpus as f64 * job.runs.as_ms() as f64 / 3.6e6;
        life.arrive(job_work(number as u64, job, *elastic, *saves));
    }
    let mut apps = Replicas::default();
    let (mut missed, mut needed, mut free) = (0.0, 0.0, 0.0);
    let mut worst: Vec<(f64, usize)> = Vec::new();
    let steps = DAYS * MINUTES * 60_000 / STEP.as_ms() as usize;
    let hours = STEP.as_ms() as f64 / 3.6e6;
    for step in 0..steps {
        let now = start + Span::from_ms(step as u64 * STEP.as_ms());
        let minute = step * STEP.as_ms() as usize / 60_000;
        let need = demand.now(minute);
        // A measurement is a minute old.
        let measured = demand.now(minute.saturating_sub(1));
        let wanted = match scaler {
            Scaler::Static => fixed as f64,
            Scaler::Reactive => measured * HEADROOM,
            Scaler::Moonshot => (measured * SPARE).max(demand.forecast(minute + 2) * HEADROOM),
            Scaler::Oracle => (0..3)
                .map(|ahead| demand.now(minute + ahead))
                .fold(0.0, f64::max),
        };
        apps.set(&mut life, wanted.ceil() as usize, minute, now);
        life.run(Some(now));
        // The first hour fills an empty cluster; it is lived but not counted.
        if minute >= 60 {
            let ready = apps.ids.iter().filter(|id| life.is_ready(**id)).count() as f64;
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

fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn job_work(number: u64, job: &Job, elastic: bool, saves: bool) -> Work {
    let mut work = philly::work(number, job, NODE_GPUS, "jobs");
    if elastic {
        let mut group = specs::group(job.gpus as u32, specs::amount(0, 0, 1_000));
        group.min = group.count.div_ceil(2);
        work.spec.groups = vec![group];
    }
    work.spec.grace = DRAIN;
    work.spec.checkpoints = saves;
    work.saves = Saves {
        every: saves.then_some(CHECKPOINT_EVERY),
        on_stop: saves.then_some(LOAD),
    };
    work
}

/// The replicas of all Apps, the newest last.
#[derive(Default)]
struct Replicas {
    ids: Vec<WorkId>,
    /// What was wanted in the last minutes.
    wanted: Vec<(usize, usize)>,
    made: u64,
}

impl Replicas {
    fn set(&mut self, life: &mut Life<'_>, wanted: usize, minute: usize, now: Time) {
        self.wanted.retain(|(asked, _)| asked + COOL > minute);
        self.wanted.push((minute, wanted));
        let most = self
            .wanted
            .iter()
            .map(|(_, wanted)| *wanted)
            .max()
            .unwrap_or(wanted);
        while self.ids.len() < wanted {
            self.made += 1;
            let group = specs::group(1, specs::amount(0, 0, 1_000));
            let spec = TaskSpec {
                name: format!("app/{}", self.made),
                kind: TaskKind::Service,
                priority: 10,
                grace: DRAIN,
                preemptible: false,
                ..specs::task(self.made, "apps", now, vec![group])
            };
            self.ids.push(life.arrive(Work {
                spec,
                runs: None,
                saves: Saves {
                    every: None,
                    on_stop: Some(DRAIN),
                },
                loads: LOAD,
                class: "app".to_owned(),
            }));
        }
        while self.ids.len() > most {
            // Who still waits goes first, then the newest.
            let waits = self.ids.iter().rposition(|id| life.waits(*id));
            let at = waits.unwrap_or(self.ids.len() - 1);
            life.at(now, Happening::Withdraw(self.ids.remove(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_sees_past_days_only() {
        let curve: Vec<f64> = (0..24).map(|hour| f64::from(hour) / 23.0).collect();
        let mut demand = Demand::new(&curve, 1_000.0, 1);
        let before = demand.forecast(2 * MINUTES + 600);
        for later in &mut demand.week[2..] {
            later.iter_mut().for_each(|minute| *minute *= 100.0);
        }
        assert!((demand.forecast(2 * MINUTES + 600) - before).abs() < 1e-9);
        demand.week[1]
            .iter_mut()
            .for_each(|minute| *minute *= 100.0);
        demand.week[0]
            .iter_mut()
            .for_each(|minute| *minute *= 100.0);
        assert!(demand.forecast(2 * MINUTES + 600) > before);
    }
}
