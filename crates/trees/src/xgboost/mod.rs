//! XGBoost's model document, JSON or UBJSON (<https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html>,
//! its JSON schema, and what 1.0 to 3.4 really write).
//!
//! [`document`] takes from the file what matters, in whatever order it stands; here the parts are checked
//! against each other and become a [`Model`].

mod document;

use crate::error::{Error, Result, limit};
use crate::forest::{FEATURES_MAX, Forest, Item, Leaves, Test};
use crate::link::Link;
use crate::model::{Body, Format, Model, Real, XGBOOST_CATEGORIES_MAX};
use crate::reader::{Json, Ubj};
use document::{Document, Tree};

/// How `base_score` becomes a margin.
type ToMargin = fn(f32) -> f32;

/// Classes or targets of one model.
const GROUPS_MAX: usize = 1 << 16;

/// Reads a model from its first byte `{` on.
pub(crate) fn read(bytes: &[u8]) -> Result<Model> {
    // After the brace: UBJSON has the type of a length, JSON a quote or space.
    let document = match bytes.get(1) {
        Some(b'i' | b'U' | b'I' | b'l' | b'L' | b'$' | b'#') => {
            Document::read(&mut Ubj::new(bytes))?
        }
        _ => Document::read(&mut Json::new(bytes))?,
    };
    if !document.has_learner {
        return Err(Error::Format(
            "this JSON is no XGBoost model: `learner` is missing (a model is what `save_model` writes, not \
             `dump_model`)"
                .to_owned(),
        ));
    }
    model(document)
}

fn model(document: Document) -> Result<Model> {
    let n_class = number("num_class", &document.num_class)?;
    let n_target = number("num_target", &document.num_target)?;
    let n_groups = n_class.max(n_target).max(1);
    limit("the number of classes or targets", n_groups, GROUPS_MAX)?;
    let n_features = number("num_feature", &document.num_feature)?;
    limit("the number of features", n_features, FEATURES_MAX - 1)?;
    let objective = document.objective.clone();
    let (link, to_margin) = link(&objective)?;
    let base = base_score(&document.base_score, n_groups)?
        .into_iter()
        .map(to_margin)
        .collect::<Vec<f32>>();
    let mut model = Model {
        format: Format::Xgboost,
        n_features,
        n_groups,
        feature_names: document.feature_names.clone(),
        link,
        body: Body::Linear {
            weights: Vec::new(),
            base: Vec::new(),
        },
        iterations: Vec::new(),
        best_iteration: None,
        is_mean: false,
        is_vector: n_groups > 1,
        objective,
    };
    if !model.feature_names.is_empty() && model.feature_names.len() != n_features {
        return Err(Error::corrupt(format!(
            "{} feature names for {n_features} features",
            model.feature_names.len()
        )));
    }
    if let Some(best) = &document.best_iteration {
        model.best_iteration = Some(
            best.trim()
                .parse()
                .map_err(|_| Error::corrupt(format!("`best_iteration` is `{best}`")))?,
        );
    }
    match document.booster.as_str() {
        "gbtree" | "dart" => {
            model.iterations = iterations(&document, n_groups)?;
            model.body = Body::Single {
                forest: forest(document, n_groups, n_features)?,
                base,
            };
        }
        "gblinear" => {
            let wanted = (n_features + 1) * n_groups;
            if document.weights.len() != wanted {
                return Err(Error::corrupt(format!(
                    "`weights` has {} values, {wanted} are expected",
                    document.weights.len()
                )));
            }
            // All rounds are one function.
            model.iterations = vec![0, 0];
            model.best_iteration = None;
            model.body = Body::Linear {
                weights: document.weights,
                base,
            };
        }
        other => {
            return Err(Error::Unsupported(format!(
                "XGBoost's booster `{other}` is not known; `gbtree`, `dart` and `gblinear` are"
            )));
        }
    }
    Ok(model)
}

/// A count that the file holds as text. Absent and empty mean 0.
fn number(name: &str, text: &str) -> Result<usize> {
    if text.is_empty() {
        return Ok(0);
    }
    text.trim()
        .parse()
        .map_err(|_| Error::corrupt(format!("`{name}` is `{text}`, not a count")))
}

/// `5E-1`, and since 3.1 `[5E-1]` or one for each group.
fn base_score(text: &str, n_groups: usize) -> Result<Vec<f32>> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    if inner.trim().is_empty() {
        return Ok(vec![0.5; n_groups]);
    }
    let scores: Vec<f32> = inner
        .split(',')
        .map(|score| score.trim().parse())
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::corrupt(format!("`base_score` is `{text}`")))?;
    match scores.len() {
        1 => Ok(vec![scores[0]; n_groups]),
        n if n == n_groups => Ok(scores),
        n => Err(Error::corrupt(format!(
            "`base_score` has {n} values for {n_groups} groups"
        ))),
    }
}

/// An objective's inverse link, and how `base_score` becomes a margin (`ProbToMargin`).
fn link(objective: &str) -> Result<(Link, ToMargin)> {
    let identity: ToMargin = |score| score;
    let logit: ToMargin = |score| -(1.0 / score - 1.0).ln();
    let log: ToMargin = f32::ln;
    let sigmoid = Link::Sigmoid { scale: 1.0 };
    Ok(match objective {
        "reg:squarederror"
        | "reg:linear"
        | "reg:squaredlogerror"
        | "reg:absoluteerror"
        | "reg:pseudohubererror"
        | "reg:quantileerror"
        | "reg:expectileerror"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map"
        // Its `base_score` is a margin already.
        | "binary:logitraw" => (Link::Identity, identity),
        "reg:logistic" | "binary:logistic" => (sigmoid, logit),
        "binary:hinge" => (Link::Hinge, identity),
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
            (Link::Exp, log)
        }
        "multi:softprob" => (Link::Softmax, identity),
        "multi:softmax" => (Link::Argmax, identity),
        other => {
            return Err(Error::Unsupported(format!(
                "XGBoost's objective `{other}` is not known, so its predictions cannot be told from its sums"
            )));
        }
    })
}

/// Where each iteration's trees start.
fn iterations(document: &Document, n_groups: usize) -> Result<Vec<u32>> {
    let n_trees = document.trees.len();
    if !document.iteration_indptr.is_empty() {
        let mut last = 0;
        for &start in &document.iteration_indptr {
            if start < last {
                return Err(Error::corrupt("`iteration_indptr` goes back"));
            }
            last = start;
        }
        if document.iteration_indptr[0] != 0 || last != n_trees as i64 {
            return Err(Error::corrupt(format!(
                "`iteration_indptr` does not span the {n_trees} trees"
            )));
        }
        return Ok(document
            .iteration_indptr
            .iter()
            .map(|&start| start as u32)
            .collect());
    }
    // Before 2.0: every iteration has as many.
    let is_vector = document.trees.iter().any(|tree| tree.width() > 1);
    let parallel = number("num_parallel_tree", &document.num_parallel_tree)?.max(1);
    let each = parallel.saturating_mul(if is_vector { 1 } else { n_groups });
    if !n_trees.is_multiple_of(each) {
        return Err(Error::corrupt(format!(
            "{n_trees} trees are not whole iterations of {each}"
        )));
    }
    Ok((0..=n_trees / each).map(|at| (at * each) as u32).collect())
}

fn forest(document: Document, n_groups: usize, n_features: usize) -> Result<Forest<f32>> {
    let n_trees = document.trees.len();
    if document.tree_info.len() != n_trees && !document.tree_info.is_empty() {
        return Err(Error::corrupt(format!(
            "`tree_info` has {} entries for {n_trees} trees",
            document.tree_info.len()
        )));
    }
    if !document.weight_drop.is_empty() && document.weight_drop.len() != n_trees {
        return Err(Error::corrupt(format!(
            "`weight_drop` has {} entries for {n_trees} trees",
            document.weight_drop.len()
        )));
    }
    let is_vector = document.trees.iter().any(|tree| tree.width() > 1);
    let leaves = if is_vector {
        Leaves::Row {
            width: n_groups,
            table: Vec::new(),
        }
    } else {
        Leaves::Value
    };
    let mut forest = Forest::new(n_groups, leaves);
    for (name, tree) in document.trees.into_iter().enumerate() {
        let group = document.tree_info.get(name).copied().unwrap_or(0);
        let group = usize::try_from(group)
            .ok()
            .filter(|&group| group < n_groups)
            .ok_or_else(|| Error::corrupt(format!("tree {name} is for class {group}")))?;
        let weight = document.weight_drop.get(name).copied().unwrap_or(1.0);
        let items = items(name, &tree, n_features, n_groups, weight, &mut forest)?;
        forest.add_tree(&items, group)?;
    }
    forest.finish();
    Ok(forest)
}

/// A tree's nodes; its leaves' values times `weight`, which is DART's.
fn items(
    name: usize,
    tree: &Tree,
    n_features: usize,
    n_groups: usize,
    weight: f32,
    forest: &mut Forest<f32>,
) -> Result<Vec<Item<f32>>> {
    let n = tree.left_children.len();
    if n == 0 {
        return Err(Error::corrupt(format!("tree {name} has no nodes")));
    }
    for (what, length) in [
        ("right_children", tree.right_children.len()),
        ("split_indices", tree.split_indices.len()),
        ("split_conditions", tree.split_conditions.len()),
        ("default_left", tree.default_left.len()),
    ] {
        if length != n {
            return Err(Error::corrupt(format!(
                "tree {name}: `{what}` has {length} entries for {n} nodes"
            )));
        }
    }
    let n_leaves = tree
        .left_children
        .iter()
        .filter(|&&left| left == -1)
        .count();
    if matches!(forest.leaves_mut(), Leaves::Row { .. }) && !tree.has_rows(n_leaves, n_groups) {
        return Err(Error::corrupt(format!(
            "tree {name} has no {n_groups} values for each of its {n_leaves} leaves"
        )));
    }
    let sets = sets(name, tree, forest)?;
    let child = |at: i64| {
        u32::try_from(at)
            .map_err(|_| Error::corrupt(format!("tree {name} names node {at} as a child")))
    };
    let mut items = Vec::with_capacity(n);
    for at in 0..n {
        let left = tree.left_children[at];
        if left == -1 {
            let value = match forest.leaves_mut() {
                Leaves::Row { width, table } => {
                    let row = tree.leaf_row(at, *width).ok_or_else(|| {
                        Error::corrupt(format!("tree {name}: leaf {at} has no {n_groups} values"))
                    })?;
                    let index = table.len() / *width;
                    table.extend(row.iter().map(|value| value * weight));
                    f32::from_index(index as u32)
                }
                Leaves::Value | Leaves::Linear(_) => tree.split_conditions[at] * weight,
            };
            items.push(Item::Leaf(value));
            continue;
        }
        let is_set = tree.split_type.get(at).is_some_and(|&kind| kind == 1);
        let test = if is_set {
            let found = sets.binary_search_by_key(&(at as i64), |&(node, _)| node);
            match found {
                Ok(found) => Test::Set(sets[found].1),
                Err(_) => {
                    return Err(Error::corrupt(format!(
                        "tree {name}: node {at} has no categories"
                    )));
                }
            }
        } else {
            Test::Threshold(tree.split_conditions[at])
        };
        // Deleted nodes keep a feature that is none; nothing leads to them.
        let feature = tree.split_indices[at];
        let known = usize::try_from(feature).is_ok_and(|feature| feature < n_features);
        let is_deleted = feature == i64::from(i32::MAX) || feature == i64::from(u32::MAX);
        if !known && !is_deleted {
            return Err(Error::corrupt(format!(
                "tree {name}: node {at} asks feature {feature} of {n_features}"
            )));
        }
        let (feature, left, right) = if is_deleted {
            // Its children are nowhere, so that a way to it is found out.
            (0, u32::MAX, u32::MAX)
        } else {
            (
                feature as u32,
                child(left)?,
                child(tree.right_children[at])?,
            )
        };
        items.push(Item::Split {
            feature,
            test,
            default_right: tree.default_left[at] == 0,
            zero_missing: false,
            left,
            right,
        });
    }
    Ok(items)
}

/// The sets of a tree's nodes, by node in rising order.
fn sets(name: usize, tree: &Tree, forest: &mut Forest<f32>) -> Result<Vec<(i64, u32)>> {
    let n = tree.categories_nodes.len();
    if tree.categories_segments.len() != n || tree.categories_sizes.len() != n {
        return Err(Error::corrupt(format!(
            "tree {name}: the lists of categories differ in length"
        )));
    }
    let mut sets = Vec::with_capacity(n);
    let mut last_end = 0;
    for at in 0..n {
        let range = usize::try_from(tree.categories_segments[at])
            .ok()
            .zip(usize::try_from(tree.categories_sizes[at]).ok())
            .and_then(|(start, size)| Some(start..start.checked_add(size)?));
        // Each category belongs to one node: what is read stays linear in the file.
        let categories = range
            .filter(|range| range.start >= last_end)
            .and_then(|range| {
                last_end = range.end;
                tree.categories.get(range)
            });
        let Some(categories) = categories else {
            return Err(Error::corrupt(format!(
                "tree {name}: a node's categories are not in the list"
            )));
        };
        let mut numbers = Vec::with_capacity(categories.len());
        for &category in categories {
            match u32::try_from(category) {
                Ok(number) if (number as f32) < XGBOOST_CATEGORIES_MAX => numbers.push(number),
                _ => {
                    return Err(Error::corrupt(format!(
                        "tree {name}: category {category} is out of range"
                    )));
                }
            }
        }
        sets.push((tree.categories_nodes[at], forest.add_set(&mut numbers)));
    }
    sets.sort_unstable();
    Ok(sets)
}
