//! Who may act on the engine's root. Several servers may share it; the one that took it last acts, the others'
//! engines have no effect from that moment on, whatever they were about to do.
//!
//! Each effect is done under a shared lock, and only while the root is still this engine's. Whoever takes the root
//! needs the lock alone: effects under way end first. A process that does not let go in [`FENCE_AFTER`] is killed: it
//! hangs or was stopped in the middle of an effect, and its term is over. See decision 0012.

use crate::layout::Layout;
use base::Epoch;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long effects of another process are waited for. They are short: files are prepared and outputs kept without it.
const FENCE_AFTER: Duration = Duration::from_secs(2);
/// How long a killed process may take to let go.
const KILLED_AFTER: Duration = Duration::from_secs(3);
/// Between tries.
const LOOK: Duration = Duration::from_millis(5);

/// This engine's right to act on a root.
pub(crate) struct Gate {
    layout: Layout,
    incarnation: u64,
    lost: AtomicBool,
}

/// The right to finish one effect. Held, nobody else can take the root.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    _lock: Arc<File>,
}

/// Why the root was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// A later term has it.
    #[error("epoch {ours} was superseded by epoch {highest}")]
    Superseded { ours: Epoch, highest: Epoch },
    /// Another process acts on it and does not end.
    #[error("another process holds it")]
    Held,
    /// The files of the root.
    #[error("its files cannot be used")]
    Io(#[from] io::Error),
}

/// Who took the root last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    /// Counts the takings.
    incarnation: u64,
    pid: u32,
    /// The process's start time, which tells it from a later one with its number.
    start: u64,
}

impl Gate {
    /// Takes the root from whoever has it. With a term, only where none higher was seen; it is on disk before this
    /// returns.
    pub(crate) fn take(layout: &Layout, term: Option<Epoch>) -> Result<Gate, TakeError> {
        let lock = open_lock(layout)?;
        let before = read_owner(layout)?;
        let is_us = before.is_some_and(|owner| owner.pid == std::process::id());
        if !alone(&lock, FENCE_AFTER)? {
            let Some(owner) = before.filter(|_| !is_us) else {
                return Err(TakeError::Held);
            };
            fence(owner);
            if !alone(&lock, KILLED_AFTER)? {
                return Err(TakeError::Held);
            }
        }
        if let Some(ours) = term {
            let highest = read_epoch(layout)?;
            if ours < highest {
                return Err(TakeError::Superseded { ours, highest });
            }
            write_epoch(layout, ours)?;
        }
        // Nobody else writes it while the lock is ours.
        let before = read_owner(layout)?.map_or(0, |owner| owner.incarnation);
        let owner = Owner {
            incarnation: before + 1,
            pid: std::process::id(),
            start: shim::identity::start_time(std::process::id()).unwrap_or(0),
        };
        write_whole(
            &layout.owner(),
            &format!("{} {} {}", owner.incarnation, owner.pid, owner.start),
        )?;
        Ok(Gate {
            layout: layout.clone(),
            incarnation: owner.incarnation,
            lost: AtomicBool::new(false),
        })
    }

    /// Counts the takings of this root: cursors and drafts of others are told apart by it.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Another engine has taken the root.
    pub(crate) fn is_lost(&self) -> bool {
        if !self.lost.load(Ordering::Relaxed) {
            let is_ours = match read_owner(&self.layout) {
                Ok(owner) => owner.is_some_and(|owner| owner.incarnation == self.incarnation),
                // Unreadable for a moment is not lost; effects wait.
                Err(_) => true,
            };
            self.lost.fetch_or(!is_ours, Ordering::Relaxed);
        }
        self.lost.load(Ordering::Relaxed)
    }

    /// The right to one effect; `None` where the root is another's.
    pub(crate) async fn enter(&self) -> Option<Pass> {
        let mut is_told = false;
        loop {
            if self.is_lost() {
                return None;
            }
            match self.try_enter() {
                Ok(Some(pass)) => return Some(pass),
                Ok(None) => {}
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(%error, "the engine's lock cannot be taken now; effects wait");
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The right to one effect. Where the root is another's this waits for ever: its replicas are that one's now, and
    /// the task that asks is about to be dropped.
    pub(crate) async fn pass(&self) -> Pass {
        match self.enter().await {
            Some(pass) => pass,
            None => std::future::pending().await,
        }
    }

    /// Lets `epoch` act until the pass is dropped, or refuses it. A higher one is on disk before it acts.
    pub(crate) async fn admit(&self, epoch: Epoch) -> Result<Pass, TakeError> {
        let pass = self.enter().await;
        let highest = read_epoch(&self.layout)?;
        let superseded = TakeError::Superseded {
            ours: epoch,
            highest,
        };
        let Some(pass) = pass.filter(|_| epoch >= highest) else {
            return Err(superseded);
        };
        if epoch > highest {
            write_epoch(&self.layout, epoch)?;
        }
        Ok(pass)
    }

    fn try_enter(&self) -> io::Result<Option<Pass>> {
        let lock = open_lock(&self.layout)?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let pass = Pass {
            _lock: Arc::new(lock),
        };
        // It may have been taken just before the lock was ours.
        Ok((!self.is_lost()).then_some(pass))
    }
}

fn open_lock(layout: &Layout) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(layout.lock())
}

/// Whether the lock is ours alone, trying so long.
fn alone(lock: &File, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn fence(owner: Owner) {
    let is_it = shim::identity::start_time(owner.pid) == Some(owner.start);
    let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| is_it) {
        tracing::warn!(
            pid = owner.pid,
            "a server whose term is over hangs in the middle of an effect and is killed"
        );
        // It may have ended just now.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn read_owner(layout: &Layout) -> io::Result<Option<Owner>> {
    let Some(text) = read_if_there(&layout.owner())? else {
        return Ok(None);
    };
    let mut numbers = text.split_ascii_whitespace();
    let mut number = || {
        let word = numbers.next().unwrap_or_default();
        word.parse::<u64>()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    };
    Ok(Some(Owner {
        incarnation: number()?,
        pid: u32::try_from(number()?).map_err(io::Error::other)?,
        start: number()?,
    }))
}

/// The highest epoch seen.
fn read_epoch(layout: &Layout) -> io::Result<Epoch> {
    match read_if_there(&layout.epoch())? {
        Some(text) => text.trim().parse().map_err(io::Error::other),
        None => Ok(Epoch(0)),
    }
}

fn write_epoch(layout: &Layout, epoch: Epoch) -> io::Result<()> {
    write_whole(&layout.epoch(), &epoch.to_string())
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Old or new, never half, also after a power cut.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(dir.path().to_owned());
        (dir, layout)
    }

    #[tokio::test]
    async fn whoever_takes_the_root_last_acts_alone() {
        let (_dir, layout) = layout();
        let first = Gate::take(&layout, Some(Epoch(3))).expect("taken");
        drop(first.admit(Epoch(3)).await.expect("acts"));
        let second = Gate::take(&layout, Some(Epoch(4))).expect("taken");
        assert!(first.is_lost() && first.enter().await.is_none());
        assert!(first.admit(Epoch(9)).await.is_err(), "whatever it claims");
        drop(second.admit(Epoch(4)).await.expect("acts"));
        let refused = second.admit(Epoch(3)).await.expect_err("lower");
        assert_eq!(refused.to_string(), "epoch 3 was superseded by epoch 4");
        let refused = Gate::take(&layout, Some(Epoch(3))).err().expect("lower");
        assert!(matches!(refused, TakeError::Superseded { .. }));
        assert!(!second.is_lost(), "a late term takes nothing");
    }

    #[tokio::test]
    async fn effects_under_way_end_before_the_root_is_taken() {
        let (_dir, layout) = layout();
        let first = Gate::take(&layout, None).expect("taken");
        let pass = first.enter().await.expect("acts");
        let taking = {
            let layout = layout.clone();
            std::thread::spawn(move || Gate::take(&layout, None))
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!taking.is_finished());
        drop(pass);
        let second = taking.join().expect("ended").expect("taken");
        assert!(first.is_lost() && !second.is_lost());
    }

    #[tokio::test]
    async fn a_process_does_not_kill_itself_for_its_own_effects() {
        let (_dir, layout) = layout();
        let first = Gate::take(&layout, None).expect("taken");
        let _pass = first.enter().await.expect("acts");
        let refused = Gate::take(&layout, None).err().expect("held");
        assert!(matches!(refused, TakeError::Held), "{refused:?}");
        assert!(!first.is_lost());
    }

    #[test]
    fn a_process_that_is_stopped_in_an_effect_is_killed() {
        let (_dir, layout) = layout();
        Gate::take(&layout, None).expect("taken");
        // It holds the lock and sleeps, as a stopped server would.
        let mut holder = std::process::Command::new("flock")
            .args(["--shared", "--no-fork"])
            .arg(layout.lock())
            .args(["sleep", "600"])
            .spawn()
            .expect("flock runs");
        let start = loop {
            let line = fs::read(format!("/proc/{}/cmdline", holder.id())).unwrap_or_default();
            if line.starts_with(b"sleep") {
                break shim::identity::start_time(holder.id()).expect("it runs");
            }
            std::thread::sleep(LOOK);
        };
        write_whole(&layout.owner(), &format!("7 {} {start}", holder.id())).expect("written");
        let taken = Gate::take(&layout, None).expect("taken");
        assert_eq!(taken.incarnation(), 8);
        let status = holder.wait().expect("ended");
        assert!(!status.success(), "{status}");
    }
}
