//! Content from a seed, and files below a directory.

use std::path::{Path, PathBuf};

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len.div_ceil(8))
        .flat_map(|_| dice.next().to_le_bytes())
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
