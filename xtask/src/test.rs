//! `cargo xtask test`: every check of the repository, cheapest first, and one line at the end that
//! counts them. Stages go on after a failure, so that one run shows everything that is wrong.

use crate::build::{self, Profile};
use crate::sh::{self, Done, Failure};
use crate::{layering, licences, packages, unused};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tests counted by their runners; a stage that runs no test runner counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

struct Stage {
    name: &'static str,
    what: &'static str,
    run: fn() -> Done<Count>,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "system",
        what: "Debian packages that the tests need",
        run: || packages::install().map(one),
    },
    Stage {
        name: "fmt",
        what: "formatting",
        run: || cargo(&["fmt", "--all", "--check"]).map(one),
    },
    Stage {
        name: "layering",
        what: "edges between crates",
        run: || layering::check().map(one),
    },
    Stage {
        name: "unused",
        what: "dependencies that nothing uses",
        run: || unused::check().map(one),
    },
    Stage {
        name: "licences",
        what: "licences, bans and sources",
        run: || licences::check().map(one),
    },
    Stage {
        name: "clippy",
        what: "lints, warnings denied",
        run: || clippy().map(one),
    },
    Stage {
        name: "console",
        what: "types, lint, unit tests and build of the console",
        run: console,
    },
    Stage {
        name: "unit",
        what: "unit and contract tests of every crate but e2e",
        run: unit,
    },
    Stage {
        name: "doc",
        what: "documentation builds without warnings",
        run: doc,
    },
    Stage {
        name: "e2e",
        what: "the real program, end to end on this machine",
        run: e2e,
    },
];

/// Runs all stages, or only the named ones.
pub(crate) fn run(args: &[String]) -> Done {
    if args.first().is_some_and(|arg| arg == "list") {
        for stage in STAGES {
            sh::say(&format!("{:<10} {}", stage.name, stage.what));
        }
        return Ok(());
    }
    if let Some(unknown) = args
        .iter()
        .find(|arg| STAGES.iter().all(|stage| stage.name != **arg))
    {
        return Err(Failure::new(format!(
            "there is no stage `{unknown}`; `cargo xtask test list` names them"
        )));
    }
    let mut total = Count::default();
    let mut table = Vec::new();
    for stage in STAGES
        .iter()
        .filter(|stage| args.is_empty() || args.iter().any(|arg| arg == stage.name))
    {
        sh::say(&format!("\n== {}: {}", stage.name, stage.what));
        let started = Instant::now();
        let outcome = (stage.run)();
        let took = started.elapsed();
        let count = outcome.unwrap_or_else(|failure| {
            sh::say(&format!("error: {failure}"));
            Count {
                failed: 1,
                ..Count::default()
            }
        });
        total.passed += count.passed;
        total.failed += count.failed;
        total.skipped += count.skipped;
        table.push((stage.name, took, count));
    }
    show(&table);
    sh::say(&format!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    ));
    if total.failed == 0 {
        Ok(())
    } else {
        Err(Failure::new("tests failed; see above"))
    }
}

fn show(table: &[(&str, Duration, Count)]) {
    sh::say("\nstage       seconds  passed  failed  skipped");
    for (name, took, count) in table {
        let seconds = took.as_secs_f64();
        sh::say(&format!(
            "{name:<10} {seconds:>8.1} {:>7} {:>7} {:>8}",
            count.passed, count.failed, count.skipped
        ));
    }
    sh::say("");
}

fn one((): ()) -> Count {
    Count {
        passed: 1,
        ..Count::default()
    }
}

fn cargo(args: &[&str]) -> Done {
    sh::run(&mut sh::command("cargo", args))
}

/// Everything, then what ships once more: there nothing may unwrap.
fn clippy() -> Done {
    let all = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    cargo(&all)?;
    let shipped = [
        "clippy",
        "--workspace",
        "--lib",
        "--bins",
        "--quiet",
        "--",
        "-D",
        "warnings",
        "-D",
        "clippy::unwrap_used",
    ];
    cargo(&shipped)
}

fn unit() -> Done<Count> {
    let shim = build::shim()?;
    let mut command = sh::command(
        "cargo",
        ["test", "--workspace", "--exclude", "e2e", "--no-fail-fast"],
    );
    command.env("MOONSHOT_SHIM", shim);
    counted(&mut command)
}

fn e2e() -> Done<Count> {
    let moonshot = build::moonshot(Profile::Dev)?;
    let mut command = sh::command(
        "cargo",
        [
            "test",
            "--package",
            "e2e",
            "--no-fail-fast",
            "--",
            "--test-threads=2",
        ],
    );
    command.env("MOONSHOT_BIN", moonshot);
    counted(&mut command)
}

fn doc() -> Done<Count> {
    let mut command = sh::command(
        "cargo",
        [
            "doc",
            "--workspace",
            "--no-deps",
            "--quiet",
            "--document-private-items",
        ],
    );
    command.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private_intra_doc_links",
    );
    sh::run(&mut command).map(one)
}

fn console() -> Done<Count> {
    if !build::console()? {
        sh::say("skipped: no console was built");
        return Ok(Count {
            skipped: 1,
            ..Count::default()
        });
    }
    let dir = sh::root().join("console");
    for script in ["check", "test"] {
        sh::run(sh::command("npm", ["run", "--silent", script]).current_dir(&dir))?;
    }
    Ok(one(()))
}

/// Runs `cargo test` with its output shown and adds up the `test result:` lines.
fn counted(command: &mut Command) -> Done<Count> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start cargo: {error}")))?;
    let output = child.stdout.take().expect("its output is piped");
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line =
            line.map_err(|error| Failure::new(format!("cannot read cargo's output: {error}")))?;
        if let Some(result) = line.strip_prefix("test result: ") {
            count.passed += number_before(result, " passed");
            count.failed += number_before(result, " failed");
            count.skipped += number_before(result, " ignored");
        }
        // A test that cannot run here says so in a line of its own.
        if line.starts_with("skipped: ") {
            count.skipped += 1;
        }
        sh::say(&line);
    }
    let status = child
        .wait()
        .map_err(|error| Failure::new(format!("cannot wait for cargo: {error}")))?;
    if !status.success() && count.failed == 0 {
        return Err(Failure::new(format!("cargo test failed: {status}")));
    }
    Ok(count)
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or("");
    before
        .rsplit([' ', '.'])
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::number_before;

    #[test]
    fn results_are_counted() {
        let line =
            "FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(
            [" passed", " failed", " ignored"].map(|word| number_before(line, word)),
            [12, 3, 1]
        );
    }
}
