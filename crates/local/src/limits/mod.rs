//! What holds a replica to its CPU and memory, and what it uses of them: cgroups of either version.

use crate::layout::Layout;
use base::{Bytes, Resources};
use engine::Usage;
use shim::record::Cgroup;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod v1;
mod v2;

pub use v1::V1;
pub use v2::V2;

/// The kernel's scheduling period, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// Thousandths of a processor by whose share a replica is weighed that has no bound.
const CPU_SHARE: u64 = 100;
/// The least quota the kernel accepts.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// How often an emptied group is tried to be removed: the kernel lets go of it a moment after its last
/// process has died.
const REMOVE_TRIES: u32 = 500;

/// One group a replica, by name. Every call may be repeated.
pub trait Limits: Send + Sync {
    /// Whether what holds the groups exists.
    fn is_there(&self) -> bool;
    /// Makes what holds the groups.
    fn open(&self) -> io::Result<()>;
    /// Makes the group and sets its limits; zero means none.
    fn create(&self, name: &str, want: &Resources) -> io::Result<Cgroup>;
    /// The files of a group that was made.
    fn files(&self, name: &str) -> Cgroup;
    /// What it uses.
    fn usage(&self, name: &str) -> Usage;
    /// Removes an empty group, once.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The groups that exist.
    fn names(&self) -> Vec<String>;
    /// Removes what holds the groups, when there are none left.
    fn close(&self);
}

/// What the engine with this root may use here: cgroup v1 or v2, or a sentence why there are no limits.
///
/// Groups lie below the group of the process that made the first one. A later server may be in another group (a
/// login session, then a service), so the first one's place is written down and used as long as groups are there.
pub fn detect(root: &Path) -> Result<Arc<dyn Limits>, String> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| format!("no cgroup limits: `{path}`: {error}"))
    };
    let (mounts, own) = (read("/proc/self/mounts")?, read("/proc/self/cgroup")?);
    let layout = Layout::new(root.to_owned());
    if let Some(limits) = kept(root).filter(|limits| limits.open().is_ok()) {
        return Ok(limits);
    }
    let limits = find(&mounts, &own, &layout.tag()).ok_or(
        "no cgroup limits: no cgroup file system with cpu and memory is mounted".to_owned(),
    )?;
    limits.open().map_err(|error| weak(&error))?;
    if let Err(error) = fs::write(layout.cgroup(), own) {
        tracing::warn!(%error, "where the control groups are cannot be written down");
    }
    Ok(limits)
}

/// The limits that an engine with this root has used, if it had any.
pub(crate) fn kept(root: &Path) -> Option<Arc<dyn Limits>> {
    let layout = Layout::new(root.to_owned());
    let own = fs::read_to_string(layout.cgroup()).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    find(&mounts, &own, &layout.tag()).filter(|limits| limits.is_there())
}

/// Which version has the controllers decides: both may be mounted.
fn find(mounts: &str, own: &str, tag: &str) -> Option<Arc<dyn Limits>> {
    if let Some(v1) = V1::find(mounts, own, tag) {
        return Some(Arc::new(v1));
    }
    V2::find(mounts, own, tag).map(|v2| Arc::new(v2) as Arc<dyn Limits>)
}

fn weak(error: &io::Error) -> String {
    let who = if rustix::process::geteuid().is_root() {
        ""
    } else {
        " (not root, and nothing is delegated)"
    };
    format!("no cgroup limits{who}: {error}")
}

/// Removes a group, waiting a moment for the kernel. Missing is as good.
pub(crate) async fn remove_patiently(limits: &dyn Limits, name: &str) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match limits.remove(name) {
            Err(error)
                if tries < REMOVE_TRIES
                    && error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) =>
            {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            done => return done,
        }
    }
}

/// The part of what is idle: 1,024 for a processor, and as a tenth of one where nothing is said.
fn shares(want: &Resources) -> u64 {
    let cpu = if want.cpu.0 == 0 {
        CPU_SHARE
    } else {
        want.cpu.0
    };
    (cpu * 1_024 / 1_000).clamp(2, 262_144)
}

/// The same for version 2, as Kubernetes converts it.
fn weight(want: &Resources) -> u64 {
    1 + (shares(want) - 2) * 9_999 / 262_142
}

fn quota_us(want: &Resources) -> u64 {
    (want.cpu.0 * CPU_PERIOD_US / 1_000).max(CPU_QUOTA_US_MIN)
}

fn set(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = dir.join(file);
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
}

fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", dir.display())))
}

fn number(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn bytes(path: &Path) -> Bytes {
    Bytes(number(path))
}

/// A value by its key in a file of `key value` lines.
fn keyed(path: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

fn children(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `rmdir`, where missing is as good.
fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where a hierarchy is mounted, of lines as in `/proc/self/mounts`.
fn mounted(mounts: &str, fstype: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = kind == fstype
            && option.is_none_or(|option| options.split(',').any(|have| have == option));
        fits.then(|| PathBuf::from(path))
    })
}

/// This process's own group in a hierarchy, of lines as in `/proc/self/cgroup`.
fn own_group<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers
            .split(',')
            .any(|have| have == controller)
            .then(|| path.trim_start_matches('/'))
    })
}

#[cfg(test)]
mod tests;
