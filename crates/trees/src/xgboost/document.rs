//! What is taken from the document. Fields may stand in any order; unknown ones are passed over.

use crate::error::Result;
use crate::reader::{Next, Reader};

/// The parts of a model file.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) has_learner: bool,
    pub(super) best_iteration: Option<String>,
    pub(super) feature_names: Vec<String>,
    pub(super) objective: String,
    pub(super) booster: String,
    pub(super) base_score: String,
    pub(super) num_class: String,
    pub(super) num_feature: String,
    pub(super) num_target: String,
    pub(super) num_parallel_tree: String,
    pub(super) iteration_indptr: Vec<i64>,
    pub(super) tree_info: Vec<i64>,
    pub(super) weight_drop: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) trees: Vec<Tree>,
}

/// The parts of one tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) left_children: Vec<i64>,
    pub(super) right_children: Vec<i64>,
    pub(super) split_indices: Vec<i64>,
    pub(super) split_conditions: Vec<f32>,
    pub(super) split_type: Vec<i64>,
    pub(super) default_left: Vec<i64>,
    pub(super) categories: Vec<i64>,
    pub(super) categories_nodes: Vec<i64>,
    pub(super) categories_segments: Vec<i64>,
    pub(super) categories_sizes: Vec<i64>,
    base_weights: Vec<f32>,
    /// Since 3.2; a leaf's row in it is its right child.
    leaf_weights: Option<Vec<f32>>,
    size_leaf_vector: String,
}

impl Document {
    pub(super) fn read<R: Reader>(r: &mut R) -> Result<Document> {
        let mut document = Document::default();
        r.object()?;
        while let Some(key) = r.key()? {
            match key.as_str() {
                "learner" if r.peek()? == Next::Object => document.learner(r)?,
                _ => r.skip()?,
            }
        }
        Ok(document)
    }

    fn learner<R: Reader>(&mut self, r: &mut R) -> Result<()> {
        self.has_learner = true;
        r.object()?;
        while let Some(key) = r.key()? {
            match key.as_str() {
                "attributes" => {
                    r.object()?;
                    while let Some(key) = r.key()? {
                        match key.as_str() {
                            "best_iteration" => self.best_iteration = Some(r.text_or_number()?),
                            _ => r.skip()?,
                        }
                    }
                }
                "feature_names" => self.feature_names = texts(r)?,
                "objective" => {
                    r.object()?;
                    while let Some(key) = r.key()? {
                        match key.as_str() {
                            "name" => self.objective = r.text()?,
                            _ => r.skip()?,
                        }
                    }
                }
                "learner_model_param" => {
                    r.object()?;
                    while let Some(key) = r.key()? {
                        match key.as_str() {
                            "base_score" => self.base_score = r.text_or_number()?,
                            "num_class" => self.num_class = r.text_or_number()?,
                            "num_feature" => self.num_feature = r.text_or_number()?,
                            "num_target" => self.num_target = r.text_or_number()?,
                            _ => r.skip()?,
                        }
                    }
                }
                "gradient_booster" => self.booster(r)?,
                _ => r.skip()?,
            }
        }
        Ok(())
    }

    /// `{name, model}`; DART up to 3.3 wraps a whole booster in `gbtree` and puts its weights beside it.
    fn booster<R: Reader>(&mut self, r: &mut R) -> Result<()> {
        r.object()?;
        while let Some(key) = r.key()? {
            match key.as_str() {
                "name" => {
                    let name = r.text()?;
                    // The inner booster of `dart` is a `gbtree`, which evaluates the same.
                    if self.booster.is_empty() {
                        self.booster = name;
                    }
                }
                "gbtree" => self.booster(r)?,
                "weight_drop" => self.weight_drop = r.floats()?,
                "model" => self.model(r)?,
                _ => r.skip()?,
            }
        }
        Ok(())
    }

    fn model<R: Reader>(&mut self, r: &mut R) -> Result<()> {
        r.object()?;
        while let Some(key) = r.key()? {
            match key.as_str() {
                "gbtree_model_param" => {
                    r.object()?;
                    while let Some(key) = r.key()? {
                        match key.as_str() {
                            "num_parallel_tree" => self.num_parallel_tree = r.text_or_number()?,
                            _ => r.skip()?,
                        }
                    }
                }
                "iteration_indptr" => self.iteration_indptr = r.ints()?,
                "tree_info" => self.tree_info = r.ints()?,
                "weight_drop" => self.weight_drop = r.floats()?,
                "weights" => self.weights = r.floats()?,
                "trees" => {
                    r.array()?;
                    while r.item()? {
                        self.trees.push(Tree::read(r)?);
                    }
                }
                _ => r.skip()?,
            }
        }
        Ok(())
    }
}

impl Tree {
    fn read<R: Reader>(r: &mut R) -> Result<Tree> {
        let mut tree = Tree::default();
        r.object()?;
        while let Some(key) = r.key()? {
            match key.as_str() {
                "left_children" => tree.left_children = r.ints()?,
                "right_children" => tree.right_children = r.ints()?,
                "split_indices" => tree.split_indices = r.ints()?,
                "split_conditions" => tree.split_conditions = r.floats()?,
                "split_type" => tree.split_type = r.ints()?,
                "default_left" => tree.default_left = r.ints()?,
                "categories" => tree.categories = r.ints()?,
                "categories_nodes" => tree.categories_nodes = r.ints()?,
                "categories_segments" => tree.categories_segments = r.ints()?,
                "categories_sizes" => tree.categories_sizes = r.ints()?,
                "base_weights" => tree.base_weights = r.floats()?,
                "leaf_weights" => tree.leaf_weights = Some(r.floats()?),
                "tree_param" => {
                    r.object()?;
                    while let Some(key) = r.key()? {
                        match key.as_str() {
                            "size_leaf_vector" => tree.size_leaf_vector = r.text_or_number()?,
                            _ => r.skip()?,
                        }
                    }
                }
                _ => r.skip()?,
            }
        }
        Ok(tree)
    }

    /// Values of a leaf. 0 (XGBoost 1) and 1 both mean one.
    pub(super) fn width(&self) -> usize {
        self.size_leaf_vector.trim().parse().unwrap_or(1)
    }

    /// Whether there are values for so many leaves; leaves that shared them would make little into much.
    pub(super) fn has_rows(&self, n_leaves: usize, width: usize) -> bool {
        let weights = self.leaf_weights.as_ref().unwrap_or(&self.base_weights);
        n_leaves
            .checked_mul(width)
            .is_some_and(|n| n <= weights.len())
    }

    /// The values of a leaf that has several.
    pub(super) fn leaf_row(&self, node: usize, width: usize) -> Option<&[f32]> {
        if self.width() != width {
            return None;
        }
        let (weights, row) = match &self.leaf_weights {
            Some(weights) => (weights, usize::try_from(self.right_children[node]).ok()?),
            None => (&self.base_weights, node),
        };
        let start = row.checked_mul(width)?;
        weights.get(start..start.checked_add(width)?)
    }
}

fn texts<R: Reader>(r: &mut R) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    r.array()?;
    while r.item()? {
        texts.push(r.text()?);
    }
    Ok(texts)
}
