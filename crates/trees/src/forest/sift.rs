//! Many rows at a time: each split of a small tree is compared with all of them, and strikes off leaves.
//!
//! Of every row there is a set of bits, one for each leaf of the tree, from the first child's to the last's. A
//! split that sends the row to its second child strikes off the leaves below its first. When all splits have done
//! so, in whatever order, the first leaf that is left is where the row ends (QuickScorer: Lucchese et al.,
//! SIGIR 2015, <https://doi.org/10.1145/2766462.2767733>, here one tree after the other). Nothing waits for a load
//! before it and no branch depends on a row, so that the loops over rows become vectors of whatever width the
//! processor has. The work grows with the leaves, that of a walk with the depth.

use super::rows::BLOCK_ROWS_MAX;
use super::slots::Slots;
use super::{Forest, Node, SET};
use crate::model::{Bits, Real};

/// Leaves of a tree that is sifted: trees of 160 were walked more quickly, whatever the number of rows.
pub(super) const LEAVES_MAX: usize = 64;
/// Rows that are worth it: some work is for the splits, however many rows there are.
pub(super) const SIFTED_ROWS_MIN: usize = 32;
/// Rows are filled up to whole chunks: one vector or a few.
const CHUNK: usize = 32;

/// What the processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simd {
    /// What every processor of this architecture can.
    Common,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Simd {
    pub(super) fn best() -> Simd {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
        {
            return Simd::Avx2;
        }
        Simd::Common
    }
}

/// Rows of one slot, or what belongs to them: whole vectors that lie in whole cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Chunk<V>([V; CHUNK]);

/// Rows that are sifted together, and memory that is used again for every tree.
pub(super) struct Sieve<T: Real> {
    /// What is asked of the rows, slot by slot.
    slots: Vec<Chunk<T>>,
    /// Of each slot.
    n_chunks: usize,
    splits: [Split; LEAVES_MAX],
    leaves: [T; LEAVES_MAX],
    /// Leaves that are left, row by row.
    left: [Chunk<T::Bits>; BLOCK_ROWS_MAX / CHUNK],
    /// What the leaves hold where the rows end.
    ends: [Chunk<T>; BLOCK_ROWS_MAX / CHUNK],
}

/// Which of the tree's nodes, and the leaves below its first child.
#[derive(Clone, Copy, Default)]
struct Split {
    node: u16,
    start: u16,
    end: u16,
}

impl<T: Real> Sieve<T> {
    pub(super) fn new() -> Sieve<T> {
        Sieve {
            slots: Vec::new(),
            n_chunks: 0,
            splits: [Split::default(); LEAVES_MAX],
            leaves: [T::default(); LEAVES_MAX],
            left: [Chunk([T::Bits::ALL; CHUNK]); BLOCK_ROWS_MAX / CHUNK],
            ends: [Chunk([T::default(); CHUNK]); BLOCK_ROWS_MAX / CHUNK],
        }
    }

    /// Takes up to [`BLOCK_ROWS_MAX`] rows.
    pub(super) fn fill(&mut self, slots: &Slots, rows: &[T], n_cols: usize) {
        let rows = rows.chunks(CHUNK * n_cols);
        let n_chunks = rows.len();
        self.n_chunks = n_chunks;
        self.slots
            .resize(slots.len() * n_chunks, Chunk([T::default(); CHUNK]));
        for (chunk, rows) in rows.enumerate() {
            slots.fill(rows, n_cols, |slot, row, value| {
                self.slots[slot * n_chunks + chunk].0[row] = value;
            });
        }
    }
}

impl<T: Real> Forest<T> {
    /// What the tree's leaves hold where the sieve's rows end.
    pub(super) fn sift<'a, const SPECIAL: bool>(
        &self,
        simd: Simd,
        tree: usize,
        sieve: &'a mut Sieve<T>,
    ) -> impl Iterator<Item = &'a T> + use<'a, SPECIAL, T> {
        match simd {
            Simd::Common => self.sift_any::<SPECIAL>(tree, sieve),
            #[cfg(target_arch = "x86_64")]
            #[expect(
                unsafe_code,
                reason = "only so can functions for newer processors be called"
            )]
            // SAFETY: there is no other condition than that the processor has these instructions, and
            // `Simd::best` has looked.
            Simd::Avx2 => unsafe { self.sift_avx2::<SPECIAL>(tree, sieve) },
        }
        sieve.ends.iter().flat_map(|ends| &ends.0)
    }

    /// The same function: the compiler makes wider vectors of its loops.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn sift_avx2<const SPECIAL: bool>(&self, tree: usize, sieve: &mut Sieve<T>) {
        self.sift_any::<SPECIAL>(tree, sieve);
    }

    #[inline(always)]
    fn sift_any<const SPECIAL: bool>(&self, tree: usize, sieve: &mut Sieve<T>) {
        let nodes = &self.nodes[self.span(tree..tree + 1)];
        let n_leaves = self.list_splits(tree, nodes, sieve);
        let n_chunks = sieve.n_chunks;
        let left = &mut sieve.left[..n_chunks];
        let ends = &mut sieve.ends[..n_chunks];
        let splits = &sieve.splits[..n_leaves - 1];
        // The last one that has a leaf left is the first one of the tree.
        for first in (0..n_leaves).step_by(T::Bits::N).rev() {
            left.fill(Chunk([T::Bits::ALL; CHUNK]));
            for split in splits {
                let [start, end] =
                    [split.start, split.end].map(|at| usize::from(at).saturating_sub(first));
                let kept = !T::Bits::range(start, end);
                if kept == T::Bits::ALL {
                    continue;
                }
                let node = &nodes[usize::from(split.node)];
                let column = &sieve.slots[node.slot() * n_chunks..][..n_chunks];
                if SPECIAL && node.bits & SET != 0 {
                    strike(left, column, kept, |value| {
                        self.is_right_by_set(node, value)
                    });
                } else {
                    let from = node.value;
                    strike(left, column, kept, |value| value >= from);
                }
            }
            let leaves = &sieve.leaves[first..first + T::Bits::N];
            for (ends, left) in ends.iter_mut().zip(left.iter()) {
                for (end, left) in ends.0.iter_mut().zip(left.0) {
                    let leaf = leaves[left.first() % T::Bits::N];
                    *end = if left == T::Bits::NONE { *end } else { leaf };
                }
            }
        }
    }

    /// Lists a tree's splits and leaves; how many leaves there are.
    #[inline(always)]
    fn list_splits(&self, tree: usize, nodes: &[Node<T>], sieve: &mut Sieve<T>) -> usize {
        let root = self.trees[tree].root;
        let (mut n_splits, mut n_leaves) = (0_usize, 0_usize);
        // Which node is a leaf is what no branch foresees: each is put on both lists, and counts on one.
        for (at, node) in nodes.iter().enumerate() {
            // The first child's subtree is between a split and its second child.
            let n_below = (node.next - root - at as u32) / 2;
            sieve.leaves[n_leaves % LEAVES_MAX] = node.value;
            sieve.splits[n_splits % LEAVES_MAX] = Split {
                node: at as u16,
                start: n_leaves as u16,
                end: (n_leaves as u32 + n_below) as u16,
            };
            n_leaves += usize::from(node.is_leaf());
            n_splits += usize::from(!node.is_leaf());
        }
        n_leaves
    }
}

/// Strikes off all but the kept, in rows that go on to the second child.
#[inline(always)]
fn strike<T: Real>(
    left: &mut [Chunk<T::Bits>],
    column: &[Chunk<T>],
    kept: T::Bits,
    is_second: impl Fn(T) -> bool,
) {
    for (left, column) in left.iter_mut().zip(column) {
        // A copy, so that the compiler sees that the two are not the same memory.
        let mut bits = left.0;
        for (bits, value) in bits.iter_mut().zip(column.0) {
            *bits &= kept | !T::Bits::all_if(is_second(value));
        }
        left.0 = bits;
    }
}
