//! TensorFlow's and ONNX Runtime's C interfaces with nothing around them: one input that is there already, one call, one
//! number read (tensorflow/c/c_api.h, onnxruntime_c_api.h). As the server calls them: one thread, the caller's.
#![expect(
    unsafe_code,
    reason = "C libraries are called; each type below owns what it points to"
)]

use crate::Failure;
use libloading::Library;
use ort::AsPointer;
use ort::session::builder::SessionBuilder;
use ort::value::Tensor;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

/// A model with one row that waits to be run.
pub(crate) trait Bare {
    /// Runs it: the only number of the answer.
    fn call(&mut self) -> Result<f32, Failure>;
}

type Handle = *mut c_void;

/// `TF_Output`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Output {
    operation: Handle,
    index: c_int,
}

/// `TF_Buffer`.
#[repr(C)]
struct Buffer {
    data: *const c_void,
    length: usize,
    deallocator: Option<unsafe extern "C" fn(*mut c_void, usize)>,
}

type Run = unsafe extern "C" fn(
    Handle,
    *const Buffer,
    *const Output,
    *const Handle,
    c_int,
    *const Output,
    *mut Handle,
    c_int,
    *const Handle,
    c_int,
    *mut Buffer,
    Handle,
);
type Load = unsafe extern "C" fn(
    Handle,
    *const Buffer,
    *const c_char,
    *const *const c_char,
    c_int,
    Handle,
    *mut Buffer,
    Handle,
) -> Handle;

/// RunOptions.inter_op_thread_pool (field 3) = -1: in the caller's thread.
const IN_CALLER: [u8; 11] = [
    0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
];
/// ConfigProto.intra_op_parallelism_threads (field 2) = 1.
const ONE_THREAD: [u8; 2] = [0x10, 0x01];
/// `TF_FLOAT`.
const FLOAT: c_int = 1;

/// A SavedModel. Session and graph stay until the process ends, as does the library, which does not like to be unloaded.
pub(crate) struct Tensorflow {
    session: Handle,
    status: Handle,
    input: Output,
    output: Output,
    tensor: Handle,
    run: Run,
    code: unsafe extern "C" fn(Handle) -> c_int,
    message: unsafe extern "C" fn(Handle) -> *const c_char,
    data: unsafe extern "C" fn(Handle) -> *const f32,
    delete_tensor: unsafe extern "C" fn(Handle),
}

impl Tensorflow {
    /// `input` and `output` are the graph's names.
    pub(crate) fn load(
        library: &Path,
        model: &Path,
        input: &str,
        output: &str,
        row: &[f32],
    ) -> Result<Tensorflow, Failure> {
        let model = CString::new(model.to_string_lossy().as_bytes())?;
        // SAFETY: the types are those of the header; the pointers live through the calls.
        unsafe {
            let library: &Library = Box::leak(Box::new(Library::new(library)?));
            let new_status: unsafe extern "C" fn() -> Handle = *library.get("TF_NewStatus")?;
            let new_options: unsafe extern "C" fn() -> Handle =
                *library.get("TF_NewSessionOptions")?;
            let set: unsafe extern "C" fn(Handle, *const c_void, usize, Handle) =
                *library.get("TF_SetConfig")?;
            let new_graph: unsafe extern "C" fn() -> Handle = *library.get("TF_NewGraph")?;
            let load: Load = *library.get("TF_LoadSessionFromSavedModel")?;
            let find: unsafe extern "C" fn(Handle, *const c_char) -> Handle =
                *library.get("TF_GraphOperationByName")?;
            let allocate: unsafe extern "C" fn(c_int, *const i64, c_int, usize) -> Handle =
                *library.get("TF_AllocateTensor")?;
            let data: unsafe extern "C" fn(Handle) -> *const f32 = *library.get("TF_TensorData")?;

            let (status, options, graph) = (new_status(), new_options(), new_graph());
            set(
                options,
                ONE_THREAD.as_ptr().cast(),
                ONE_THREAD.len(),
                status,
            );
            let tags = [c"serve".as_ptr()];
            let session = load(
                options,
                null(),
                model.as_ptr(),
                tags.as_ptr(),
                1,
                graph,
                null_mut(),
                status,
            );
            let place = |name: &str| -> Result<Output, Failure> {
                let (operation, index) = name.rsplit_once(':').ok_or("a name without an index")?;
                let text = CString::new(operation)?;
                let operation = find(graph, text.as_ptr());
                if operation.is_null() {
                    return Err(format!("the graph has no `{name}`").into());
                }
                Ok(Output {
                    operation,
                    index: index.parse()?,
                })
            };
            let shape = [1, i64::try_from(row.len())?];
            let tensor = allocate(FLOAT, shape.as_ptr(), 2, size_of_val(row));
            let mut tensorflow = Tensorflow {
                session,
                status,
                input: Output {
                    operation: null_mut(),
                    index: 0,
                },
                output: Output {
                    operation: null_mut(),
                    index: 0,
                },
                tensor,
                run: *library.get("TF_SessionRun")?,
                code: *library.get("TF_GetCode")?,
                message: *library.get("TF_Message")?,
                data,
                delete_tensor: *library.get("TF_DeleteTensor")?,
            };
            tensorflow.done()?;
            (tensorflow.input, tensorflow.output) = (place(input)?, place(output)?);
            data(tensor)
                .cast_mut()
                .copy_from_nonoverlapping(row.as_ptr(), row.len());
            Ok(tensorflow)
        }
    }

    fn done(&self) -> Result<(), Failure> {
        // SAFETY: the status is ours, its text is copied.
        unsafe {
            if (self.code)(self.status) == 0 {
                return Ok(());
            }
            let text = CStr::from_ptr((self.message)(self.status));
            Err(format!("tensorflow: {}", text.to_string_lossy()).into())
        }
    }
}

impl Bare for Tensorflow {
    fn call(&mut self) -> Result<f32, Failure> {
        let options = Buffer {
            data: IN_CALLER.as_ptr().cast(),
            length: IN_CALLER.len(),
            deallocator: None,
        };
        let mut answer = null_mut();
        // SAFETY: the pointers live through the call; the model answers one number.
        unsafe {
            (self.run)(
                self.session,
                &raw const options,
                &raw const self.input,
                &raw const self.tensor,
                1,
                &raw const self.output,
                &raw mut answer,
                1,
                null(),
                0,
                null_mut(),
                self.status,
            );
            self.done()?;
            let number = *(self.data)(answer);
            (self.delete_tensor)(answer);
            Ok(number)
        }
    }
}

/// An ONNX model.
pub(crate) struct Onnx {
    session: ort::session::Session,
    tensor: Tensor<f32>,
}

impl Onnx {
    pub(crate) fn load(library: &Path, model: &Path, row: &[f32]) -> Result<Onnx, Failure> {
        let environment = ort::init_from(library)?.with_telemetry(false).build()?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        let text = |error: ort::Error<SessionBuilder>| error.to_string();
        let session = SessionBuilder::new(&environment)?
            .with_intra_threads(1)
            .map_err(text)?
            .with_inter_threads(1)
            .map_err(text)?
            .with_config_entry("session.intra_op.allow_spinning", "0")
            .map_err(text)?
            .commit_from_file(model)?;
        let tensor = Tensor::from_array(([1, row.len()], row.to_vec()))?;
        Ok(Onnx { session, tensor })
    }
}

impl Bare for Onnx {
    fn call(&mut self) -> Result<f32, Failure> {
        let (inputs, outputs) = ([c"input".as_ptr()], [c"output".as_ptr()]);
        let values = [self.tensor.ptr()];
        let (mut answers, mut data) = ([null_mut()], null_mut());
        let api = ort::api();
        // SAFETY: the pointers live through the calls; the model answers one number.
        unsafe {
            let status = (api.Run)(
                self.session.ptr().cast_mut(),
                null(),
                inputs.as_ptr(),
                values.as_ptr(),
                1,
                outputs.as_ptr(),
                1,
                answers.as_mut_ptr(),
            );
            ort::Error::result_from_status(status)?;
            let status = (api.GetTensorMutableData)(answers[0], &raw mut data);
            ort::Error::result_from_status(status)?;
            let number = *data.cast::<f32>();
            (api.ReleaseValue)(answers[0]);
            Ok(number)
        }
    }
}
