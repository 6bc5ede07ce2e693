//! ONNX models by ONNX Runtime, whose library is loaded when the first of them is (decision 0043).

mod file;
mod head;
mod session;
mod value;

use super::find::file_name;
use super::isolated::Format;
use super::{Context, FirstRun, LoadError, Runtime, Signature, check_ports, probe, warm_up};
use crate::error::{Result, ServeError};
use crate::tensor::{Tensor, shape_text};
use base::Code;
use bytes::Bytes;
use head::Head;
use session::Session;
use std::path::Path;
use value::{Given, Taken};

/// Its file in a version's directory.
pub(super) const SUFFIX: &str = "onnx";

/// What the server does itself where a process of its own runs a model.
pub(super) const FORMAT: Format = Format {
    platform: PLATFORM,
    check,
};
const PLATFORM: &str = "onnxruntime_onnx";

pub(super) struct Onnx {
    session: Session,
    signatures: [Signature; 1],
    given: Vec<Given>,
    taken: Vec<(String, Taken)>,
    memory: u64,
    /// What the model's own warm-up file asks for.
    warm_up: Bytes,
}

pub(super) fn load(
    path: &Path,
    size: u64,
    ctx: &Context<'_>,
) -> std::result::Result<Onnx, LoadError> {
    let name = file_name(path);
    let broken = |error: String| LoadError::Model(name.clone(), error);
    file::check(path)?;
    let environment = session::environment(&ctx.runtimes.onnx()?)?;
    let before = probe::resident();
    let session = Session::load(&environment, path).map_err(broken)?;
    let Head {
        signature,
        given,
        taken,
    } = head::read(&session).map_err(broken)?;
    let mut model = Onnx {
        session,
        signatures: [signature],
        given,
        taken,
        memory: 0,
        warm_up: warm_up::file(path.parent().unwrap_or(path))?,
    };
    // A file that is broken is told before the model is tried.
    warm_up::read(model.warm_up.clone(), &model.signatures)
        .map_err(|error| LoadError::FirstRun(error.text))?;
    model.signatures[0].is_row_wise = match ctx.settings.batching {
        Some(is_declared) => is_declared && probe::may_be_row_wise(&model.signatures[0]),
        None => probe::is_row_wise(&model, 0),
    };
    tracing::debug!(is_row_wise = model.signatures[0].is_row_wise, "probed");
    // What the process grew by; requests of others are in it, so that it is never less than the files.
    model.memory = probe::resident().saturating_sub(before).max(size);
    Ok(model)
}

fn check(signature: &Signature, inputs: &mut Vec<Tensor>) -> Result<()> {
    let ports = &signature.inputs;
    let is_single = ports.len() == 1 && inputs.len() == 1;
    for input in inputs.iter_mut() {
        // Converters of tables make a matrix of one column of each; a list of its values is as good.
        let port = ports
            .iter()
            .find(|port| is_single || port.name == input.name);
        if input.shape.len() == 1
            && port.is_some_and(|port| port.shape.as_deref() == Some(&[-1, 1]))
        {
            input.shape.push(1);
        }
    }
    check_ports(signature, inputs)
}

impl Runtime for Onnx {
    fn platform(&self) -> &'static str {
        PLATFORM
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn check(&self, _: usize, inputs: &mut Vec<Tensor>) -> Result<()> {
        check(&self.signatures[0], inputs)
    }

    fn run(&self, _: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let values = self.session.run(inputs, &self.given)?;
        let mut outputs = Vec::with_capacity(self.signatures[0].outputs.len());
        for ((name, taken), value) in self.taken.iter().zip(&values) {
            value::output(name, *taken, value, &mut outputs)?;
        }
        // A model may give what it does not declare; whoever reads the answer counts on its shape.
        for (port, output) in self.signatures[0].outputs.iter().zip(&outputs) {
            if port
                .shape
                .as_ref()
                .is_some_and(|shape| shape.len() != output.shape.len())
            {
                return Err(ServeError::new(
                    Code::Internal,
                    format!(
                        "output `{}`: the model declares shape {} and gave {}",
                        port.name,
                        port.shape_text(),
                        shape_text(&output.shape)
                    ),
                ));
            }
        }
        Ok(outputs)
    }

    fn warm_up(&self) -> Vec<FirstRun> {
        let made_up = probe::rows(&self.signatures[0], &[0]).map(|inputs| FirstRun {
            signature: 0,
            inputs,
            may_refuse: true,
        });
        // It was read already.
        let recorded = warm_up::read(self.warm_up.clone(), &self.signatures).unwrap_or_default();
        made_up.into_iter().chain(recorded).collect()
    }
}
