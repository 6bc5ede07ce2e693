//! A model that ONNX Runtime has loaded: what it takes and gives, and how it is run.
#![expect(
    unsafe_code,
    reason = "ONNX Runtime runs a session in several threads at a time, which the crate's safe call does not let us"
)]

use super::value::{self, Given};
use crate::error::{Result, ServeError};
use crate::runtime::LoadError;
use crate::tensor::Tensor;
use base::Code;
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, ValueType};
use ort::{AsPointer, ErrorCode};
use std::ffi::CString;
use std::path::Path;
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

/// ONNX Runtime's environment, once for the process, with the library that it is of.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Loads the library, or gives the environment of the one that was loaded.
pub(super) fn environment(library: &Path) -> std::result::Result<Environment, LoadError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let fault = |error: String| LoadError::Runtime {
        runtime: "onnx",
        text: format!("`{}` cannot be loaded: {error}", library.display()),
    };
    // What it has to say comes back as an error, too; people who debug a model may want the rest.
    let log = |_, _: &str, _: &str, place: &str, text: &str| {
        tracing::debug!(place, "ONNX Runtime: {text}");
    };
    let made = ort::init_from(library)
        .map_err(|error| fault(error.to_string()))?
        .with_name("moonshot")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| fault(error.to_string()))?;
    // Below it, ONNX Runtime would write a text for each operation of each run.
    made.set_log_level(ort::logging::LogLevel::Error);
    tracing::info!(build = ort::info(), "ONNX Runtime is loaded");
    *environment = Some(made.clone());
    Ok(made)
}

fn options(environment: &Environment) -> ort::Result<SessionBuilder> {
    // Workers run side by side already, and a thread that spins takes a core from them.
    let builder = SessionBuilder::new(environment)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_config_entry("session.intra_op.allow_spinning", "0")?;
    // A plan of memory would be kept for each shape that ever came.
    Ok(builder.with_memory_pattern(false)?)
}

/// A loaded model.
pub(super) struct Session {
    session: ort::session::Session,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

impl Session {
    pub(super) fn load(
        environment: &Environment,
        path: &Path,
    ) -> std::result::Result<Session, String> {
        let mut builder = options(environment).map_err(|error| error.to_string())?;
        let session = builder
            .commit_from_file(path)
            .map_err(|error| error.to_string())?;
        let names = |outlets: &[ort::value::Outlet]| {
            let each = outlets.iter().map(|outlet| CString::new(outlet.name()));
            each.collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|error| format!("a name in it is none: {error}"))
        };
        Ok(Session {
            inputs: names(session.inputs())?,
            outputs: names(session.outputs())?,
            session,
        })
    }

    /// Names and types of what it takes.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (&str, &ValueType)> {
        let inputs = self.session.inputs().iter();
        inputs.map(|outlet| (outlet.name(), outlet.dtype()))
    }

    /// Names and types of what it gives.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&str, &ValueType)> {
        let outputs = self.session.outputs().iter();
        outputs.map(|outlet| (outlet.name(), outlet.dtype()))
    }

    /// Runs inputs in the model's order; the outputs are in the model's order, too.
    pub(super) fn run(&self, tensors: &[Tensor], given: &[Given]) -> Result<Vec<DynValue>> {
        let values = tensors
            .iter()
            .zip(given)
            .map(|(tensor, given)| value::input(tensor, *given))
            .collect::<Result<Vec<_>>>()?;
        if values.len() != self.inputs.len() {
            return Err(ServeError::new(Code::Internal, "unchecked inputs"));
        }
        let values: Vec<_> = values.iter().map(|value| value.ptr()).collect();
        let input_names: Vec<_> = self.inputs.iter().map(|name| name.as_ptr()).collect();
        let output_names: Vec<_> = self.outputs.iter().map(|name| name.as_ptr()).collect();
        let mut answers = vec![null_mut(); output_names.len()];
        // SAFETY: every pointer lives through the call and the lengths are those of the vectors. A session may be
        // run by several threads at a time: <https://onnxruntime.ai/docs/api/c/struct_ort_api.html>, and the CPU's
        // kernels keep no state.
        let ran = unsafe {
            let status = (ort::api().Run)(
                self.session.ptr().cast_mut(),
                null(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                answers.as_mut_ptr(),
            );
            ort::Error::result_from_status(status)
        };
        let allocator = Allocator::default();
        let answers: Vec<Option<DynValue>> = answers
            .into_iter()
            .map(|answer| {
                let answer = NonNull::new(answer)?;
                // SAFETY: the value is ours now; ONNX Runtime knows by itself how to free what it allocated.
                Some(unsafe { DynValue::from_ptr(answer, Some(&allocator)) })
            })
            .collect();
        ran.map_err(|error| refused(&error))?;
        answers
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| ServeError::new(Code::Unsupported, "an optional output is missing"))
    }
}

/// What a run failed with. Operations say in several ways that they do not like their inputs, and the model was
/// run before it was ready: it is the request's fault unless ONNX Runtime says otherwise.
fn refused(error: &ort::Error) -> ServeError {
    let text = error.message();
    let code = match error.code() {
        _ if text.contains("allocate memory") || text.contains("bad_alloc") => Code::Exhausted,
        ErrorCode::InvalidArgument | ErrorCode::GenericFailure | ErrorCode::RuntimeException => {
            Code::Invalid
        }
        ErrorCode::NotImplemented => Code::Unsupported,
        _ => Code::Internal,
    };
    ServeError::new(code, text.trim())
}
