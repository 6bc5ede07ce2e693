//! The part of TensorFlow's C API that serving needs (tensorflow/c/c_api.h, tf_tensor.h, tf_tstring.h), found in
//! the library when it is first used, with owners for what it allocates.
#![expect(
    unsafe_code,
    reason = "a C library is called here and nowhere else; every type below owns what it points to"
)]

use super::super::LoadError;
use super::value::Value;
use crate::error::{Result, ServeError};
use crate::tensor::{Port, Tensor};
use base::Code;
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, PoisonError};

/// Opaque to us.
pub(super) type Handle = *mut c_void;

/// `TF_TString`: 24 bytes, short strings inside.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct TString(pub(super) [u8; 24]);

/// `TF_Output`: an output of an operation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    operation: Handle,
    index: c_int,
}

// SAFETY: it names a place in a graph that is only read, and goes with its session.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// `TF_Buffer`.
#[repr(C)]
pub(super) struct Buffer {
    data: *const c_void,
    length: usize,
    deallocator: Option<unsafe extern "C" fn(*mut c_void, usize)>,
}

pub(super) type Deallocator = unsafe extern "C" fn(*mut c_void, usize, *mut c_void);

macro_rules! api {
    ($($name:ident = $symbol:literal ( $($arg:ty),* ) $(-> $ret:ty)?;)*) => {
        /// The functions, as their header declares them.
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        impl Api {
            /// # Safety
            /// The library is TensorFlow's.
            unsafe fn find(library: &Library) -> std::result::Result<Api, libloading::Error> {
                Ok(Api { $(
                    // SAFETY: the types are those of the header.
                    $name: unsafe { *library.get($symbol)? },
                )* })
            }
        }
    };
}

api! {
    version = "TF_Version"() -> *const c_char;
    new_status = "TF_NewStatus"() -> Handle;
    delete_status = "TF_DeleteStatus"(Handle);
    code = "TF_GetCode"(Handle) -> c_int;
    message = "TF_Message"(Handle) -> *const c_char;
    new_options = "TF_NewSessionOptions"() -> Handle;
    delete_options = "TF_DeleteSessionOptions"(Handle);
    set_config = "TF_SetConfig"(Handle, *const c_void, usize, Handle);
    new_graph = "TF_NewGraph"() -> Handle;
    delete_graph = "TF_DeleteGraph"(Handle);
    operation = "TF_GraphOperationByName"(Handle, *const c_char) -> Handle;
    n_outputs = "TF_OperationNumOutputs"(Handle) -> c_int;
    output_type = "TF_OperationOutputType"(Output) -> c_int;
    load = "TF_LoadSessionFromSavedModel"(
        Handle, *const Buffer, *const c_char, *const *const c_char, c_int, Handle, *mut Buffer, Handle
    ) -> Handle;
    close = "TF_CloseSession"(Handle, Handle);
    delete_session = "TF_DeleteSession"(Handle, Handle);
    run = "TF_SessionRun"(
        Handle, *const Buffer, *const Output, *const Handle, c_int, *const Output, *mut Handle, c_int,
        *const Handle, c_int, *mut Buffer, Handle
    );
    load_library = "TF_LoadLibrary"(*const c_char, Handle) -> Handle;
    new_tensor = "TF_NewTensor"(
        c_int, *const i64, c_int, *mut c_void, usize, Deallocator, *mut c_void
    ) -> Handle;
    allocate_tensor = "TF_AllocateTensor"(c_int, *const i64, c_int, usize) -> Handle;
    delete_tensor = "TF_DeleteTensor"(Handle);
    tensor_type = "TF_TensorType"(Handle) -> c_int;
    n_dims = "TF_NumDims"(Handle) -> c_int;
    dim = "TF_Dim"(Handle, c_int) -> i64;
    byte_size = "TF_TensorByteSize"(Handle) -> usize;
    data = "TF_TensorData"(Handle) -> *mut c_void;
    string_init = "TF_StringInit"(*mut TString);
    string_copy = "TF_StringCopy"(*mut TString, *const c_char, usize);
    string_data = "TF_StringGetDataPointer"(*const TString) -> *const c_char;
    string_size = "TF_StringGetSize"(*const TString) -> usize;
    string_free = "TF_StringDealloc"(*mut TString);
}

/// The library, once for the process: it does not like to be unloaded.
static LOADED: Mutex<Option<(PathBuf, &'static Api)>> = Mutex::new(None);

/// Lengths and hashes of the libraries of operations that were loaded; nothing unloads one.
static OPERATIONS: Mutex<Vec<(usize, u64)>> = Mutex::new(Vec::new());

impl Api {
    /// Loads the library that lies in a directory, or gives the one that was loaded.
    pub(super) fn get(library: &Path) -> std::result::Result<&'static Api, LoadError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, api)) = &*loaded {
            return Ok(api);
        }
        let fault = |error: libloading::Error| LoadError::Runtime {
            runtime: "tensorflow",
            text: format!("`{}` cannot be loaded: {error}", library.display()),
        };
        // SAFETY: it is the library that was installed for this; its initialisers may run.
        let api = unsafe {
            let handle = Library::open(Some(library), RTLD_LAZY | RTLD_LOCAL).map_err(fault)?;
            let api = Api::find(&handle).map_err(fault)?;
            std::mem::forget(handle);
            api
        };
        let api: &'static Api = Box::leak(Box::new(api));
        tracing::info!(version = %api.version(), "TensorFlow is loaded");
        *loaded = Some((library.to_owned(), api));
        Ok(api)
    }

    fn version(&self) -> String {
        // SAFETY: a string that lives as long as the library.
        unsafe { CStr::from_ptr((self.version)()) }
            .to_string_lossy()
            .into_owned()
    }

    /// Loads a library with operations of its own, once: another version of a model brings the same again, and
    /// TensorFlow does not take an operation's code twice.
    pub(super) fn operations(&self, path: &Path) -> std::result::Result<(), String> {
        let mut loaded = OPERATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let content = std::fs::read(path).map_err(|error| error.to_string())?;
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let print = (content.len(), hasher.finish());
        if loaded.contains(&print) {
            return Ok(());
        }
        let path = c_text(&path.to_string_lossy())?;
        let status = Status::new(self);
        // SAFETY: both pointers live through the call. What is loaded stays.
        unsafe { (self.load_library)(path.as_ptr(), status.handle) };
        status.check().map_err(|(_, text)| text)?;
        loaded.push(print);
        Ok(())
    }
}

fn c_text(text: &str) -> std::result::Result<CString, String> {
    CString::new(text).map_err(|_| format!("`{text}` holds a byte of zero"))
}

struct Status<'a> {
    api: &'a Api,
    handle: Handle,
}

impl Status<'_> {
    fn new(api: &Api) -> Status<'_> {
        Status {
            api,
            // SAFETY: no arguments.
            handle: unsafe { (api.new_status)() },
        }
    }

    fn check(&self) -> std::result::Result<(), (c_int, String)> {
        // SAFETY: the status is ours.
        match unsafe { (self.api.code)(self.handle) } {
            0 => Ok(()),
            code => {
                // SAFETY: the text lives as long as the status, and is copied.
                let text = unsafe { CStr::from_ptr((self.api.message)(self.handle)) };
                Err((code, text.to_string_lossy().into_owned()))
            }
        }
    }
}

impl Drop for Status<'_> {
    fn drop(&mut self) {
        // SAFETY: it is ours and nobody has it any more.
        unsafe { (self.api.delete_status)(self.handle) };
    }
}

/// In which thread operations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// In the one that calls: nothing is handed over.
    Caller,
    /// In TensorFlow's pool: branches of a large graph side by side.
    Pool,
}

/// RunOptions.inter_op_thread_pool (field 3) = -1.
const IN_CALLER: [u8; 11] = [
    0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
];
/// ConfigProto.intra_op_parallelism_threads (field 2) = 1: workers run side by side already.
const CONFIG: [u8; 2] = [0x10, 0x01];

/// A loaded SavedModel.
pub(super) struct Session {
    api: &'static Api,
    graph: Handle,
    session: Handle,
}

// SAFETY: TF_SessionRun may be called by several threads at a time, and the graph is only read.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    pub(super) fn load(
        api: &'static Api,
        dir: &Path,
        tags: &[String],
    ) -> std::result::Result<Session, String> {
        let dir = c_text(&dir.to_string_lossy())?;
        let tags: Vec<CString> = tags
            .iter()
            .map(|tag| c_text(tag))
            .collect::<std::result::Result<_, _>>()?;
        let pointers: Vec<*const c_char> = tags.iter().map(|tag| tag.as_ptr()).collect();
        let status = Status::new(api);
        // SAFETY: every pointer lives through the calls; the options are freed before the function ends, graph
        // and session by `Session`.
        let session = unsafe {
            let options = (api.new_options)();
            (api.set_config)(options, CONFIG.as_ptr().cast(), CONFIG.len(), status.handle);
            let graph = (api.new_graph)();
            let session = (api.load)(
                options,
                null(),
                dir.as_ptr(),
                pointers.as_ptr(),
                c_len(pointers.len()),
                graph,
                null_mut(),
                status.handle,
            );
            (api.delete_options)(options);
            Session {
                api,
                graph,
                session,
            }
        };
        status.check().map_err(|(_, text)| text)?;
        Ok(session)
    }

    /// The output that is called `operation:index`.
    pub(super) fn output(&self, name: &str) -> std::result::Result<Output, String> {
        let (operation, index) = match name.rsplit_once(':') {
            Some((operation, index)) => (operation, index.parse().ok()),
            None => (name, Some(0)),
        };
        let index: c_int = index.ok_or_else(|| format!("`{name}` names no output"))?;
        let text = c_text(operation)?;
        // SAFETY: the graph is ours, the text lives through the call.
        let handle = unsafe { (self.api.operation)(self.graph, text.as_ptr()) };
        // SAFETY: the operation belongs to the graph.
        if handle.is_null() || index < 0 || index >= unsafe { (self.api.n_outputs)(handle) } {
            return Err(format!("the graph has no `{name}`"));
        }
        Ok(Output {
            operation: handle,
            index,
        })
    }

    /// Runs the graph from inputs to outputs.
    pub(super) fn run(
        &self,
        threads: Threads,
        inputs: &[Output],
        tensors: &[Tensor],
        outputs: &[Output],
        ports: &[Port],
    ) -> Result<Vec<Tensor>> {
        let values: Vec<Value> = tensors
            .iter()
            .zip(inputs)
            // SAFETY: the input belongs to the graph.
            .map(|(tensor, input)| {
                let wanted = unsafe { (self.api.output_type)(*input) };
                Value::new(self.api, tensor, wanted)
            })
            .collect::<Result<_>>()?;
        let handles: Vec<Handle> = values.iter().map(|value| value.handle).collect();
        let mut answers = vec![null_mut(); outputs.len()];
        let status = Status::new(self.api);
        let options = Buffer {
            data: IN_CALLER.as_ptr().cast(),
            length: IN_CALLER.len(),
            deallocator: None,
        };
        let options: *const Buffer = match threads {
            Threads::Caller => &raw const options,
            Threads::Pool => null(),
        };
        // SAFETY: every pointer lives through the call and the lengths are those of the vectors.
        unsafe {
            (self.api.run)(
                self.session,
                options,
                inputs.as_ptr(),
                handles.as_ptr(),
                c_len(handles.len()),
                outputs.as_ptr(),
                answers.as_mut_ptr(),
                c_len(outputs.len()),
                null(),
                0,
                null_mut(),
                status.handle,
            );
        }
        let answers: Vec<Value> = answers
            .into_iter()
            .filter(|handle| !handle.is_null())
            .map(|handle| Value {
                api: self.api,
                handle,
            })
            .collect();
        status.check().map_err(|(code, text)| refused(code, text))?;
        if answers.len() != ports.len() {
            return Err(ServeError::new(Code::Internal, "an output is missing"));
        }
        ports
            .iter()
            .zip(&answers)
            .map(|(port, answer)| answer.read(&port.name))
            .collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let status = Status::new(self.api);
        // SAFETY: nobody runs it any more; the session goes before its graph.
        unsafe {
            if !self.session.is_null() {
                (self.api.close)(self.session, status.handle);
                (self.api.delete_session)(self.session, status.handle);
            }
            (self.api.delete_graph)(self.graph);
        }
    }
}

/// Signatures have few inputs; a count that does not fit is cut and refused by TensorFlow.
pub(super) fn c_len(len: usize) -> c_int {
    c_int::try_from(len).unwrap_or(c_int::MAX)
}

/// TensorFlow's codes are gRPC's.
fn refused(code: c_int, text: String) -> ServeError {
    let code = match code {
        // What the graph says of its input, mostly of its values.
        3 | 11 => Code::Invalid,
        5 => Code::NotFound,
        8 => Code::Exhausted,
        12 => Code::Unsupported,
        _ => Code::Internal,
    };
    ServeError::new(code, text)
}
