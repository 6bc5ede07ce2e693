//! Whether every Job ended exactly once: by the marks that its replicas left, and by their output.

use super::work::{Kind, Work};
use e2e::Installation;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) by_end: BTreeMap<String, usize>,
    pub(crate) lines: usize,
    pub(crate) missing: usize,
    pub(crate) doubled: usize,
    pub(crate) cut_replicas: usize,
    pub(crate) attempts: usize,
}

impl Count {
    /// Which of the lines 1 to `last` are not there, and which are there too often.
    fn compare(&mut self, lines: &[u32], last: u32) {
        let distinct: BTreeSet<u32> = lines.iter().copied().collect();
        self.missing += (1..=last).filter(|n| !distinct.contains(n)).count();
        self.doubled += lines.len() - distinct.len();
    }
}

/// Judges one Job that is over. `hurt`: one of its shims was killed, or the machine was "restarted".
pub(crate) fn judge(
    installation: &Installation,
    marks: &Path,
    work: &Work,
    job: &Value,
    hurt: bool,
    count: &mut Count,
) -> Vec<String> {
    let mut faults = Vec::new();
    let status = &job["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    *count
        .by_end
        .entry(format!("{:?} {phase}", work.kind))
        .or_default() += 1;
    let wanted = match work.kind {
        Kind::Single | Kind::Gang | Kind::Array | Kind::Retry | Kind::Suspend | Kind::Urgent => {
            "Succeeded"
        }
        Kind::Oom => "Failed",
        Kind::Cancel => "Cancelled",
    };
    if phase != wanted {
        faults.push(format!("is {phase}, not {wanted}: {}", status["message"]));
    }
    if work.kind == Kind::Oom && status["reason"] != "OutOfMemory" {
        faults.push(format!("failed by {}, not OutOfMemory", status["reason"]));
    }
    let attempts = status["attempts"].as_u64().unwrap_or(0);
    count.attempts += usize::try_from(attempts).unwrap_or(usize::MAX);
    let calm = matches!(
        work.kind,
        Kind::Single | Kind::Gang | Kind::Urgent | Kind::Oom
    );
    if calm && !hurt && attempts > 1 && !was_stopped(installation, work) {
        faults.push(format!(
            "took {attempts} attempts, though nothing of it was killed"
        ));
    }
    let mut last_attempts = BTreeMap::new();
    for replica in 0..work.n_replicas {
        let text = std::fs::read_to_string(marks.join(format!("{}.{replica}", work.name)));
        let text = text.unwrap_or_default();
        let (last, found) = judge_marks(work, &text);
        faults.extend(
            found
                .into_iter()
                .map(|fault| format!("replica {replica}: {fault}: {}", text.replace('\n', ", "))),
        );
        last_attempts.insert(replica, last);
    }
    if wanted == "Succeeded" && faults.is_empty() {
        faults.extend(judge_output(installation, work, &last_attempts, count));
    }
    faults
}

/// The replica's last attempt, and what is wrong with its marks.
fn judge_marks(work: &Work, text: &str) -> (u32, Vec<String>) {
    let mut faults = Vec::new();
    let mut started = BTreeSet::new();
    let mut done = BTreeSet::new();
    for line in text.lines() {
        let (word, attempt) = line.split_once(' ').unwrap_or((line, ""));
        let attempt: u32 = attempt.parse().unwrap_or(0);
        let is_news = match word {
            "start" => {
                let is_later = started.last().is_none_or(|last| *last <= attempt);
                if !is_later {
                    faults.push(format!("attempt {attempt} started after a later one"));
                }
                started.insert(attempt)
            }
            "done" => done.insert(attempt),
            _ => false,
        };
        if !is_news {
            faults.push(format!("`{line}` is one too many"));
        }
    }
    let last = started.last().copied().unwrap_or(0);
    let is_done = done.contains(&last);
    let must_be_done = match work.kind {
        Kind::Single | Kind::Gang | Kind::Array | Kind::Retry | Kind::Suspend | Kind::Urgent => {
            true
        }
        Kind::Oom | Kind::Cancel => false,
    };
    if is_done != must_be_done {
        let not = if is_done { "" } else { "not " };
        faults.push(format!("its last attempt {last} was {not}done"));
    }
    (last, faults)
}

/// Every line of the last attempt is there, once.
fn judge_output(
    installation: &Installation,
    work: &Work,
    last_attempts: &BTreeMap<u32, u32>,
    count: &mut Count,
) -> Vec<String> {
    let name = format!("job/{}", work.name);
    let log = installation.run(&["logs", &name, "--no-prefix"]).ok();
    let mut seen: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with("line ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| {
            words
                .get(at)
                .and_then(|word| word.parse().ok())
                .unwrap_or(u32::MAX)
        };
        seen.entry((number(2), number(3)))
            .or_default()
            .push(number(4));
    }
    let mut faults = Vec::new();
    for (replica, attempt) in last_attempts {
        let lines = seen.remove(&(*replica, *attempt)).unwrap_or_default();
        count.lines += lines.len();
        let all: Vec<u32> = (1..=work.n_lines).collect();
        count.compare(&lines, work.n_lines);
        if lines != all {
            faults.push(format!(
                "replica {replica}, attempt {attempt}: its lines are {lines:?}, not 1 to {}",
                work.n_lines
            ));
        }
    }
    if let Some(((replica, attempt), _)) = seen.first_key_value() {
        faults.push(format!(
            "lines of replica {replica}, attempt {attempt} are shown, which is not its last"
        ));
    }
    faults.extend(judge_cuts(installation, work, last_attempts, count));
    faults
}

/// An attempt whose shim was killed may miss its tail, and says so; nothing else may be missing or doubled.
fn judge_cuts(
    installation: &Installation,
    work: &Work,
    last_attempts: &BTreeMap<u32, u32>,
    count: &mut Count,
) -> Vec<String> {
    let name = format!("job/{}", work.name);
    let most = last_attempts.values().copied().max().unwrap_or(0);
    let mut faults = Vec::new();
    for attempt in 1..most {
        let log = installation
            .run(&[
                "logs",
                &name,
                "--attempt",
                &attempt.to_string(),
                "--no-prefix",
            ])
            .ok();
        let mut numbers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for line in log.lines().filter(|line| line.starts_with("line ")) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| {
                words
                    .get(at)
                    .and_then(|word| word.parse().ok())
                    .unwrap_or(u32::MAX)
            };
            numbers.entry(number(2)).or_default().push(number(4));
        }
        for (replica, lines) in numbers.into_iter().filter(|(replica, _)| {
            last_attempts
                .get(replica)
                .is_some_and(|last| *last > attempt)
        }) {
            count.cut_replicas += 1;
            let prefix: Vec<u32> = (1..=u32::try_from(lines.len()).unwrap_or(0)).collect();
            count.compare(&lines, lines.iter().copied().max().unwrap_or(0));
            if lines != prefix {
                faults.push(format!("replica {replica}, attempt {attempt}: its lines are {lines:?}, which is no beginning of them"));
            }
        }
    }
    faults
}

/// Whether an event tells that the platform itself stopped it: to make room, or for a restart of the machine.
fn was_stopped(installation: &Installation, work: &Work) -> bool {
    let events = installation
        .run(&["events", &format!("job/{}", work.name)])
        .ok();
    ["preempted", "Preempted", "evicted"]
        .iter()
        .any(|word| events.contains(word))
}
