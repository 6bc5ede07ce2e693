//! What a model format must do to be served, and how the format of a directory is found.

mod batch;
mod columns;
mod find;
mod isolated;
mod onnx;
mod probe;
mod stepped;
mod steps;
pub(crate) mod tensorflow;
mod trees;
pub(crate) mod warm_up;

pub(crate) use batch::{append, check_ports, cut, merge};
pub use columns::{Column, Columns, Words};
use find::load_here;
pub(crate) use find::{Context, find, load, walk};
pub(crate) use isolated::Spec;
pub use isolated::work;

use crate::error::Result;
use crate::tensor::{Port, Tensor};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The signature that is called where a request names none.
pub(crate) const DEFAULT: &str = "serving_default";
/// What a signature without a more special meaning is for, in TensorFlow's words.
pub(crate) const PREDICT: &str = "tensorflow/serving/predict";

/// A loaded model. Dropping it unloads it.
pub trait Runtime: Send + Sync {
    /// The format, for people and for `platform` in the Open Inference Protocol.
    fn platform(&self) -> &'static str;
    /// The ways to call it, at least one. They are known by their place in it.
    fn signatures(&self) -> &[Signature];
    /// Bytes held.
    fn memory(&self) -> u64;
    /// Refuses inputs that `run` could not take, naming the input, what is expected and what came; puts them
    /// into the signature's order.
    fn check(&self, signature: usize, inputs: &mut Vec<Tensor>) -> Result<()>;
    /// Runs checked inputs. Called on a worker thread, several at a time.
    fn run(&self, signature: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>>;
    /// What is run before the model is ready.
    fn warm_up(&self) -> Vec<FirstRun>;
    /// How often its worker process was started again, where it has one.
    fn restarts(&self) -> Option<u64> {
        None
    }
}

/// A way to call a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signature {
    /// Its name.
    pub name: String,
    /// TensorFlow's name for what it does.
    pub method: String,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// The columns of the only input, where they have names: records may be sent by name.
    #[serde(skip)]
    pub columns: Columns,
    /// What its answers mean.
    pub task: Task,
    /// Whether each row's answer depends on that row alone, so that requests may be run together.
    pub is_row_wise: bool,
}

/// A run before the model is ready.
pub struct FirstRun {
    /// Of which signature.
    pub signature: usize,
    /// What it runs on.
    pub inputs: Vec<Tensor>,
    /// Whether the model may call the inputs invalid: they were made up.
    pub may_refuse: bool,
}

/// What answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// A number a row.
    Regression,
    /// The probability of class 1.
    Binary,
    /// A probability for each class.
    Classes,
    /// Something else.
    Other,
}

/// Why a version cannot be loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory holds no model that is known.
    #[error("{0}")]
    Format(String),
    /// A file cannot be read.
    #[error("cannot read `{path}`: {error}", path = .0.display(), error = .1)]
    Read(PathBuf, String),
    /// The model is broken or of an unknown kind.
    #[error("`{file}`: {error}", file = .0, error = .1)]
    Model(String, String),
    /// The library that runs such models is not there or does not load.
    #[error("the runtime `{runtime}`: {text}")]
    Runtime {
        /// Which.
        runtime: &'static str,
        /// What is wrong and what to do.
        text: String,
    },
    /// Too large for what is left.
    #[error(
        "the model needs {needed} bytes, {used} of {max} are in use; unload a model or raise --memory-max"
    )]
    Memory {
        /// Bytes it needs.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes there are.
        max: u64,
    },
    /// Nobody thought of such a model.
    #[error(
        "the server's own code failed on the model; its log says more, and it is a defect to be told"
    )]
    Panicked,
    /// The process that was to run it could not be started, or ended.
    #[error("the worker process: {0}")]
    Worker(String),
    /// The first run failed.
    #[error("the first run failed: {0}")]
    FirstRun(String),
}

/// The first runs of a loaded model, checked.
pub(crate) fn first_run(runtime: &dyn Runtime) -> std::result::Result<(), LoadError> {
    for mut first in runtime.warm_up() {
        let signature = &runtime.signatures()[first.signature];
        let failed = |error: crate::ServeError| {
            LoadError::FirstRun(format!("signature `{}`: {}", signature.name, error.text))
        };
        let n_rows = first.inputs.first().map_or(0, Tensor::n_rows);
        runtime
            .check(first.signature, &mut first.inputs)
            .map_err(failed)?;
        let outputs = match runtime.run(first.signature, &first.inputs) {
            Ok(outputs) => outputs,
            Err(error) if first.may_refuse && error.code == base::Code::Invalid => {
                tracing::info!(signature = signature.name, %error, "made-up rows are refused");
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        for (port, output) in signature.outputs.iter().zip(&outputs) {
            let has_rows = !signature.is_row_wise || output.n_rows() == n_rows;
            if !has_rows || output.check().is_err() || port.name != output.name {
                return Err(LoadError::FirstRun(format!(
                    "output `{}` has shape {:?} for {n_rows} rows",
                    output.name, output.shape
                )));
            }
        }
    }
    Ok(())
}
