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
