//! Output that outlives replicas. Each replica's attempt has one append-only file of checked records; frames are
//! numbered from 1 and kept once, however often they are sent.
//!
//! What it does not do: search (later, on the same files).

mod record;

pub use record::{Frame, Stream};

use base::{Attempt, Code, Index, Seq, Uid};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Files held open for appending; the one used longest ago is closed.
const OPEN_MAX: usize = 256;
/// Bytes that one read returns at most.
const READ_MAX: usize = 4 << 20;

/// Names a replica's attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaLog {
    /// The Job or App.
    pub owner: Uid,
    /// The group.
    pub group: String,
    /// The member.
    pub index: Index,
    /// Its try.
    pub attempt: Attempt,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A project or group name that cannot be a file name.
    #[error("`{0}` cannot name a log")]
    Name(String),
    /// The disk refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl LogError {
    /// The kind, for clients.
    pub fn code(&self) -> Code {
        match self {
            LogError::Name(_) => Code::Invalid,
            LogError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Code::Exhausted
            }
            LogError::Io { .. } => Code::Unavailable,
        }
    }
}

/// All logs under one directory. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    root: PathBuf,
    open: Arc<Mutex<HashMap<PathBuf, Writer>>>,
    changed: Arc<watch::Sender<u64>>,
}

struct Writer {
    file: File,
    last: Seq,
    end: u64,
    used: u64,
}

/// Where a reader stands in one replica's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(u64);

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> LogError + use<> {
    let path = path.to_owned();
    move |source| LogError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

impl Logs {
    /// Logs under this directory, which is made if it is missing.
    pub fn open(root: PathBuf) -> Result<Logs, LogError> {
        std::fs::create_dir_all(&root).map_err(failed("make", &root))?;
        Ok(Logs {
            root,
            open: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
        })
    }

    /// Keeps frames; the highest number kept. Frames already kept are ignored. What is returned survives a crash of
    /// this process; a power failure may take the last moments, which the sender's own copy covers until then.
    pub fn append(
        &self,
        project: &str,
        log: &ReplicaLog,
        frames: &[Frame],
    ) -> Result<Seq, LogError> {
        let path = self.path(project, log)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = open.values().map(|writer| writer.used).max().unwrap_or(0) + 1;
        if !open.contains_key(&path) {
            if open.len() >= OPEN_MAX
                && let Some(oldest) = open
                    .iter()
                    .min_by_key(|(_, writer)| writer.used)
                    .map(|(path, _)| path.clone())
            {
                open.remove(&oldest);
            }
            open.insert(path.clone(), Writer::open(&path)?);
        }
        let writer = open.get_mut(&path).expect("it was just inserted");
        writer.used = clock;
        let mut bytes = Vec::new();
        let mut last = writer.last;
        for frame in frames.iter().filter(|frame| frame.seq > writer.last) {
            if frame.seq <= last {
                continue;
            }
            record::write(frame, &mut bytes);
            last = frame.seq;
        }
        if !bytes.is_empty() {
            if let Err(error) = writer.file.write_all(&bytes) {
                // Nothing half written stays: the next append begins where this one began.
                let _ = writer.file.set_len(writer.end);
                let _ = writer.file.seek(SeekFrom::Start(writer.end));
                return Err(failed("append to", &path)(error));
            }
            writer.end += bytes.len() as u64;
            writer.last = last;
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(last)
    }

    /// Every replica's log of an owner.
    pub fn replicas(&self, project: &str, owner: Uid) -> Result<Vec<ReplicaLog>, LogError> {
        let dir = self.root.join(checked(project)?).join(owner.to_string());
        let Ok(entries) = std::fs::read_dir(&dir) else {
            return Ok(Vec::new());
        };
        let mut logs: Vec<ReplicaLog> = entries
            .flatten()
            .filter_map(|entry| parse_name(owner, entry.file_name().to_str()?))
            .collect();
        logs.sort();
        Ok(logs)
    }

    /// Frames from a position on, at most a few MiB, and where to go on.
    pub fn read(
        &self,
        project: &str,
        log: &ReplicaLog,
        from: Position,
    ) -> Result<(Vec<Frame>, Position), LogError> {
        let path = self.path(project, log)?;
        let Ok(mut file) = File::open(&path) else {
            return Ok((Vec::new(), from));
        };
        file.seek(SeekFrom::Start(from.0))
            .map_err(failed("read", &path))?;
        let mut bytes = Vec::new();
        file.take(READ_MAX as u64)
            .read_to_end(&mut bytes)
            .map_err(failed("read", &path))?;
        let (frames, used) = record::read_all(&bytes);
        Ok((frames, Position(from.0 + used as u64)))
    }

    /// Changes whenever something was appended.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Drops logs that were not written for `kept`; how many.
    pub fn forget(&self, kept: Duration) -> Result<usize, LogError> {
        let mut dropped = 0;
        let owners = dirs(&self.root)
            .into_iter()
            .flat_map(|project| dirs(&project));
        for owner in owners {
            for log in std::fs::read_dir(&owner).into_iter().flatten().flatten() {
                let age = log
                    .metadata()
                    .and_then(|meta| meta.modified())
                    .ok()
                    .and_then(|at| at.elapsed().ok());
                if age.is_some_and(|age| age > kept) {
                    self.open
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&log.path());
                    std::fs::remove_file(log.path()).map_err(failed("drop", &log.path()))?;
                    dropped += 1;
                }
            }
            // Only an empty directory goes.
            let _ = std::fs::remove_dir(&owner);
        }
        Ok(dropped)
    }

    fn path(&self, project: &str, log: &ReplicaLog) -> Result<PathBuf, LogError> {
        let name = format!("{}.{}.{}.log", checked(&log.group)?, log.index, log.attempt);
        Ok(self
            .root
            .join(checked(project)?)
            .join(log.owner.to_string())
            .join(name))
    }
}

impl Writer {
    /// Opens a log and finds its last whole record; a torn one from a crash is cut off.
    fn open(path: &Path) -> Result<Writer, LogError> {
        let dir = path.parent().expect("a log lies in a directory");
        std::fs::create_dir_all(dir).map_err(failed("make", dir))?;
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read", path))?;
        let (frames, used) = record::read_all(&bytes);
        file.set_len(used as u64).map_err(failed("cut", path))?;
        file.seek(SeekFrom::Start(used as u64))
            .map_err(failed("open", path))?;
        let last = frames.last().map_or(Seq(0), |frame| frame.seq);
        Ok(Writer {
            file,
            last,
            end: used as u64,
            used: 0,
        })
    }
}

fn dirs(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn checked(name: &str) -> Result<&str, LogError> {
    match base::name::check(name) {
        Ok(()) => Ok(name),
        Err(_) => Err(LogError::Name(name.chars().take(80).collect())),
    }
}

fn parse_name(owner: Uid, name: &str) -> Option<ReplicaLog> {
    let mut parts = name.strip_suffix(".log")?.split('.');
    let (group, index, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ReplicaLog {
        owner,
        group: group.to_owned(),
        index: index.parse().ok()?,
        attempt: attempt.parse().ok()?,
    })
}

#[cfg(test)]
mod tests;
