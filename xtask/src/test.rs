//! `cargo xtask test`: every check of the repository, cheapest first, and one line at the end that
//! counts them. Stages go on after a failure, so that one run shows everything that is wrong.

use crate::compile::{self, TestProgram};
use crate::sh::{self, Done, Failure};
use crate::{build, deploy, docs, layering, licences, packages, unused};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tests counted by their runners; a stage that runs no test runner counts as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What failing tests printed, told once more at the end, where it is found.
    complaints: Vec<String>,
    /// Tests that failed and then passed alone, counted as passed.
    unsteady: Vec<String>,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.complaints.extend(other.complaints);
        self.unsteady.extend(other.unsteady);
    }

    /// A stage or a program that could not even count.
    fn of_failure(failure: &Failure) -> Count {
        sh::say(&format!("error: {failure}"));
        Count {
            failed: 1,
            complaints: vec![format!("error: {failure}")],
            ..Count::default()
        }
    }
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
        name: "links",
        what: "links of the documents",
        run: || docs::check().map(one),
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
        what: "unit and contract tests of every crate but e2e and bench",
        run: unit,
    },
    Stage {
        name: "doc",
        what: "documentation builds without warnings",
        run: doc,
    },
    Stage {
        name: "e2e",
        what: "the real program, end to end on this machine; each bench at its smallest",
        run: e2e,
    },
    Stage {
        name: "deploy",
        what: "the chart, rendered by Helm",
        run: || {
            let passed = deploy::check()?;
            Ok(Count {
                passed,
                ..Count::default()
            })
        },
    },
    Stage {
        name: "cluster",
        what: "the engine on a real Kubernetes, started here",
        run: cluster,
    },
    Stage {
        name: "browser",
        what: "the console in Chromium against the real program",
        run: browser,
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
        let count = outcome.unwrap_or_else(|failure| Count::of_failure(&failure));
        total.add(count.clone());
        table.push((stage.name, took, count));
    }
    for complaint in &total.complaints {
        sh::say(&format!("\n== failed\n{complaint}"));
    }
    show(&table);
    for name in &total.unsteady {
        sh::say(&format!(
            "unsteady: {name} failed once and then passed alone; mend it"
        ));
    }
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

/// Crates whose tests need the real program.
const END_TO_END: &[&str] = &["bench", "e2e"];
/// Targets of tests that need a real Kubernetes.
const ON_CLUSTER: &str = "cluster";

fn unit() -> Done<Count> {
    let compiled = compile::tests()?;
    let is_unit = |test: &&TestProgram| {
        !END_TO_END.contains(&test.package.as_str()) && test.target != ON_CLUSTER
    };
    let tests = compiled.tests.iter().filter(is_unit);
    // Some start a process of the real program.
    let variables = [
        ("MOONSHOT_SHIM", compiled.shim.as_path()),
        ("MOONSHOT_BIN", compiled.moonshot.as_path()),
    ];
    each(tests, &[], &variables)
}

fn e2e() -> Done<Count> {
    let compiled = compile::tests()?;
    let is_e2e = |test: &&TestProgram| {
        END_TO_END.contains(&test.package.as_str()) && test.target != ON_CLUSTER
    };
    let tests = compiled.tests.iter().filter(is_e2e);
    let variables = [("MOONSHOT_BIN", compiled.moonshot.as_path())];
    each(tests, &["--test-threads=2"], &variables)
}

/// Runs the programs one after the other, also after a failure.
fn each<'a>(
    tests: impl Iterator<Item = &'a TestProgram>,
    args: &[&str],
    variables: &[(&str, &Path)],
) -> Done<Count> {
    let mut total = Count::default();
    for test in tests {
        sh::say(&format!("\n-- {}: {}", test.package, test.target));
        let mut command = test.command(args);
        command.envs(variables.iter().copied());
        let outcome = counted(&mut command).and_then(|(count, failed)| {
            if failed.is_empty() || failed.len() > UNSTEADY_MAX {
                return Ok(count);
            }
            again(test, count, &failed, variables)
        });
        match outcome {
            Ok(count) => total.add(count),
            Err(failure) => total.add(Count::of_failure(&failure)),
        }
    }
    Ok(total)
}

/// Where more than this fail at once, the program is wrong and not the moment.
const UNSTEADY_MAX: usize = 3;

/// Runs failed tests once more, alone. These tests start servers, clusters and databases on a machine that may be
/// busy; one that passes alone does not fail the run, but is named at its end together with what it printed.
fn again(
    test: &TestProgram,
    mut count: Count,
    failed: &[String],
    variables: &[(&str, &Path)],
) -> Done<Count> {
    sh::say(&format!(
        "\n-- {}: {}: once more: {}",
        test.package,
        test.target,
        failed.join(", ")
    ));
    let mut command = test.command(&["--exact", "--test-threads=1"]);
    command.args(failed).envs(variables.iter().copied());
    let (second, failed_again) = counted(&mut command)?;
    let passed: Vec<&String> = failed
        .iter()
        .filter(|name| !failed_again.contains(name))
        .collect();
    // A program that ran none of them has shown nothing.
    if second.passed != passed.len() as u64 {
        return Ok(count);
    }
    count.passed += second.passed;
    count.failed -= second.passed;
    count.complaints.extend(second.complaints);
    let named = |name: &String| format!("{}: {name}", test.package);
    count.unsteady.extend(passed.into_iter().map(named));
    Ok(count)
}

/// Needs root for its node; the first run builds Kubernetes.
fn cluster() -> Done<Count> {
    if !sh::is_root() {
        sh::say("skipped: a node of a Kubernetes needs root");
        return Ok(Count {
            skipped: 1,
            ..Count::default()
        });
    }
    let compiled = compile::tests()?;
    crate::cluster::with_node(&compiled.moonshot, |kubeconfig, kubectl| {
        let tests = compiled.tests.iter();
        let tests = tests.filter(|test| test.target == ON_CLUSTER);
        let variables = [
            ("KUBECONFIG", kubeconfig),
            ("KUBECTL", kubectl),
            ("MOONSHOT_BIN", compiled.moonshot.as_path()),
        ];
        each(tests, &["--test-threads=1"], &variables)
    })
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
    sh::run(sh::command("npm", ["run", "--silent", "check"]).current_dir(&dir))?;
    vitest("test", &[])
}

/// Chromium drives the console of the real program. Pictures of every page are kept in the target directory.
fn browser() -> Done<Count> {
    let moonshot = &compile::tests()?.moonshot;
    if !build::console()? {
        sh::say("skipped: no console was built");
        return Ok(Count {
            skipped: 1,
            ..Count::default()
        });
    }
    let pictures = build::target_dir().join("screenshots");
    let count = vitest(
        "e2e",
        &[
            ("MOONSHOT_BIN", moonshot),
            ("MOONSHOT_SCREENSHOTS", &pictures),
        ],
    );
    sh::say(&format!("pictures of the pages: {}", pictures.display()));
    count
}

/// Runs one of the console's scripts that are tests.
fn vitest(script: &str, variables: &[(&str, &Path)]) -> Done<Count> {
    let mut command = sh::command("npm", ["run", "--silent", script]);
    command
        .current_dir(sh::root().join("console"))
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied());
    counted(&mut command).map(|(count, _)| count)
}

/// Runs a test program or vitest with its output shown, and adds up the lines with results; the names of failed Rust
/// tests.
fn counted(command: &mut Command) -> Done<(Count, Vec<String>)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start the tests: {error}")))?;
    let output = child.stdout.take().expect("its output is piped");
    let mut count = Count::default();
    let mut complaint: Vec<String> = Vec::new();
    let mut failed: Vec<String> = Vec::new();
    for line in BufReader::new(output).lines() {
        let line =
            line.map_err(|error| Failure::new(format!("cannot read the tests' output: {error}")))?;
        // Both runners gather what failing tests printed under a heading of their own.
        if !complaint.is_empty() || line == "failures:" || line.contains("Failed Tests") {
            complaint.push(line.clone());
        }
        let of_vitest = line.trim_start().strip_prefix("Tests  ");
        if let Some(result) = line.strip_prefix("test result: ").or(of_vitest) {
            count.passed += number_before(result, " passed");
            count.failed += number_before(result, " failed");
            count.skipped += number_before(result, " ignored");
            count.skipped += number_before(result, " skipped");
        }
        let name = line.strip_prefix("test ");
        if let Some(name) = name.and_then(|line| line.strip_suffix(" ... FAILED")) {
            failed.push(name.to_owned());
        }
        // A test that cannot run here says so in a line of its own.
        if line.starts_with("skipped: ") {
            count.skipped += 1;
        }
        sh::say(&line);
    }
    let status = child
        .wait()
        .map_err(|error| Failure::new(format!("cannot wait for the tests: {error}")))?;
    if !status.success() && count.failed == 0 {
        return Err(Failure::new(format!("the tests failed: {status}")));
    }
    if !complaint.is_empty() {
        count.complaints.push(last_lines(&complaint));
    }
    Ok((count, failed))
}

/// The end of a long complaint, which is where tests say what is wrong.
fn last_lines(lines: &[String]) -> String {
    const MOST: usize = 80;
    lines[lines.len().saturating_sub(MOST)..].join("\n")
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
        let line = "2 failed | 17 passed | 1 skipped (20)";
        assert_eq!(
            [" passed", " failed", " skipped", " ignored"].map(|word| number_before(line, word)),
            [17, 2, 1, 0]
        );
    }
}
