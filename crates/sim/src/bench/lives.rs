//! Lives on traces: the week of the tide, elastic jobs, estimates of the start, networks.

use super::traces::data;
use super::{BenchError, Better, Effort, Line};
use crate::dice::Dice;
use crate::dlrm;
use crate::life::{Happening, Life, Pace, WorkId};
use crate::philly::{self, Job};
use crate::policies::policy;
use crate::policy::Moonshot;
use crate::specs;
use crate::tidal::{self, Scaler};
use crate::waits::hours;
use base::{Span, Time};
use sched::*;
use std::collections::VecDeque;

const PHILLY: &str = "philly/philly.csv";

pub(crate) fn tidal(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.tidal";
    let curve = tidal::read_curve(&data(ID, "genai-qps/qps.csv")?)?;
    let jobs = philly::read(&data(ID, PHILLY)?)?;
    let live = |scaler| tidal::run(&curve, &jobs, 2_000, scaler, 42);
    let fixed = live(Scaler::Static);
    let figure = |result: &serde_json::Value, name: &str| result[name].as_f64().unwrap_or(f64::NAN);
    let mut lines = Vec::new();
    for (name, scaler) in [
        ("moonshot", Some(Scaler::Moonshot)),
        ("oracle", Some(Scaler::Oracle)),
        ("reactive", Some(Scaler::Reactive)),
        ("static", None),
    ] {
        let result = scaler.map_or_else(|| fixed.clone(), live);
        let case = format!("2000 GPUs, 7 days, {name}");
        let ours = name == "moonshot";
        let line = |metric, value, better| Line::new(ID, case.clone(), metric, value, "%", better);
        let aimed = |line: Line, aim: f64| if ours { line.aim(aim) } else { line };
        let missed = figure(&fixed, "apps_missed_percent");
        lines.push(aimed(
            line(
                "apps_missed",
                figure(&result, "apps_missed_percent"),
                Better::Lower,
            )
            .peer("static", missed),
            missed,
        ));
        let share = figure(&result, "jobs_share_of_free_percent");
        let fixed_share = figure(&fixed, "jobs_share_of_free_percent");
        lines.push(aimed(
            line("jobs_share_of_free", share, Better::Higher).peer("static", fixed_share),
            85.0,
        ));
        lines.push(aimed(
            line("lost", figure(&result, "lost_percent"), Better::Lower),
            2.0,
        ));
    }
    Ok(lines)
}

/// The first jobs of the trace on 40x8, where those with several GPUs can run with half of them, and where
/// nobody can.
pub(crate) fn elastic(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.elastic";
    let jobs = philly::read(&data(ID, PHILLY)?)?;
    let count = match effort {
        Effort::Quick => 12_000,
        Effort::Full => 40_000,
    };
    let jobs = &jobs[..count.min(jobs.len())];
    let live = |is_elastic: bool| {
        let mut policy = Moonshot::new(Config::standard());
        let pace = Pace {
            tick: None,
            sample: None,
            told: false,
        };
        let mut life = Life::new(&mut policy, pace);
        let begin = jobs.first().map_or(Time::default(), |job| job.submitted);
        philly::cluster(&mut life, begin, 40, 8);
        life.at(begin, Happening::Queue(specs::queue("all")));
        for (number, job) in jobs.iter().enumerate() {
            let mut work = philly::work(number as u64, job, 8, "all");
            if job.gpus > 1 {
                // Both sides have members of one GPU each, so that only the least number differs.
                let mut group = specs::group(job.gpus as u32, specs::amount(0, 0, 1_000));
                if is_elastic {
                    group.min = group.count.div_ceil(2);
                }
                work.spec.groups = vec![group];
            }
            life.arrive(work);
        }
        life.run(None);
        let outcome = life.finish();
        let done = outcome
            .works
            .iter()
            .filter_map(|(_, fate)| Some(hours(fate.ended?.since(fate.arrived))));
        let done: Vec<f64> = done.collect();
        done.iter().sum::<f64>() / done.len().max(1) as f64
    };
    let (elastic, rigid) = (live(true), live(false));
    let case = format!("Philly, first {count} jobs on 40x8");
    Ok(vec![
        Line::new(ID, case, "mean_completion_h", elastic, "h", Better::Lower)
            .peer("the same jobs, rigid", rigid)
            .aim(rigid),
    ])
}

/// How far off the start is that `why` names when a job has just arrived and waits.
pub(crate) fn eta(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.eta";
    let jobs: Vec<Job> = philly::read(&data(ID, PHILLY)?)?;
    // Every how many waiting jobs one is asked about.
    let every = match effort {
        Effort::Quick => 40,
        Effort::Full => 8,
    };
    let mut dice = Dice::new(15);
    let mut policy =
        policy("moonshot", Config::standard(), Vec::new(), 42).expect("a name of the table");
    let pace = Pace {
        tick: None,
        sample: None,
        told: false,
    };
    let mut life = Life::new(policy.as_mut(), pace);
    let begin = jobs.first().map_or(Time::default(), |job| job.submitted);
    philly::cluster(&mut life, begin, 88, 8);
    life.at(begin, Happening::Queue(specs::queue("all")));
    for (number, job) in jobs.iter().enumerate() {
        let mut work = philly::work(number as u64, job, 8, "all");
        work.spec.preemptible = false;
        // People declare one to three times what they need.
        let limit = job.runs.as_ms() as f64 * (1.0 + 2.0 * dice.unit());
        work.spec.time_limit = Some(Span::from_ms(limit as u64));
        life.arrive(work);
    }
    let mut next = 0;
    let mut seen = 0;
    let mut asked: Vec<(WorkId, Time, Option<Time>, f64)> = Vec::new();
    let mut lately: VecDeque<f64> = VecDeque::new();
    let mut counted = 0;
    while let Some(now) = life.next() {
        life.run(Some(now));
        // Waits of those that started last, for the guess that is compared with.
        while counted < next && life.fate(WorkId(counted)).started.is_some() {
            lately.push_back(hours(life.fate(WorkId(counted)).waited));
            if lately.len() > 100 {
                lately.pop_front();
            }
            counted += 1;
        }
        while next < jobs.len() && jobs[next].submitted <= now {
            let id = WorkId(next);
            next += 1;
            if !life.waits(id) {
                continue;
            }
            seen += 1;
            if seen % every == 0 {
                let task = life.task(id);
                let said = life
                    .policy()
                    .core()
                    .and_then(|core| core.explain(task, now).expected_start);
                let guess = lately.iter().sum::<f64>() / lately.len().max(1) as f64;
                asked.push((id, now, said, guess));
            }
        }
    }
    let (mut errors, mut guesses) = (Vec::new(), Vec::new());
    for (id, at, said, guess) in &asked {
        let Some(started) = life.fate(*id).started else {
            continue;
        };
        let waited = hours(started.since(*at));
        guesses.push((guess - waited).abs());
        if let Some(said) = said {
            errors.push((hours(said.since(*at)) - waited).abs());
        }
    }
    let percentile = |values: &mut Vec<f64>, percent: usize| {
        values.sort_by(f64::total_cmp);
        values
            .get(values.len() * percent / 100)
            .copied()
            .unwrap_or(f64::NAN)
    };
    let case = "Philly 88x8, limits of 1 to 3 times the run time";
    let answered = errors.len() as f64 * 100.0 / asked.len().max(1) as f64;
    let mut lines = vec![Line::new(
        ID,
        case,
        "answered",
        answered,
        "%",
        Better::Higher,
    )];
    for (metric, percent) in [("p50_error_h", 50), ("p90_error_h", 90)] {
        let error = percentile(&mut errors, percent);
        let guess = percentile(&mut guesses, percent);
        lines.push(
            Line::new(ID, case, metric, error, "h", Better::Lower)
                .peer("mean wait of the last 100", guess)
                .aim(guess),
        );
    }
    Ok(lines)
}

/// All Apps of the DLRM trace on as few nodes as may be: GPUs, cores, network units, instances a node.
pub(crate) fn rdma(_: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.rdma";
    let apps = dlrm::read(&data(ID, "dlrm/disaggregated_DLRM_trace.csv")?)?;
    let mut lines = Vec::new();
    let mut best_fit = None;
    for name in ["bestfit", "moonshot"] {
        let mut deciding =
            policy(name, Config::standard(), Vec::new(), 42).expect("a name of the table");
        let run = dlrm::run(&apps, deciding.as_mut());
        let case = format!("{} instances of {} Apps, {name}", run.instances, apps.len());
        let peer = *best_fit.get_or_insert(run.nodes_used as f64);
        let line =
            |metric, value, unit, better| Line::new(ID, case.clone(), metric, value, unit, better);
        let used = line("nodes_used", run.nodes_used as f64, "nodes", Better::Lower)
            .peer("best fit", peer);
        lines.push(if name == "moonshot" {
            used.aim(peer)
        } else {
            used
        });
        lines.push(line(
            "nodes_least",
            run.nodes_least as f64,
            "nodes",
            Better::Lower,
        ));
        lines.push(line("placed", run.placed_percent, "%", Better::Higher));
        lines.push(line(
            "network_of_used_nodes",
            run.network_percent,
            "%",
            Better::Higher,
        ));
    }
    Ok(lines)
}
