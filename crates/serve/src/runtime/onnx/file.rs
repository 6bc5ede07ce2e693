//! A look at a model's file before ONNX Runtime sees it: whether it is one, and whole. Only the outermost message
//! is walked over (onnx/onnx.proto, `ModelProto`); what lies in its fields is not read.

use crate::runtime::LoadError;
use crate::runtime::find::file_name;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Protobuf messages end there; weights of larger models lie in files beside.
const FILE_MAX: u64 = 2 << 30;
/// Fields of a message, each entry of its lists being one.
const FIELDS_MAX: usize = 1 << 20;
/// Bytes of a number.
const NUMBER_MAX: usize = 10;

/// The fields of `ModelProto` that every model has, by their numbers.
const IR_VERSION: u64 = 1;
const GRAPH: u64 = 7;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    ir_version: bool,
    graph: bool,
}

/// Refuses a file that is cut off or no model.
pub(super) fn check(path: &Path) -> Result<(), LoadError> {
    let read = |error: std::io::Error| LoadError::Read(path.to_owned(), error.to_string());
    let broken = |error: String| LoadError::Model(file_name(path), error);
    let file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if length > FILE_MAX {
        return Err(broken(format!(
            "it is larger than {FILE_MAX} bytes; save its weights as external data"
        )));
    }
    match fields(&mut BufReader::new(file), length).map_err(read)? {
        None => Err(broken("it is no ONNX model, or it is cut off".to_owned())),
        Some(seen) if !(seen.ir_version && seen.graph) => {
            Err(broken("it is no ONNX model: it holds no graph".to_owned()))
        }
        Some(_) => Ok(()),
    }
}

/// Which of the fields that every model has there are; `None` where it is no message, or its end is missing.
fn fields(file: &mut BufReader<impl Read + Seek>, length: u64) -> std::io::Result<Option<Seen>> {
    let mut seen = Seen::default();
    let mut at = 0;
    let mut n = 0;
    while at < length {
        n += 1;
        if n > FIELDS_MAX {
            return Ok(None);
        }
        let Some(tag) = number(file, &mut at)? else {
            return Ok(None);
        };
        let skipped = match tag & 7 {
            0 => number(file, &mut at)?.map(|_| 0),
            1 => Some(8),
            2 => number(file, &mut at)?,
            5 => Some(4),
            _ => None,
        };
        let Some(skipped) = skipped.filter(|&skipped| skipped <= length.saturating_sub(at)) else {
            return Ok(None);
        };
        at += skipped;
        // It is less than the file's length.
        file.seek_relative(skipped.cast_signed())?;
        seen.ir_version |= tag >> 3 == IR_VERSION;
        seen.graph |= tag >> 3 == GRAPH;
    }
    Ok(Some(seen))
}

/// A number of seven bits a byte, the lowest first; `None` where it does not end.
fn number(file: &mut impl Read, at: &mut u64) -> std::io::Result<Option<u64>> {
    let mut value = 0;
    for place in 0..NUMBER_MAX {
        let mut byte = [0];
        if file.read(&mut byte)? == 0 {
            return Ok(None);
        }
        *at += 1;
        value |= u64::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] < 0x80 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> Option<Seen> {
        fields(&mut BufReader::new(Cursor::new(bytes)), bytes.len() as u64).unwrap()
    }

    #[test]
    fn a_message_is_walked_over_and_a_cut_is_told() {
        let graph = [0x3a, 0xac, 0x02].into_iter().chain([0xff; 300]);
        let rest = [0x42, 2, 0x10, 18, 0x15, 1, 2, 3, 4];
        let whole: Vec<u8> = [0x08, 9].into_iter().chain(graph).chain(rest).collect();
        let all = Seen {
            ir_version: true,
            graph: true,
        };
        assert_eq!(read(&whole), Some(all));
        assert_eq!(read(&[]), Some(Seen::default()));
        assert_eq!(read(&vec![8; 2 * FIELDS_MAX + 2]), None);
        for at in [1, 3, 4, 5, 100, 304, 306, 308, whole.len() - 1] {
            assert_eq!(read(&whole[..at]), None, "{at}");
        }
        assert_eq!(read(&[0x5a; 400]), None);
        // A length near 2^64 does not wrap, and a number has an end.
        let huge = [&[0x3a][..], &[0xff; 9], &[1], &[0; 20]].concat();
        assert_eq!(read(&huge), None);
        assert_eq!(read(&[0xff; 40]), None);
    }
}
