//! `moonshot sim philly`

use super::args::{Args, Command, Opt};
use super::{CliError, answer, write};
use crate::chart;
use crate::philly::{self, Queues};
use crate::policies::policy;
use crate::waits::{Waits, hours, late};
use sched::Config;
use serde_json::json;
use std::io::Write;
use std::path::Path;

pub(crate) const COMMAND: Command = Command {
    name: "philly",
    summary: "How long jobs wait: Microsoft's Philly trace (Jeon et al., ATC 2019).",
    about: "Jobs of up to a node's GPUs run on one node, larger ones on whole nodes and the remainder \
            on one more.\nOnly `sjf` knows run times. A stop costs a job nothing but the wait. Jobs are \
            compared one by one with\ntheir waits under `fifo`, which runs too.",
    operand: None,
    options: &[
        Opt::required(
            "trace",
            "FILE",
            "jobs: timestamp,duration,num_gpus,gpu_time,cluster",
        ),
        Opt::required("nodes", "88x8", "how many nodes of how many GPUs"),
        Opt::required(
            "policy",
            "POLICY",
            "moonshot, fifo, easy, sjf, tiresias, bestfit, random …",
        ),
        Opt::optional(
            "queues",
            "one|owners",
            "one queue for all jobs, or one for each owner [one]",
        ),
        Opt::optional("seed", "N", "for policies that throw dice [42]"),
        Opt::optional("chart", "FILE.html", "draw allocation, waits and shares"),
        Opt::optional("json", "FILE", "write the result there too"),
    ],
    run,
};

/// The most of those who were late that are named.
const LATE_SHOWN: usize = 100;

/// `88x8` as nodes and GPUs.
pub(crate) fn shape(args: &Args) -> Result<(u32, u64), CliError> {
    let pair = args.required("nodes").split_once('x');
    pair.and_then(|(nodes, gpus)| Some((nodes.parse().ok()?, gpus.parse().ok()?)))
        .filter(|(nodes, gpus)| *nodes > 0u32 && *gpus > 0u64)
        .ok_or_else(|| args.refuse("nodes", "like `88x8`"))
}

fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let jobs = philly::read(Path::new(args.required("trace")))?;
    let shape = shape(args)?;
    let name = args.required("policy");
    let queues = match args.option("queues").unwrap_or("one") {
        "one" => Queues::One,
        "owners" => Queues::Owners,
        _ => return Err(args.refuse("queues", "`one` or `owners`")),
    };
    let seed = args.parsed("seed", 42)?;
    let make = |name| policy(name, Config::standard(), Vec::new(), seed);
    let mut deciding = make(name).ok_or_else(|| args.refuse("policy", "a policy"))?;
    let outcome = philly::run(&jobs, shape, queues, deciding.as_mut());
    let mut fifo = make("fifo").ok_or_else(|| args.refuse("policy", "a policy"))?;
    let fifo = philly::run(&jobs, shape, Queues::One, fifo.as_mut());
    let figures = Waits::of(&outcome);
    let late = late(&outcome, &fifo);
    let latest: Vec<serde_json::Value> = late
        .iter()
        .take(LATE_SHOWN)
        .map(|number| {
            let (work, fate) = &outcome.works[*number];
            json!({
                "job": work.spec.name, "gpus": jobs[*number].gpus,
                "wait_h": round(hours(fate.waited)),
                "fifo_wait_h": round(hours(fifo.works[*number].1.waited)),
            })
        })
        .collect();
    let result = json!({
        "policy": name, "nodes": shape.0, "gpus_per_node": shape.1, "jobs": jobs.len(),
        "waited_percent": round(figures.waited_percent),
        "mean_wait_h": round(figures.mean_h), "p99_wait_h": round(figures.p99_h),
        "max_wait_h": round(figures.max_h),
        "fifo_mean_wait_h": round(Waits::of(&fifo).mean_h),
        "later_than_twice_fifo_plus_1h": late.len(), "late": latest,
        "utilisation_percent": round(figures.utilisation_percent),
        "evictions": outcome.evictions.values().sum::<u64>(),
        "complaints": outcome.complaints,
        "decisions_per_s": (outcome.decisions as f64 / outcome.spent.as_secs_f64().max(1e-9)).round(),
    });
    if let Some(path) = args.option("chart") {
        write(
            path,
            chart::page(
                &format!("Philly {}x{} under {name}", shape.0, shape.1),
                &outcome,
            )
            .as_bytes(),
        )?;
    }
    answer(args, out, &result)
}

fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
