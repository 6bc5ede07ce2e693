//! A real full disk: a file system of 1 MiB.

use crate::support::{frames, read_all, replica};
use base::Code;
use logs::Logs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small tmpfs that is unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` without the right to mount.
    fn mount() -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Small(dir)),
            Ok(output) => {
                println!(
                    "skipped: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                println!("skipped: `mount` does not start: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A mount that stays would be in the way of nobody but the next look at /proc/mounts.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_keeps_what_was_acked_and_goes_on_when_there_is_space_again() {
    let Some(small) = Small::mount() else { return };
    let ballast: PathBuf = small.path().join("ballast");
    std::fs::write(&ballast, vec![0; 256 << 10]).unwrap();
    let logs = Logs::open(small.path().join("logs")).unwrap();
    let mut acked = 0;
    // Bounded: 1 MiB holds far fewer than this many frames.
    let refused = (0..10_000).find_map(|_| {
        match logs.append("p", &replica(1), &frames(1, acked + 1, acked + 40)) {
            Ok(seq) => {
                acked = seq.0;
                None
            }
            Err(error) => Some(error),
        }
    });
    let refused = refused.expect("1 MiB fills up");
    assert_eq!(refused.code(), Code::Exhausted, "{refused:?}");
    assert!(acked > 0);
    assert_eq!(
        read_all(&logs, "p", &replica(1)),
        frames(1, 1, acked),
        "what was acked stays"
    );
    assert!(
        logs.append("p", &replica(1), &frames(1, acked + 1, acked + 40))
            .is_err()
    );

    std::fs::remove_file(&ballast).unwrap();
    let last = acked + 40;
    assert_eq!(
        logs.append("p", &replica(1), &frames(1, acked + 1, last))
            .unwrap()
            .0,
        last
    );
    assert_eq!(read_all(&logs, "p", &replica(1)), frames(1, 1, last));
    let again = Logs::open(small.path().join("logs")).unwrap();
    assert_eq!(
        read_all(&again, "p", &replica(1)),
        frames(1, 1, last),
        "also after a restart"
    );
}
