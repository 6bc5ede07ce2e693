//! Frames that can be recognised, a generator with a printed seed, and the two ways to read a log.

use base::{Attempt, Index, Seq, Time, Uid};
pub(crate) use e2e::Dice;
use logs::{Frame, Logs, Position, ReplicaLog, Stream};

/// One of many replicas of one owner.
pub(crate) fn replica(index: u32) -> ReplicaLog {
    ReplicaLog {
        owner: Uid(7),
        group: "worker".to_owned(),
        index: Index(index),
        attempt: Attempt(1),
    }
}

/// The only frame that replica `index` may write under this number. Lengths differ, so that cuts fall anywhere.
pub(crate) fn frame(index: u32, seq: u64) -> Frame {
    let padding = "x".repeat((seq as usize * 37 + index as usize) % 300);
    Frame {
        seq: Seq(seq),
        stream: if seq.is_multiple_of(5) {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        time: Time::from_ms(1_000 + seq as i64),
        bytes: format!("replica {index} line {seq} {padding}\n").into_bytes(),
    }
}

/// The frames numbered `from..=to`.
pub(crate) fn frames(index: u32, from: u64, to: u64) -> Vec<Frame> {
    (from..=to).map(|seq| frame(index, seq)).collect()
}

/// Everything that is kept of a replica, page by page.
pub(crate) fn read_all(logs: &Logs, project: &str, log: &ReplicaLog) -> Vec<Frame> {
    let mut all = Vec::new();
    let mut position = Position::default();
    loop {
        let (page, next) = logs.read(project, log, position).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
        position = next;
    }
}
