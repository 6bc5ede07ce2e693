//! Ends a cluster and removes everything that it made, also after a failed or killed start. Abrupt: nothing is kept.

use super::layout::{Layout, failed};
use super::{network, process, traces};
use crate::sh::{self, Done};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// For pods' processes and mounts to go.
const PATIENCE: Duration = Duration::from_secs(15);
/// Ends it.
pub(super) fn stop(layout: &Layout) -> Done {
    process::end_all(layout);
    if layout.with_node {
        end_pods(layout);
        network::remove(layout);
        traces::remove(layout);
    }
    fs::remove_dir_all(&layout.dir).map_err(|error| failed(&layout.dir, &error))?;
    sh::say("the cluster is gone");
    Ok(())
}

/// The shims of our containerd, every process in a pod, their mounts and control groups.
fn end_pods(layout: &Layout) {
    let socket = layout.path("containerd.sock");
    let until = Instant::now() + PATIENCE;
    loop {
        for pid in shims(&socket).into_iter().chain(pod_processes()) {
            process::kill(pid);
        }
        for mount in mounts(&layout.dir) {
            // Busy ones go when their last user has.
            let _ = Command::new("umount").arg("-l").arg(&mount).status();
        }
        for group in control_groups() {
            remove_tree(&group);
        }
        let is_clean = control_groups().is_empty()
            && mounts(&layout.dir).is_empty()
            && shims(&socket).is_empty();
        if is_clean {
            return;
        }
        if Instant::now() > until {
            sh::say("something of the node is still there after its processes were killed");
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn shims(socket: &str) -> Vec<u32> {
    let is_shim = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        words.contains("containerd-shim-runc-v2") && words.contains(socket)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(is_shim)
        .collect()
}

/// `kubepods` in every hierarchy of cgroup v1, or in the one of v2.
fn control_groups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut groups: Vec<PathBuf> = entries.map(|entry| entry.path().join("kubepods")).collect();
    groups.push(root.join("kubepods"));
    groups.retain(|group| group.is_dir());
    groups
}

fn pod_processes() -> Vec<u32> {
    fn collect(group: &Path, pids: &mut Vec<u32>) {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                collect(&entry.path(), pids);
            }
        }
    }
    let mut pids = Vec::new();
    for group in control_groups() {
        collect(&group, &mut pids);
    }
    pids
}

/// Removes control groups from the leaves up; those that are still used stay.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    // Refused while a process is in it: tried again.
    let _ = fs::remove_dir(group);
}

/// Mounts below a directory, the deepest first.
fn mounts(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(dir))
        .collect();
    mounts.sort();
    mounts.reverse();
    mounts
}
