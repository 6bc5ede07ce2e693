//! Many replicas and several threads, with far fewer files open than there are logs.

use crate::support::{frames, read_all, replica};
use base::Seq;
use logs::{Logs, Position};
use std::thread;

const THREADS: u32 = 4;
const REPLICAS: u32 = 400;
const ROUNDS: u64 = 6;
const BATCH: u64 = 5;

#[test]
fn threads_writing_more_logs_than_files_are_open_lose_and_double_nothing() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    thread::scope(|scope| {
        for part in 0..THREADS {
            let logs = logs.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    for index in (part..REPLICAS).step_by(THREADS as usize) {
                        let (from, to) = (round * BATCH + 1, (round + 1) * BATCH);
                        let acked = logs.append("p", &replica(index), &frames(index, from, to));
                        assert_eq!(acked.unwrap(), Seq(to));
                    }
                }
            });
        }
    });
    assert_eq!(
        logs.replicas("p", replica(0).owner).unwrap().len(),
        REPLICAS as usize
    );
    for index in 0..REPLICAS {
        assert_eq!(
            read_all(&logs, "p", &replica(index)),
            frames(index, 1, ROUNDS * BATCH)
        );
    }
}

#[test]
fn two_senders_of_one_replica_keep_each_frame_once() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    const LAST: u64 = 300;
    thread::scope(|scope| {
        for _ in 0..2 {
            let logs = logs.clone();
            scope.spawn(move || {
                let mut acked = 0;
                while acked < LAST {
                    let batch = frames(1, acked + 1, (acked + 7).min(LAST));
                    acked = logs.append("p", &replica(1), &batch).unwrap().0;
                }
            });
        }
    });
    assert_eq!(read_all(&logs, "p", &replica(1)), frames(1, 1, LAST));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_sees_every_frame_once_while_they_are_written() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    const LAST: u64 = 500;
    let writer = {
        let logs = logs.clone();
        tokio::task::spawn_blocking(move || {
            for seq in 1..=LAST {
                logs.append("p", &replica(1), &frames(1, seq, seq)).unwrap();
            }
        })
    };
    let mut changed = logs.changed();
    let mut position = Position::default();
    let mut seen = Vec::new();
    while seen.len() < LAST as usize {
        let (page, next) = logs.read("p", &replica(1), position).unwrap();
        position = next;
        if page.is_empty() {
            changed.changed().await.unwrap();
        }
        seen.extend(page);
    }
    assert_eq!(seen, frames(1, 1, LAST));
    writer.await.unwrap();
}
