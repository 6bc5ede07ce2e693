//! What the server and a worker process say to each other. Once in a life, JSON: the order to load, and what was
//! loaded or why not. For each run, bytes: tensors there, tensors or an error back.
//!
//! Both ends are the same program, so nothing here has versions. The worker's end is not believed nevertheless: a
//! library that overwrote its memory may send anything.

use crate::error::{Result as RunResult, ServeError};
use crate::repository::Native;
use crate::runtime::{FirstRun, LoadError, Signature};
use crate::runtimes::KNOWN;
use crate::tensor::{Data, Datatype, Tensor, from_le, to_le};
use base::Code;
use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The types in the order of their numbers here.
const DATATYPES: [Datatype; 12] = [
    Datatype::Bool,
    Datatype::U8,
    Datatype::U16,
    Datatype::U32,
    Datatype::U64,
    Datatype::I8,
    Datatype::I16,
    Datatype::I32,
    Datatype::I64,
    Datatype::F32,
    Datatype::F64,
    Datatype::Bytes,
];

/// What a worker is to load.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The server's process: a worker whose parent is another one came too late.
    pub(super) parent: u32,
    /// The version's directory.
    pub(super) dir: PathBuf,
    /// Where the libraries are.
    pub(super) runtimes: PathBuf,
    pub(super) native: Native,
    /// Whether the runs before the model is ready are wanted.
    pub(super) wants_runs: bool,
}

/// What was loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) signatures: Vec<Signature>,
    /// Bytes that the process has.
    pub(super) memory: u64,
}

/// Why nothing was loaded, as [`LoadError`] has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fault {
    Format(String),
    Read(PathBuf, String),
    Model(String, String),
    Runtime(String, String),
    FirstRun(String),
    Panicked,
    Other(String),
}

impl From<LoadError> for Fault {
    fn from(error: LoadError) -> Fault {
        match error {
            LoadError::Format(text) => Fault::Format(text),
            LoadError::Read(path, text) => Fault::Read(path, text),
            LoadError::Model(file, text) => Fault::Model(file, text),
            LoadError::Runtime { runtime, text } => Fault::Runtime(runtime.to_owned(), text),
            LoadError::FirstRun(text) => Fault::FirstRun(text),
            LoadError::Panicked => Fault::Panicked,
            LoadError::Worker(text) => Fault::Other(text),
            // Nobody asks a worker whether there is room.
            error @ LoadError::Memory { .. } => Fault::Other(error.to_string()),
        }
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> LoadError {
        match fault {
            Fault::Format(text) => LoadError::Format(text),
            Fault::Read(path, text) => LoadError::Read(path, text),
            Fault::Model(file, text) => LoadError::Model(file, text),
            Fault::Runtime(name, text) => match KNOWN.iter().find(|known| known.name == name) {
                Some(known) => LoadError::Runtime {
                    runtime: known.name,
                    text,
                },
                None => LoadError::Worker(text),
            },
            Fault::FirstRun(text) => LoadError::FirstRun(text),
            Fault::Panicked => LoadError::Panicked,
            Fault::Other(text) => LoadError::Worker(text),
        }
    }
}

/// Bytes that are no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) &'static str);

type Result<T> = std::result::Result<T, Garbled>;

// ---- once in a life ----

pub(super) fn put_json<T: Serialize>(out: &mut Vec<u8>, value: &T) -> serde_json::Result<()> {
    let text = serde_json::to_vec(value)?;
    put_bytes(out, &text);
    Ok(())
}

pub(super) fn take_json<T: for<'a> Deserialize<'a>>(rest: &mut Bytes) -> Result<T> {
    let text = take_bytes(rest)?;
    serde_json::from_slice(&text).map_err(|_| Garbled("a text that is not what was expected"))
}

pub(super) fn put_runs(out: &mut Vec<u8>, runs: &[FirstRun]) {
    for run in runs {
        put_u32(out, run.signature);
        out.push(run.may_refuse.into());
        put_tensors(out, &run.inputs);
    }
}

/// The runs that are the rest of a message, of a model with so many signatures.
pub(super) fn take_runs(mut rest: Bytes, n_signatures: usize) -> Result<Vec<FirstRun>> {
    let mut runs = Vec::new();
    while !rest.is_empty() {
        let signature = take_u32(&mut rest)?;
        if signature >= n_signatures {
            return Err(Garbled("a signature that the model does not have"));
        }
        runs.push(FirstRun {
            signature,
            may_refuse: take_u8(&mut rest)? != 0,
            inputs: take_tensors(&mut rest)?,
        });
    }
    Ok(runs)
}

// ---- for each run ----

pub(super) fn put_question(out: &mut Vec<u8>, signature: usize, inputs: &[Tensor]) {
    put_u32(out, signature);
    put_tensors(out, inputs);
}

pub(super) fn take_question(mut rest: Bytes) -> Result<(usize, Vec<Tensor>)> {
    let signature = take_u32(&mut rest)?;
    let inputs = take_tensors(&mut rest)?;
    ended(&rest, (signature, inputs))
}

pub(super) fn put_answer(out: &mut Vec<u8>, answer: &RunResult<Vec<Tensor>>) {
    match answer {
        Ok(outputs) => {
            out.push(0);
            put_tensors(out, outputs);
        }
        Err(error) => {
            out.push(1);
            put_bytes(out, error.code.as_str().as_bytes());
            put_bytes(out, error.text.as_bytes());
        }
    }
}

pub(super) fn take_answer(mut rest: Bytes) -> Result<RunResult<Vec<Tensor>>> {
    let answer = match take_u8(&mut rest)? {
        0 => Ok(take_tensors(&mut rest)?),
        1 => {
            let code = Code::from_word(&take_text(&mut rest)?);
            let code = code.ok_or(Garbled("an error of no known kind"))?;
            Err(ServeError::new(code, take_text(&mut rest)?))
        }
        _ => return Err(Garbled("neither an answer nor an error")),
    };
    ended(&rest, answer)
}

fn ended<T>(rest: &Bytes, message: T) -> Result<T> {
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(Garbled("more than a message"))
    }
}

// ---- tensors ----

fn put_tensors(out: &mut Vec<u8>, tensors: &[Tensor]) {
    put_u32(out, tensors.len());
    for tensor in tensors {
        put_bytes(out, tensor.name.as_bytes());
        let place = DATATYPES.iter().position(|it| *it == tensor.datatype);
        out.push(place.unwrap_or(DATATYPES.len()) as u8);
        put_u32(out, tensor.shape.len());
        for &size in &tensor.shape {
            out.extend((size as u64).to_le_bytes());
        }
        let size = tensor.datatype.size().unwrap_or(size_of::<u32>());
        out.reserve(tensor.data.len().saturating_mul(size));
        match &tensor.data {
            Data::Bytes(values) => values.iter().for_each(|value| put_bytes(out, value)),
            Data::F32(_) | Data::F64(_) | Data::Int(_) => to_le(out, tensor),
        }
    }
}

fn take_tensors(rest: &mut Bytes) -> Result<Vec<Tensor>> {
    let n = take_u32(rest)?;
    // No room is made for what is only claimed: each takes bytes of the message.
    let mut tensors = Vec::new();
    for _ in 0..n {
        tensors.push(take_tensor(rest)?);
    }
    Ok(tensors)
}

fn take_tensor(rest: &mut Bytes) -> Result<Tensor> {
    let name = take_text(rest)?;
    let datatype = DATATYPES.get(usize::from(take_u8(rest)?));
    let datatype = *datatype.ok_or(Garbled("a tensor of no known type"))?;
    let mut shape = Vec::new();
    for _ in 0..take_u32(rest)? {
        let size = take(rest, 8)?.get_u64_le();
        shape.push(usize::try_from(size).map_err(|_| CUT)?);
    }
    let n = shape.iter();
    let n = n.copied().try_fold(1_usize, usize::checked_mul);
    let n = n.ok_or(CUT)?;
    let data = match datatype.size() {
        Some(size) => from_le(datatype, &take(rest, n.checked_mul(size).ok_or(CUT)?)?),
        None => {
            let mut values = Vec::new();
            for _ in 0..n {
                values.push(take_bytes(rest)?);
            }
            Data::Bytes(values)
        }
    };
    Ok(Tensor {
        name,
        datatype,
        shape,
        data,
    })
}

// ---- bytes ----

const CUT: Garbled = Garbled("a message that is cut off");

/// Lengths are those of parts of a message, which is far smaller than 4 GiB; one that is not makes the message too
/// large to be sent.
fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend((value as u32).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take(rest: &mut Bytes, n: usize) -> Result<Bytes> {
    if n > rest.len() {
        return Err(CUT);
    }
    Ok(rest.split_to(n))
}

fn take_u8(rest: &mut Bytes) -> Result<u8> {
    Ok(take(rest, 1)?.get_u8())
}

fn take_u32(rest: &mut Bytes) -> Result<usize> {
    Ok(take(rest, 4)?.get_u32_le() as usize)
}

fn take_bytes(rest: &mut Bytes) -> Result<Bytes> {
    let n = take_u32(rest)?;
    take(rest, n)
}

fn take_text(rest: &mut Bytes) -> Result<String> {
    let bytes = take_bytes(rest)?;
    String::from_utf8(bytes.into()).map_err(|_| Garbled("a name that is not text"))
}

#[cfg(test)]
mod tests;
