//! Files by which the processes of one installation find one another, all under the data directory:
//! `run/<role>.pid` is locked while the role runs, so a stale number is never mistaken for a process. Its first line is
//! the process id, its second the address where a server answers.

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(50);

/// How long a role's lock is tried for.
const PATIENCE: Duration = Duration::from_millis(200);
/// Servers of one installation at most.
const SERVERS_MAX: u32 = 8;

/// The names under which servers of one installation run. More than the first need a database that is shared.
pub(crate) fn server_roles() -> impl Iterator<Item = String> {
    (1..=SERVERS_MAX).map(|n| match n {
        1 => "server".to_owned(),
        n => format!("server-{n}"),
    })
}

/// A role's lock, held until the process ends.
#[derive(Debug)]
pub(crate) struct RoleLock {
    _file: File,
}

fn path(data: &Path, role: &str) -> PathBuf {
    data.join("run").join(format!("{role}.pid"))
}

/// Takes a role's lock and writes the process id and the address; `None` when another process has it.
pub(crate) fn take(data: &Path, role: &str, address: &str) -> io::Result<Option<RoleLock>> {
    let path = path(data, role);
    std::fs::create_dir_all(path.parent().expect("a pid file lies in `run`"))?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)?;
    // Whoever only looks holds it for a moment.
    let is_ours = || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if !wait_until(PATIENCE, is_ours) {
        return Ok(None);
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}\n{address}", std::process::id())?;
    file.flush()?;
    Ok(Some(RoleLock { _file: file }))
}

/// The process that has a role, if one does.
pub(crate) fn holder(data: &Path, role: &str) -> Option<Pid> {
    Pid::from_raw(held(data, role)?.lines().next()?.trim().parse().ok()?)
}

/// Where the servers that run answer.
pub(crate) fn server_addresses(data: &Path) -> Vec<String> {
    server_roles()
        .filter_map(|role| held(data, &role)?.lines().nth(1).map(str::to_owned))
        .collect()
}

/// The text of a role's file, while a process has the role.
fn held(data: &Path, role: &str) -> Option<String> {
    let mut file = File::open(path(data, role)).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Asks the holder of a role to end and waits. `false` when it had to be killed.
pub(crate) fn stop(data: &Path, role: &str, patience: Duration) -> io::Result<Option<bool>> {
    let Some(pid) = holder(data, role) else {
        return Ok(None);
    };
    kill_process(pid, Signal::TERM)?;
    if wait_until(patience, || holder(data, role).is_none()) {
        return Ok(Some(true));
    }
    kill_process(pid, Signal::KILL)?;
    wait_until(patience, || holder(data, role).is_none());
    Ok(Some(false))
}

/// Waits until something holds; `false` when it did not in time.
pub(crate) fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_holder_and_a_stale_file_has_none() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(holder(data.path(), "server"), None);
        let lock = take(data.path(), "server", "127.0.0.1:7070").unwrap();
        let lock = lock.unwrap();
        assert!(take(data.path(), "server", "").unwrap().is_none());
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap());
        assert_eq!(holder(data.path(), "server"), own);
        assert_eq!(server_addresses(data.path()), ["127.0.0.1:7070"]);
        drop(lock);
        assert_eq!(holder(data.path(), "server"), None);
        assert_eq!(server_addresses(data.path()), [""; 0]);
        assert!(take(data.path(), "server", "").unwrap().is_some());
    }
}
