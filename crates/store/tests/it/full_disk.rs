//! A real full disk: a file system of 1 MiB.

use crate::support::{assert_whole, content, files};
use base::Code;
use std::path::Path;
use std::process::Command;
use store::{Store, TenantPath};

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

#[tokio::test]
async fn a_full_disk_refuses_in_words_keeps_what_it_has_and_works_again() {
    let Some(small) = Small::mount() else { return };
    let store = Store::directory(&small.path().join("store")).unwrap();
    let project = TenantPath::new("p").unwrap();
    let first = content(1, 300 << 10);
    let kept = store
        .put(&project, &first[..], u64::MAX, None)
        .await
        .unwrap();

    let large = content(2, 2 << 20);
    let refused = store
        .put(&project, &large[..], u64::MAX, None)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Exhausted, "{refused:?}");
    assert!(
        files(&small.path().join("store/drafts")).is_empty(),
        "the draft gave its space back"
    );
    assert!(store.size(&project, &kept.digest).await.is_ok());

    let fits = content(3, 400 << 10);
    store
        .put(&project, &fits[..], u64::MAX, None)
        .await
        .unwrap();
    assert_eq!(assert_whole(&small.path().join("store")), 2);
}
