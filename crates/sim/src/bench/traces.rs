//! Quality on published traces.

use super::{BenchError, Better, Effort, Line};
use crate::openb::{self, Policy};
use crate::philly;
use crate::policies::policy;
use crate::waits::{Waits, late};
use sched::Config;
use std::path::PathBuf;

/// A file of the folder of traces.
pub(crate) fn data(bench: &'static str, file: &'static str) -> Result<PathBuf, BenchError> {
    let path = crate::data_dir().map(|dir| dir.join(file));
    path.filter(|path| path.exists())
        .ok_or(BenchError::Missing { bench, file })
}

/// The published means at 130 % of ten seeds: FGD and best fit (FGD artefact, `expected_results`).
const LISTS: [(&str, &str, f64, f64); 5] = [
    ("default", "openb/openb_pod_list_default.csv", 95.39, 93.08),
    ("cpu100", "openb/openb_pod_list_cpu100.csv", 95.35, 93.44),
    (
        "gpushare40",
        "openb/openb_pod_list_gpushare40.csv",
        94.15,
        91.69,
    ),
    (
        "gpuspec20",
        "openb/openb_pod_list_gpuspec20.csv",
        94.84,
        93.30,
    ),
    (
        "multigpu30",
        "openb/openb_pod_list_multigpu30.csv",
        96.46,
        94.72,
    ),
];

pub(crate) fn openb(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.openb";
    let machines = openb::read_nodes(&data(ID, "openb/openb_node_list_gpu_node.csv")?)?;
    let seeds = match effort {
        Effort::Quick => 3,
        Effort::Full => 10,
    };
    let mut lines = Vec::new();
    let mut reached = 0;
    for (list, file, fgd, best_fit) in LISTS {
        let pods = openb::read_pods(&data(ID, file)?)?;
        let runs: Vec<openb::Run> = (0..seeds)
            .map(|seed| openb::run(&machines, &pods, Policy::Moonshot, 42 + seed))
            .collect();
        let mean = runs.iter().map(|run| run.at_130).sum::<f64>() / seeds as f64;
        reached += u32::from(mean >= fgd);
        lines.push(
            Line::new(
                ID,
                format!("{list}, {seeds} seeds"),
                "allocation_at_130",
                mean,
                "%",
                Better::Higher,
            )
            .peer("FGD, published", fgd)
            .aim(fgd - 0.5),
        );
        lines.push(
            Line::new(
                ID,
                format!("{list}, {seeds} seeds"),
                "gain",
                mean - best_fit,
                "points",
                Better::Higher,
            )
            .peer("best fit, published", 0.0),
        );
        let decided: usize = runs.iter().map(|run| run.pods).sum();
        let spent: f64 = runs.iter().map(|run| run.spent.as_secs_f64()).sum();
        let rate = (decided as f64 / spent).round();
        lines.push(
            Line::new(ID, list, "decisions_per_s", rate, "1/s", Better::Higher)
                .peer("FGD's simulator on two cores", 3.0)
                .aim(50_000.0),
        );
    }
    let lists = Line::new(
        ID,
        "lists not below FGD",
        "count",
        f64::from(reached),
        "lists",
        Better::Higher,
    );
    lines.push(lists.aim(3.0));
    Ok(lines)
}

pub(crate) fn philly(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.philly";
    let jobs = philly::read(&data(ID, "philly/philly.csv")?)?;
    let sizes: &[u32] = match effort {
        Effort::Quick => &[88],
        Effort::Full => &[88, 80],
    };
    let mut lines = Vec::new();
    for nodes in sizes {
        let live = |name: &str| {
            let mut deciding =
                policy(name, Config::standard(), Vec::new(), 42).expect("a name of the table");
            philly::run(&jobs, (*nodes, 8), philly::Queues::One, deciding.as_mut())
        };
        let fifo = live("fifo");
        let base = Waits::of(&fifo);
        for name in ["moonshot", "fifo", "easy", "sjf", "tiresias"] {
            let outcome = if name == "fifo" {
                None
            } else {
                Some(live(name))
            };
            let outcome = outcome.as_ref().unwrap_or(&fifo);
            let waits = Waits::of(outcome);
            let case = format!("{nodes}x8 {name}");
            let ours = name == "moonshot";
            let line = |metric, value, unit| {
                Line::new(ID, case.clone(), metric, value, unit, Better::Lower)
            };
            let mean = line("mean_wait_h", waits.mean_h, "h").peer("FIFO", base.mean_h);
            lines.push(if ours {
                mean.aim(base.mean_h / 2.0)
            } else {
                mean
            });
            lines.push(line("p99_wait_h", waits.p99_h, "h").peer("FIFO", base.p99_h));
            let later = line(
                "later_than_twice_fifo_plus_1h",
                late(outcome, &fifo).len() as f64,
                "jobs",
            );
            lines.push(if ours { later.aim(0.0) } else { later });
            let evictions: u64 = outcome.evictions.values().sum();
            lines.push(line("evictions", evictions as f64, "tasks"));
            let used = waits.utilisation_percent;
            lines.push(
                Line::new(ID, case, "utilisation", used, "%", Better::Higher)
                    .peer("FIFO", base.utilisation_percent),
            );
        }
    }
    Ok(lines)
}
