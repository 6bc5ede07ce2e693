//! Files that are being written, on this machine. Each process has a directory of its own, locked while it
//! lives: what a killed one left is removed by the next one that opens the same place.

use crate::StoreError;
use crate::error::io;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tries to make a directory while others clean up.
const TRIES: u32 = 100;

/// A process's drafts.
#[derive(Clone, Debug)]
pub(crate) struct Drafts {
    own: Arc<Own>,
}

#[derive(Debug)]
struct Own {
    dir: PathBuf,
    /// Held as long as somebody may write drafts.
    _lock: File,
}

impl Drop for Own {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next process.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A file that disappears unless it is kept.
pub(crate) struct Draft {
    /// Where it is.
    pub(crate) path: tempfile::TempPath,
    /// Its bytes.
    pub(crate) size: u64,
}

impl Drafts {
    /// Drafts below this directory, without those of the dead.
    pub(crate) fn open(root: &Path) -> Result<Drafts, StoreError> {
        std::fs::create_dir_all(root).map_err(io("make", root))?;
        for entry in std::fs::read_dir(root).map_err(io("read", root))? {
            let path = entry.map_err(io("read", root))?.path();
            clear(&path)?;
        }
        for _ in 0..TRIES {
            let dir = tempfile::Builder::new()
                .prefix("of-")
                .tempdir_in(root)
                .map_err(io("make a directory in", root))?
                .keep();
            let Ok(lock) = File::open(&dir) else {
                // Somebody took the directory for one of the dead before it was locked.
                continue;
            };
            let is_locked = lock.try_lock().is_ok();
            let is_there = std::fs::metadata(&dir)
                .and_then(|found| Ok(found.ino() == lock.metadata()?.ino()))
                .unwrap_or(false);
            if is_locked && is_there {
                let own = Own { dir, _lock: lock };
                return Ok(Drafts { own: Arc::new(own) });
            }
        }
        let source = std::io::Error::other("others remove it each time");
        Err(io("keep a directory in", root)(source))
    }

    /// An empty one.
    pub(crate) fn make(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        let dir = &self.own.dir;
        tempfile::Builder::new()
            .prefix("draft-")
            .tempfile_in(dir)
            .map_err(io("make a draft in", dir))
    }

    /// An empty directory.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        let dir = &self.own.dir;
        tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(dir)
            .map_err(io("make a directory in", dir))
    }
}

/// Removes a directory that nobody holds.
fn clear(dir: &Path) -> Result<(), StoreError> {
    let lock = match File::open(dir) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("open", dir)(error)),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(io("lock", dir)(error)),
    }
    let removed = if dir.is_dir() {
        std::fs::remove_dir_all(dir)
    } else {
        std::fs::remove_file(dir)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("clear", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
