//! What nodes compare: the values that they ask, in slots, so that every threshold is one `>=`.
//!
//! A missing value is NaN, for which no comparison holds, and so goes to a node's first child. Where missing
//! values go right, the right child is the first one, and value and threshold have their signs changed, which
//! turns the order. Where zeros are missing, they are NaN. [`Real::first_sent`] makes `>` and `<` of `>=` by the
//! next larger number. All of this is exact for every value.
//!
//! The first slot is infinity, which is what leaves compare: they go to their second child, the next tree.

use crate::model::Real;

/// Features with a slot, by what is done with their values: nothing; another sign; NaN for zeros; both.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    planes: [Vec<u32>; 4],
}

/// What a split asks, before there are slots: a feature and its plane.
pub(super) fn source(feature: u32, is_negated: bool, zero_missing: bool) -> u32 {
    feature << 2 | u32::from(zero_missing) << 1 | u32::from(is_negated)
}

impl Slots {
    /// Slots for these sources, of which each may occur often.
    pub(super) fn new(mut sources: Vec<u32>) -> Slots {
        sources.sort_unstable();
        sources.dedup();
        let mut planes = [const { Vec::new() }; 4];
        for source in sources {
            planes[(source & 3) as usize].push(source >> 2);
        }
        for plane in &mut planes {
            plane.shrink_to_fit();
        }
        Slots { planes }
    }

    pub(super) fn len(&self) -> usize {
        1 + self.planes.iter().map(Vec::len).sum::<usize>()
    }

    /// The slot of a source that [`Slots::new`] was given.
    pub(super) fn of(&self, source: u32) -> u32 {
        let (before, rest) = self.planes.split_at((source & 3) as usize);
        let before: usize = before.iter().map(Vec::len).sum();
        let place = rest[0].partition_point(|&feature| feature < source >> 2);
        (1 + before + place) as u32
    }

    pub(super) fn memory(&self) -> usize {
        self.planes
            .iter()
            .map(|plane| size_of_val(plane.as_slice()))
            .sum()
    }

    /// The slots of one row.
    #[inline(always)]
    pub(super) fn fill_row<T: Real>(&self, row: &[T], slots: &mut [T]) {
        self.fill(row, row.len(), |slot, _, value| slots[slot] = value);
    }

    /// Puts into slots what some rows hold: calls `put` with slot, row and value.
    #[inline(always)]
    pub(super) fn fill<T: Real>(
        &self,
        rows: &[T],
        n_cols: usize,
        mut put: impl FnMut(usize, usize, T),
    ) {
        for row in 0..rows.len() / n_cols {
            put(0, row, T::INFINITY);
        }
        let mut slot = 1;
        for (plane, features) in self.planes.iter().enumerate() {
            for &feature in features {
                for (row, values) in rows.chunks_exact(n_cols).enumerate() {
                    let mut value = values[feature as usize];
                    if plane & 2 != 0 && value.is_zero() {
                        value = T::NAN;
                    }
                    put(slot, row, if plane & 1 == 0 { value } else { -value });
                }
                slot += 1;
            }
        }
    }
}
