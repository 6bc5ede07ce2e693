//! Tensors as TensorFlow has them, both ways, and its numbers for their types.
#![expect(
    unsafe_code,
    reason = "memory of a C library is read and written here; every value owns its tensor"
)]

use super::c::{Api, Handle, TString, c_len};
use crate::error::{Result, ServeError};
use crate::tensor::{Data, Datatype, Tensor};
use base::Code;
use bytes::Bytes;
use half::{bf16, f16};
use std::ffi::{c_int, c_void};

/// A tensor of TensorFlow's.
pub(super) struct Value {
    pub(super) api: &'static Api,
    pub(super) handle: Handle,
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: it is ours.
        unsafe { (self.api.delete_tensor)(self.handle) };
    }
}

/// Strings that TensorFlow holds for as long as it likes.
struct Strings {
    api: &'static Api,
    all: Vec<TString>,
}

impl Drop for Strings {
    fn drop(&mut self) {
        for string in &mut self.all {
            // SAFETY: each was initialised, and nobody holds the tensor any more.
            unsafe { (self.api.string_free)(string) };
        }
    }
}

unsafe extern "C" fn free_strings(_: *mut c_void, _: usize, strings: *mut c_void) {
    // SAFETY: the pointer is the box that was given with the tensor; this is called once.
    drop(unsafe { Box::from_raw(strings.cast::<Strings>()) });
}

impl Value {
    /// A tensor for an input of the type that has the number `wanted`.
    pub(super) fn new(api: &'static Api, tensor: &Tensor, wanted: c_int) -> Result<Value> {
        let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
        let is_half = tensor.datatype == Datatype::F32 && is_half(wanted);
        let datatype = if is_half {
            wanted
        } else {
            number(tensor.datatype)
        };
        let handle = match &tensor.data {
            Data::Bytes(values) => {
                let all = values
                    .iter()
                    .map(|bytes| {
                        let mut string = TString([0; 24]);
                        // SAFETY: the string is ours; the bytes are copied.
                        unsafe {
                            (api.string_init)(&raw mut string);
                            (api.string_copy)(&raw mut string, bytes.as_ptr().cast(), bytes.len());
                        }
                        string
                    })
                    .collect();
                let mut strings = Box::new(Strings { api, all });
                let data: *mut c_void = strings.all.as_mut_ptr().cast();
                let size = strings.all.len() * size_of::<TString>();
                // SAFETY: data lives until `free_strings`.
                unsafe {
                    (api.new_tensor)(
                        datatype,
                        shape.as_ptr(),
                        c_len(shape.len()),
                        data,
                        size,
                        free_strings,
                        Box::into_raw(strings).cast(),
                    )
                }
            }
            data => {
                let width = if is_half {
                    2
                } else {
                    tensor.datatype.size().unwrap_or(8)
                };
                let size = data.len() * width;
                // SAFETY: the shape lives through the call.
                let handle = unsafe {
                    (api.allocate_tensor)(datatype, shape.as_ptr(), c_len(shape.len()), size)
                };
                if !handle.is_null() && size > 0 {
                    // SAFETY: TensorFlow allocated `size` bytes there, and nobody else has them.
                    let room = unsafe {
                        std::slice::from_raw_parts_mut((api.data)(handle).cast::<u8>(), size)
                    };
                    match data {
                        Data::F32(values) if is_half => fill_halves(room, values, wanted),
                        _ => fill(room, data, width),
                    }
                }
                handle
            }
        };
        if handle.is_null() {
            return Err(ServeError::new(
                Code::Exhausted,
                format!("input `{}`: no memory for it", tensor.name),
            ));
        }
        Ok(Value { api, handle })
    }

    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let api = self.api;
        // SAFETY: the tensor is ours.
        let (kind, n_dims, size) = unsafe {
            (
                (api.tensor_type)(self.handle),
                (api.n_dims)(self.handle),
                (api.byte_size)(self.handle),
            )
        };
        let datatype = datatype(kind).ok_or_else(|| {
            ServeError::new(
                Code::Unsupported,
                format!("output `{name}` has a type that no protocol carries ({kind})"),
            )
        })?;
        let shape: Vec<usize> = (0..n_dims)
            // SAFETY: the index is below the number of dimensions.
            .map(|at| unsafe { (api.dim)(self.handle, at) } as usize)
            .collect();
        let n = shape.iter().product::<usize>();
        // SAFETY: the tensor is ours and lives while its bytes are read.
        let start = unsafe { (api.data)(self.handle) };
        let data = if n == 0 {
            empty(datatype)
        } else if datatype == Datatype::Bytes {
            // SAFETY: a tensor of strings is an array of as many of them.
            let strings = unsafe { std::slice::from_raw_parts(start.cast::<TString>(), n) };
            let copy = |string: &TString| {
                // SAFETY: the bytes belong to the string, and are copied.
                unsafe {
                    let length = (api.string_size)(string);
                    let bytes = (api.string_data)(string).cast::<u8>();
                    Bytes::copy_from_slice(std::slice::from_raw_parts(bytes, length))
                }
            };
            Data::Bytes(strings.iter().map(copy).collect())
        } else {
            // SAFETY: the tensor has `size` bytes there.
            let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) };
            from_le(kind, datatype, bytes)
        };
        Ok(Tensor {
            name: name.to_owned(),
            datatype,
            shape,
            data,
        })
    }
}

fn empty(datatype: Datatype) -> Data {
    match datatype {
        Datatype::Bytes => Data::Bytes(Vec::new()),
        other => crate::tensor::from_le(other, &[]),
    }
}

/// 32-bit numbers as those of half precision, rounded to the nearest.
fn fill_halves(room: &mut [u8], values: &[f32], number: c_int) {
    for (to, &value) in room.as_chunks_mut().0.iter_mut().zip(values) {
        *to = match number {
            BRAIN => bf16::from_f32(value).to_le_bytes(),
            _ => f16::from_f32(value).to_le_bytes(),
        };
    }
}

/// Elements of the type that has this number and is carried as `datatype`, from the bytes of TensorFlow's tensors.
pub(crate) fn from_le(number: c_int, datatype: Datatype, bytes: &[u8]) -> Data {
    let halves = bytes.as_chunks().0.iter().copied();
    match number {
        HALF => Data::F32(
            halves
                .map(|bits| f16::from_le_bytes(bits).to_f32())
                .collect(),
        ),
        BRAIN => Data::F32(
            halves
                .map(|bits| bf16::from_le_bytes(bits).to_f32())
                .collect(),
        ),
        _ => crate::tensor::from_le(datatype, bytes),
    }
}

/// Whether a number is that of a type of half precision.
pub(crate) fn is_half(number: c_int) -> bool {
    [HALF, BRAIN].contains(&number)
}

fn fill(room: &mut [u8], data: &Data, width: usize) {
    match data {
        Data::F32(values) => {
            for (to, value) in room.as_chunks_mut().0.iter_mut().zip(values) {
                *to = value.to_le_bytes();
            }
        }
        Data::F64(values) => {
            for (to, value) in room.as_chunks_mut().0.iter_mut().zip(values) {
                *to = value.to_le_bytes();
            }
        }
        Data::Int(values) => {
            for (to, value) in room.chunks_exact_mut(width).zip(values) {
                to.copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        Data::Bytes(_) => {}
    }
}

/// TensorFlow's numbers of the types of half precision, IEEE 754's and the one with the range of 32 bits.
const HALF: c_int = 19;
const BRAIN: c_int = 14;

/// Types with TensorFlow's numbers for them. Half precision goes as 32-bit numbers.
const NUMBERS: [(c_int, Datatype); 14] = [
    (1, Datatype::F32),
    (2, Datatype::F64),
    (3, Datatype::I32),
    (4, Datatype::U8),
    (5, Datatype::I16),
    (6, Datatype::I8),
    (7, Datatype::Bytes),
    (9, Datatype::I64),
    (10, Datatype::Bool),
    (17, Datatype::U16),
    (22, Datatype::U32),
    (23, Datatype::U64),
    (HALF, Datatype::F32),
    (BRAIN, Datatype::F32),
];

/// The type of TensorFlow's number.
pub(crate) fn datatype(number: i32) -> Option<Datatype> {
    let found = NUMBERS.iter().find(|(known, _)| *known == number);
    found.map(|(_, datatype)| *datatype)
}

/// TensorFlow's number of a type.
pub(crate) fn number(datatype: Datatype) -> i32 {
    let found = NUMBERS.iter().find(|(_, known)| *known == datatype);
    found.map_or(0, |(number, _)| *number)
}
