//! `moonshot sim openb`

use super::args::{Args, Command, Opt};
use super::{CliError, answer, spread};
use crate::openb::{self, Policy};
use crate::plain::Rule;
use serde_json::json;
use std::io::Write;
use std::path::Path;

pub(crate) const COMMAND: Command = Command {
    name: "openb",
    summary: "How much of a cluster's GPUs can be handed out (Weng et al., ATC 2023).",
    about: "The pods of a list, with random copies until they ask for 130 % of all GPUs, in random \
            order; nothing\nends; who does not fit is dropped. The figures are the percent of GPU \
            thousandths handed out when\narrivals reach 100 % and 130 % of capacity. Policy `fgd` is \
            given the list's distribution; `moonshot`\nlearns from arrivals only.",
    operand: None,
    options: &[
        Opt::required(
            "nodes",
            "NODES.csv",
            "machines: sn,cpu_milli,memory_mib,gpu,model",
        ),
        Opt::required(
            "pods",
            "PODS.csv",
            "pods: name,cpu_milli,memory_mib,num_gpu,gpu_milli[,gpu_spec]",
        ),
        Opt::required(
            "policy",
            "POLICY",
            "moonshot, fgd, bestfit, dotproduct, packing, clustering or random",
        ),
        Opt::optional("seeds", "N", "how many seeds, from 42 on [10]"),
        Opt::optional("json", "FILE", "write the result there too"),
    ],
    run,
};

fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let machines = openb::read_nodes(Path::new(args.required("nodes")))?;
    let pods = openb::read_pods(Path::new(args.required("pods")))?;
    let name = args.required("policy");
    let policy = match name {
        "moonshot" => Policy::Moonshot,
        "fgd" => Policy::Plain(Rule::Fgd),
        "bestfit" => Policy::Plain(Rule::BestFit),
        "dotproduct" => Policy::Plain(Rule::DotProduct),
        "packing" => Policy::Plain(Rule::GpuPacking),
        "clustering" => Policy::Plain(Rule::GpuClustering),
        "random" => Policy::Plain(Rule::Random),
        _ => return Err(args.refuse("policy", "a policy of this command")),
    };
    let seeds = args.parsed("seeds", 10u64)?;
    let runs: Vec<openb::Run> = (0..seeds)
        .map(|seed| openb::run(&machines, &pods, policy, 42 + seed))
        .collect();
    let pods_seen: usize = runs.iter().map(|run| run.pods).sum();
    let spent: f64 = runs.iter().map(|run| run.spent.as_secs_f64()).sum();
    let of = |figure: fn(&openb::Run) -> f64| {
        let figures: Vec<f64> = runs.iter().map(figure).collect();
        spread(&figures)
    };
    let result = json!({
        "policy": name,
        "seeds": seeds,
        "allocation_at_100": of(|run| run.at_100),
        "allocation_at_130": of(|run| run.at_130),
        "decisions_per_s": (pods_seen as f64 / spent.max(1e-9)).round(),
    });
    answer(args, out, &result)
}
