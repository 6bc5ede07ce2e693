//! Random histories against the plainest model: a number per replica.

use crate::support::{Dice, frames, read_all, replica};
use base::Seq;
use logs::{Logs, Position};

const REPLICAS: u32 = 5;
const STEPS: usize = 400;

#[test]
fn repeated_and_overlapping_batches_keep_every_frame_once_across_restarts() {
    let root = tempfile::tempdir().unwrap();
    let mut dice = Dice::new();
    let mut kept = [0u64; REPLICAS as usize];
    let mut followed = [(Position::default(), 0u64); REPLICAS as usize];
    let mut logs = Logs::open(root.path().to_owned()).unwrap();
    for _ in 0..STEPS {
        let index = dice.below(u64::from(REPLICAS)) as usize;
        let log = replica(index as u32);
        match dice.below(10) {
            0 => logs = Logs::open(root.path().to_owned()).unwrap(),
            1 => assert_eq!(logs.append("p", &log, &[]).unwrap(), Seq(kept[index])),
            2..=4 => {
                let (position, seen) = followed[index];
                let (page, next) = logs.read("p", &log, position).unwrap();
                assert_eq!(page, frames(index as u32, seen + 1, kept[index]));
                followed[index] = (next, kept[index]);
            }
            // From anywhere in what is kept to a little beyond it, as a sender repeats after a lost answer.
            _ => {
                let from = 1 + dice.below(kept[index] + 1);
                let to = from + dice.below(12);
                let acked = logs
                    .append("p", &log, &frames(index as u32, from, to))
                    .unwrap();
                kept[index] = kept[index].max(to);
                assert_eq!(acked, Seq(kept[index]));
            }
        }
    }
    for index in 0..REPLICAS {
        let all = read_all(&logs, "p", &replica(index));
        assert_eq!(all, frames(index, 1, kept[index as usize]));
    }
}
