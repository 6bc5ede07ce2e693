//! Trees as they are walked: nodes of 12 bytes (16 with 64-bit thresholds), siblings side by side, level by
//! level, all trees in one vector.
//!
//! A walk is a chain of dependent loads, so [`LANES`] walks go on at a time: eight trees for one row, or eight
//! rows through one tree. Rows are taken in blocks that stay in the first cache level while every tree passes
//! over them. A leaf points at itself, so that lanes which arrived early need no test.

use crate::error::{Error, Result, limit};
use crate::model::Real;
use std::ops::Range;

/// Walks that go on at a time.
const LANES: usize = 8;
/// Of one block of rows, what should fit the first cache level beside a tree.
const BLOCK_BYTES: usize = 16 << 10;
/// Rows of a block, at most.
const BLOCK_ROWS_MAX: usize = 128;
/// Nodes of one forest: their indices have 32 bits.
const NODES_MAX: usize = 1 << 30;
/// Levels of one tree. A tree of a million leaves in one line still fits.
const DEPTH_MAX: usize = 1 << 20;

const LEAF: u32 = 1 << 31;
/// A missing value goes right.
const DEFAULT_RIGHT: u32 = 1 << 30;
/// The test is membership in a set of categories.
const SET: u32 = 1 << 29;
/// Zero is missing too.
const ZERO_MISSING: u32 = 1 << 28;
/// The rest of the bits is the feature.
pub(crate) const FEATURES_MAX: usize = 1 << 28;

/// A node as it is walked.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Node<T> {
    /// The threshold; of a leaf its value; of a set or a leaf with a table its index.
    value: T,
    bits: u32,
    /// The left child; the right one is next to it. A leaf's is itself.
    left: u32,
}

/// A node as a file has it; children are indices in the same tree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<T> {
    /// An end with its value, or the index of its row in [`Leaves`].
    Leaf(T),
    Split {
        feature: u32,
        test: Test<T>,
        default_right: bool,
        zero_missing: bool,
        left: u32,
        right: u32,
    },
}

/// What a split asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test<T> {
    /// Whether the value is over (LightGBM) or not under (XGBoost) this.
    Threshold(T),
    /// Whether the category is in this set of the forest.
    Set(u32),
}

#[derive(Clone, Copy, Debug)]
struct Tree {
    root: u32,
    depth: u32,
    group: u32,
}

/// What a leaf holds.
#[derive(Clone, Debug)]
pub(crate) enum Leaves<T> {
    /// Its own value.
    Value,
    /// A row of this table: one value for each group.
    Row { width: usize, table: Vec<T> },
    /// A linear function of the features (LightGBM's linear trees).
    Linear(Vec<Linear<T>>),
}

/// A leaf's linear function.
#[derive(Clone, Debug)]
pub(crate) struct Linear<T> {
    pub(crate) constant: T,
    /// The answer where a feature is NaN.
    pub(crate) otherwise: T,
    pub(crate) terms: Vec<(u32, T)>,
}

/// A set of categories.
#[derive(Clone, Debug)]
enum Set {
    Bits(Range<usize>),
    /// Few categories with large numbers.
    Sorted(Range<usize>),
}

/// All trees of a model.
#[derive(Clone, Debug)]
pub(crate) struct Forest<T> {
    nodes: Vec<Node<T>>,
    trees: Vec<Tree>,
    sets: Vec<Set>,
    words: Vec<u32>,
    leaves: Leaves<T>,
    n_groups: usize,
    /// Whether a node asks more than a threshold.
    special: bool,
}

impl<T: Real> Forest<T> {
    pub(crate) fn new(n_groups: usize, leaves: Leaves<T>) -> Forest<T> {
        Forest {
            nodes: Vec::new(),
            trees: Vec::new(),
            sets: Vec::new(),
            words: Vec::new(),
            leaves,
            n_groups,
            special: false,
        }
    }

    pub(crate) fn n_trees(&self) -> usize {
        self.trees.len()
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        let table = match &self.leaves {
            Leaves::Value => 0,
            Leaves::Row { table, .. } => size_of_val(table.as_slice()),
            Leaves::Linear(leaves) => leaves
                .iter()
                .map(|leaf| size_of::<Linear<T>>() + size_of_val(leaf.terms.as_slice()))
                .sum(),
        };
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.trees.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.sets.as_slice())
            + table
    }

    pub(crate) fn leaves_mut(&mut self) -> &mut Leaves<T> {
        &mut self.leaves
    }

    /// A set of these categories, by number.
    pub(crate) fn add_set(&mut self, categories: &mut Vec<u32>) -> u32 {
        categories.sort_unstable();
        categories.dedup();
        let start = self.words.len();
        let n_words = categories
            .last()
            .map_or(0, |&last| last as usize / u32::BITS as usize + 1);
        let set = if n_words <= 2 * categories.len() + 8 {
            self.words.resize(start + n_words, 0);
            for &category in categories.iter() {
                self.words[start + (category / u32::BITS) as usize] |= 1 << (category % u32::BITS);
            }
            Set::Bits(start..self.words.len())
        } else {
            self.words.extend_from_slice(categories);
            Set::Sorted(start..self.words.len())
        };
        self.sets.push(set);
        (self.sets.len() - 1) as u32
    }

    /// A set of categories given as bits.
    pub(crate) fn add_bits(&mut self, bits: &[u32]) -> u32 {
        let start = self.words.len();
        self.words.extend_from_slice(bits);
        self.sets.push(Set::Bits(start..self.words.len()));
        (self.sets.len() - 1) as u32
    }

    /// Adds a tree whose first item is its root. Items that nothing leads to are left out.
    pub(crate) fn add_tree(&mut self, items: &[Item<T>], group: usize) -> Result<()> {
        let start = self.nodes.len();
        limit("the number of nodes", start + items.len(), NODES_MAX)?;
        let name = self.trees.len();
        let mut seen = vec![false; items.len()];
        let mut level = vec![0_u32];
        let mut next_level = Vec::new();
        let mut end = start + 1;
        let mut depth = 0;
        loop {
            for &item in &level {
                let place = self.nodes.len() as u32;
                let known = items.get(item as usize);
                let (Some(known), Some(seen @ false)) = (known, seen.get_mut(item as usize)) else {
                    return Err(Error::corrupt(match known {
                        None => format!("tree {name} has no node {item}, which another names"),
                        Some(_) => format!("tree {name} has two ways to node {item}"),
                    }));
                };
                *seen = true;
                match *known {
                    Item::Leaf(value) => self.nodes.push(Node {
                        value,
                        bits: LEAF,
                        left: place,
                    }),
                    Item::Split {
                        feature,
                        test,
                        default_right,
                        zero_missing,
                        left,
                        right,
                    } => {
                        let mut bits = feature;
                        if default_right {
                            bits |= DEFAULT_RIGHT;
                        }
                        if zero_missing {
                            bits |= ZERO_MISSING;
                        }
                        let value = match test {
                            Test::Threshold(value) => value,
                            Test::Set(set) => {
                                bits |= SET;
                                T::from_index(set)
                            }
                        };
                        self.special |= bits & (SET | ZERO_MISSING) != 0;
                        self.nodes.push(Node {
                            value,
                            bits,
                            left: end as u32,
                        });
                        end += 2;
                        next_level.extend([left, right]);
                    }
                }
            }
            if next_level.is_empty() {
                break;
            }
            depth += 1;
            limit("the depth of a tree", depth, DEPTH_MAX)?;
            std::mem::swap(&mut level, &mut next_level);
            next_level.clear();
        }
        self.trees.push(Tree {
            root: start as u32,
            depth: depth as u32,
            group: group as u32,
        });
        Ok(())
    }

    /// Gives back what growing left over.
    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.trees.shrink_to_fit();
        self.words.shrink_to_fit();
        self.sets.shrink_to_fit();
    }

    /// Adds the trees' answers for whole rows of `n_cols` to `sums` (`n_groups` a row), in the order of the
    /// trees. `n_cols` is over every feature that is asked.
    pub(crate) fn add_to(&self, trees: Range<usize>, rows: &[T], n_cols: usize, sums: &mut [T]) {
        let trees = &self.trees[trees];
        if self.special {
            self.add_rows::<true>(trees, rows, n_cols, sums);
        } else {
            self.add_rows::<false>(trees, rows, n_cols, sums);
        }
    }

    fn add_rows<const SPECIAL: bool>(
        &self,
        trees: &[Tree],
        rows: &[T],
        n_cols: usize,
        sums: &mut [T],
    ) {
        let n_rows = rows.len() / n_cols;
        let n_full = n_rows / LANES * LANES;
        let per_block =
            (BLOCK_BYTES / (n_cols * size_of::<T>()) / LANES * LANES).clamp(LANES, BLOCK_ROWS_MAX);
        let (full_rows, last_rows) = rows.split_at(n_full * n_cols);
        let (full_sums, last_sums) = sums.split_at_mut(n_full * self.n_groups);
        let blocks = full_rows
            .chunks(per_block * n_cols)
            .zip(full_sums.chunks_mut(per_block * self.n_groups));
        for (rows, sums) in blocks {
            for tree in trees {
                let lanes = rows
                    .chunks_exact(LANES * n_cols)
                    .zip(sums.chunks_exact_mut(LANES * self.n_groups));
                for (rows, sums) in lanes {
                    self.add_lanes::<SPECIAL>(tree, rows, n_cols, sums);
                }
            }
        }
        let last = last_rows
            .chunks_exact(n_cols)
            .zip(last_sums.chunks_exact_mut(self.n_groups));
        for (row, sums) in last {
            self.add_row::<SPECIAL>(trees, row, sums);
        }
    }

    /// One tree, [`LANES`] rows.
    #[inline]
    fn add_lanes<const SPECIAL: bool>(
        &self,
        tree: &Tree,
        rows: &[T],
        n_cols: usize,
        sums: &mut [T],
    ) {
        let lanes: [&[T]; LANES] =
            std::array::from_fn(|lane| &rows[lane * n_cols..(lane + 1) * n_cols]);
        let mut at = [tree.root; LANES];
        for _ in 0..tree.depth {
            let mut moved = 0;
            for lane in 0..LANES {
                let next = self.step::<SPECIAL>(at[lane], lanes[lane]);
                moved |= next ^ at[lane];
                at[lane] = next;
            }
            if moved == 0 {
                break;
            }
        }
        for lane in 0..LANES {
            let sums = &mut sums[lane * self.n_groups..(lane + 1) * self.n_groups];
            self.add_leaf(tree, at[lane], lanes[lane], sums);
        }
    }

    /// One row, [`LANES`] trees at a time.
    fn add_row<const SPECIAL: bool>(&self, trees: &[Tree], row: &[T], sums: &mut [T]) {
        let (lanes, rest) = trees.as_chunks::<LANES>();
        for trees in lanes {
            let mut at: [u32; LANES] = std::array::from_fn(|lane| trees[lane].root);
            loop {
                let mut moved = 0;
                for at in &mut at {
                    let next = self.step::<SPECIAL>(*at, row);
                    moved |= next ^ *at;
                    *at = next;
                }
                if moved == 0 {
                    break;
                }
            }
            for (tree, at) in trees.iter().zip(at) {
                self.add_leaf(tree, at, row, sums);
            }
        }
        for tree in rest {
            let mut at = tree.root;
            for _ in 0..tree.depth {
                at = self.step::<SPECIAL>(at, row);
            }
            self.add_leaf(tree, at, row, sums);
        }
    }

    #[inline(always)]
    fn step<const SPECIAL: bool>(&self, at: u32, row: &[T]) -> u32 {
        let node = &self.nodes[at as usize];
        let value = row[(node.bits & (FEATURES_MAX as u32 - 1)) as usize];
        let missing = value.is_missing();
        let right = if SPECIAL && node.bits & (SET | ZERO_MISSING) != 0 {
            self.special(node, value)
        } else {
            value.is_right_of(node.value) | (missing & (node.bits & DEFAULT_RIGHT != 0))
        };
        // Of a leaf the highest bit is set and nothing is added.
        node.left + (u32::from(right) & !(node.bits >> 31))
    }

    /// Whether a test that is more than a threshold leads right.
    fn special(&self, node: &Node<T>, value: T) -> bool {
        if node.bits & SET == 0 {
            return if value.is_missing() || value.is_zero() {
                node.bits & DEFAULT_RIGHT != 0
            } else {
                value.is_right_of(node.value)
            };
        }
        let in_set = |category: u32| match &self.sets[node.value.to_index() as usize] {
            Set::Bits(words) => self.words[words.clone()]
                .get((category / u32::BITS) as usize)
                .is_some_and(|word| word >> (category % u32::BITS) & 1 == 1),
            Set::Sorted(words) => self.words[words.clone()].binary_search(&category).is_ok(),
        };
        T::set_leads_right(value, node.bits & DEFAULT_RIGHT != 0, in_set)
    }

    #[inline(always)]
    fn add_leaf(&self, tree: &Tree, at: u32, row: &[T], sums: &mut [T]) {
        let value = self.nodes[at as usize].value;
        match &self.leaves {
            Leaves::Value => sums[tree.group as usize] += value,
            Leaves::Row { width, table } => {
                let start = value.to_index() as usize * width;
                for (sum, value) in sums.iter_mut().zip(&table[start..start + width]) {
                    *sum += *value;
                }
            }
            Leaves::Linear(leaves) => {
                let leaf = &leaves[value.to_index() as usize];
                sums[tree.group as usize] += leaf.answer(row);
            }
        }
    }
}

impl<T: Real> Linear<T> {
    fn answer(&self, row: &[T]) -> T {
        let mut sum = self.constant;
        for &(feature, factor) in &self.terms {
            let value = row[feature as usize];
            if value.is_missing() {
                return self.otherwise;
            }
            sum += factor * value;
        }
        sum
    }
}
