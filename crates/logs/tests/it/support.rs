//! Frames that can be recognised, a generator with a printed seed, and the two ways to read a log.

use base::{Attempt, Index, Seq, Time, Uid};
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

/// SplitMix64: repeatable from its seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// From `MOONSHOT_SEED`, or from the clock; printed, so that a failure can be repeated.
    pub(crate) fn new() -> Dice {
        let seed = match std::env::var("MOONSHOT_SEED") {
            Ok(text) => text.parse().expect("MOONSHOT_SEED is a number"),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(1, |since| since.as_nanos() as u64)
            }
        };
        println!("MOONSHOT_SEED={seed}");
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
