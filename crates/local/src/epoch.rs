//! The highest epoch seen, in a locked file: a superseded leader has no effect, also after a restart.

use base::Epoch;
use engine::EngineError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The highest epoch, and the lock on the engine's root: one engine at a time.
pub(crate) struct EpochFile {
    path: PathBuf,
    highest: Epoch,
    /// The lock goes with it.
    _lock: File,
}

impl EpochFile {
    /// Fails with `WouldBlock` where another engine holds the root.
    pub(crate) fn open(path: &Path) -> io::Result<EpochFile> {
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock_path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let mut text = String::new();
        match File::open(path) {
            Ok(mut file) => {
                file.read_to_string(&mut text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => text.push('0'),
            Err(error) => return Err(error),
        }
        let highest = text.trim().parse().map_err(io::Error::other)?;
        Ok(EpochFile {
            path: path.to_owned(),
            highest,
            _lock: lock,
        })
    }

    /// Lets `epoch` act, or refuses it. A higher one is on disk before it acts.
    pub(crate) fn admit(&mut self, epoch: Epoch) -> Result<(), EngineError> {
        if epoch < self.highest {
            return Err(EngineError::Superseded {
                ours: epoch,
                highest: self.highest,
            });
        }
        if epoch > self.highest {
            self.store(epoch).map_err(|error| EngineError::Failed {
                operation: format!("writing epoch {epoch}"),
                source: error.into(),
            })?;
            self.highest = epoch;
        }
        Ok(())
    }

    fn store(&self, epoch: Epoch) -> io::Result<()> {
        let draft = self.path.with_extension("draft");
        fs::write(&draft, epoch.to_string())?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, &self.path)?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_epochs_are_refused_also_by_the_next_process() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("epoch");
        let mut file = EpochFile::open(&path).expect("opened");
        assert!(file.admit(Epoch(3)).is_ok() && file.admit(Epoch(3)).is_ok());
        let second = EpochFile::open(&path).err().expect("locked");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(file);
        let mut file = EpochFile::open(&path).expect("opened again");
        let refused = file.admit(Epoch(2)).expect_err("lower");
        assert_eq!(refused.to_string(), "epoch 2 was superseded by epoch 3");
    }
}
