//! The commands of `moonshot sim`, on plain arguments, so that any binary can call them.

use crate::bench;
use crate::data::DataError;
use crate::flat::Rule;
use crate::openb::{self, Policy};
use crate::philly;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

const USAGE: &str = "usage:
  sim openb --nodes NODES.csv --pods PODS.csv --policy moonshot|fgd|bestfit|dotproduct|packing|clustering|random
            [--seeds 10] [--json OUT]
  sim philly --trace FILE --nodes 88x8 --policy moonshot|fifo|easy|sjf [--json OUT]
  sim bench --name basic|large|gang|constraints|topology|reclaim_large|reclaim_many|memory [--json OUT]";

/// A command that could not be carried out.
#[derive(Debug, Error)]
pub enum CliError {
    /// The arguments do not make a command.
    #[error("{0}\n{USAGE}")]
    Usage(String),
    /// A trace could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The result could not be written.
    #[error("could not write `{path}`")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs a command; answers what it prints.
pub fn run(args: &[String]) -> Result<String, CliError> {
    let Some((command, rest)) = args.split_first() else {
        return Err(CliError::Usage("no command".to_owned()));
    };
    let options = options(rest)?;
    let result = match command.as_str() {
        "openb" => openb(&options)?,
        "philly" => philly(&options)?,
        "bench" => {
            let name = required(&options, "name")?;
            let result = bench::run(name);
            result.ok_or_else(|| CliError::Usage(format!("unknown bench `{name}`")))?
        }
        other => return Err(CliError::Usage(format!("unknown command `{other}`"))),
    };
    let text = format!("{result:#}\n");
    if let Some(path) = options.get("json") {
        std::fs::write(path, &text).map_err(|source| CliError::Write {
            path: PathBuf::from(path),
            source,
        })?;
    }
    Ok(text)
}

type Options = BTreeMap<String, String>;

fn options(args: &[String]) -> Result<Options, CliError> {
    let mut options = Options::new();
    for pair in args.chunks(2) {
        match pair {
            [name, value] if name.starts_with("--") => {
                options.insert(name[2..].to_owned(), value.clone());
            }
            _ => return Err(CliError::Usage(format!("`{}` has no value", pair[0]))),
        }
    }
    Ok(options)
}

fn required<'a>(options: &'a Options, name: &str) -> Result<&'a str, CliError> {
    let value = options.get(name).map(String::as_str);
    value.ok_or_else(|| CliError::Usage(format!("`--{name}` is missing")))
}

fn number(options: &Options, name: &str, default: u64) -> Result<u64, CliError> {
    options.get(name).map_or(Ok(default), |text| {
        text.parse()
            .map_err(|_| CliError::Usage(format!("`--{name} {text}` is not a number")))
    })
}

fn openb(options: &Options) -> Result<Value, CliError> {
    let machines = openb::read_nodes(Path::new(required(options, "nodes")?))?;
    let pods = openb::read_pods(Path::new(required(options, "pods")?))?;
    let name = required(options, "policy")?;
    let policy = match name {
        "moonshot" => Policy::Moonshot,
        "fgd" => Policy::Plain(Rule::Fgd),
        "bestfit" => Policy::Plain(Rule::BestFit),
        "dotproduct" => Policy::Plain(Rule::DotProduct),
        "packing" => Policy::Plain(Rule::GpuPacking),
        "clustering" => Policy::Plain(Rule::GpuClustering),
        "random" => Policy::Plain(Rule::Random),
        other => return Err(CliError::Usage(format!("unknown policy `{other}`"))),
    };
    let seeds = number(options, "seeds", 10)?;
    let runs: Vec<openb::Run> = (0..seeds)
        .map(|seed| openb::run(&machines, &pods, policy, 42 + seed))
        .collect();
    let pods_seen: usize = runs.iter().map(|run| run.pods).sum();
    let spent: f64 = runs.iter().map(|run| run.spent.as_secs_f64()).sum();
    Ok(json!({
        "policy": name,
        "seeds": seeds,
        "allocation_at_100": spread(runs.iter().map(|run| run.at_100)),
        "allocation_at_130": spread(runs.iter().map(|run| run.at_130)),
        "decisions_per_s": (pods_seen as f64 / spent).round(),
    }))
}

fn philly(options: &Options) -> Result<Value, CliError> {
    let jobs = philly::read(Path::new(required(options, "trace")?))?;
    let shape = required(options, "nodes")?;
    let (nodes, gpus) = shape
        .split_once('x')
        .and_then(|(nodes, gpus)| Some((nodes.parse().ok()?, gpus.parse().ok()?)))
        .filter(|(nodes, gpus)| *nodes > 0u32 && *gpus > 0u64)
        .ok_or_else(|| CliError::Usage(format!("`--nodes {shape}` is not like `88x8`")))?;
    let name = required(options, "policy")?;
    let order = match name {
        "moonshot" => philly::Order::Moonshot,
        "fifo" => philly::Order::Fifo,
        "easy" => philly::Order::Easy,
        "sjf" => philly::Order::ShortestOracle,
        other => return Err(CliError::Usage(format!("unknown policy `{other}`"))),
    };
    let outcome = philly::run(&jobs, nodes, gpus, order);
    let fifo = match order {
        philly::Order::Fifo => None,
        philly::Order::Moonshot | philly::Order::Easy | philly::Order::ShortestOracle => {
            Some(philly::run(&jobs, nodes, gpus, philly::Order::Fifo))
        }
    };
    let hours = |span: base::Span| span.as_ms() as f64 / 3.6e6;
    let mut waits: Vec<f64> = outcome.waits.iter().map(|wait| hours(*wait)).collect();
    let mean = |waits: &[base::Span]| {
        waits.iter().map(|wait| hours(*wait)).sum::<f64>() / waits.len().max(1) as f64
    };
    let waited = waits.iter().filter(|wait| **wait > 0.0).count();
    // Nobody should wait more than twice as long as under FIFO, plus an hour.
    let late = fifo.as_ref().map(|fifo| {
        let pairs = outcome.waits.iter().zip(&fifo.waits);
        pairs
            .filter(|(wait, fifo)| hours(**wait) > 2.0 * hours(**fifo) + 1.0)
            .count()
    });
    let mean_hours = mean(&outcome.waits);
    let ratio = fifo.as_ref().map(|fifo| mean_hours / mean(&fifo.waits));
    waits.sort_by(f64::total_cmp);
    let p99 = waits.get(waits.len() * 99 / 100).copied();
    Ok(json!({
        "policy": name, "nodes": nodes, "gpus_per_node": gpus, "jobs": jobs.len(),
        "waited_percent": waited as f64 * 100.0 / jobs.len().max(1) as f64,
        "mean_wait_h": mean_hours, "p99_wait_h": p99,
        "mean_wait_by_fifo": ratio, "later_than_twice_fifo_plus_1h": late,
        "utilisation": outcome.utilisation, "evictions": outcome.evictions,
        "decide_calls_per_s": outcome.calls as f64 / outcome.spent.as_secs_f64(),
    }))
}

/// Mean and standard deviation, to two digits.
fn spread(values: impl Iterator<Item = f64> + Clone) -> Value {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let round = |v: f64| (v * 100.0).round() / 100.0;
    json!({"mean": round(mean), "sd": round(variance.sqrt())})
}
