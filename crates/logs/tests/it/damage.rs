//! Files that a failing disk or a stranger changed.

use crate::support::{Dice, frames, read_all, replica};
use logs::Logs;
use std::path::{Path, PathBuf};

const LAST: u64 = 20;
const ROUNDS: usize = 300;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn damage_never_makes_up_output_and_the_sender_can_fill_in_again() {
    let root = tempfile::tempdir().unwrap();
    let truth = frames(1, 1, LAST);
    let logs = Logs::open(root.path().to_owned()).unwrap();
    logs.append("p", &replica(1), &truth).unwrap();
    drop(logs);
    let path = files(root.path()).pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut dice = Dice::new();
    for _ in 0..ROUNDS {
        let mut bytes = whole.clone();
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(3) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at..].fill(0),
            _ => bytes.truncate(at),
        }
        std::fs::write(&path, &bytes).unwrap();
        let logs = Logs::open(root.path().to_owned()).unwrap();
        // Frames with a number; the others tell of the damage.
        let numbered = || {
            let mut frames = read_all(&logs, "p", &replica(1));
            frames.retain(|frame| frame.seq.0 > 0);
            frames
        };
        let left = numbered();
        assert!(
            left.iter().all(|frame| truth.contains(frame))
                && left.windows(2).all(|pair| pair[0].seq < pair[1].seq),
            "damaged at {at}"
        );
        logs.append("p", &replica(1), &truth).unwrap();
        let mut filled = numbered();
        filled.sort_by_key(|frame| frame.seq);
        assert_eq!(filled, truth, "damaged at {at}");
    }
}
