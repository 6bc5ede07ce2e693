//! TensorFlow SavedModels by TensorFlow's own C library, loaded when the first of them is (decision 0040).

pub(crate) mod c;
mod saved_model;
mod threads;
pub(crate) mod value;

use super::isolated::Format;
use super::{Context, FirstRun, LoadError, Runtime, Signature, check_ports, probe, warm_up};
use crate::error::Result;
use crate::tensor::Tensor;
use bytes::Bytes;
use c::{Api, Output, Session, Threads};
use std::path::Path;

/// Its file in a version's directory.
pub(super) const FILE: &str = "saved_model.pb";
/// What the server does itself where a process of its own runs a model.
pub(super) const FORMAT: Format = Format {
    platform: PLATFORM,
    check: check_ports,
};
const PLATFORM: &str = "tensorflow_savedmodel";
/// Protobuf messages end there.
const FILE_MAX: u64 = 2 << 30;

pub(super) struct TensorFlow {
    session: Session,
    signatures: Vec<Signature>,
    /// Of each signature.
    ends: Vec<Ends>,
    memory: u64,
    /// What the model's own warm-up file asks for.
    warm_up: Bytes,
}

/// Where a signature enters and leaves the graph.
struct Ends {
    inputs: Vec<Output>,
    outputs: Vec<Output>,
    threads: Threads,
}

pub(super) fn load(
    dir: &Path,
    size: u64,
    ctx: &Context<'_>,
) -> std::result::Result<TensorFlow, LoadError> {
    let broken = |error: String| LoadError::Model(FILE.to_owned(), error);
    let path = dir.join(FILE);
    let read = |error: std::io::Error| LoadError::Read(path.clone(), error.to_string());
    if std::fs::metadata(&path).map_err(read)?.len() > FILE_MAX {
        return Err(broken(format!("it is larger than {FILE_MAX} bytes")));
    }
    let head = saved_model::read(&std::fs::read(&path).map_err(read)?).map_err(broken)?;
    for reason in &head.left_out {
        tracing::warn!(dir = %dir.display(), "{reason}");
    }
    let api = Api::get(&ctx.runtimes.tensorflow()?)?;
    for library in &ctx.settings.op_libraries {
        let path = dir.join(library);
        api.operations(&path).map_err(|error| {
            LoadError::Model(
                path.display().to_string(),
                format!("it cannot be loaded: {error}"),
            )
        })?;
    }
    let before = probe::resident();
    let session = Session::load(api, dir, &head.tags).map_err(broken)?;
    let mut signatures = Vec::new();
    let mut ends = Vec::new();
    for named in head.signatures {
        let find = |names: &[String]| -> std::result::Result<Vec<Output>, LoadError> {
            let found = names.iter().map(|name| session.output(name));
            found.collect::<std::result::Result<_, _>>().map_err(broken)
        };
        ends.push(Ends {
            inputs: find(&named.inputs)?,
            outputs: find(&named.outputs)?,
            threads: ctx.settings.threads().unwrap_or(Threads::Caller),
        });
        signatures.push(named.signature);
    }
    let mut model = TensorFlow {
        session,
        signatures,
        ends,
        memory: 0,
        warm_up: warm_up::file(dir)?,
    };
    // A file that is broken is told before the model is tried.
    warm_up::read(model.warm_up.clone(), &model.signatures)
        .map_err(|error| LoadError::FirstRun(error.text))?;
    for at in 0..model.signatures.len() {
        let is_row_wise = match ctx.settings.batching {
            Some(is_declared) => is_declared && probe::may_be_row_wise(&model.signatures[at]),
            None => probe::is_row_wise(&model, at),
        };
        if ctx.settings.threads().is_none() {
            model.ends[at].threads = threads::faster(&model, at);
        }
        model.signatures[at].is_row_wise = is_row_wise;
        tracing::debug!(
            signature = model.signatures[at].name,
            is_row_wise,
            threads = ?model.ends[at].threads,
            "probed"
        );
    }
    // What the process grew by; other loads and requests are in it, so that it is never less than the files.
    model.memory = probe::resident().saturating_sub(before).max(size);
    Ok(model)
}

impl TensorFlow {
    fn run_in(&self, at: usize, threads: Threads, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let ends = &self.ends[at];
        let ports = &self.signatures[at].outputs;
        self.session
            .run(threads, &ends.inputs, inputs, &ends.outputs, ports)
    }
}

impl Runtime for TensorFlow {
    fn platform(&self) -> &'static str {
        PLATFORM
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn check(&self, signature: usize, inputs: &mut Vec<Tensor>) -> Result<()> {
        check_ports(&self.signatures[signature], inputs)
    }

    fn run(&self, signature: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_in(signature, self.ends[signature].threads, inputs)
    }

    fn warm_up(&self) -> Vec<FirstRun> {
        let made_up = (0..self.signatures.len()).filter_map(|signature| {
            Some(FirstRun {
                signature,
                inputs: probe::rows(&self.signatures[signature], &[0])?,
                may_refuse: true,
            })
        });
        // It was read already.
        let recorded = warm_up::read(self.warm_up.clone(), &self.signatures).unwrap_or_default();
        made_up.chain(recorded).collect()
    }
}
