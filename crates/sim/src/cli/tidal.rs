//! `moonshot sim tidal`

use super::args::{Args, Command, Opt};
use super::{CliError, answer};
use crate::philly;
use crate::tidal::{self, Scaler};
use serde_json::json;
use std::io::Write;
use std::path::Path;

pub(crate) const COMMAND: Command = Command {
    name: "tidal",
    summary: "A week in which Apps and Jobs share one pool: what Apps miss, what Jobs get.",
    about: "Apps' demand is the hourly sum of the QPS curve stretched to 24 hours, its peak hour half of the GPUs, \
            seven days\nwith noise, shifts, weekdays and one flash crowd that history does not know; Jobs are Philly's \
            9 to 22 October\n2017 laid over one another, three times. `moonshot` adds a forecast from past days to \
            what `reactive` does;\n`oracle` knows what comes; `static` divides the pool for good.",
    operand: None,
    options: &[
        Opt::required("qps", "FILE", "the curve: timestamp_anon,value,…"),
        Opt::required("jobs", "FILE", "Philly's jobs"),
        Opt::required("policy", "POLICY", "moonshot, reactive, static or oracle"),
        Opt::optional("gpus", "N", "in nodes of eight [2000]"),
        Opt::optional("seed", "N", "for noise and flags [42]"),
        Opt::optional("json", "FILE", "write the result there too"),
    ],
    run,
};

fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let curve = tidal::read_curve(Path::new(args.required("qps")))?;
    let jobs = philly::read(Path::new(args.required("jobs")))?;
    let name = args.required("policy");
    let scaler = match name {
        "moonshot" => Scaler::Moonshot,
        "reactive" => Scaler::Reactive,
        "static" => Scaler::Static,
        "oracle" => Scaler::Oracle,
        _ => return Err(args.refuse("policy", "moonshot, reactive, static or oracle")),
    };
    let gpus = args.parsed("gpus", 2_000u64)?;
    if gpus < 16 {
        return Err(args.refuse("gpus", "at least 16"));
    }
    let mut result = tidal::run(&curve, &jobs, gpus, scaler, args.parsed("seed", 42)?);
    result["policy"] = json!(name);
    answer(args, out, &result)
}
