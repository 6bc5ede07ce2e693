//! Named arrays as the protocols carry them.

use crate::error::{Result, ServeError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    #[expect(missing_docs, reason = "the names say all")]
    U8,
    #[expect(missing_docs, reason = "the names say all")]
    U16,
    #[expect(missing_docs, reason = "the names say all")]
    U32,
    #[expect(missing_docs, reason = "the names say all")]
    U64,
    #[expect(missing_docs, reason = "the names say all")]
    I8,
    #[expect(missing_docs, reason = "the names say all")]
    I16,
    #[expect(missing_docs, reason = "the names say all")]
    I32,
    #[expect(missing_docs, reason = "the names say all")]
    I64,
    #[expect(missing_docs, reason = "the names say all")]
    F32,
    #[expect(missing_docs, reason = "the names say all")]
    F64,
    /// Strings of bytes.
    Bytes,
}

/// Every type with its names in the Open Inference Protocol and in TensorFlow.
const NAMES: [(Datatype, &str, &str); 12] = [
    (Datatype::Bool, "BOOL", "DT_BOOL"),
    (Datatype::U8, "UINT8", "DT_UINT8"),
    (Datatype::U16, "UINT16", "DT_UINT16"),
    (Datatype::U32, "UINT32", "DT_UINT32"),
    (Datatype::U64, "UINT64", "DT_UINT64"),
    (Datatype::I8, "INT8", "DT_INT8"),
    (Datatype::I16, "INT16", "DT_INT16"),
    (Datatype::I32, "INT32", "DT_INT32"),
    (Datatype::I64, "INT64", "DT_INT64"),
    (Datatype::F32, "FP32", "DT_FLOAT"),
    (Datatype::F64, "FP64", "DT_DOUBLE"),
    (Datatype::Bytes, "BYTES", "DT_STRING"),
];

impl Datatype {
    /// The type of this name in the Open Inference Protocol.
    pub fn from_oip(name: &str) -> Option<Datatype> {
        NAMES
            .iter()
            .find(|(_, oip, _)| *oip == name)
            .map(|(datatype, ..)| *datatype)
    }

    fn names(self) -> (&'static str, &'static str) {
        let found = NAMES.iter().find(|(datatype, ..)| *datatype == self);
        found.map_or(("BYTES", "DT_STRING"), |(_, oip, tensorflow)| {
            (oip, tensorflow)
        })
    }

    /// Its name in the Open Inference Protocol.
    pub fn oip(self) -> &'static str {
        self.names().0
    }

    /// Its name in TensorFlow.
    pub fn tensorflow(self) -> &'static str {
        self.names().1
    }

    /// The whole numbers that it has; those of 64 bits have all that are carried here.
    fn range(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Datatype::Bool => 0..=1,
            Datatype::U8 => 0..=u8::MAX.into(),
            Datatype::U16 => 0..=u16::MAX.into(),
            Datatype::U32 => 0..=u32::MAX.into(),
            Datatype::I8 => i8::MIN.into()..=i8::MAX.into(),
            Datatype::I16 => i16::MIN.into()..=i16::MAX.into(),
            Datatype::I32 => i32::MIN.into()..=i32::MAX.into(),
            Datatype::U64 | Datatype::I64 | Datatype::F32 | Datatype::F64 | Datatype::Bytes => {
                i64::MIN..=i64::MAX
            }
        }
    }

    /// Bytes of one element on the wire; `None` for strings.
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::U8 | Datatype::I8 => Some(1),
            Datatype::U16 | Datatype::I16 => Some(2),
            Datatype::U32 | Datatype::I32 | Datatype::F32 => Some(4),
            Datatype::U64 | Datatype::I64 | Datatype::F64 => Some(8),
            Datatype::Bytes => None,
        }
    }
}

/// The elements, row-major. Whole numbers that only pass through are widened to 64 bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 32-bit numbers.
    F32(Vec<f32>),
    /// 64-bit numbers.
    F64(Vec<f64>),
    /// Whole numbers and booleans.
    Int(Vec<i64>),
    /// Strings.
    Bytes(Vec<Bytes>),
}

impl Data {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
            Data::Int(values) => values.len(),
            Data::Bytes(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named array.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name in the signature.
    pub name: String,
    /// What its elements are on the wire.
    pub datatype: Datatype,
    /// Its dimensions; their product is the number of elements.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Data,
}

impl Tensor {
    /// The first dimension: rows, where the model is row-wise.
    pub fn n_rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// About how much memory its elements take.
    pub(crate) fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(values) => values.len() * 4,
            Data::F64(values) => values.len() * 8,
            Data::Int(values) => values.len() * 8,
            Data::Bytes(values) => values.iter().map(|value| value.len() + 32).sum(),
        }
    }

    /// A tensor that [`Tensor::check`] has let pass.
    pub fn new(name: String, datatype: Datatype, shape: Vec<usize>, data: Data) -> Result<Tensor> {
        let tensor = Tensor {
            name,
            datatype,
            shape,
            data,
        };
        tensor.check()?;
        Ok(tensor)
    }

    /// Refuses a shape that does not have as many elements as there are, and whole numbers that the type does not
    /// have.
    pub fn check(&self) -> Result<()> {
        let wanted = self
            .shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        if wanted == Some(self.data.len()) {
            return self.check_range();
        }
        Err(ServeError::invalid(format!(
            "input `{}`: shape {:?} has {} elements, got {}",
            self.name,
            self.shape,
            wanted.map_or_else(|| "too many".to_owned(), |wanted| wanted.to_string()),
            self.data.len()
        )))
    }

    fn check_range(&self) -> Result<()> {
        let Data::Int(values) = &self.data else {
            return Ok(());
        };
        let range = self.datatype.range();
        // All of them are looked at without a branch for each.
        if values
            .iter()
            .fold(true, |fit, value| fit & range.contains(value))
        {
            return Ok(());
        }
        let odd = values.iter().find(|value| !range.contains(value));
        Err(ServeError::invalid(format!(
            "input `{}`: {} is no {}, which goes from {} to {}",
            self.name,
            odd.copied().unwrap_or_default(),
            self.datatype.oip(),
            range.start(),
            range.end()
        )))
    }
}

/// What a model takes or gives under one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The type.
    pub datatype: Datatype,
    /// The dimensions; -1 is any. `None`: any number of them.
    pub shape: Option<Vec<i64>>,
}

impl Port {
    /// Whether a shape is one that is taken here.
    pub(crate) fn fits(&self, shape: &[usize]) -> bool {
        let Some(wanted) = &self.shape else {
            return true;
        };
        wanted.len() == shape.len()
            && wanted
                .iter()
                .zip(shape)
                .all(|(&wanted, &size)| wanted < 0 || wanted as usize == size)
    }

    /// Whether the first dimension may be any.
    pub(crate) fn is_batch(&self) -> bool {
        matches!(self.shape.as_deref(), Some([-1, ..]))
    }

    /// `[-1,3]`, as the protocols write shapes.
    pub(crate) fn shape_text(&self) -> String {
        match &self.shape {
            Some(shape) => shape_text(shape),
            None => "of any rank".to_owned(),
        }
    }
}

/// `[2,3]`.
pub(crate) fn shape_text<T: ToString>(shape: &[T]) -> String {
    let sizes: Vec<String> = shape.iter().map(T::to_string).collect();
    format!("[{}]", sizes.join(","))
}

/// Elements of a fixed size as they lie in memory, little-endian; bytes that are no whole element are left out.
pub(crate) fn from_le(datatype: Datatype, bytes: &[u8]) -> Data {
    fn whole<const N: usize>(bytes: &[u8], read: fn([u8; N]) -> i64) -> Data {
        Data::Int(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|&chunk| read(chunk))
                .collect(),
        )
    }
    match datatype {
        Datatype::F32 => {
            let chunks = bytes.as_chunks().0;
            Data::F32(chunks.iter().map(|&b| f32::from_le_bytes(b)).collect())
        }
        Datatype::F64 => {
            let chunks = bytes.as_chunks().0;
            Data::F64(chunks.iter().map(|&b| f64::from_le_bytes(b)).collect())
        }
        Datatype::Bool | Datatype::U8 => whole(bytes, |b: [u8; 1]| b[0].into()),
        Datatype::I8 => whole(bytes, |b| i8::from_le_bytes(b).into()),
        Datatype::U16 => whole(bytes, |b| u16::from_le_bytes(b).into()),
        Datatype::I16 => whole(bytes, |b| i16::from_le_bytes(b).into()),
        Datatype::U32 => whole(bytes, |b| u32::from_le_bytes(b).into()),
        Datatype::I32 => whole(bytes, |b| i32::from_le_bytes(b).into()),
        // Numbers over 2^63 wrap, as a cast does.
        Datatype::U64 => whole(bytes, |b| u64::from_le_bytes(b).cast_signed()),
        Datatype::I64 => whole(bytes, i64::from_le_bytes),
        Datatype::Bytes => Data::Bytes(Vec::new()),
    }
}

/// Appends elements of a fixed size, little-endian. Strings have no such form.
pub(crate) fn to_le(out: &mut Vec<u8>, tensor: &Tensor) {
    match &tensor.data {
        Data::F32(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        Data::F64(values) => values
            .iter()
            .for_each(|value| out.extend(value.to_le_bytes())),
        Data::Int(values) => {
            let size = tensor.datatype.size().unwrap_or(8);
            values
                .iter()
                .for_each(|value| out.extend_from_slice(&value.to_le_bytes()[..size]));
        }
        Data::Bytes(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_that_a_type_does_not_have_are_refused() {
        for (datatype, value, fits) in [
            (Datatype::Bool, 1, true),
            (Datatype::Bool, 2, false),
            (Datatype::U8, 255, true),
            (Datatype::U8, 256, false),
            (Datatype::U8, -1, false),
            (Datatype::I16, -32_768, true),
            (Datatype::I16, 32_768, false),
            (Datatype::U32, u32::MAX.into(), true),
            (Datatype::I32, 1 << 31, false),
            // Those over 2^63 were wrapped.
            (Datatype::U64, -1, true),
            (Datatype::I64, i64::MIN, true),
        ] {
            let tensor = Tensor {
                name: "x".to_owned(),
                datatype,
                shape: vec![2],
                data: Data::Int(vec![0, value]),
            };
            assert_eq!(tensor.check().is_ok(), fits, "{datatype:?} {value}");
        }
    }
}
