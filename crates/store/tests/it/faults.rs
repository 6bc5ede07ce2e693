//! Senders that fail or go away, many at once, and a process that is killed while it stores.

use crate::support::{Dice, assert_whole, content, digest, files};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};
use store::{Store, TenantPath};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const ROUNDS: usize = 8;
/// Tells the test program, started again, to be the writer in this directory.
const WRITER: &str = "MOONSHOT_TEST_STORE_WRITER";

fn project() -> TenantPath {
    TenantPath::new("p").unwrap()
}

/// Fails at once, as a connection does that was reset.
struct Reset;

impl AsyncRead for Reset {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
    }
}

/// Says that it was asked and then gives nothing, as a connection does whose other end is stuck.
struct Stuck(Option<oneshot::Sender<()>>);

impl AsyncRead for Stuck {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(asked) = self.0.take() {
            asked.send(()).expect("the test waits for it");
        }
        Poll::Pending
    }
}

#[tokio::test]
async fn a_sender_that_fails_or_goes_away_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::directory(root.path()).unwrap();
    let bytes = content(1, 1 << 20);
    let reset = (&bytes[..]).chain(Reset);
    assert!(store.put(&project(), reset, u64::MAX, None).await.is_err());
    assert!(files(root.path()).is_empty());

    let (asked, was_asked) = oneshot::channel();
    let stuck = (&bytes[..]).chain(Stuck(Some(asked)));
    let project = project();
    tokio::select! {
        _ = store.put(&project, stuck, u64::MAX, None) => panic!("the sender never ends"),
        asked = was_asked => asked.unwrap(),
    }
    assert!(files(root.path()).is_empty());
}

#[tokio::test]
async fn who_opens_the_same_directory_leaves_what_others_write() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::directory(root.path()).unwrap();
    let bytes = content(1, 1 << 20);
    let (asked, was_asked) = oneshot::channel();
    let stuck = (&bytes[..]).chain(Stuck(Some(asked)));
    let project = project();
    let drafts = root.path().join("drafts");
    tokio::select! {
        _ = store.put(&project, stuck, u64::MAX, None) => panic!("the sender never ends"),
        left = async {
            was_asked.await.unwrap();
            let other = Store::directory(root.path()).unwrap();
            other.put(&project, &bytes[..], u64::MAX, None).await.unwrap();
            drop(other);
            files(&drafts).len()
        } => assert_eq!(left, 1),
    }
    drop(store);
    assert!(files(&drafts).is_empty());
    assert_eq!(assert_whole(root.path()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_from_many_at_once_is_kept_once() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::directory(root.path()).unwrap();
    let bytes = content(2, 3 << 20);
    let mut puts = JoinSet::new();
    for _ in 0..16 {
        let (store, bytes) = (store.clone(), bytes.clone());
        puts.spawn(async move { store.put(&project(), &bytes[..], u64::MAX, None).await });
    }
    while let Some(put) = puts.join_next().await {
        let kept = put.unwrap().unwrap();
        assert_eq!(
            (kept.digest, kept.size),
            (digest(&bytes), bytes.len() as u64)
        );
    }
    assert_eq!(files(root.path()).len(), 1);
    assert_eq!(assert_whole(root.path()), 1);
}

#[test]
fn a_killed_process_leaves_whole_content_and_no_drafts() {
    if let Some(root) = std::env::var_os(WRITER) {
        put_for_ever(Path::new(&root));
    }
    let root = tempfile::tempdir().unwrap();
    let mut dice = Dice::new();
    let mut promised = Vec::new();
    let mut torn = 0;
    for round in 0..ROUNDS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "faults::a_killed_process_leaves_whole_content_and_no_drafts",
            ])
            .env(WRITER, root.path())
            .env("MOONSHOT_SEED", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut left = 1 + dice.below(12);
        // Read until the writer is dead: it ends by itself when nobody listens.
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            let line = line.unwrap();
            let Some(kept) = line.strip_prefix("kept ") else {
                continue;
            };
            promised.push(kept.parse::<base::Digest>().unwrap());
            left -= 1;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "round {round}: the writer ended by itself");
        let drafts = root.path().join("drafts");
        while files(&drafts).is_empty() {
            let ended = writer.try_wait().unwrap();
            assert!(ended.is_none(), "round {round}: the writer ended by itself");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        torn += files(&drafts).len();

        Store::directory(root.path()).unwrap();
        assert!(
            files(&root.path().join("drafts")).is_empty(),
            "round {round}"
        );
        assert_whole(root.path());
        for digest in &promised {
            assert!(
                files(&root.path().join("projects"))
                    .iter()
                    .any(|path| path.ends_with(digest.hex())),
                "round {round}: {digest} is lost"
            );
        }
    }
    assert!(torn > 0, "no kill came while something was written");
}

/// Stores one thing after the other, and says aloud what was kept.
fn put_for_ever(root: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = Store::directory(root).unwrap();
    let mut dice = Dice::new();
    let mut out = std::io::stdout();
    loop {
        let bytes = content(dice.below(u64::MAX), 1 + dice.below(2 << 20) as usize);
        let kept = runtime
            .block_on(store.put(&project(), &bytes[..], u64::MAX, None))
            .unwrap();
        // Its reader is gone once this process is to die: then there is nothing left to say.
        if writeln!(out, "kept {}", kept.digest)
            .and_then(|()| out.flush())
            .is_err()
        {
            std::process::exit(0);
        }
    }
}
