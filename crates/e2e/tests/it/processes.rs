//! What runs on this machine for an installation: read from `/proc` and the cgroup file systems.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A shim that runs, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    pub(crate) pid: Pid,
    /// `OWNER.GROUP.INDEX.ATTEMPT`, as its directory is called.
    pub(crate) replica: String,
}

impl Shim {
    /// The uid of the Job or App.
    pub(crate) fn owner(&self) -> &str {
        self.replica.split('.').next().unwrap_or_default()
    }
}

/// The installation's shims.
pub(crate) fn shims(data: &Path) -> Vec<Shim> {
    let replicas = data.join("engine/replicas");
    pids()
        .filter_map(|pid| {
            let line = read(pid, "cmdline");
            let mut words = line.split(|byte| *byte == 0);
            let program = String::from_utf8_lossy(words.next()?).into_owned();
            let dir = words
                .map(|word| PathBuf::from(String::from_utf8_lossy(word).into_owned()))
                .find(|word| word.starts_with(&replicas))?;
            let replica = dir.strip_prefix(&replicas).ok()?.iter().next()?;
            program.contains("moonshot-shim").then(|| Shim {
                pid,
                replica: replica.to_string_lossy().into_owned(),
            })
        })
        .collect()
}

/// Owners of replicas that the engine has begun and not seen end.
pub(crate) fn unfinished(data: &Path) -> BTreeSet<String> {
    let replicas = fs::read_dir(data.join("engine/replicas"));
    replicas
        .into_iter()
        .flatten()
        .flatten()
        .filter(|replica| !replica.path().join("ended").exists())
        .filter_map(|replica| {
            let name = replica.file_name().to_string_lossy().into_owned();
            Some(name.split('.').next()?.to_owned())
        })
        .collect()
}

/// Processes that programs of the installation are or have started: they carry its directory in their
/// environment.
pub(crate) fn programs(data: &Path) -> Vec<(Pid, String)> {
    let root = format!("MOONSHOT_ROOT={}/", data.join("engine").display());
    pids()
        .filter_map(|pid| {
            let environment = read(pid, "environ");
            let variables = || environment.split(|byte| *byte == 0);
            let ours = variables().any(|variable| variable.starts_with(root.as_bytes()));
            let name = variables().find(|variable| variable.starts_with(b"MOONSHOT_REPLICA="));
            ours.then(|| {
                (
                    pid,
                    String::from_utf8_lossy(name.unwrap_or_default()).into_owned(),
                )
            })
        })
        .collect()
}

/// The processes whose parent is this one.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    pids()
        .filter(|pid| {
            let stat = read(*pid, "stat");
            let stat = String::from_utf8_lossy(&stat);
            // The name may hold anything; the state and the parent follow it.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            rest.split(' ').nth(2) == Some(parent.as_str())
        })
        .collect()
}

/// Whether the process holds a lock (`flock`) on this file.
pub(crate) fn holds_lock(pid: Pid, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(file) = fs::metadata(path) else {
        return false;
    };
    let pid = pid.as_raw_nonzero().to_string();
    let inode = format!(":{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK  ADVISORY  READ 4711 fe:00:123 0 EOF`; who waits for a lock has `->` before its kind.
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1) == Some(&"FLOCK")
            && words.get(4) == Some(&pid.as_str())
            && words.get(5).is_some_and(|file| file.ends_with(&inode))
    })
}

/// Every process of the installation but the test: server, gateway, shims, programs.
pub(crate) fn kill_all(data: &Path) {
    let text = format!("{}", data.display());
    loop {
        let me = std::process::id();
        let left: Vec<Pid> = pids()
            .filter(|pid| pid.as_raw_nonzero().get().cast_unsigned() != me)
            .filter(|pid| {
                let environment = read(*pid, "environ");
                let line = read(*pid, "cmdline");
                [environment, line]
                    .iter()
                    .any(|bytes| String::from_utf8_lossy(bytes).contains(&text))
            })
            .collect();
        if left.is_empty() {
            return;
        }
        for pid in left {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What the installation's control groups are called (FNV-1a of the engine's root).
pub(crate) fn tag(data: &Path) -> String {
    let root = data.join("engine");
    let hash = root.as_os_str().as_encoded_bytes().iter();
    let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("moonshot-{hash:016x}")
}

/// Control groups whose name contains one of these uids.
pub(crate) fn cgroups(uids: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = open.pop() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        for path in entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
        {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if uids.iter().any(|uid| name.starts_with(uid.as_str())) {
                found.push(path);
            } else if depth < 6 {
                open.push((path, depth + 1));
            }
        }
    }
    found
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Empty for a process that has ended or is a zombie.
fn read(pid: Pid, what: &str) -> Vec<u8> {
    fs::read(format!("/proc/{}/{what}", pid.as_raw_nonzero())).unwrap_or_default()
}
