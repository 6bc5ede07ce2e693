//! Walks from node to node.
//!
//! A walk is a chain of dependent loads, so [`LANES`] of them go on at a time. A leaf leads to the next tree's
//! root: a lane goes through all of its trees without a test where one ends, and waits for no other lane's.

use super::{Forest, Tree};
use crate::model::Real;
use std::hint::select_unpredictable;
use std::ops::Range;

/// Walks that go on at a time.
pub(super) const LANES: usize = 8;
/// Places for what a lane finds, the last for what it comes by after its last tree.
const FOUND: usize = 64;
/// Trees that a lane passes in one go.
const RUN: usize = FOUND - 1;

impl<T: Real> Forest<T> {
    /// One row: each lane has a part of the trees.
    pub(super) fn add_row<const SPECIAL: bool>(
        &self,
        trees: Range<usize>,
        row: &[T],
        slots: &[T],
        sums: &mut [T],
    ) {
        let mut found = [[T::default(); FOUND]; LANES];
        for trees in self.trees[trees].chunks(LANES * RUN) {
            let mut parts = trees.chunks(trees.len().div_ceil(LANES));
            let parts: [&[Tree]; LANES] = std::array::from_fn(|_| parts.next().unwrap_or_default());
            self.walk::<SPECIAL>(parts, [slots; LANES], &mut found);
            for (trees, found) in parts.iter().zip(&found) {
                self.add_leaves(trees, found, row, sums);
            }
        }
    }

    /// Many rows: each lane has one, with all the trees, which should be few.
    pub(super) fn walk_rows<const SPECIAL: bool>(
        &self,
        trees: Range<usize>,
        rows: &[T],
        n_cols: usize,
        slots: &[T],
        sums: &mut [T],
    ) {
        let n_slots = self.slots.len();
        let mut found = [[T::default(); FOUND]; LANES];
        for trees in self.trees[trees].chunks(RUN) {
            let lanes = rows
                .chunks(LANES * n_cols)
                .zip(slots.chunks(LANES * n_slots))
                .zip(sums.chunks_mut(LANES * self.n_groups));
            for ((rows, slots), sums) in lanes {
                let mut of_lanes = slots.chunks_exact(n_slots);
                // Lanes without a row have no trees either.
                let mut parts: [&[Tree]; LANES] = [&[]; LANES];
                let slots: [&[T]; LANES] = std::array::from_fn(|lane| match of_lanes.next() {
                    Some(slots) => {
                        parts[lane] = trees;
                        slots
                    }
                    None => &slots[..n_slots],
                });
                self.walk::<SPECIAL>(parts, slots, &mut found);
                let rows = rows
                    .chunks_exact(n_cols)
                    .zip(sums.chunks_exact_mut(self.n_groups));
                for ((row, sums), found) in rows.zip(&found) {
                    self.add_leaves(trees, found, row, sums);
                }
            }
        }
    }

    fn add_leaves(&self, trees: &[Tree], found: &[T], row: &[T], sums: &mut [T]) {
        for (tree, value) in trees.iter().zip(found) {
            self.add_leaf(*tree, *value, row, sums);
        }
    }

    /// Takes each lane's slots through its trees, at most [`RUN`] that follow each other, and leaves in `found`
    /// what their leaves hold.
    #[inline(always)]
    fn walk<const SPECIAL: bool>(
        &self,
        trees: [&[Tree]; LANES],
        slots: [&[T]; LANES],
        found: &mut [[T; FOUND]; LANES],
    ) {
        let nodes = self.nodes.as_slice();
        let end = nodes.len() as u32 - 1;
        let mut at = trees.map(|trees| trees.first().map_or(end, |tree| tree.root));
        let mut open = trees.map(|trees| trees.len().min(RUN) as u32);
        let mut done = [0_u32; LANES];
        // A step ends one tree of a lane at most, so none passes its last tree.
        while let Some(n_steps) = open.into_iter().filter(|open| *open > 0).min() {
            let before = done;
            for _ in 0..n_steps {
                for lane in 0..LANES {
                    let node = &nodes[at[lane] as usize];
                    // What is written last for a tree is its leaf's.
                    found[lane][done[lane] as usize % FOUND] = node.value;
                    done[lane] += node.bits >> 31;
                    let value = slots[lane][node.slot()];
                    let is_second = self.is_second::<SPECIAL>(node, value);
                    at[lane] = select_unpredictable(is_second, node.next, at[lane] + 1);
                }
            }
            for lane in 0..LANES {
                open[lane] -= done[lane] - before[lane];
                if open[lane] == 0 {
                    at[lane] = end;
                }
            }
        }
    }
}
