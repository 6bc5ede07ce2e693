//! All logs: which file is written, which are read, which go.

use crate::gaps::Kept;
use crate::name::{LogError, ReplicaLog, checked, failed, file_name, parse};
use crate::record::{self, FRAME_BYTES_MAX, Frame};
use crate::segment::{self, Segment};
use base::{Seq, Time, Uid};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Files held open for appending; the one used longest ago is closed.
pub(crate) const OPEN_MAX: usize = 256;
const HOUR_MS: i64 = 3_600_000;
/// By so much the clock that named an owner may be ahead of the one that keeps its output.
const CLOCKS_DIFFER_HOURS: u32 = 24;

/// The time that decides into which hour output goes.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// All logs under one directory. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    root: PathBuf,
    clock: Clock,
    open: Arc<Mutex<HashMap<(String, ReplicaLog), Writer>>>,
    changed: Arc<watch::Sender<u64>>,
    stats: Arc<Counters>,
}

struct Writer {
    hour: u32,
    segment: Segment,
    kept: Kept,
    used: u64,
}

#[derive(Default)]
struct Counters {
    kept_bytes: AtomicU64,
    refused: AtomicU64,
    missing: AtomicU64,
    late: AtomicU64,
    damaged_bytes: AtomicU64,
}

/// What happened since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of output kept.
    pub kept_bytes: u64,
    /// Calls refused because the disk was full.
    pub refused: u64,
    /// Frames that senders left out.
    pub missing: u64,
    /// Of these, frames that came later.
    pub late: u64,
    /// Damaged bytes that readers met, each time they met them.
    pub damaged_bytes: u64,
}

/// Where a reader stands in one replica's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    hour: u32,
    at: u64,
}

impl Logs {
    /// Logs under this directory, which is made if it is missing, by the machine's clock.
    pub fn open(root: PathBuf) -> Result<Logs, LogError> {
        let now = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let ms = since.unwrap_or_default().as_millis();
            Time::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
        };
        Logs::with_clock(root, Arc::new(now))
    }

    /// [`Logs::open`] by another clock.
    pub fn with_clock(root: PathBuf, clock: Clock) -> Result<Logs, LogError> {
        std::fs::create_dir_all(&root).map_err(failed("make", &root))?;
        Ok(Logs {
            root,
            clock,
            open: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            stats: Arc::default(),
        })
    }

    /// Keeps frames; the highest number kept. Frames already kept are ignored; frames that were left out are taken when
    /// they come late. All of them are kept, or none.
    pub fn append(
        &self,
        project: &str,
        log: &ReplicaLog,
        frames: &[Frame],
    ) -> Result<Seq, LogError> {
        let appended = self.try_append(project, log, frames);
        if appended.as_ref().is_err_and(LogError::is_full) {
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
        }
        appended
    }

    fn try_append(
        &self,
        project: &str,
        log: &ReplicaLog,
        frames: &[Frame],
    ) -> Result<Seq, LogError> {
        if let Some(large) = frames
            .iter()
            .find(|frame| frame.bytes.len() > FRAME_BYTES_MAX)
        {
            return Err(LogError::TooLarge {
                seq: large.seq.0,
                len: large.bytes.len(),
                limit: FRAME_BYTES_MAX,
            });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let used = open.values().map(|writer| writer.used).max().unwrap_or(0) + 1;
        let key = (checked(project)?.to_owned(), log.clone());
        let now = self.hour();
        if !open.contains_key(&key) {
            let writer = self.writer(project, log, now)?;
            if open.len() >= OPEN_MAX
                && let Some(oldest) = open
                    .iter()
                    .min_by_key(|(_, writer)| writer.used)
                    .map(|(key, _)| key.clone())
            {
                open.remove(&oldest);
            }
            open.insert(key.clone(), writer);
        }
        let writer = open.get_mut(&key).expect("it was just inserted");
        writer.used = used;
        let mut kept = writer.kept.clone();
        let (mut bytes, mut late, before) = (Vec::new(), 0, kept.missing());
        for frame in frames {
            let is_late = frame.seq.0 <= kept.last();
            if frame.seq.0 > 0 && kept.add(frame.seq.0) {
                record::write(frame, &mut bytes);
                late += u64::from(is_late);
            }
        }
        if bytes.is_empty() {
            return Ok(Seq(kept.last()));
        }
        if now > writer.hour {
            let path = self.path(project, now, log)?;
            writer.segment = Segment::open(path, &mut Kept::default())?;
            writer.hour = now;
        }
        writer.segment.append(&bytes)?;
        let new = (kept.missing() + late).saturating_sub(before);
        self.stats.missing.fetch_add(new, Ordering::Relaxed);
        self.stats.late.fetch_add(late, Ordering::Relaxed);
        self.stats
            .kept_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        writer.kept = kept;
        self.changed.send_modify(|count| *count += 1);
        Ok(Seq(writer.kept.last()))
    }

    /// Goes on with a replica's newest file. Numbers are looked for there and in the one before: a gap that is older is
    /// not filled any more.
    fn writer(&self, project: &str, log: &ReplicaLog, now: u32) -> Result<Writer, LogError> {
        let hours = self.hours_of(project, log)?;
        let mut kept = Kept::default();
        if let [earlier @ .., before, _] = &hours[..] {
            let path = self.path(project, *before, log)?;
            if !earlier.is_empty() {
                // What lies before is not looked at: it counts as kept.
                let page = segment::read(&path, 0)?;
                let first = page.frames.first().map_or(1, |frame| frame.seq.0);
                kept = Kept::up_to(first.saturating_sub(1));
            }
            segment::scan(&path, &mut kept)?;
        }
        // A clock that was set back does not bring back an hour that is over.
        let hour = hours.last().copied().unwrap_or(now);
        let segment = Segment::open(self.path(project, hour, log)?, &mut kept)?;
        Ok(Writer {
            hour,
            segment,
            kept,
            used: 0,
        })
    }

    /// Every replica's log of an owner.
    pub fn replicas(&self, project: &str, owner: Uid) -> Result<Vec<ReplicaLog>, LogError> {
        let mut found = BTreeSet::new();
        for hour in self.hours(project, owner)? {
            let dir = self.hour_dir(project, hour)?.join(owner.to_string());
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| parse(owner, entry.file_name().to_str()?)));
        }
        Ok(found.into_iter().collect())
    }

    /// Frames from a position on, at most a few MiB or one frame, and where to go on. Where the disk damaged some, a note
    /// says how many bytes, before what follows.
    pub fn read(
        &self,
        project: &str,
        log: &ReplicaLog,
        from: Position,
    ) -> Result<(Vec<Frame>, Position), LogError> {
        let mut position = from;
        for hour in self.hours(project, log.owner)? {
            if hour < from.hour {
                continue;
            }
            let at = if hour == from.hour { from.at } else { 0 };
            let page = segment::read(&self.path(project, hour, log)?, at)?;
            let Some(first) = page.frames.first() else {
                // An hour without this replica, or with nothing more: the next append may come here still.
                continue;
            };
            position = Position {
                hour,
                at: page.next,
            };
            let mut frames = Vec::new();
            if page.damaged > 0 {
                self.stats
                    .damaged_bytes
                    .fetch_add(page.damaged, Ordering::Relaxed);
                frames.push(segment::damage_note(page.damaged, first.time));
            }
            frames.extend(page.frames);
            return Ok((frames, position));
        }
        Ok((Vec::new(), position))
    }

    /// Forgets what is known of the files' ends: another process may have appended to them.
    pub fn close_files(&self) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Changes whenever something was appended by this process.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            kept_bytes: get(&self.stats.kept_bytes),
            refused: get(&self.stats.refused),
            missing: get(&self.stats.missing),
            late: get(&self.stats.late),
            damaged_bytes: get(&self.stats.damaged_bytes),
        }
    }

    /// Drops hours that ended more than `kept` ago, and then the oldest ones until at most `bytes_max` are left; the
    /// present hour stays. How many hours of projects, and their bytes.
    pub fn forget(&self, kept: Duration, bytes_max: u64) -> Result<(usize, u64), LogError> {
        let now = self.hour();
        let kept_hours = u32::try_from(kept.as_secs() / 3_600).unwrap_or(u32::MAX);
        let oldest = now.saturating_sub(kept_hours);
        let mut hours = Vec::new();
        for project in dirs(&self.root) {
            for dir in dirs(&project) {
                if let Some(hour) = hour_of(&dir) {
                    hours.push((hour, dir.clone(), size(&dir)));
                }
            }
        }
        hours.sort();
        let mut total: u64 = hours.iter().map(|(_, _, size)| size).sum();
        let (mut dropped, mut bytes) = (0, 0);
        for (hour, dir, size) in hours {
            if hour >= now || (hour >= oldest && total <= bytes_max) {
                break;
            }
            std::fs::remove_dir_all(&dir).map_err(failed("drop", &dir))?;
            total -= size;
            dropped += 1;
            bytes += size;
        }
        Ok((dropped, bytes))
    }

    fn hour(&self) -> u32 {
        u32::try_from((self.clock)().as_ms().max(0) / HOUR_MS).unwrap_or(u32::MAX)
    }

    /// Hours in which a project has logs and an owner may have some, ascending.
    fn hours(&self, project: &str, owner: Uid) -> Result<Vec<u32>, LogError> {
        let created = u32::try_from(owner.created().as_ms().max(0) / HOUR_MS).unwrap_or(0);
        let mut hours: Vec<u32> = dirs(&self.root.join(checked(project)?))
            .iter()
            .filter_map(|dir| hour_of(dir))
            .filter(|hour| *hour >= created.saturating_sub(CLOCKS_DIFFER_HOURS))
            .collect();
        hours.sort_unstable();
        Ok(hours)
    }

    /// Hours in which a replica has a file, ascending.
    fn hours_of(&self, project: &str, log: &ReplicaLog) -> Result<Vec<u32>, LogError> {
        let mut hours = Vec::new();
        for hour in self.hours(project, log.owner)? {
            if self.path(project, hour, log)?.exists() {
                hours.push(hour);
            }
        }
        Ok(hours)
    }

    fn hour_dir(&self, project: &str, hour: u32) -> Result<PathBuf, LogError> {
        Ok(self.root.join(checked(project)?).join(hour.to_string()))
    }

    pub(crate) fn path(
        &self,
        project: &str,
        hour: u32,
        log: &ReplicaLog,
    ) -> Result<PathBuf, LogError> {
        let dir = self.hour_dir(project, hour)?.join(log.owner.to_string());
        Ok(dir.join(file_name(log)?))
    }

    #[cfg(test)]
    pub(crate) fn n_open(&self) -> usize {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

fn hour_of(dir: &Path) -> Option<u32> {
    dir.file_name()?.to_str()?.parse().ok()
}

fn dirs(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
