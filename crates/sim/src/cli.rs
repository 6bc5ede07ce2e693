//! The commands of `moonshot sim`, on plain arguments, so that any binary can call them.

use crate::bench;
use crate::data::DataError;
use crate::flat::Rule;
use crate::openb::{self, Policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

const USAGE: &str = "usage:
  sim openb --nodes NODES.csv --pods PODS.csv --policy moonshot|fgd|bestfit|dotproduct|packing|clustering|random
            [--seeds 10] [--json OUT]
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

/// Mean and standard deviation, to two digits.
fn spread(values: impl Iterator<Item = f64> + Clone) -> Value {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let round = |v: f64| (v * 100.0).round() / 100.0;
    json!({"mean": round(mean), "sd": round(variance.sqrt())})
}
