//! Tensors as ONNX Runtime has them, both ways: all types of the protocols, half precision as 32-bit numbers, and
//! the sequences of maps that scikit-learn's converter makes of probabilities.

use crate::error::{Result, ServeError};
use crate::tensor::{Data, Datatype, Tensor};
use base::Code;
use bytes::Bytes;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{
    DynMapValueType, DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, Utf8Data,
    ValueType,
};

/// How the elements of an input are given to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// As they come.
    Plain,
    /// As 16-bit numbers, rounded.
    Half,
    /// As 16-bit numbers of the range of 32-bit ones, rounded.
    Brain,
}

/// What an output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A tensor of this type.
    Tensor(TensorElementType),
    /// A map of this key to `f32` for each row: two tensors, of the values and of the keys.
    Maps(Key),
}

/// The keys of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Int,
    Text,
}

impl Key {
    pub(super) fn datatype(self) -> Datatype {
        match self {
            Key::Int => Datatype::I64,
            Key::Text => Datatype::Bytes,
        }
    }
}

/// The type of the protocols for elements, and how they are given. `None`: no protocol carries it.
pub(super) fn datatype(element: TensorElementType) -> Option<(Datatype, Given)> {
    let plain = |datatype| Some((datatype, Given::Plain));
    match element {
        TensorElementType::Bool => plain(Datatype::Bool),
        TensorElementType::Uint8 => plain(Datatype::U8),
        TensorElementType::Uint16 => plain(Datatype::U16),
        TensorElementType::Uint32 => plain(Datatype::U32),
        TensorElementType::Uint64 => plain(Datatype::U64),
        TensorElementType::Int8 => plain(Datatype::I8),
        TensorElementType::Int16 => plain(Datatype::I16),
        TensorElementType::Int32 => plain(Datatype::I32),
        TensorElementType::Int64 => plain(Datatype::I64),
        TensorElementType::Float32 => plain(Datatype::F32),
        TensorElementType::Float64 => plain(Datatype::F64),
        TensorElementType::String => plain(Datatype::Bytes),
        TensorElementType::Float16 => Some((Datatype::F32, Given::Half)),
        TensorElementType::Bfloat16 => Some((Datatype::F32, Given::Brain)),
        _ => None,
    }
}

// ---- in ----

/// The value for an input. Numbers of the size that they have here are not copied.
pub(super) fn input(tensor: &Tensor, given: Given) -> Result<SessionInputValue<'_>> {
    let shape = tensor.shape.as_slice();
    let made = match &tensor.data {
        Data::F32(values) => match given {
            Given::Plain => TensorRef::from_array_view((shape, values.as_slice())).map(Into::into),
            Given::Half => owned(shape, values, |&value| f16::from_f32(value)),
            Given::Brain => owned(shape, values, |&value| bf16::from_f32(value)),
        },
        Data::F64(values) => TensorRef::from_array_view((shape, values.as_slice())).map(Into::into),
        // The casts cut what was widened: `Tensor::check` has seen that the values fit.
        Data::Int(values) => match tensor.datatype {
            Datatype::Bool => owned(shape, values, |&value| value != 0),
            Datatype::U8 => owned(shape, values, |&value| value as u8),
            Datatype::U16 => owned(shape, values, |&value| value as u16),
            Datatype::U32 => owned(shape, values, |&value| value as u32),
            Datatype::U64 => owned(shape, values, |&value| value.cast_unsigned()),
            Datatype::I8 => owned(shape, values, |&value| value as i8),
            Datatype::I16 => owned(shape, values, |&value| value as i16),
            Datatype::I32 => owned(shape, values, |&value| value as i32),
            Datatype::I64 | Datatype::F32 | Datatype::F64 | Datatype::Bytes => {
                TensorRef::from_array_view((shape, values.as_slice())).map(Into::into)
            }
        },
        Data::Bytes(values) => return text(tensor, values),
    };
    made.map_err(|error| ServeError::invalid(format!("input `{}`: {error}", tensor.name)))
}

fn owned<'a, T, U>(
    shape: &[usize],
    values: &[T],
    each: fn(&T) -> U,
) -> ort::Result<SessionInputValue<'a>>
where
    U: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let values: Vec<U> = values.iter().map(each).collect();
    Ok(ort::value::Tensor::from_array((shape.to_vec(), values))?.into())
}

/// A string that was looked at.
#[derive(Clone, Debug)]
struct Text(Bytes);

impl Utf8Data for Text {
    fn as_utf8_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Strings: ONNX has them as UTF-8, and its library takes none with a byte of zero.
fn text<'a>(tensor: &Tensor, values: &[Bytes]) -> Result<SessionInputValue<'a>> {
    let wrong = |at: usize, what: &str| {
        ServeError::invalid(format!("input `{}`: string {at} {what}", tensor.name))
    };
    let mut texts: Vec<Text> = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        let text = std::str::from_utf8(value).map_err(|_| wrong(at, "is not UTF-8"))?;
        if text.contains('\0') {
            return Err(wrong(at, "holds a byte of zero"));
        }
        texts.push(Text(value.clone()));
    }
    let made = ort::value::Tensor::from_string_array((tensor.shape.as_slice(), texts.as_slice()));
    let made =
        made.map_err(|error| ServeError::invalid(format!("input `{}`: {error}", tensor.name)))?;
    Ok(made.into())
}

// ---- out ----

/// Adds the tensors of an output.
pub(super) fn output(
    name: &str,
    taken: Taken,
    value: &DynValue,
    into: &mut Vec<Tensor>,
) -> Result<()> {
    match taken {
        Taken::Tensor(element) => into.push(tensor(name, element, value)?),
        Taken::Maps(key) => into.extend(maps(name, key, value)?),
    }
    Ok(())
}

fn odd(name: &str, error: impl std::fmt::Display) -> ServeError {
    ServeError::new(Code::Internal, format!("output `{name}`: {error}"))
}

fn tensor(name: &str, element: TensorElementType, value: &DynValue) -> Result<Tensor> {
    let (datatype, _) = datatype(element).ok_or_else(|| odd(name, "its type is not carried"))?;
    let shape = match value.dtype() {
        ValueType::Tensor { shape, .. } => shape.iter().map(|&size| size.max(0) as usize).collect(),
        other => return Err(odd(name, format!("it is {other}, no tensor"))),
    };
    let data = match element {
        TensorElementType::Float32 => Data::F32(elements(name, value, |&value: &f32| value)?),
        TensorElementType::Float16 => {
            Data::F32(elements(name, value, |value: &f16| value.to_f32())?)
        }
        TensorElementType::Bfloat16 => {
            Data::F32(elements(name, value, |value: &bf16| value.to_f32())?)
        }
        TensorElementType::Float64 => Data::F64(elements(name, value, |&value: &f64| value)?),
        TensorElementType::Bool => Data::Int(elements(name, value, |&value: &bool| value.into())?),
        TensorElementType::Uint8 => Data::Int(elements(name, value, |&value: &u8| value.into())?),
        TensorElementType::Uint16 => Data::Int(elements(name, value, |&value: &u16| value.into())?),
        TensorElementType::Uint32 => Data::Int(elements(name, value, |&value: &u32| value.into())?),
        TensorElementType::Uint64 => {
            Data::Int(elements(name, value, |value: &u64| value.cast_signed())?)
        }
        TensorElementType::Int8 => Data::Int(elements(name, value, |&value: &i8| value.into())?),
        TensorElementType::Int16 => Data::Int(elements(name, value, |&value: &i16| value.into())?),
        TensorElementType::Int32 => Data::Int(elements(name, value, |&value: &i32| value.into())?),
        TensorElementType::Int64 => Data::Int(elements(name, value, |&value: &i64| value)?),
        _ => {
            let (_, texts) = value
                .try_extract_strings()
                .map_err(|error| odd(name, error))?;
            Data::Bytes(texts.into_iter().map(Bytes::from).collect())
        }
    };
    Ok(Tensor {
        name: name.to_owned(),
        datatype,
        shape,
        data,
    })
}

fn elements<T: PrimitiveTensorElementType, U>(
    name: &str,
    value: &DynValue,
    each: fn(&T) -> U,
) -> Result<Vec<U>> {
    let (_, values) = value
        .try_extract_tensor::<T>()
        .map_err(|error| odd(name, error))?;
    Ok(values.iter().map(each).collect())
}

/// The name of the tensor of a map's keys.
pub(super) fn keys_name(name: &str) -> String {
    format!("{name}_keys")
}

/// Rows of maps as a matrix of values and one of keys, which are in the order of ONNX Runtime: ascending.
fn maps(name: &str, key: Key, value: &DynValue) -> Result<[Tensor; 2]> {
    let rows = value
        .try_extract_sequence::<DynMapValueType>()
        .map_err(|error| odd(name, error))?;
    let (mut values, mut ints, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    let mut width = None;
    for row in &rows {
        let before = values.len();
        match key {
            Key::Int => {
                let pairs = row.try_extract_key_values::<i64, f32>();
                for (key, value) in pairs.map_err(|error| odd(name, error))? {
                    ints.push(key);
                    values.push(value);
                }
            }
            Key::Text => {
                let pairs = row.try_extract_key_values::<String, f32>();
                for (key, value) in pairs.map_err(|error| odd(name, error))? {
                    texts.push(Bytes::from(key));
                    values.push(value);
                }
            }
        }
        let n = values.len() - before;
        if *width.get_or_insert(n) != n {
            return Err(ServeError::new(
                Code::Unsupported,
                format!(
                    "output `{name}`: its rows have different numbers of keys, which no protocol carries"
                ),
            ));
        }
    }
    let shape = vec![rows.len(), width.unwrap_or(0)];
    let keys = match key {
        Key::Int => Data::Int(ints),
        Key::Text => Data::Bytes(texts),
    };
    Ok([
        Tensor {
            name: name.to_owned(),
            datatype: Datatype::F32,
            shape: shape.clone(),
            data: Data::F32(values),
        },
        Tensor {
            name: keys_name(name),
            datatype: key.datatype(),
            shape,
            data: keys,
        },
    ])
}
