//! Repeatable choices for tests.

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): the same choices from the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// From `MOONSHOT_SEED`, or from the clock; printed, so that a failure can be repeated.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Dice {
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

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A place in a list of so many; 0 where there is none.
    pub fn pick(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }
}
