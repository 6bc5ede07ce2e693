//! Content from a seed, and files below a directory.

pub(crate) use e2e::Dice;
use std::path::{Path, PathBuf};

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len.div_ceil(8))
        .flat_map(|_| dice.below(u64::MAX).to_le_bytes())
        .take(len)
        .collect()
}

/// All files below a directory, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
