//! `cargo xtask bench`: runs benches and shows their figures beside their peers' and their aims.
//!
//! A bench is a program that is started as `PROGRAM… --id ID --quick|--full --json FILE` and writes one JSON object a
//! figure into the file (see `docs/benchmarks.md`). It exits with 0 when it ran: a figure that misses its aim
//! stands in the table and fails nothing. To add a bench, add a line to [`BENCHES`].

use crate::build::{self, Profile};
use crate::sh::{self, Done, Failure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

struct Bench {
    id: &'static str,
    what: &'static str,
    /// The program in cargo's output directory, and its first arguments.
    program: &'static [&'static str],
}

const OURS: &[&str] = &["bench"];
const K8S: &[&str] = &["k8s-bench"];
const SIM: &[&str] = &["moonshot", "sim", "bench"];

const BENCHES: &[Bench] = &[
    Bench {
        id: "core.submit",
        what: "from `moonshot run` to the program's first line",
        program: OURS,
    },
    Bench {
        id: "core.admit",
        what: "admissions made durable a second, on both databases",
        program: OURS,
    },
    Bench {
        id: "core.queue",
        what: "memory at rest; 2,000 replicas run and 10,000 Jobs wait: submit, list, watch",
        program: OURS,
    },
    Bench {
        id: "core.history",
        what: "lists over a million finished Jobs and ten million events (a tenth with --quick), on both databases",
        program: OURS,
    },
    Bench {
        id: "serve.rest",
        what: "one row of 500 trees by JSON over HTTP, beside MLServer and FastAPI",
        program: OURS,
    },
    Bench {
        id: "serve.trees",
        what: "our evaluator of trees beside the C libraries of XGBoost and LightGBM",
        program: OURS,
    },
    Bench {
        id: "serve.native",
        what: "processor time over the bare C call: TensorFlow by gRPC, ONNX by binary tensors",
        program: OURS,
    },
    Bench {
        id: "serve.start",
        what: "from the start of the process until its model can be used; memory then",
        program: OURS,
    },
    Bench {
        id: "serve.overload",
        what: "twice the requests that the server can answer",
        program: OURS,
    },
    Bench {
        id: "serve.swap",
        what: "versions change under load; a thousand of them, one after the other",
        program: OURS,
    },
    Bench {
        id: "serve.many",
        what: "1,000 models by Zipf's law, in the memory of 200",
        program: OURS,
    },
    Bench {
        id: "serve.warm",
        what: "the first answer of a new version, with recorded requests and without",
        program: OURS,
    },
    Bench {
        id: "k8s.bind",
        what: "5,000 pods bound to 1,000 simulated nodes (10,000 to 5,000 with --full), beside kube-scheduler",
        program: K8S,
    },
    Bench {
        id: "k8s.gang",
        what: "100 gangs of 100 beside ungrouped pods, and a warm start (20 gangs with --quick)",
        program: K8S,
    },
    Bench {
        id: "sched.memory",
        what: "100,000 nodes with 1,000,000 running tasks",
        program: SIM,
    },
    Bench {
        id: "sched.basic",
        what: "single pods on 5,000 and 100,000 nodes",
        program: SIM,
    },
    Bench {
        id: "sched.gang",
        what: "identical gangs on up to 20,000 nodes",
        program: SIM,
    },
    Bench {
        id: "sched.constraints",
        what: "anti-affinity, affinity and spread on 5,000 nodes",
        program: SIM,
    },
    Bench {
        id: "sched.topology",
        what: "gangs of four in one of 50 racks",
        program: SIM,
    },
    Bench {
        id: "sched.reclaim_large",
        what: "one gang takes a tenth of a full cluster",
        program: SIM,
    },
    Bench {
        id: "sched.reclaim_many",
        what: "4,000 tasks take back 4,000 GPUs",
        program: SIM,
    },
    Bench {
        id: "sched.starvation",
        what: "a flood of small jobs and a gang every half hour",
        program: SIM,
    },
    Bench {
        id: "sched.cohorts",
        what: "Kueue's generator: 30 queues, 15,000 workloads",
        program: SIM,
    },
    Bench {
        id: "sched.churn",
        what: "steady arrivals, ends and heartbeats on 10,000 nodes",
        program: SIM,
    },
    Bench {
        id: "sched.tidal",
        what: "a week of Apps and Jobs on 2,000 GPUs",
        program: SIM,
    },
    Bench {
        id: "sched.rdma",
        what: "the DLRM trace: GPUs, cores and network",
        program: SIM,
    },
    Bench {
        id: "sched.elastic",
        what: "elastic against rigid jobs on the Philly trace",
        program: SIM,
    },
    Bench {
        id: "sched.eta",
        what: "how far off the expected start is",
        program: SIM,
    },
    Bench {
        id: "sched.defrag",
        what: "openb after departures: what a few moves give",
        program: SIM,
    },
    Bench {
        id: "sched.mig",
        what: "parts of GPUs that come and go",
        program: SIM,
    },
    Bench {
        id: "sched.openb",
        what: "GPU allocation on five published lists",
        program: SIM,
    },
    Bench {
        id: "sched.philly",
        what: "waits on the Philly trace",
        program: SIM,
    },
];

const USAGE: &str = "\
cargo xtask bench ID… [--quick|--full] [--json FILE]
  ID      a bench, or the beginning of its name for a group (`core`)
  --quick at most about a minute each (the default)
  --full  everything
  --json  one JSON object a figure, one a line
cargo xtask bench list";

struct Options {
    benches: Vec<&'static Bench>,
    scale: &'static str,
    json: Option<PathBuf>,
}

/// Runs the named benches, or names them all.
pub(crate) fn run(args: &[String]) -> Done {
    if args.first().is_some_and(|arg| arg == "list") {
        for bench in BENCHES {
            sh::say(&format!("{:<20} {}", bench.id, bench.what));
        }
        return Ok(());
    }
    let options = parse(args)?;
    // Before anything takes time: a file that cannot be written is told at once.
    if let Some(path) = &options.json {
        write(path, "")?;
    }
    let dir = build::programs(Profile::Release, &packages(&options.benches))?;
    let commit = commit()?;
    let figures = std::env::temp_dir().join(format!("moonshot-bench-{}.json", std::process::id()));
    let (mut all, mut failed) = (String::new(), Vec::new());
    for bench in &options.benches {
        sh::say(&format!("\n== {}: {}", bench.id, bench.what));
        let lines = run_one(bench, &dir, &commit, options.scale, &figures);
        match lines {
            Ok(lines) => all.push_str(&lines),
            Err(failure) => {
                sh::say(&format!("error: {failure}"));
                failed.push(bench.id);
            }
        }
        if let Some(path) = &options.json {
            write(path, &all)?;
        }
    }
    // It is there only when something ran.
    let _ = std::fs::remove_file(&figures);
    sh::say(&format!("\n{}", table(&all, &commit)?));
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("did not run: {}", failed.join(", "))))
    }
}

fn parse(args: &[String]) -> Done<Options> {
    let mut options = Options {
        benches: Vec::new(),
        scale: "--quick",
        json: None,
    };
    let mut wanted: Vec<&str> = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => options.scale = "--quick",
            "--full" => options.scale = "--full",
            "--json" => {
                let path = words
                    .next()
                    .ok_or_else(|| Failure::new("`--json` names no file"))?;
                options.json = Some(std::path::absolute(path).unwrap_or_else(|_| path.into()));
            }
            option if option.starts_with('-') => {
                return Err(Failure::new(format!(
                    "`{option}` is not understood\n{USAGE}"
                )));
            }
            id if BENCHES.iter().any(|bench| names(id, bench.id)) => wanted.push(id),
            id => {
                let text = format!("there is no bench `{id}`; `cargo xtask bench list` names them");
                return Err(Failure::new(text));
            }
        }
    }
    if wanted.is_empty() {
        return Err(Failure::new(format!("no bench is named\n{USAGE}")));
    }
    options.benches = BENCHES
        .iter()
        .filter(|bench| wanted.iter().any(|word| names(word, bench.id)))
        .collect();
    Ok(options)
}

/// Whether a word is a bench's name or its beginning: `core`, `core.`, `core.q`. A whole name is that bench alone,
/// also where another's begins with it.
fn names(word: &str, id: &str) -> bool {
    let is_whole = BENCHES.iter().any(|bench| bench.id == word);
    word == id || (!is_whole && !word.is_empty() && id.starts_with(word))
}

fn packages(benches: &[&Bench]) -> Vec<&'static str> {
    let programs: BTreeSet<&str> = benches
        .iter()
        .filter_map(|bench| bench.program.first().copied())
        .map(|program| if program == K8S[0] { "k8s" } else { program })
        .chain(["moonshot"])
        .collect();
    programs.into_iter().collect()
}

/// The commit, and whether what was measured is more than it.
fn commit() -> Done<String> {
    let read = |words: &[&str]| sh::read(&mut sh::command("git", words));
    let head = read(&["rev-parse", "--short=12", "HEAD"])?;
    let is_clean = read(&["status", "--porcelain"])?.trim().is_empty();
    let mark = if is_clean { "" } else { "-changed" };
    Ok(format!("{}{mark}", head.trim()))
}

/// The lines that a bench wrote.
fn run_one(bench: &Bench, dir: &Path, commit: &str, scale: &str, figures: &Path) -> Done<String> {
    let (program, first) = bench.program.split_first().expect("a bench has a program");
    let mut command = sh::command(&dir.join(program).display().to_string(), first);
    command
        .args(["--id", bench.id, scale, "--json"])
        .arg(figures)
        .env("MOONSHOT_BIN", dir.join("moonshot"))
        .env("MOONSHOT_COMMIT", commit);
    write(figures, "")?;
    if bench.program == K8S {
        let n_nodes = if scale == "--full" { 5_000 } else { 1_000 };
        crate::cluster::with_kwok(n_nodes, |kubeconfig, scheduler| {
            command
                .env("KUBECONFIG", kubeconfig)
                .env("MOONSHOT_BENCH_SCHEDULER", scheduler);
            sh::run(&mut command)
        })?;
    } else {
        sh::run(&mut command)?;
    }
    let lines = std::fs::read_to_string(figures)
        .map_err(|error| Failure::new(format!("`{}`: {error}", figures.display())))?;
    if lines.trim().is_empty() {
        return Err(Failure::new("it wrote no figures; what it said is above"));
    }
    Ok(lines)
}

fn write(path: &Path, text: &str) -> Done {
    std::fs::write(path, text)
        .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))
}

/// Figures for people. A missed aim is said in capitals.
fn table(lines: &str, commit: &str) -> Done<String> {
    let mut rows =
        vec![["bench", "case", "metric", "value", "aim", "met", "peer"].map(str::to_owned)];
    for line in lines.lines() {
        let figure: Value = serde_json::from_str(line)
            .map_err(|error| Failure::new(format!("not a figure ({error}): {line}")))?;
        rows.push(row(&figure));
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|at| {
            rows.iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    let met = |word: &str| rows.iter().filter(|row| row[5] == word).count();
    let _ = write!(
        text,
        "commit {commit}: {} aims met, {} missed",
        met("yes"),
        met("NO")
    );
    Ok(text)
}

fn row(figure: &Value) -> [String; 7] {
    let text = |name: &str| figure[name].as_str().unwrap_or_default().to_owned();
    let sign = if figure["better"] == "lower" {
        "≤"
    } else {
        "≥"
    };
    let unit = text("unit");
    let aim = figure["aim"].as_f64();
    let peer = figure["peer_value"].as_f64();
    [
        text("bench"),
        text("case"),
        text("metric"),
        figure["value"]
            .as_f64()
            .map_or_else(String::new, |value| with_unit(value, &unit)),
        aim.map_or_else(String::new, |aim| {
            format!("{sign} {}", with_unit(aim, &unit))
        }),
        match figure["met"].as_bool() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        }
        .to_owned(),
        peer.map_or_else(String::new, |value| {
            format!("{} ({})", with_unit(value, &unit), text("peer"))
        }),
    ]
}

/// Three digits are enough for a figure that moves by itself.
fn with_unit(value: f64, unit: &str) -> String {
    let number = if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_beginning_names_its_group_once_and_in_order() {
        let ids = |line: &str| {
            let options = parse(&words(line)).unwrap();
            options
                .benches
                .iter()
                .map(|bench| bench.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("core.queue"), ["core.queue"]);
        assert_eq!(
            ids("core.queue core.admit core.queue"),
            ["core.admit", "core.queue"]
        );
        let core = BENCHES
            .iter()
            .filter(|bench| bench.id.starts_with("core."))
            .count();
        assert_eq!(ids("core").len(), core);
        for bad in ["cores", "--fast", "core --json", "--full"] {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
        assert_eq!(parse(&words("core --full")).unwrap().scale, "--full");
    }

    #[test]
    fn the_table_says_what_was_missed() {
        let lines = r#"{"bench":"a.b","case":"x","metric":"p99_ms","value":25.44,"unit":"ms","better":"lower","peer":null,"peer_value":null,"aim":20,"met":false,"commit":"c"}
{"bench":"a.b","case":"longer","metric":"ratio","value":0.5,"unit":"x","better":"higher","peer":"bare","peer_value":1,"aim":0.3,"met":true,"commit":"c"}"#;
        let expect = "\
bench  case    metric  value    aim        met  peer
a.b    x       p99_ms  25.4 ms  ≤ 20.0 ms  NO
a.b    longer  ratio   0.50 x   ≥ 0.30 x   yes  1.00 x (bare)
commit c: 1 aims met, 1 missed";
        assert_eq!(table(lines, "c").unwrap(), expect);
        assert!(table("nonsense", "c").is_err());
    }
}
