//! A model: what it wants, what it answers, and its answers.

use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::link::Link;
use crate::{lightgbm, xgboost};
use std::ops::{AddAssign, BitAndAssign, BitOr, Mul, Neg, Not, Range};

/// A model that is ready to predict.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) format: Format,
    pub(crate) objective: String,
    pub(crate) n_features: usize,
    pub(crate) n_groups: usize,
    /// Empty where the file has none.
    pub(crate) feature_names: Vec<String>,
    pub(crate) link: Link,
    pub(crate) body: Body,
    /// Before the tree of iteration `i` starts: `iterations[i]`; the last is the number of trees.
    pub(crate) iterations: Vec<u32>,
    /// Found by early stopping.
    pub(crate) best_iteration: Option<u32>,
    /// Whether predictions are means over iterations (LightGBM's random forest).
    pub(crate) is_mean: bool,
    /// Whether the answer keeps a dimension of groups even where there is one.
    pub(crate) is_vector: bool,
}

/// What predicts.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// XGBoost's trees: thresholds and sums in 32 bits, from these sums on.
    Single { forest: Forest<f32>, base: Vec<f32> },
    /// LightGBM's trees: in 64 bits.
    Double { forest: Forest<f64> },
    /// XGBoost's `gblinear`: a row of weights a feature, then one of biases.
    Linear { weights: Vec<f32>, base: Vec<f32> },
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// XGBoost, JSON or UBJSON.
    Xgboost,
    /// LightGBM, text.
    Lightgbm,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The prediction in the objective's own terms.
    Value,
    /// The sum of leaves, before the link (`output_margin`, `raw_score`).
    Margin,
}

/// Which iterations predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterations {
    /// Every one, as XGBoost's `Booster.predict` does.
    All,
    /// Up to the best one that early stopping found, as XGBoost's scikit-learn classes do; all where the
    /// file names none.
    Best,
    /// From the first to before the second.
    Range(u32, u32),
}

/// How to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to answer.
    pub kind: Kind,
    /// Which iterations take part.
    pub iterations: Iterations,
}

/// Rows, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Matrix<'a> {
    /// 32-bit values.
    F32(&'a [f32]),
    /// 64-bit values.
    F64(&'a [f64]),
}

/// What one row's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    Scalar,
    /// This many values.
    Vector(usize),
}

impl Shape {
    /// Values a row.
    pub fn width(self) -> usize {
        match self {
            Shape::Scalar => 1,
            Shape::Vector(width) => width,
        }
    }
}

/// A number as a library computes with it: `f32` has XGBoost's rules, `f64` LightGBM's.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + AddAssign
    + Mul<Output = Self>
    + Neg<Output = Self>
    + std::fmt::Debug
    + 'static
{
    /// As wide as this.
    #[doc(hidden)]
    type Bits: Bits;
    #[doc(hidden)]
    const NAN: Self;
    #[doc(hidden)]
    const INFINITY: Self;
    #[doc(hidden)]
    fn from_index(index: u32) -> Self;
    #[doc(hidden)]
    fn to_index(self) -> u32;
    #[doc(hidden)]
    fn is_missing(self) -> bool;
    /// The least value that a threshold sends to the right; where `is_negated`, the least that is sent to the
    /// left when value and threshold have their signs changed. NaN where no value is.
    #[doc(hidden)]
    fn first_sent(self, is_negated: bool) -> Self;
    /// Whether the value counts as zero where zeros are missing.
    #[doc(hidden)]
    fn is_zero(self) -> bool;
    /// Whether a set of categories sends this to the right.
    #[doc(hidden)]
    fn set_leads_right(self, default_right: bool, in_set: impl Fn(u32) -> bool) -> bool;
}

/// A set of small numbers.
#[doc(hidden)]
pub trait Bits:
    Copy + PartialEq + BitOr<Output = Self> + BitAndAssign + Not<Output = Self> + std::fmt::Debug
{
    const N: usize;
    const NONE: Self;
    const ALL: Self;
    /// Those from the first to before the second.
    fn range(start: usize, end: usize) -> Self;
    fn all_if(is: bool) -> Self;
    fn first(self) -> usize;
}

macro_rules! bits {
    ($($Word:ty)*) => {$(
        impl Bits for $Word {
            const N: usize = Self::BITS as usize;
            const NONE: Self = 0;
            const ALL: Self = !0;

            #[inline(always)]
            fn range(start: usize, end: usize) -> Self {
                let below = |end: usize| !Self::ALL.checked_shl(end as u32).unwrap_or(0);
                below(end) & !below(start)
            }

            #[inline(always)]
            fn all_if(is: bool) -> Self {
                Self::from(is).wrapping_neg()
            }

            #[inline(always)]
            fn first(self) -> usize {
                self.trailing_zeros() as usize
            }
        }
    )*};
}
bits!(u32 u64);

/// XGBoost's categories end here (`OutOfRangeCat`, `src/common/categorical.h`).
pub(crate) const XGBOOST_CATEGORIES_MAX: f32 = 16_777_216.0;
/// LightGBM's zero (`kZeroThreshold`, `include/LightGBM/meta.h`): the `float` nearest to 1e-35.
const LIGHTGBM_ZERO: f64 = 1e-35_f32 as f64;

impl Real for f32 {
    type Bits = u32;

    const NAN: f32 = f32::NAN;
    const INFINITY: f32 = f32::INFINITY;

    fn from_index(index: u32) -> f32 {
        f32::from_bits(index)
    }

    fn to_index(self) -> u32 {
        self.to_bits()
    }

    #[inline(always)]
    fn is_missing(self) -> bool {
        self.is_nan()
    }

    // x goes right where x >= t, and else left: where -x > -t.
    fn first_sent(self, is_negated: bool) -> f32 {
        match is_negated {
            false => self,
            true if self.is_nan() => f32::NEG_INFINITY,
            true if self == f32::NEG_INFINITY => f32::NAN,
            true => (-self).next_up(),
        }
    }

    fn is_zero(self) -> bool {
        self == 0.0
    }

    fn set_leads_right(self, default_right: bool, in_set: impl Fn(u32) -> bool) -> bool {
        if self.is_nan() {
            return default_right;
        }
        (0.0..XGBOOST_CATEGORIES_MAX).contains(&self) && in_set(self as u32)
    }
}

impl Real for f64 {
    type Bits = u64;

    const NAN: f64 = f64::NAN;
    const INFINITY: f64 = f64::INFINITY;

    fn from_index(index: u32) -> f64 {
        f64::from(index)
    }

    fn to_index(self) -> u32 {
        self as u32
    }

    #[inline(always)]
    fn is_missing(self) -> bool {
        self.is_nan()
    }

    // x goes right where x > t, and else left: where -x >= -t.
    fn first_sent(self, is_negated: bool) -> f64 {
        match is_negated {
            false if self == f64::INFINITY => f64::NAN,
            false => self.next_up(),
            true if self.is_nan() => f64::NEG_INFINITY,
            true => -self,
        }
    }

    fn is_zero(self) -> bool {
        self.abs() <= LIGHTGBM_ZERO
    }

    fn set_leads_right(self, _default_right: bool, in_set: impl Fn(u32) -> bool) -> bool {
        // What is no `int` counts as negative in LightGBM, and every fraction is cut off towards zero.
        !(self > -1.0 && self < 2_147_483_648.0 && in_set(self as u32))
    }
}

/// Rows that are converted at a time where they must be.
const CONVERT_ROWS: usize = 128;

impl Model {
    /// Reads a model file; its format is found in its first bytes.
    pub fn read(bytes: &[u8]) -> Result<Model> {
        match bytes {
            [b'{', ..] => xgboost::read(bytes),
            [b't', b'r', b'e', b'e', b'\n' | b'\r', ..] => lightgbm::read(bytes),
            [b'b', b'i', b'n', b'f', ..] => Err(Error::Unsupported(
                "this is XGBoost's old binary format: load it with the XGBoost that wrote it and save it as \
                 `.ubj` or `.json`"
                    .to_owned(),
            )),
            [] => Err(Error::Format("the file is empty".to_owned())),
            _ => Err(Error::Format(
                "this is neither an XGBoost model (`.json`, `.ubj`) nor a LightGBM model (text that begins \
                 with `tree`); XGBoost's binary format from before 1.0 must be saved again as `.json`"
                    .to_owned(),
            )),
        }
    }

    /// Which library's it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The objective by the library's name.
    pub fn objective(&self) -> &str {
        &self.objective
    }

    /// Columns that a row has.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Their names; empty where the file has none.
    pub fn feature_names(&self) -> &[String] {
        &self.feature_names
    }

    /// Boosting rounds in the file.
    pub fn n_iterations(&self) -> usize {
        self.iterations.len().saturating_sub(1)
    }

    /// The best round by early stopping, from 0, where the file names one.
    pub fn best_iteration(&self) -> Option<u32> {
        self.best_iteration
    }

    /// Trees in the file.
    pub fn n_trees(&self) -> usize {
        match &self.body {
            Body::Single { forest, .. } => forest.n_trees(),
            Body::Double { forest } => forest.n_trees(),
            Body::Linear { .. } => 0,
        }
    }

    /// Bytes held in memory.
    pub fn memory(&self) -> usize {
        let body = match &self.body {
            Body::Single { forest, .. } => forest.memory(),
            Body::Double { forest } => forest.memory(),
            Body::Linear { weights, .. } => size_of_val(weights.as_slice()),
        };
        let names: usize = self
            .feature_names
            .iter()
            .map(|name| size_of::<String>() + name.len())
            .sum();
        size_of::<Model>() + body + names + size_of_val(self.iterations.as_slice())
    }

    /// Whether answers are 32-bit numbers; else they are 64-bit.
    pub fn is_single(&self) -> bool {
        !matches!(self.body, Body::Double { .. })
    }

    /// The form of one row's answer.
    pub fn shape(&self, kind: Kind) -> Shape {
        let width = match kind {
            Kind::Value => self.link.width(self.n_groups),
            Kind::Margin => self.n_groups,
        };
        if width > 1 || (self.is_vector && kind == Kind::Margin) {
            Shape::Vector(width)
        } else {
            Shape::Scalar
        }
    }

    /// Predicts rows of `n_cols` values and appends the answers to `out`, row by row. NaN is a missing value.
    /// Answers of a 32-bit model are 32-bit numbers.
    pub fn predict(
        &self,
        rows: Matrix<'_>,
        n_cols: usize,
        options: Options,
        out: &mut Vec<f64>,
    ) -> Result<()> {
        self.check(n_cols)?;
        let trees = self.trees(options.iterations)?;
        let length = match rows {
            Matrix::F32(rows) => rows.len(),
            Matrix::F64(rows) => rows.len(),
        };
        if n_cols == 0 || !length.is_multiple_of(n_cols) {
            return Err(Error::Input(format!(
                "{length} values are not whole rows of {n_cols} columns"
            )));
        }
        let n_rows = length / n_cols;
        let width = self.shape(options.kind).width();
        out.reserve(n_rows * width);
        match &self.body {
            Body::Single { forest, base } => each_block(
                rows,
                n_cols,
                self.n_features,
                |rows: &[f32], n_rows, n_cols| {
                    let mut sums = base.repeat(n_rows);
                    forest.add_to(trees.clone(), rows, n_cols, &mut sums);
                    self.finish_f32(&mut sums, options.kind, out);
                },
            ),
            Body::Double { forest } => {
                let n_iterations = self.n_used(options.iterations);
                each_block(
                    rows,
                    n_cols,
                    self.n_features,
                    |rows: &[f64], n_rows, n_cols| {
                        let mut sums = vec![0.0; n_rows * self.n_groups];
                        forest.add_to(trees.clone(), rows, n_cols, &mut sums);
                        self.finish_f64(&mut sums, n_iterations, options.kind, out);
                    },
                );
            }
            Body::Linear { weights, base } => each_block(
                rows,
                n_cols,
                self.n_features,
                |rows: &[f32], n_rows, n_cols| {
                    let mut sums = Vec::with_capacity(n_rows * self.n_groups);
                    for row in rows.chunks_exact(n_cols) {
                        self.add_linear(row, weights, base, &mut sums);
                    }
                    self.finish_f32(&mut sums, options.kind, out);
                },
            ),
        }
        Ok(())
    }

    fn check(&self, n_cols: usize) -> Result<()> {
        let fits = match self.format {
            // Columns at the end may be left out: they are missing, as in XGBoost.
            Format::Xgboost => n_cols <= self.n_features.max(1),
            Format::Lightgbm => n_cols == self.n_features,
        };
        if fits {
            return Ok(());
        }
        Err(Error::Input(format!(
            "a row has {n_cols} columns, the model expects {}",
            self.n_features
        )))
    }

    /// Iterations that take part.
    fn range(&self, iterations: Iterations) -> Range<usize> {
        let n = self.n_iterations();
        match iterations {
            Iterations::All => 0..n,
            Iterations::Best => {
                0..self
                    .best_iteration
                    .map_or(n, |best| best as usize + 1)
                    .min(n)
            }
            Iterations::Range(start, end) => start as usize..end as usize,
        }
    }

    fn n_used(&self, iterations: Iterations) -> usize {
        self.range(iterations).len()
    }

    fn trees(&self, iterations: Iterations) -> Result<Range<usize>> {
        let range = self.range(iterations);
        let edge = |at: usize| self.iterations.get(at).map(|&tree| tree as usize);
        match (edge(range.start), edge(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok(start..end),
            _ => Err(Error::Input(format!(
                "iterations {} to {} are not in the model, which has {}",
                range.start,
                range.end,
                self.n_iterations()
            ))),
        }
    }

    fn add_linear(&self, row: &[f32], weights: &[f32], base: &[f32], sums: &mut Vec<f32>) {
        let (weights, biases) = weights.split_at(self.n_features * self.n_groups);
        for group in 0..self.n_groups {
            let mut sum = biases[group] + base[group];
            for (feature, value) in row.iter().enumerate() {
                if !value.is_nan() {
                    sum += value * weights[feature * self.n_groups + group];
                }
            }
            sums.push(sum);
        }
    }

    fn finish_f32(&self, sums: &mut [f32], kind: Kind, out: &mut Vec<f64>) {
        let link = match kind {
            Kind::Value => self.link,
            Kind::Margin => Link::Identity,
        };
        for sums in sums.chunks_exact_mut(self.n_groups) {
            link.apply_f32(sums, |value| out.push(f64::from(value)));
        }
    }

    fn finish_f64(&self, sums: &mut [f64], n_iterations: usize, kind: Kind, out: &mut Vec<f64>) {
        let link = match kind {
            Kind::Value => self.link,
            Kind::Margin => Link::Identity,
        };
        if self.is_mean && kind == Kind::Value && n_iterations > 0 {
            for sum in &mut *sums {
                *sum /= n_iterations as f64;
            }
        }
        for sums in sums.chunks_exact_mut(self.n_groups) {
            link.apply_f64(sums, |value| out.push(value));
        }
    }
}

/// Calls `each` with blocks of rows in the wanted type and with at least `n_features` columns; without a copy
/// where rows are so already.
fn each_block<T: Real + Narrow>(
    rows: Matrix<'_>,
    n_cols: usize,
    n_features: usize,
    mut each: impl FnMut(&[T], usize, usize),
) {
    let wide = n_features.max(n_cols);
    if wide == n_cols
        && let Some(rows) = T::same(rows)
    {
        each(rows, rows.len() / n_cols, n_cols);
        return;
    }
    let mut block = vec![T::NAN; CONVERT_ROWS * wide];
    let mut convert = |n_rows: usize, value: &dyn Fn(usize) -> T| {
        for row in 0..n_rows {
            for col in 0..n_cols {
                block[row * wide + col] = value(row * n_cols + col);
            }
        }
        each(&block[..n_rows * wide], n_rows, wide);
    };
    match rows {
        Matrix::F32(rows) => {
            for rows in rows.chunks(CONVERT_ROWS * n_cols) {
                convert(rows.len() / n_cols, &|at| T::from_f32(rows[at]));
            }
        }
        Matrix::F64(rows) => {
            for rows in rows.chunks(CONVERT_ROWS * n_cols) {
                convert(rows.len() / n_cols, &|at| T::from_f64(rows[at]));
            }
        }
    }
}

/// How a type takes values of the other.
trait Narrow: Sized {
    fn same(rows: Matrix<'_>) -> Option<&[Self]>;
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
}

impl Narrow for f32 {
    fn same(rows: Matrix<'_>) -> Option<&[f32]> {
        match rows {
            Matrix::F32(rows) => Some(rows),
            Matrix::F64(_) => None,
        }
    }

    fn from_f32(value: f32) -> f32 {
        value
    }

    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

impl Narrow for f64 {
    fn same(rows: Matrix<'_>) -> Option<&[f64]> {
        match rows {
            Matrix::F64(rows) => Some(rows),
            Matrix::F32(_) => None,
        }
    }

    fn from_f32(value: f32) -> f64 {
        f64::from(value)
    }

    fn from_f64(value: f64) -> f64 {
        value
    }
}
