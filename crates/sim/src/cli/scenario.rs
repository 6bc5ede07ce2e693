//! `moonshot sim run`

use super::args::{Args, Command, Opt};
use super::{CliError, print, write};
use crate::chart;
use crate::policies::{POLICIES, policy};
use crate::policy::{Moonshot, Policy};
use crate::scenario::{self, Scenario};
use crate::waits::Waits;
use sched::Config;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) const COMMAND: Command = Command {
    name: "run",
    summary: "Days of a cluster's life from a scenario file, with faults, from one seed.",
    about: "The format is documented in crates/sim/README.md; examples/scenarios has some to begin with. Books \
            beside the\nscheduler check every promise. The command fails where something did not come about \
            that the file expects.",
    operand: Some("SCENARIO"),
    options: &[
        Opt::optional(
            "policy",
            "POLICY",
            "moonshot, or one to compare with [moonshot]",
        ),
        Opt::optional("seed", "N", "another seed than the file's"),
        Opt::flag("told", "tell every start, stop, end and fault"),
        Opt::optional("chart", "FILE.html", "draw allocation, waits and shares"),
        Opt::optional(
            "log",
            "FILE",
            "write a log for `moonshot sim replay` (policy moonshot)",
        ),
        Opt::optional("json", "FILE", "write the figures there"),
    ],
    run,
};

fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let mut scenario = scenario::read(Path::new(args.operand()))?;
    scenario.seed = args.parsed("seed", scenario.seed)?;
    let name = args.option("policy").unwrap_or("moonshot");
    let mut deciding = make(args, name, scenario.seed)?;
    let outcome = scenario::run(&scenario, deciding.as_mut(), args.flag("told"));
    deciding.finish().map_err(|source| CliError::Write {
        path: PathBuf::from(args.option("log").unwrap_or("")),
        source,
    })?;
    let checks = scenario::check(&scenario, &outcome);
    if args.flag("told") {
        print(out, &format!("{}\n", scenario::told(&outcome)))?;
    }
    print(out, &scenario::summary(&scenario, name, &outcome, &checks))?;
    if let Some(path) = args.option("json") {
        write(
            path,
            format!("{:#}\n", figures(&scenario, name, &outcome, &checks)).as_bytes(),
        )?;
    }
    if let Some(path) = args.option("chart") {
        write(
            path,
            chart::page(&format!("{} under {name}", scenario.title), &outcome).as_bytes(),
        )?;
    }
    let missed = checks.iter().filter(|check| !check.met).count();
    if missed > 0 {
        return Err(CliError::Failed(format!(
            "{missed} of {} expectations did not come about",
            checks.len()
        )));
    }
    Ok(())
}

fn make(args: &Args, name: &str, seed: u64) -> Result<Box<dyn Policy>, CliError> {
    let Some(path) = args.option("log") else {
        return policy(name, Config::standard(), Vec::new(), seed).ok_or_else(|| {
            let names: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).collect();
            args.refuse("policy", &format!("one of {}", names.join(", ")))
        });
    };
    if name != "moonshot" {
        return Err(args.refuse("log", "possible: only policy moonshot writes logs"));
    }
    let failed = |source| CliError::Write {
        path: PathBuf::from(path),
        source,
    };
    let file = std::io::BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    let recorded = Moonshot::recorded(Config::standard(), Box::new(file)).map_err(failed)?;
    Ok(Box::new(recorded))
}

fn figures(
    scenario: &Scenario,
    policy: &str,
    outcome: &crate::life::Outcome,
    checks: &[scenario::Check],
) -> Value {
    let waits = Waits::of(outcome);
    json!({
        "title": scenario.title, "policy": policy, "seed": scenario.seed,
        "work": outcome.works.len(),
        "mean_wait_h": waits.mean_h, "p99_wait_h": waits.p99_h, "max_wait_h": waits.max_h,
        "held_percent": waits.utilisation_percent,
        "evictions": outcome.evictions,
        "complaints": outcome.complaints,
        "expectations": scenario::checks_json(checks),
    })
}
