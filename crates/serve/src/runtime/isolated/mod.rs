//! A model in a process of its own, so that a library which crashes takes down that process and no more
//! (decision 0059). To everybody else it is a model.
//!
//! ```text
//!   server                                                     worker (one for each version)
//!   Isolated ── check, batches, steps                          worker.rs ── tensorflow or onnx
//!      │ run: a connection for each that runs at a time            ▲
//!   process.rs ── frame.rs ── message.rs ──────────────────────────┘
//!   keeper.rs: a thread that starts it, waits for its end, starts it again
//! ```

mod ended;
mod frame;
mod keeper;
mod message;
mod pass;
mod process;
mod worker;

pub use worker::work;

use super::{FirstRun, LoadError, Runtime, Signature};
use crate::config::{Config, Worker};
use crate::error::Result;
use crate::repository::{Native, Settings};
use crate::residency::Key;
use crate::tensor::Tensor;
use bytes::Bytes;
use keeper::Keeper;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run may take so many times what a request may: whoever asked has gone long since.
const TIMEOUTS: u32 = 2;
/// At least; a server may give its requests less time than a model needs now and then.
const RUN_MIN: Duration = Duration::from_secs(5);

/// What the server must know of a format to have it run elsewhere.
pub(super) struct Format {
    pub(super) platform: &'static str,
    /// As [`Runtime::check`].
    pub(super) check: fn(&Signature, &mut Vec<Tensor>) -> Result<()>,
}

/// Which version a process is for, and how it is started.
pub(crate) struct Spec {
    model: String,
    version: u64,
    command: Worker,
    /// A process that does not answer a run for so long is ended.
    run_max: Duration,
    dir: PathBuf,
    runtimes: PathBuf,
    native: Native,
}

impl Spec {
    pub(crate) fn new(
        config: &Config,
        settings: &Settings,
        (model, version): &Key,
        dir: &Path,
    ) -> Spec {
        Spec {
            model: model.clone(),
            version: *version,
            command: config.worker.clone(),
            run_max: (config.timeout * TIMEOUTS).max(RUN_MIN),
            dir: dir.to_owned(),
            runtimes: config.runtimes.dir().to_owned(),
            native: Native::from(settings),
        }
    }
}

struct Isolated {
    keeper: Keeper,
    format: Format,
    signatures: Vec<Signature>,
    /// The runs before it is ready.
    runs: Bytes,
}

/// Has a process load a version.
pub(super) fn load(spec: Spec, format: Format) -> std::result::Result<Box<dyn Runtime>, LoadError> {
    let (keeper, hello) = Keeper::start(spec)?;
    Ok(Box::new(Isolated {
        keeper,
        format,
        signatures: hello.loaded.signatures,
        runs: hello.runs,
    }))
}

impl Runtime for Isolated {
    fn platform(&self) -> &'static str {
        self.format.platform
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn memory(&self) -> u64 {
        self.keeper.memory()
    }

    fn check(&self, signature: usize, inputs: &mut Vec<Tensor>) -> Result<()> {
        (self.format.check)(&self.signatures[signature], inputs)
    }

    fn run(&self, signature: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let process = self.keeper.process()?;
        match process.run(signature, inputs) {
            Ok(answer) => answer,
            Err(lost) => Err(self.keeper.lost(&process, &lost)),
        }
    }

    fn warm_up(&self) -> Vec<FirstRun> {
        // They were read when they came.
        message::take_runs(self.runs.clone(), self.signatures.len()).unwrap_or_default()
    }

    fn restarts(&self) -> Option<u64> {
        Some(self.keeper.restarts())
    }
}
