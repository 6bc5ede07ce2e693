//! Gradient-boosted trees: model files of XGBoost and LightGBM in, predictions out.
//!
//! Pure: bytes and slices in, values out; no file, clock or thread. Answers equal those of the two
//! libraries (a test compares them on real models), and a file that is not a sound model ends in an
//! [`Error`] within memory and time that are linear in its size, whatever its bytes are.
//!
//! Start with [`Model`]. [`xgboost`] and [`lightgbm`] read the formats, [`forest`] lays nodes out and
//! walks them, [`link`] turns sums of leaves into predictions.
//!
//! What it does not do: training, SHAP values, XGBoost's binary format from before 1.0 (its own library
//! converts it).

mod error;
mod forest;
mod lightgbm;
mod link;
mod model;
mod reader;
mod xgboost;

pub use error::Error;
pub use model::{Format, Iterations, Kind, Matrix, Model, Options, Real, Shape};
