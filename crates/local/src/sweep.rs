//! Kills what a program left behind when its shim could not.
//!
//! With a cgroup nothing escapes. Without one, what was started keeps the marker in its environment;
//! a process that started a new session *and* wiped its environment is not found.

use crate::ctx::Ctx;
use crate::environment::MARKER;
use crate::limits::Limits;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;

/// How often it is looked whether all are gone.
const TRIES: u32 = 500;

/// Kills every process of the replica with this directory name and waits until none is left.
pub(crate) async fn sweep(ctx: &Ctx, name: &str) {
    for _ in 0..TRIES {
        let pass = ctx.gate.pass().await;
        let pids = members(ctx.config.limits.as_deref(), name);
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
        drop(pass);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::error!(replica = name, "processes cannot be killed");
}

/// The processes of the replica with this directory name.
pub(crate) fn members(limits: Option<&dyn Limits>, name: &str) -> Vec<Pid> {
    match limits {
        Some(limits) => limits
            .files(name)
            .procs
            .iter()
            .flat_map(|procs| listed(procs))
            .collect(),
        None => marked(&format!("{MARKER}={name}")),
    }
}

fn listed(procs: &std::path::Path) -> Vec<Pid> {
    let text = fs::read_to_string(procs).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter_map(Pid::from_raw)
        .collect()
}

/// Processes with this entry in the environment that they were started with.
fn marked(entry: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    let is_marked = |pid: &i32| {
        // Zombies and processes of others read as empty.
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ
            .split(|byte| *byte == 0)
            .any(|variable| variable == entry.as_bytes())
    };
    pids.filter(is_marked).filter_map(Pid::from_raw).collect()
}

/// CPU and memory of a process and all of its session, where no cgroup counts them.
pub(crate) fn session_usage(session: u32) -> (u64, u64) {
    /// Clock ticks a second: a constant of the kernel's interface to programs on every Linux we run on.
    const TICKS: u64 = 100;
    let page = rustix::param::page_size() as u64;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats =
        processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    stats.fold((0, 0), |(cpu, memory), stat| {
        let after = stat
            .rfind(')')
            .and_then(|at| stat.get(at + 2..))
            .unwrap_or_default();
        let fields: Vec<&str> = after.split(' ').collect();
        let number = |n: usize| {
            fields
                .get(n)
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        // Counted from `state` (field 3 in proc(5)): session 6, utime 14, stime 15, rss 24.
        if number(3) != u64::from(session) {
            return (cpu, memory);
        }
        (
            cpu + (number(11) + number(12)) * 1_000 / TICKS,
            memory + number(21) * page,
        )
    })
}
