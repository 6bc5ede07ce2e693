//! Resource amounts as fixed vectors of lanes, so that a fit is a handful of integer compares.

use std::ops::{AddAssign, SubAssign};

/// Lanes of one pool: four common ones and up to twelve extended resources, mapped by name per pool.
pub(crate) const LANES: usize = 16;
pub(crate) const CPU: usize = 0;
pub(crate) const MEMORY: usize = 1;
pub(crate) const GPU: usize = 2;
pub(crate) const SLOTS: usize = 3;
/// The first lane that is mapped by name.
pub(crate) const EXTENDED: usize = 4;

/// Stands for "no limit" and leaves room to add.
pub(crate) const UNLIMITED: i64 = i64::MAX / 4;

/// One amount a lane. Signed: what is free falls below zero when a node shrinks under its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount(pub(crate) [i64; LANES]);

impl Amount {
    pub(crate) const ZERO: Amount = Amount([0; LANES]);
    pub(crate) const UNLIMITED: Amount = Amount([UNLIMITED; LANES]);

    pub(crate) fn times(&self, n: i64) -> Amount {
        Amount(self.0.map(|x| x.saturating_mul(n).min(UNLIMITED)))
    }

    /// How often `ask` fits; lanes that `ask` does not use do not count.
    pub(crate) fn count(&self, ask: &Amount) -> i64 {
        let mut count = i64::MAX;
        for lane in 0..LANES {
            if ask.0[lane] > 0 {
                count = count.min(self.0[lane].max(0) / ask.0[lane]);
            }
        }
        count
    }

    /// The first lane in which `ask` does not fit.
    pub(crate) fn lacks(&self, ask: &Amount) -> Option<usize> {
        (0..LANES).find(|lane| ask.0[*lane] > 0 && self.0[*lane] < ask.0[*lane])
    }
}

impl AddAssign<&Amount> for Amount {
    fn add_assign(&mut self, other: &Amount) {
        for lane in 0..LANES {
            self.0[lane] = self.0[lane].saturating_add(other.0[lane]);
        }
    }
}
impl SubAssign<&Amount> for Amount {
    fn sub_assign(&mut self, other: &Amount) {
        for lane in 0..LANES {
            self.0[lane] = self.0[lane].saturating_sub(other.0[lane]);
        }
    }
}

/// A quantity of the platform as a lane's amount.
pub(crate) fn lane_amount(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(UNLIMITED).min(UNLIMITED)
}
