//! The small files of a run, and what the shim is told at its start. JSON, each with a version.
//!
//! [`Launch`] travels over the shim's standard input and is never on disk: it holds the program's
//! whole environment, secrets included.

use base::{Bytes, Time};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The version of all records here. A reader refuses a higher one.
pub const VERSION: u32 = 1;

/// File names in a run's directory.
pub mod name {
    /// [`super::Started`].
    pub const STARTED: &str = "started";
    /// [`super::Running`].
    pub const RUNNING: &str = "running";
    /// [`super::Stop`].
    pub const STOP: &str = "stop";
    /// [`super::Exit`].
    pub const EXIT: &str = "exit";
    /// The FIFO that wakes the shim.
    pub const CONTROL: &str = "ctl";
}

/// What to run and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// [`VERSION`].
    pub version: u32,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// The user (and group of the same number) it runs as.
    pub user: Option<u32>,
    /// Where output is spooled.
    pub spool: PathBuf,
    /// The most bytes of output that wait there.
    pub spool_max: Bytes,
    /// The engine's FIFO and the line that wakes it for this replica.
    pub poke: Option<(PathBuf, String)>,
    /// What it may use.
    pub cgroup: Cgroup,
}

/// The files of a cgroup that the shim needs, of either version. Empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// `cgroup.procs` of each controller's directory: the program joins them, and what is listed
    /// in them is killed at the end.
    pub procs: Vec<PathBuf>,
    /// A file with a line `oom_kill <n>` (v1 `memory.oom_control`, v2 `memory.events`).
    pub oom: Option<PathBuf>,
    /// A file with the most memory used so far (v1 `memory.max_usage_in_bytes`, v2 `memory.peak`).
    pub peak: Option<PathBuf>,
}

/// Which shim runs this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// [`VERSION`].
    pub version: u32,
    /// See [`crate::identity::boot_id`].
    pub boot: String,
    /// The shim's pid.
    pub pid: u32,
    /// See [`crate::identity::start_time`].
    pub start: u64,
}

/// The program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// [`VERSION`].
    pub version: u32,
    /// Its pid, which is also its process group and session.
    pub pid: u32,
    /// When it was started.
    pub at: Time,
}

/// The engine asks the program to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// [`VERSION`].
    pub version: u32,
    /// From SIGTERM to SIGKILL. A later request can only shorten it.
    pub grace_ms: u64,
}

/// How the program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// [`VERSION`].
    pub version: u32,
    /// How.
    pub how: How,
    /// Whether the kernel killed something of it for memory.
    pub oom: bool,
    /// Whether it had been asked to stop.
    pub stopped: bool,
    /// When.
    pub at: Time,
    /// The most memory it used; zero where that is not known.
    pub memory_peak: Bytes,
    /// Bytes of its output that could not be spooled.
    pub lost: Bytes,
}

/// The way a program ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// It could not be started, with a sentence for people.
    NotStarted(String),
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Reads a record. `None` where there is no such file.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let head: Head = serde_json::from_slice(&bytes)?;
    if head.version > VERSION {
        let text = format!(
            "`{}` has version {}, newer than {VERSION}",
            path.display(),
            head.version
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Whether a record must be on disk before the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power cut.
    Synced,
    /// It survives every process, but not the machine: enough for what a reboot makes void.
    Cached,
}

/// Replaces a record at once: a reader sees the old one or the new one. Mode 0600.
pub fn write<T: Serialize>(path: &Path, record: &T, durability: Durability) -> io::Result<()> {
    let bytes = serde_json::to_vec(record)?;
    let draft = draft_path(path);
    let mut file = create(&draft)?;
    file.write_all(&bytes)?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    fs::rename(&draft, path)?;
    if durability == Durability::Synced {
        sync_parent(path)?;
    }
    Ok(())
}

/// Makes a record that must not exist yet, complete from its first moment: the file is written
/// aside and linked. An existing one is `AlreadyExists`.
pub fn write_once<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut file = create(&draft)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    linked
}

/// Room for a record that must be writable when the disk is full by then.
pub fn reserve(path: &Path) -> io::Result<File> {
    const RESERVED: u64 = 4 << 10;
    let file = create(&draft_path(path))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVED)?;
    Ok(file)
}

/// Writes a record into what [`reserve`] made, durably.
pub fn write_reserved<T: Serialize>(path: &Path, mut file: &File, record: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(record)?;
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    fs::rename(draft_path(path), path)?;
    sync_parent(path)
}

fn draft_path(path: &Path) -> PathBuf {
    path.with_extension("draft")
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests;
