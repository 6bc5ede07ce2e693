//! A writing process is killed again and again: everything it was promised is there, once.

use crate::support::{Dice, frames, read_all, replica};
use logs::Logs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const ROUNDS: usize = 15;
const REPLICAS: u32 = 4;
const BATCH: u64 = 9;
/// Tells the test program, started again, to be the writer in this directory.
const WRITER: &str = "MOONSHOT_TEST_LOG_WRITER";

#[test]
fn what_was_acked_is_there_once_after_kills_at_random_points() {
    if let Some(root) = std::env::var_os(WRITER) {
        write_for_ever(root.into());
    }
    let root = tempfile::tempdir().unwrap();
    let mut dice = Dice::new();
    let mut acked = [0u64; REPLICAS as usize];
    for round in 0..ROUNDS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "kill::what_was_acked_is_there_once_after_kills_at_random_points",
            ])
            .env(WRITER, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut left = 1 + dice.below(200);
        let mut before = [0; REPLICAS as usize];
        for line in lines {
            let line = line.unwrap();
            let Some(ack) = line.strip_prefix("acked ") else {
                continue;
            };
            let (index, seq) = ack.split_once(' ').unwrap();
            let (index, seq): (usize, u64) = (index.parse().unwrap(), seq.parse().unwrap());
            assert!(
                seq > before[index],
                "round {round}: {seq} of replica {index} was acked twice"
            );
            before[index] = seq;
            acked[index] = acked[index].max(seq);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "round {round}: the writer ended by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();

        let logs = Logs::open(root.path().to_owned()).unwrap();
        for index in 0..REPLICAS {
            let kept = read_all(&logs, "p", &replica(index));
            let promised = acked[index as usize];
            assert!(
                kept.len() as u64 >= promised,
                "round {round}: replica {index} lost frames"
            );
            assert_eq!(
                kept,
                frames(index, 1, kept.len() as u64),
                "round {round}: replica {index}"
            );
        }
    }
    assert!(acked.iter().any(|acked| *acked > 0));
}

/// Sends on from what is kept, and says aloud what was acked.
fn write_for_ever(root: std::path::PathBuf) -> ! {
    let logs = Logs::open(root).unwrap();
    let mut out = std::io::stdout();
    loop {
        for index in 0..REPLICAS {
            let kept = logs.append("p", &replica(index), &[]).unwrap().0;
            let acked = logs
                .append("p", &replica(index), &frames(index, kept + 1, kept + BATCH))
                .unwrap();
            // Its reader is gone once this process is to die: then there is nothing left to say.
            if writeln!(out, "acked {index} {acked}")
                .and_then(|()| out.flush())
                .is_err()
            {
                std::process::exit(0);
            }
        }
    }
}
