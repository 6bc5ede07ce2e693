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
        let left = read_all(&logs, "p", &replica(1));
        assert_eq!(left, truth[..left.len()], "damaged at {at}");
        logs.append("p", &replica(1), &truth).unwrap();
        assert_eq!(read_all(&logs, "p", &replica(1)), truth, "damaged at {at}");
    }
}
