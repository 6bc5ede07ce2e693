//! Fading in fixed point: by how much the past counts less after some time, the same on every machine.

use base::Span;

/// The part of the past that still counts, in parts of 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fade(u64);

const ONE: u64 = 1 << 32;

/// 2^32 · 2^(-1/2^k) for k = 1 to 24, rounded.
const ROOTS: [u64; 24] = [
    3_037_000_500,
    3_611_622_603,
    3_938_502_376,
    4_112_874_773,
    4_202_935_003,
    4_248_701_965,
    4_271_771_996,
    4_283_353_945,
    4_289_156_690,
    4_292_061_010,
    4_293_513_907,
    4_294_240_540,
    4_294_603_903,
    4_294_785_595,
    4_294_876_445,
    4_294_921_870,
    4_294_944_583,
    4_294_955_939,
    4_294_961_618,
    4_294_964_457,
    4_294_965_876,
    4_294_966_586,
    4_294_966_941,
    4_294_967_119,
];

impl Fade {
    /// Whether so little has passed that it is better to wait: what is rounded off would add up.
    pub(crate) fn is_too_soon(elapsed: Span, half_life: Span) -> bool {
        elapsed.as_ms() < half_life.as_ms() / 1_024
    }

    /// After `elapsed`, where each `half_life` halves.
    pub(crate) fn after(elapsed: Span, half_life: Span) -> Fade {
        let half_ms = half_life.as_ms().max(1);
        let halves = elapsed.as_ms() / half_ms;
        if halves >= 32 {
            return Fade(0);
        }
        let rest = u128::from(elapsed.as_ms() % half_ms);
        let rest = ((rest << 24) / u128::from(half_ms)) as u64;
        let mut factor = ONE;
        for (k, root) in ROOTS.iter().enumerate() {
            if rest & (1 << (23 - k)) != 0 {
                factor = ((u128::from(factor) * u128::from(*root)) >> 32) as u64;
            }
        }
        Fade(factor >> halves)
    }

    /// The mean of the past and of what held since, weighted by what still counts.
    pub(crate) fn between(self, past: i64, since: i64) -> i64 {
        let sum =
            i128::from(past) * i128::from(self.0) + i128::from(since) * i128::from(ONE - self.0);
        (sum >> 32) as i64
    }
}

#[cfg(test)]
mod tests;
