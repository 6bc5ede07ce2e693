//! Models of trees that are small, each with answers of its own that are known without running it.

use serde_json::{Value, json};

/// Columns of a model.
pub const FEATURES: usize = 8;
/// Levels of a tree.
const DEPTH: u32 = 5;

/// An XGBoost model as `save_model` writes it (3.x, JSON): all rows of zeros get [`answer`].
pub fn model(seed: usize, n_trees: usize) -> Vec<u8> {
    let trees: Vec<Value> = (0..n_trees).map(|id| tree(id, seed)).collect();
    let indptr: Vec<usize> = (0..=n_trees).collect();
    let value = json!({
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "model": {
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": n_trees.to_string()},
                    "iteration_indptr": indptr,
                    "tree_info": vec![0; n_trees],
                    "trees": trees,
                },
                "name": "gbtree",
            },
            "learner_model_param": {
                "base_score": "0E0", "boost_from_average": "1", "num_class": "0",
                "num_feature": FEATURES.to_string(), "num_target": "1",
            },
            "objective": {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}},
        },
        "version": [3, 0, 0],
    });
    value.to_string().into_bytes()
}

/// What a row of zeros gets: whole parts of a power of two, so that sums of `f32` have no error.
pub fn answer(seed: usize, n_trees: usize) -> f64 {
    (n_trees * (seed + 1)) as f64 / 1_024.0
}

/// A whole tree: zeros go left at every level.
fn tree(id: usize, seed: usize) -> Value {
    let n_nodes = (1_usize << (DEPTH + 1)) - 1;
    let n_inner = n_nodes / 2;
    let child = |at: usize, side: usize| {
        if at < n_inner {
            (2 * at + side) as i64
        } else {
            -1
        }
    };
    let nodes = || 0..n_nodes;
    let leaf = |at: usize| (seed + 1 + at - n_inner) as f64 / 1_024.0;
    let condition = |at: usize| if at < n_inner { 0.5 } else { leaf(at) };
    // The first leaf is where zeros end.
    let conditions: Vec<f64> = nodes().map(condition).collect();
    let parent = |at: usize| if at == 0 { 2_147_483_647 } else { (at - 1) / 2 };
    json!({
        "base_weights": conditions,
        "categories": [], "categories_nodes": [], "categories_segments": [], "categories_sizes": [],
        "default_left": vec![0; n_nodes],
        "id": id,
        "left_children": nodes().map(|at| child(at, 1)).collect::<Vec<_>>(),
        "loss_changes": vec![0.0; n_nodes],
        "parents": nodes().map(parent).collect::<Vec<_>>(),
        "right_children": nodes().map(|at| child(at, 2)).collect::<Vec<_>>(),
        "split_conditions": conditions,
        "split_indices": nodes().map(|at| if at < n_inner { (at + id) % FEATURES } else { 0 }).collect::<Vec<_>>(),
        "split_type": vec![0; n_nodes],
        "sum_hessian": vec![1.0; n_nodes],
        "tree_param": {
            "num_deleted": "0", "num_feature": FEATURES.to_string(), "num_nodes": n_nodes.to_string(),
            "size_leaf_vector": "1",
        },
    })
}
