//! TensorFlow's message for a tensor, both ways (tensorflow/core/framework/tensor.proto).

use crate::error::{Result, ServeError};
use crate::proto::tensorflow::tensor_shape_proto::Dim;
use crate::proto::tensorflow::{TensorProto, TensorShapeProto};
use crate::runtime::tensorflow::value;
use crate::tensor::{Data, Datatype, Tensor, to_le};
use bytes::Bytes;

/// Elements of a tensor whose values are fewer: the last stands for the rest.
const REPEATED_MAX: usize = 1 << 20;

/// Reads a tensor. Fewer values than elements are filled up with the last, as TensorFlow does.
pub(crate) fn read(name: &str, proto: TensorProto) -> Result<Tensor> {
    let wrong = |text: &str| ServeError::invalid(format!("input `{name}`: {text}"));
    let datatype = value::datatype(proto.dtype)
        .ok_or_else(|| wrong(&format!("its type ({}) is not taken", proto.dtype)))?;
    let dims = proto.tensor_shape.unwrap_or_default().dim;
    let shape: Vec<usize> = dims
        .iter()
        .map(|dim| usize::try_from(dim.size))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| wrong("its shape has a negative dimension"))?;
    let n = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .ok_or_else(|| wrong("its shape has too many elements"))?;
    let is_half = value::is_half(proto.dtype);
    let size = if is_half { Some(2) } else { datatype.size() };
    let mut data = match (proto.tensor_content.is_empty(), size) {
        (false, Some(size)) => {
            if Some(proto.tensor_content.len()) != n.checked_mul(size) {
                return Err(wrong(&format!(
                    "shape {shape:?} has {n} elements, `tensor_content` has {} bytes",
                    proto.tensor_content.len()
                )));
            }
            value::from_le(proto.dtype, datatype, &proto.tensor_content)
        }
        (false, None) => return Err(wrong("strings stand in `string_val`")),
        (true, _) if is_half => {
            // Each has one number's bits.
            let bits = proto.half_val.iter().flat_map(|bits| {
                let [low, high, ..] = bits.to_le_bytes();
                [low, high]
            });
            value::from_le(proto.dtype, datatype, &bits.collect::<Vec<u8>>())
        }
        (true, _) => match datatype {
            Datatype::F32 => Data::F32(proto.float_val),
            Datatype::F64 => Data::F64(proto.double_val),
            Datatype::Bytes => Data::Bytes(proto.string_val),
            Datatype::I64 => Data::Int(proto.int64_val),
            Datatype::Bool => Data::Int(proto.bool_val.into_iter().map(i64::from).collect()),
            Datatype::U32 => Data::Int(proto.uint32_val.into_iter().map(i64::from).collect()),
            Datatype::U64 => {
                Data::Int(proto.uint64_val.into_iter().map(u64::cast_signed).collect())
            }
            Datatype::U8 | Datatype::U16 | Datatype::I8 | Datatype::I16 | Datatype::I32 => {
                Data::Int(proto.int_val.into_iter().map(i64::from).collect())
            }
        },
    };
    if data.len() < n && n > REPEATED_MAX {
        return Err(wrong(&format!(
            "shape {shape:?} has {n} elements, got {}; a value is repeated in tensors of at most {REPEATED_MAX}",
            data.len()
        )));
    }
    if data.len() > n || (data.is_empty() && n > 0) {
        return Err(wrong(&format!(
            "shape {shape:?} has {n} elements, got {}",
            data.len()
        )));
    }
    match &mut data {
        Data::F32(values) => fill_up(values, n),
        Data::F64(values) => fill_up(values, n),
        Data::Int(values) => fill_up(values, n),
        Data::Bytes(values) => fill_up(values, n),
    }
    Ok(Tensor {
        name: name.to_owned(),
        datatype,
        shape,
        data,
    })
}

fn fill_up<T: Clone>(values: &mut Vec<T>, n: usize) {
    if let Some(last) = values.last().cloned() {
        values.resize(n, last);
    }
}

/// Writes a tensor: numbers as the bytes that they are.
pub(crate) fn write(tensor: &Tensor) -> TensorProto {
    let dim = |&size: &usize| Dim {
        size: size as i64,
        name: String::new(),
    };
    let mut proto = TensorProto {
        dtype: value::number(tensor.datatype),
        tensor_shape: Some(TensorShapeProto {
            dim: tensor.shape.iter().map(dim).collect(),
            unknown_rank: false,
        }),
        ..TensorProto::default()
    };
    match &tensor.data {
        Data::Bytes(values) => proto.string_val.clone_from(values),
        // Clients read `float_val` most often, by hand even; TensorFlow Serving writes it, too.
        Data::F32(values) => proto.float_val.clone_from(values),
        _ => {
            let mut out = Vec::new();
            to_le(&mut out, tensor);
            proto.tensor_content = Bytes::from(out);
        }
    }
    proto
}

#[cfg(test)]
mod tests;
