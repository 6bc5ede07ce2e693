//! The scheduler core from outside: tables in text, and properties against naive checks.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where it finds something wrong"
)]

mod calendar;
mod changes;
mod devices;
mod elastic;
mod evictions;
mod moves;
mod orders;
mod patience;
mod peers;
mod placing;
mod properties;
mod queues;
mod relations;
mod script;
mod shapes;
mod stopping;
mod stories;
mod whys;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Of the cases that are tried by default.
const SEED: u64 = 3;

/// How many random cases a property is tried on: MOONSHOT_CASES of them, or else `usual`. The same ones each time, so
/// that a change is judged by what it changes; MOONSHOT_SEED chooses others. A test that fails prints both.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let asked = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .expect("MOONSHOT_CASES and MOONSHOT_SEED are numbers"),
        )
    };
    let cases = asked("MOONSHOT_CASES").map_or(usual, |cases: u64| {
        u32::try_from(cases).expect("MOONSHOT_CASES is small")
    });
    let seed = asked("MOONSHOT_SEED").unwrap_or(SEED);
    println!("MOONSHOT_SEED={seed} MOONSHOT_CASES={cases}");
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
