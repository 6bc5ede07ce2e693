//! Every way through a forest gives the bits that a plain walk over the file's nodes gives.

use super::sift::Simd;
use super::*;
use e2e::Dice;
use std::fmt::Debug;

const ROUNDS: u64 = 100;
/// What splits, rows and leaves have: edges of the types, neighbours, and categories.
const VALUES: [f64; 24] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN,
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1e-45,
    -1e-45,
    1e-35_f32 as f64,
    -1e-35_f32 as f64,
    1e-34,
    1.0,
    1.000_000_000_000_000_2,
    1.000_000_119_209_289_6,
    -1.0,
    2.0,
    2.5,
    7.0,
    33.0,
    16_777_216.0,
    2_147_483_648.0,
];

/// A number of a library, its rule for thresholds written down once more.
trait Plain: Real + Debug {
    fn cast(value: f64) -> Self;
    fn is_over(self, threshold: Self) -> bool;
    fn bits(self) -> u64;
}

impl Plain for f32 {
    fn cast(value: f64) -> f32 {
        value as f32
    }
    fn is_over(self, threshold: f32) -> bool {
        self >= threshold
    }
    fn bits(self) -> u64 {
        if self.is_nan() {
            1 << 40
        } else {
            u64::from(self.to_bits())
        }
    }
}

impl Plain for f64 {
    fn cast(value: f64) -> f64 {
        value
    }
    fn is_over(self, threshold: f64) -> bool {
        self > threshold
    }
    fn bits(self) -> u64 {
        if self.is_nan() {
            f64::NAN.to_bits()
        } else {
            self.to_bits()
        }
    }
}

/// A tree as a file has it, and whose it is.
struct Known<T> {
    items: Vec<Item<T>>,
    group: usize,
}

fn value<T: Plain>(dice: &mut Dice) -> T {
    T::cast(VALUES[dice.pick(VALUES.len())])
}

fn split<T: Plain>(
    dice: &mut Dice,
    n_features: usize,
    n_sets: usize,
    [left, right]: [usize; 2],
) -> Item<T> {
    let is_set = n_sets > 0 && dice.pick(4) == 0;
    Item::Split {
        feature: dice.pick(n_features) as u32,
        test: match is_set {
            true => Test::Set(dice.pick(n_sets) as u32),
            false => Test::Threshold(value(dice)),
        },
        default_right: dice.pick(2) == 0,
        zero_missing: !is_set && dice.pick(4) == 0,
        left: left as u32,
        right: right as u32,
    }
}

/// Splits leaves until there are `n_leaves`; where `is_chain`, always one of the last two.
fn tree<T: Plain>(
    dice: &mut Dice,
    n_features: usize,
    n_sets: usize,
    n_leaves: usize,
    is_chain: bool,
    mut leaf: impl FnMut(&mut Dice) -> T,
) -> Vec<Item<T>> {
    let mut items = vec![Item::Leaf(leaf(dice))];
    let mut open = vec![0];
    while open.len() < n_leaves {
        let at = match is_chain {
            true => open.len() - 1 - dice.pick(2.min(open.len())),
            false => dice.pick(open.len()),
        };
        let at = open.swap_remove(at);
        let left = items.len();
        items[at] = split(dice, n_features, n_sets, [left, left + 1]);
        for _ in 0..2 {
            open.push(items.len());
            items.push(Item::Leaf(leaf(dice)));
        }
    }
    items
}

fn end<T: Plain>(items: &[Item<T>], sets: &[Vec<u32>], row: &[T]) -> T {
    let mut at = 0;
    loop {
        match items[at] {
            Item::Leaf(value) => return value,
            Item::Split {
                feature,
                test,
                default_right,
                zero_missing,
                left,
                right,
            } => {
                let value = row[feature as usize];
                let is_right = match test {
                    Test::Set(set) => T::set_leads_right(value, default_right, |category| {
                        sets[set as usize].contains(&category)
                    }),
                    Test::Threshold(_)
                        if value.is_missing() || (zero_missing && value.is_zero()) =>
                    {
                        default_right
                    }
                    Test::Threshold(threshold) => value.is_over(threshold),
                };
                at = if is_right { right } else { left } as usize;
            }
        }
    }
}

fn check<T: Plain>(seed: u64) {
    let mut dice = Dice(seed | 1);
    let dice = &mut dice;
    let n_features = 1 + dice.pick(6);
    let n_groups = 1 + dice.pick(3);
    let n_sets = [0, 0, 5][dice.pick(3)];
    let kind = dice.pick(5);
    let leaves = match kind {
        0 => Leaves::Row {
            width: n_groups,
            table: (0..50 * n_groups).map(|_| value(dice)).collect(),
        },
        1 => Leaves::Linear(
            (0..50)
                .map(|_| Linear {
                    constant: value(dice),
                    otherwise: value(dice),
                    terms: (0..dice.pick(3))
                        .map(|_| (dice.pick(n_features) as u32, value(dice)))
                        .collect(),
                })
                .collect(),
        ),
        _ => Leaves::Value,
    };
    let mut forest = Forest::new(n_groups, leaves.clone());
    let sets: Vec<Vec<u32>> = (0..n_sets)
        .map(|_| {
            (0..dice.pick(4))
                .map(|_| [0, 1, 2, 7, 33, 9_999_999][dice.pick(6)])
                .collect()
        })
        .collect();
    for set in &sets {
        forest.add_set(&mut set.clone());
    }
    let n_trees = [1, 7, 8, 30, 600][dice.pick(5)];
    let known: Vec<Known<T>> = (0..n_trees)
        .map(|_| {
            let n_leaves = match n_trees {
                600 => 1 + dice.pick(6),
                _ => [1, 2, 8, 31, 32, 33, 63, 64, 65, 150][dice.pick(10)],
            };
            let is_chain = dice.pick(3) == 0;
            let items = tree(
                dice,
                n_features,
                n_sets,
                n_leaves,
                is_chain,
                |dice| match kind {
                    0 | 1 => T::from_index(dice.pick(50) as u32),
                    // Numbers whose sum depends on the order.
                    _ if dice.pick(500) > 0 => T::cast(dice.pick(1_000_000) as f64 / 7.0 - 3e4),
                    _ => value(dice),
                },
            );
            let group = dice.pick(n_groups);
            forest.add_tree(&items, group).unwrap();
            Known { items, group }
        })
        .collect();
    forest.finish();
    let n_cols = n_features + dice.pick(2);
    let n_rows =
        [1, 2, 7, 8, 9, 31, 32, 33, 65, 70, 600][dice.pick(if n_trees == 600 { 10 } else { 11 })];
    let rows: Vec<T> = (0..n_rows * n_cols).map(|_| value(dice)).collect();
    let start: Vec<T> = (0..n_rows * n_groups)
        .map(|_| T::cast(dice.pick(9) as f64))
        .collect();
    let first = dice.pick(n_trees);
    let trees = [0..n_trees, first..first + dice.pick(n_trees - first + 1)][dice.pick(2)].clone();

    let mut wanted = start.clone();
    for (row, sums) in rows.chunks(n_cols).zip(wanted.chunks_mut(n_groups)) {
        for tree in &known[trees.clone()] {
            let value = end(&tree.items, &sets, row);
            match &leaves {
                Leaves::Value => sums[tree.group] += value,
                Leaves::Row { width, table } => {
                    let index = value.to_index() as usize;
                    for (group, sum) in sums.iter_mut().enumerate() {
                        *sum += table[index * width + group];
                    }
                }
                Leaves::Linear(leaves) => {
                    sums[tree.group] += leaves[value.to_index() as usize].answer(row);
                }
            }
        }
    }
    for simd in [Simd::Common, Simd::best()] {
        let mut sums = start.clone();
        forest.add_by(simd, trees.clone(), &rows, n_cols, &mut sums);
        for (at, (got, wanted)) in sums.iter().zip(&wanted).enumerate() {
            assert_eq!(
                got.bits(),
                wanted.bits(),
                "MOONSHOT_SEED={seed}, {simd:?}: sum {at} of {n_rows} rows is {got:?} instead of {wanted:?}"
            );
        }
    }
}

#[test]
fn answers_are_those_of_a_plain_walk() {
    let seed: u64 = std::env::var("MOONSHOT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed);
    for round in 0..ROUNDS {
        let seed = seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        check::<f32>(seed);
        check::<f64>(seed);
    }
}

#[test]
fn every_value_meets_every_threshold() {
    fn check<T: Plain>() {
        for threshold in VALUES.map(T::cast) {
            for value in VALUES.map(T::cast) {
                let is_over = !value.is_missing() && value.is_over(threshold);
                let is_second = value >= threshold.first_sent(false);
                assert_eq!(is_second, is_over, "{value:?} over {threshold:?}");
                // Here missing values are sent to the right, and the second child is the left one.
                let is_second = -value >= threshold.first_sent(true);
                let is_left = !value.is_missing() && !is_over;
                assert_eq!(is_second, is_left, "{value:?} not over {threshold:?}");
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn a_tree_in_one_line_takes_no_stack() {
    let n = 200_000;
    let mut items = Vec::new();
    for at in 0..n {
        items.push(Item::Split {
            feature: 0,
            test: Test::Threshold(at as f32),
            default_right: at % 2 == 0,
            zero_missing: false,
            left: 2 * at + 1,
            right: 2 * at + 2,
        });
        items.push(Item::Leaf(at as f32));
    }
    items.push(Item::Leaf(-1.0));
    let mut forest = Forest::new(1, Leaves::Value);
    forest.add_tree(&items, 0).unwrap();
    forest.finish();
    for (value, wanted) in [
        (0.5, 1.0),
        (199_998.5, 199_999.0),
        (1e9, -1.0),
        (f32::NAN, 1.0),
    ] {
        let mut sums = [0.0; 40];
        forest.add_to(0..1, &[value; 40], 1, &mut sums);
        assert_eq!(sums, [wanted; 40]);
    }
}
