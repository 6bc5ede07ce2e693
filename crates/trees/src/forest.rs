//! Trees as they are evaluated: nodes of 12 bytes (16 with 64-bit thresholds), all trees in one vector, each
//! node before the subtree of its first child, and that before the subtree of its second.
//!
//! `rows` chooses how rows go through them: `walk` follows a row from node to node, `sift` takes many rows at once.
//! Both compare what `slots` makes of a row. `docs/decisions/0065` has what was measured.

mod rows;
mod sift;
mod slots;
#[cfg(test)]
mod tests;
mod walk;

use crate::error::{Error, Result, limit};
use crate::model::Real;
use slots::{Slots, source};
use std::ops::Range;

/// Nodes of one forest: their indices have 32 bits.
const NODES_MAX: usize = 1 << 30;

const LEAF: u32 = 1 << 31;
/// The test is membership in a set of categories.
const SET: u32 = 1 << 30;
/// A value that is missing is sent where a set sends what is right.
const DEFAULT_RIGHT: u32 = 1 << 29;
/// The rest of the bits is the slot of the row.
const SLOT: u32 = DEFAULT_RIGHT - 1;
/// While a forest grows, a slot has the feature's number and two bits beside it.
pub(crate) const FEATURES_MAX: usize = 1 << 27;

/// A node as it is evaluated. The subtree of its first child is right behind it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Node<T> {
    /// From this on a value goes to the second child; of a leaf its value; of a set or a leaf with a table its
    /// index.
    value: T,
    bits: u32,
    /// The second child. A leaf's is the root of the next tree.
    next: u32,
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
    slots: Slots,
    n_groups: usize,
    /// Whether a node asks more than a threshold, or a leaf is more than any number.
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
            slots: Slots::default(),
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
            + self.slots.memory()
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
        // What is still to be placed, and of right children the parent.
        let mut open = vec![(0_u32, None)];
        while let Some((item, parent)) = open.pop() {
            let place = self.nodes.len();
            if let Some(parent) = parent {
                let parent: &mut Node<T> = &mut self.nodes[parent];
                parent.next = place as u32;
            }
            let known = items.get(item as usize);
            let (Some(known), Some(seen @ false)) = (known, seen.get_mut(item as usize)) else {
                return Err(Error::corrupt(match known {
                    None => format!("tree {name} has no node {item}, which another names"),
                    Some(_) => format!("tree {name} has two ways to node {item}"),
                }));
            };
            *seen = true;
            let (node, children) = self.node(*known);
            if let Some([first, second]) = children {
                open.extend([(second, Some(place)), (first, None)]);
            }
            self.nodes.push(node);
        }
        // Now it is known where the next tree begins.
        let end = self.nodes.len() as u32;
        for node in &mut self.nodes[start..] {
            if node.is_leaf() {
                node.next = end;
            }
        }
        self.trees.push(Tree {
            root: start as u32,
            group: group as u32,
        });
        Ok(())
    }

    /// A node that leads nowhere yet, and which its children are.
    fn node(&mut self, item: Item<T>) -> (Node<T>, Option<[u32; 2]>) {
        let (value, bits, children) = match item {
            Item::Leaf(value) => {
                self.special |= value.is_missing();
                (value, LEAF, None)
            }
            Item::Split {
                feature,
                test: Test::Set(set),
                default_right,
                left,
                right,
                ..
            } => {
                self.special = true;
                let default = if default_right { DEFAULT_RIGHT } else { 0 };
                let bits = source(feature, false, false) | SET | default;
                (T::from_index(set), bits, Some([left, right]))
            }
            Item::Split {
                feature,
                test: Test::Threshold(threshold),
                default_right,
                zero_missing,
                left,
                right,
            } => {
                let bits = source(feature, default_right, zero_missing);
                let children = if default_right {
                    [right, left]
                } else {
                    [left, right]
                };
                (threshold.first_sent(default_right), bits, Some(children))
            }
        };
        (
            Node {
                value,
                bits,
                next: 0,
            },
            children,
        )
    }

    /// Ends the growing: puts a leaf behind the last tree that leads to itself, and gives back what is left over.
    pub(crate) fn finish(&mut self) {
        let splits = self.nodes.iter().filter(|node| !node.is_leaf());
        self.slots = Slots::new(splits.map(|node| node.bits & SLOT).collect());
        for node in &mut self.nodes {
            if !node.is_leaf() {
                node.bits = node.bits & !SLOT | self.slots.of(node.bits & SLOT);
            }
        }
        self.nodes.push(Node {
            value: T::default(),
            bits: 0,
            next: self.nodes.len() as u32,
        });
        self.nodes.shrink_to_fit();
        self.trees.shrink_to_fit();
        self.words.shrink_to_fit();
        self.sets.shrink_to_fit();
    }

    /// Leaves of a tree.
    fn n_leaves(&self, tree: usize) -> usize {
        // Each split has two children.
        self.span(tree..tree + 1).len().div_ceil(2)
    }

    /// The nodes of trees.
    fn span(&self, trees: Range<usize>) -> Range<usize> {
        let start = |tree: usize| match self.trees.get(tree) {
            Some(tree) => tree.root as usize,
            None => self.nodes.len() - 1,
        };
        start(trees.start)..start(trees.end)
    }

    /// Whether a node sends a value to its second child.
    #[inline(always)]
    fn is_second<const SPECIAL: bool>(&self, node: &Node<T>, value: T) -> bool {
        if SPECIAL && node.bits & (SET | LEAF) != 0 {
            return node.is_leaf() || self.is_right_by_set(node, value);
        }
        value >= node.value
    }

    fn is_right_by_set(&self, node: &Node<T>, value: T) -> bool {
        let in_set = |category: u32| match &self.sets[node.value.to_index() as usize] {
            Set::Bits(words) => self.words[words.clone()]
                .get((category / u32::BITS) as usize)
                .is_some_and(|word| word >> (category % u32::BITS) & 1 == 1),
            Set::Sorted(words) => self.words[words.clone()].binary_search(&category).is_ok(),
        };
        T::set_leads_right(value, node.bits & DEFAULT_RIGHT != 0, in_set)
    }

    /// Adds what a tree answers to a row, where `value` is what its leaf holds.
    #[inline(always)]
    fn add_leaf(&self, tree: Tree, value: T, row: &[T], sums: &mut [T]) {
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

impl<T> Node<T> {
    #[inline(always)]
    fn is_leaf(&self) -> bool {
        self.bits & LEAF != 0
    }

    #[inline(always)]
    fn slot(&self) -> usize {
        (self.bits & SLOT) as usize
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
