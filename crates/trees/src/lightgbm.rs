//! LightGBM's text format (`GBDT::SaveModelToString`, `Tree::ToString`; versions 2 to 4): `key=value` lines,
//! a header, then a block for each tree.

use crate::error::{Error, Result, limit};
use crate::forest::{FEATURES_MAX, Forest, Item, Leaves, Linear, Test};
use crate::link::Link;
use crate::model::{Body, Format, Model, Real};
use std::collections::HashMap;
use std::str::FromStr;

/// Classes of one model.
const GROUPS_MAX: usize = 1 << 16;
/// Fields of a header or of a tree: LightGBM writes below thirty.
const FIELDS_MAX: usize = 256;

// Bits of `decision_type` (`include/LightGBM/tree.h`).
const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 2;
const MISSING_ZERO: u8 = 1;
const MISSING_NAN: u8 = 2;

/// Reads a model that begins with `tree`.
pub(crate) fn read(bytes: &[u8]) -> Result<Model> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::corrupt(format!("byte {} is not UTF-8", error.valid_up_to())))?;
    let mut lines = text.lines();
    let header = Block::read("the header", &mut lines, "Tree=")?;
    let n_groups: usize = header.number("num_tree_per_iteration")?.unwrap_or(1);
    if n_groups == 0 {
        return Err(Error::corrupt("`num_tree_per_iteration` is 0"));
    }
    limit("the number of classes", n_groups, GROUPS_MAX)?;
    let last_feature: i64 = header.required("max_feature_idx")?;
    let n_features = last_feature
        .checked_add(1)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| Error::corrupt(format!("`max_feature_idx` is {last_feature}")))?;
    limit("the number of features", n_features, FEATURES_MAX - 1)?;
    let feature_names: Vec<String> = header
        .text("feature_names")
        .unwrap_or("")
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    if !feature_names.is_empty() && feature_names.len() != n_features {
        return Err(Error::corrupt(format!(
            "{} feature names for {n_features} features",
            feature_names.len()
        )));
    }
    let objective = header.text("objective").unwrap_or("").to_owned();
    let link = link(&objective, n_groups)?;
    let is_mean = header.has("average_output");
    let mut trees = Vec::new();
    let mut next = header.next;
    while let Some(name) = next {
        let tree = Block::read(name, &mut lines, "Tree=")?;
        next = tree.next;
        trees.push(tree);
    }
    if !text.contains("\nend of trees") {
        return Err(Error::corrupt("it ends before `end of trees`"));
    }
    if !trees.len().is_multiple_of(n_groups) {
        return Err(Error::corrupt(format!(
            "{} trees are not whole iterations of {n_groups}",
            trees.len()
        )));
    }
    let is_linear = trees.iter().any(|tree| tree.text("is_linear") == Some("1"));
    let leaves = if is_linear {
        Leaves::Linear(Vec::new())
    } else {
        Leaves::Value
    };
    let mut forest = Forest::new(n_groups, leaves);
    for (at, tree) in trees.iter().enumerate() {
        let items = items(tree, n_features, &mut forest)?;
        forest.add_tree(&items, at % n_groups)?;
    }
    forest.finish();
    let iterations = (0..=trees.len() / n_groups)
        .map(|at| (at * n_groups) as u32)
        .collect();
    Ok(Model {
        format: Format::Lightgbm,
        objective,
        n_features,
        n_groups,
        feature_names,
        link,
        body: Body::Double { forest },
        iterations,
        best_iteration: None,
        is_mean,
        is_vector: n_groups > 1,
    })
}

/// `binary sigmoid:1`: a name and settings.
fn link(objective: &str, n_groups: usize) -> Result<Link> {
    let mut words = objective.split_ascii_whitespace();
    let Some(name) = words.next() else {
        // A custom objective: sums are the answer.
        return Ok(Link::Identity);
    };
    let settings: Vec<&str> = words.collect();
    let scale = || {
        let text = settings
            .iter()
            .find_map(|setting| setting.strip_prefix("sigmoid:"));
        text.map_or(Ok(1.0), |text| {
            text.parse()
                .map_err(|_| Error::corrupt(format!("the objective is `{objective}`")))
        })
    };
    Ok(match name {
        "regression" | "regression_l2" | "regression_l1" | "quantile" | "huber" | "fair"
        | "mape"
            if settings.contains(&"sqrt") =>
        {
            Link::SignedSquare
        }
        "regression" | "regression_l2" | "regression_l1" | "quantile" | "huber" | "fair"
        | "mape" | "lambdarank" | "rank_xendcg" | "custom" | "none" => Link::Identity,
        "poisson" | "gamma" | "tweedie" => Link::Exp,
        "binary" | "multiclassova" => Link::Sigmoid { scale: scale()? },
        "cross_entropy" | "xentropy" => Link::Sigmoid { scale: 1.0 },
        "cross_entropy_lambda" | "xentlambda" => Link::LogOnePlusExp,
        "multiclass" if n_groups > 1 => Link::Softmax,
        _ => {
            return Err(Error::Unsupported(format!(
                "LightGBM's objective `{objective}` is not known, so its predictions cannot be told from its sums"
            )));
        }
    })
}

fn items(tree: &Block<'_>, n_features: usize, forest: &mut Forest<f64>) -> Result<Vec<Item<f64>>> {
    let name = tree.name;
    let n_leaves: usize = tree.required("num_leaves")?;
    let values: Vec<f64> = tree.list("leaf_value")?;
    if n_leaves == 0 || values.len() != n_leaves {
        return Err(Error::corrupt(format!(
            "{name}: `leaf_value` has {} entries for {n_leaves} leaves",
            values.len()
        )));
    }
    let n_splits = n_leaves - 1;
    let features: Vec<i64> = tree.list("split_feature")?;
    let thresholds: Vec<f64> = tree.list("threshold")?;
    let decisions: Vec<u8> = tree.list("decision_type")?;
    let lefts: Vec<i64> = tree.list("left_child")?;
    let rights: Vec<i64> = tree.list("right_child")?;
    for (what, length) in [
        ("split_feature", features.len()),
        ("threshold", thresholds.len()),
        ("decision_type", decisions.len()),
        ("left_child", lefts.len()),
        ("right_child", rights.len()),
    ] {
        // A tree of one leaf has no splits, yet some versions write a field for them.
        if length != n_splits && n_splits > 0 {
            return Err(Error::corrupt(format!(
                "{name}: `{what}` has {length} entries for {n_splits} splits"
            )));
        }
    }
    let sets = sets(tree, forest)?;
    // Splits first, leaves behind them; a negative child is a leaf, bitwise negated.
    let child = |at: i64| {
        let place = if at < 0 {
            (n_splits as i64).saturating_add(!at)
        } else {
            at
        };
        u32::try_from(place)
            .map_err(|_| Error::corrupt(format!("{name} names node {at} as a child")))
    };
    let mut items = Vec::with_capacity(n_splits + n_leaves);
    for at in 0..n_splits {
        let feature = features[at];
        if !usize::try_from(feature).is_ok_and(|feature| feature < n_features) {
            return Err(Error::corrupt(format!(
                "{name}: split {at} asks feature {feature} of {n_features}"
            )));
        }
        let threshold = thresholds[at];
        let default_left = decisions[at] & DEFAULT_LEFT != 0;
        let missing = decisions[at] >> 2 & 3;
        let is_set = decisions[at] & CATEGORICAL != 0;
        let test = if is_set {
            let set = (threshold >= 0.0)
                .then(|| sets.get(threshold as usize))
                .flatten();
            let Some(&set) = set else {
                return Err(Error::corrupt(format!(
                    "{name}: split {at} has no categories"
                )));
            };
            Test::Set(set)
        } else {
            Test::Threshold(threshold)
        };
        let default_right = match missing {
            MISSING_ZERO | MISSING_NAN => !default_left,
            // NaN is compared as 0.
            _ => 0.0 > threshold,
        };
        items.push(Item::Split {
            feature: feature as u32,
            test,
            default_right,
            zero_missing: missing == MISSING_ZERO && !is_set,
            left: child(lefts[at])?,
            right: child(rights[at])?,
        });
    }
    match linear(tree, &values, n_features)? {
        None => match forest.leaves_mut() {
            // Trees of one value among linear ones: the first trees of such a model often are.
            Leaves::Linear(leaves) => {
                for &value in &values {
                    items.push(Item::Leaf(f64::from_index(leaves.len() as u32)));
                    leaves.push(Linear {
                        constant: value,
                        otherwise: value,
                        terms: Vec::new(),
                    });
                }
            }
            Leaves::Value | Leaves::Row { .. } => {
                items.extend(values.iter().map(|&value| Item::Leaf(value)));
            }
        },
        Some(linear) => {
            if let Leaves::Linear(leaves) = forest.leaves_mut() {
                for leaf in linear {
                    items.push(Item::Leaf(f64::from_index(leaves.len() as u32)));
                    leaves.push(leaf);
                }
            }
        }
    }
    Ok(items)
}

/// The sets of a tree, in the order of the file.
fn sets(tree: &Block<'_>, forest: &mut Forest<f64>) -> Result<Vec<u32>> {
    let n: usize = tree.number("num_cat")?.unwrap_or(0);
    if n == 0 {
        return Ok(Vec::new());
    }
    let bounds: Vec<usize> = tree.list("cat_boundaries")?;
    let words: Vec<u32> = tree.list("cat_threshold")?;
    let wrong = || Error::corrupt(format!("{}: the sets of categories are broken", tree.name));
    if bounds.len() != n.checked_add(1).ok_or_else(wrong)? || bounds.last() != Some(&words.len()) {
        return Err(wrong());
    }
    bounds
        .windows(2)
        .map(|pair| {
            let bits = words.get(pair[0]..pair[1]).ok_or_else(wrong)?;
            Ok(forest.add_bits(bits))
        })
        .collect()
}

/// The functions of a linear tree's leaves.
fn linear(tree: &Block<'_>, values: &[f64], n_features: usize) -> Result<Option<Vec<Linear<f64>>>> {
    if tree.text("is_linear") != Some("1") {
        return Ok(None);
    }
    let wrong = || Error::corrupt(format!("{}: its linear leaves are broken", tree.name));
    let constants: Vec<f64> = tree.list("leaf_const")?;
    let counts: Vec<usize> = tree.list("num_features")?;
    let features: Vec<u32> = tree.list("leaf_features")?;
    let factors: Vec<f64> = tree.list("leaf_coeff")?;
    if constants.len() != values.len()
        || counts.len() != values.len()
        || features.len() != factors.len()
        || features.iter().any(|&at| at as usize >= n_features)
    {
        return Err(wrong());
    }
    let mut terms = features.into_iter().zip(factors);
    let mut leaves = Vec::with_capacity(values.len());
    for ((&constant, &otherwise), &count) in constants.iter().zip(values).zip(&counts) {
        let own: Vec<(u32, f64)> = terms.by_ref().take(count).collect();
        if own.len() != count {
            return Err(wrong());
        }
        leaves.push(Linear {
            constant,
            otherwise,
            terms: own,
        });
    }
    if terms.next().is_some() {
        return Err(wrong());
    }
    Ok(Some(leaves))
}

/// The lines of the header or of one tree.
struct Block<'a> {
    name: &'a str,
    fields: HashMap<&'a str, &'a str>,
    /// The line that begins the next block.
    next: Option<&'a str>,
}

impl<'a> Block<'a> {
    /// Reads up to a line that begins with `until`, or to the end of the trees.
    fn read(
        name: &'a str,
        lines: &mut impl Iterator<Item = &'a str>,
        until: &str,
    ) -> Result<Block<'a>> {
        let mut block = Block {
            name,
            fields: HashMap::new(),
            next: None,
        };
        for line in lines {
            let line = line.trim();
            if line.starts_with(until) {
                block.next = Some(line);
                return Ok(block);
            }
            if line == "end of trees" {
                return Ok(block);
            }
            if line.is_empty() {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            block.fields.insert(key, value);
            limit(
                "the number of fields of a tree",
                block.fields.len(),
                FIELDS_MAX,
            )?;
        }
        Ok(block)
    }

    fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.fields.get(key).map(|text| text.trim())
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.text(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::corrupt(format!("{}: `{key}` is `{}`", self.name, short(text)))
                })
            })
            .transpose()
    }

    fn required<T: FromStr>(&self, key: &str) -> Result<T> {
        self.number(key)?
            .ok_or_else(|| Error::corrupt(format!("{}: `{key}` is missing", self.name)))
    }

    /// Numbers between spaces; empty where the field is missing.
    fn list<T: FromStr>(&self, key: &str) -> Result<Vec<T>> {
        self.text(key)
            .unwrap_or("")
            .split_ascii_whitespace()
            .map(|word| {
                word.parse().map_err(|_| {
                    Error::corrupt(format!("{}: `{key}` has `{}`", self.name, short(word)))
                })
            })
            .collect()
    }
}

/// Of a file's text, what a message quotes.
fn short(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
