//! Background processes of a cluster: started detached, each with its log and a file that names it by process id and start
//! time, so that a reused id is never killed.

use super::layout::{Layout, failed};
use crate::sh::{Done, Failure};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Clock ticks in a second, as Linux reports them to programs.
const TICKS: f64 = 100.0;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A process as it was started.
pub(super) struct Process {
    pub(super) pid: u32,
    /// Field 22 of `/proc/PID/stat`.
    started: u64,
}

impl Process {
    fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|fields| fields.get(19) == Some(&self.started))
    }

    /// Memory in MiB and processor seconds, while it lives.
    pub(super) fn usage(&self) -> Option<(u64, f64)> {
        let fields = stat(self.pid).filter(|fields| fields.get(19) == Some(&self.started))?;
        let pages = *fields.get(21)?;
        let ticks = fields.get(11)? + fields.get(12)?;
        Some((pages * 4 / 1024, ticks as f64 / TICKS))
    }
}

/// The numbers of `/proc/PID/stat` after the name, from field 3 on (a letter counts as 0).
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let fields = fields.split_whitespace();
    let is_zombie = fields.clone().next() == Some("Z");
    (!is_zombie).then(|| fields.map(|field| field.parse().unwrap_or(0)).collect())
}

/// Starts a program in a session of its own.
pub(super) fn start(layout: &Layout, name: &str, command: &mut Command) -> Done {
    let path = layout.dir.join("log").join(format!("{name}.log"));
    let log = File::create(&path).map_err(|error| failed(&path, &error))?;
    let errors = log.try_clone().map_err(|error| failed(&path, &error))?;
    let child = command
        .current_dir(&layout.dir)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start {name}: {error}")))?;
    let started = stat(child.id()).and_then(|fields| fields.get(19).copied());
    let started = started
        .ok_or_else(|| Failure::new(format!("{name} ended at once; see {}", path.display())))?;
    let pid = layout.dir.join("pids").join(name);
    fs::write(&pid, format!("{} {started}\n", child.id())).map_err(|error| failed(&pid, &error))
}

/// Those that were started, by name.
pub(super) fn all(layout: &Layout) -> Vec<(String, Process)> {
    let entries = fs::read_dir(layout.dir.join("pids"));
    let mut all: Vec<(String, Process)> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let (pid, started) = text.trim().split_once(' ')?;
            let process = Process {
                pid: pid.parse().ok()?,
                started: started.parse().ok()?,
            };
            Some((entry.file_name().to_string_lossy().into_owned(), process))
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// Kills all of them and waits until they are gone.
pub(super) fn end_all(layout: &Layout) {
    let all = all(layout);
    for (_, process) in all.iter().filter(|(_, process)| process.is_alive()) {
        kill(process.pid);
    }
    let until = Instant::now() + Duration::from_secs(10);
    while all.iter().any(|(_, process)| process.is_alive()) && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
}

/// SIGKILL to one process.
pub(super) fn kill(pid: u32) {
    // It may have ended meanwhile: then there is nothing left to do.
    let _ = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Waits until it is so; names what was waited for when it never is.
pub(super) fn await_that(
    layout: &Layout,
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Done {
    let until = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > until {
            return Err(Failure::new(format!(
                "{what}: not within {} s; see {}",
                patience.as_secs(),
                layout.path("log")
            )));
        }
        if let Some((name, _)) = all(layout).iter().find(|(_, process)| !process.is_alive()) {
            return Err(Failure::new(format!(
                "{name} has ended; see {}",
                layout.path(&format!("log/{name}.log"))
            )));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
