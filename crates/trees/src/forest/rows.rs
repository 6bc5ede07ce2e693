//! Which way rows go: a few walk one by one, more walk side by side through the same trees, and many are sifted
//! where trees are small. Every way adds the same numbers in the same order, the trees'.

use super::sift::{LEAVES_MAX, SIFTED_ROWS_MIN, Sieve, Simd};
use super::walk::LANES;
use super::{Forest, Leaves, Tree};
use crate::model::Real;
use std::ops::Range;

/// Of rows that are evaluated at a time, the bytes that should stay in the second cache level.
const BLOCK_BYTES: usize = 256 << 10;
/// The fewest and the most of them.
const BLOCK_ROWS_MIN: usize = 64;
pub(super) const BLOCK_ROWS_MAX: usize = 512;
/// Nodes of trees that are walked side by side: they fit a part of the second cache level, and are so many that lanes
/// wait little for each other at the end.
const RUN_NODES: usize = 16 << 10;

impl<T: Real> Forest<T> {
    /// Adds the trees' answers for whole rows of `n_cols` to `sums` (`n_groups` a row), in the order of the
    /// trees. `n_cols` is over every feature that is asked.
    pub(crate) fn add_to(&self, trees: Range<usize>, rows: &[T], n_cols: usize, sums: &mut [T]) {
        self.add_by(Simd::best(), trees, rows, n_cols, sums);
    }

    /// The same with what the processor is taken to have.
    pub(super) fn add_by(
        &self,
        simd: Simd,
        trees: Range<usize>,
        rows: &[T],
        n_cols: usize,
        sums: &mut [T],
    ) {
        if self.special {
            self.add_rows::<true>(simd, trees, rows, n_cols, sums);
        } else {
            self.add_rows::<false>(simd, trees, rows, n_cols, sums);
        }
    }

    fn add_rows<const SPECIAL: bool>(
        &self,
        simd: Simd,
        trees: Range<usize>,
        rows: &[T],
        n_cols: usize,
        sums: &mut [T],
    ) {
        let n_rows = rows.len() / n_cols;
        if n_rows < LANES {
            let mut slots = vec![T::default(); self.slots.len()];
            for (row, sums) in rows
                .chunks_exact(n_cols)
                .zip(sums.chunks_exact_mut(self.n_groups))
            {
                self.slots.fill_row(row, &mut slots);
                self.add_row::<SPECIAL>(trees.clone(), row, &slots, sums);
            }
            return;
        }
        let per_block = (BLOCK_BYTES / (self.slots.len() * size_of::<T>()))
            .clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX)
            .min(n_rows);
        let blocks = rows
            .chunks(per_block * n_cols)
            .zip(sums.chunks_mut(per_block * self.n_groups));
        let mut by_row = Vec::new();
        let mut sieve = Sieve::new();
        for (rows, sums) in blocks {
            let n_rows = rows.len() / n_cols;
            let sifts =
                |tree: usize| n_rows >= SIFTED_ROWS_MIN && self.n_leaves(tree) <= LEAVES_MAX;
            if trees.clone().any(sifts) {
                sieve.fill(&self.slots, rows, n_cols);
            }
            if !trees.clone().all(sifts) {
                by_row.resize(n_rows * self.slots.len(), T::default());
                let of_rows = by_row.chunks_exact_mut(self.slots.len());
                for (row, slots) in rows.chunks_exact(n_cols).zip(of_rows) {
                    self.slots.fill_row(row, slots);
                }
            }
            let mut start = trees.start;
            while start < trees.end {
                let mut end = start + 1;
                if sifts(start) {
                    let ends = self.sift::<SPECIAL>(simd, start, &mut sieve);
                    self.add_ends(self.trees[start], ends, rows, n_cols, sums);
                } else {
                    while end < trees.end
                        && !sifts(end)
                        && self.span(start..end + 1).len() <= RUN_NODES
                    {
                        end += 1;
                    }
                    self.walk_rows::<SPECIAL>(start..end, rows, n_cols, &by_row, sums);
                }
                start = end;
            }
        }
    }

    /// Adds what a tree answers to rows, where `ends` are what its leaves hold.
    #[inline(always)]
    fn add_ends<'a>(
        &self,
        tree: Tree,
        ends: impl Iterator<Item = &'a T>,
        rows: &[T],
        n_cols: usize,
        sums: &mut [T],
    ) {
        if let Leaves::Value = self.leaves {
            let sums = sums.iter_mut().skip(tree.group as usize);
            for (sum, end) in sums.step_by(self.n_groups).zip(ends) {
                *sum += *end;
            }
            return;
        }
        let rows = rows.chunks_exact(n_cols);
        let sums = sums.chunks_exact_mut(self.n_groups);
        for ((row, sums), end) in rows.zip(sums).zip(ends) {
            self.add_leaf(tree, *end, row, sums);
        }
    }
}
