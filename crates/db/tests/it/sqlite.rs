//! What only SQLite can do to us: another process that holds the file's lock.

use crate::both::{Place, insert, object};
use db::Location;
use std::process::{Command, Stdio};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_another_process_is_waited_for() {
    let place = Place::sqlite();
    let Location::Sqlite(path) = &place.location else {
        panic!()
    };
    let db = place.open().await;
    insert(&db, object("before")).await.unwrap();
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\nc.execute('ROLLBACK')";
    let mut other = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(other.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line.trim(), "held");
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { insert(&db, object("meanwhile")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    assert_eq!(
        db::objects::all(&db, "Job").await.unwrap().len(),
        1,
        "reads go on"
    );
    drop(other.stdin.take());
    other.wait().unwrap();
    waiting.await.unwrap().unwrap();
}

/// A small file system of its own; unmounted with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_writes_go_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mounted() else {
        println!("skipped: only root can mount a small disk");
        return;
    };
    let place = Place::at(Location::Sqlite(disk.0.path().join("moonshot.sqlite")));
    let db = place.open().await;
    insert(&db, object("before")).await.unwrap();
    let filler = disk.0.path().join("filler");
    // As much as there is room for.
    let filled = std::fs::write(&filler, vec![0; 4 << 20]);
    assert!(filled.is_err());
    let mut big = object("big");
    big.spec = serde_json::json!({"note": "x".repeat(1 << 20)});
    let error = insert(&db, big.clone()).await.unwrap_err();
    assert!(matches!(error, db::DbError::Full), "{error:?}");
    assert_eq!(error.code(), base::Code::Exhausted);
    assert_eq!(
        db::objects::all(&db, "Job").await.unwrap().len(),
        1,
        "reads go on"
    );
    std::fs::remove_file(&filler).unwrap();
    insert(&db, object("after")).await.unwrap();
    assert_eq!(
        db::feed::head(&db).await.unwrap().0,
        2,
        "the feed has no gap"
    );
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(Location::Sqlite(dir.path().join("missing/moonshot.sqlite")));
    let error = db::Db::open(place.config()).await.err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("unable to open"), "{cause}");
    let file = dir.path().join("text.sqlite");
    std::fs::write(
        &file,
        "this is no database, but it is long enough to be looked at as one".repeat(20),
    )
    .unwrap();
    let error = db::Db::open(Place::at(Location::Sqlite(file)).config()).await;
    let cause = std::error::Error::source(&error.err().unwrap())
        .unwrap()
        .to_string();
    assert!(cause.contains("not a database"), "{cause}");
}
