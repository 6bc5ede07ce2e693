//! What `moonshot down` does when no engine runs any more: ends the programs as an engine would, by their shims,
//! and takes away what held them. The next engine finds how they ended: [`engine::Cause::Evicted`].

use crate::launch;
use crate::layout::{Layout, ReplicaDir};
use crate::limits::{self, Limits};
use crate::prepare::SHARED_MEMORY;
use crate::record::Replica;
use crate::sweep;
use base::Span;
use rustix::process::{Pid, Signal, kill_process};
use shim::identity;
use shim::record::{self, Started, name};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between looks whether a shim is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A shim that does not end this long after the grace is killed.
const LATE: Duration = Duration::from_secs(3);

/// A shim that runs.
struct Running {
    started: Started,
    run_dir: std::path::PathBuf,
    grace: Span,
}

impl Running {
    fn is_alive(&self) -> bool {
        identity::start_time(self.started.pid) == Some(self.started.start)
    }
}

/// Ends every program under the engine's root: SIGTERM, each one's own grace but at most `grace_max`, then
/// SIGKILL, also of what it had started. Returns how many there were. Nothing of them is left afterwards but
/// their files, which the next engine reads.
pub fn stop_programs(root: &Path, grace_max: Span) -> usize {
    let layout = Layout::new(root.to_owned());
    let limits = limits::kept(root);
    let dirs: Vec<ReplicaDir> = replica_dirs(&layout);
    let running: Vec<Running> = dirs
        .iter()
        .filter_map(|dir| running(dir, grace_max))
        .collect();
    for run in &running {
        if let Err(error) = launch::stop(&run.run_dir, run.grace.as_ms()) {
            tracing::warn!(run = %run.run_dir.display(), %error, "a shim cannot be told to stop; it will be killed");
        }
    }
    let longest = running
        .iter()
        .map(|run| run.grace)
        .max()
        .unwrap_or_default();
    let deadline = Instant::now() + longest.as_std() + LATE;
    while running.iter().any(Running::is_alive) && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
    for run in running.iter().filter(|run| run.is_alive()) {
        let pid = i32::try_from(run.started.pid).ok().and_then(Pid::from_raw);
        // It may have ended just now.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
    }
    for dir in &dirs {
        let name = dir.path().file_name().unwrap_or_default().to_string_lossy();
        kill_rest(limits.as_deref(), &name);
    }
    tidy(&layout, limits.as_deref());
    running.len()
}

fn replica_dirs(layout: &Layout) -> Vec<ReplicaDir> {
    let entries = fs::read_dir(layout.replicas())
        .into_iter()
        .flatten()
        .flatten();
    entries.map(|entry| ReplicaDir::at(entry.path())).collect()
}

fn running(dir: &ReplicaDir, grace_max: Span) -> Option<Running> {
    let run_dir = dir.run(dir.last_run().ok().flatten()?);
    if run_dir.join(name::EXIT).exists() {
        return None;
    }
    let started = record::read::<Started>(&run_dir.join(name::STARTED))
        .ok()
        .flatten()?;
    let replica = record::read::<Replica>(&dir.record()).ok().flatten();
    let grace = replica.map_or(grace_max, |replica| replica.template().grace.min(grace_max));
    let running = Running {
        started,
        run_dir,
        grace,
    };
    running.is_alive().then_some(running)
}

/// What a killed shim has left.
fn kill_rest(limits: Option<&dyn Limits>, name: &str) {
    let deadline = Instant::now() + LATE;
    loop {
        let members = sweep::members(limits, name);
        if members.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in members {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Control groups and secrets of programs that have ended.
fn tidy(layout: &Layout, limits: Option<&dyn Limits>) {
    if let Some(limits) = limits {
        let deadline = Instant::now() + LATE;
        // The kernel lets go of a group a moment after its last process has died.
        while !limits.names().is_empty() && Instant::now() < deadline {
            for name in limits.names() {
                let _ = limits.remove(&name);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        limits.close();
    }
    match fs::remove_dir_all(Path::new(SHARED_MEMORY).join(layout.tag())) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "secrets cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}
