//! JSON as requests carry it, pulled from the bytes: numbers go straight into vectors of the wanted type.
//! RFC 8259 plus the words `NaN`, `Infinity` and `-Infinity`, which TensorFlow Serving takes and gives.

use crate::error::{Result, ServeError};
use crate::tensor::{Data, Datatype, Tensor};
use base64::Engine as _;
use bytes::Bytes;
use std::borrow::Cow;
use std::io::Write as _;

/// Nesting that is followed.
const DEPTH_MAX: usize = 32;

/// A reader over a request's body.
pub(super) struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Json<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Json<'a> {
        Json {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    /// Where it stands; [`Json::from`] reads on there.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// A reader at an earlier place.
    pub(super) fn from(&self, at: usize) -> Json<'a> {
        Json {
            bytes: self.bytes,
            at,
            depth: self.depth,
        }
    }

    pub(super) fn wrong<T>(&self, what: &str) -> Result<T> {
        Err(ServeError::invalid(format!(
            "the body is not the JSON that is expected: {what} at byte {}",
            self.at
        )))
    }

    /// The next byte that is not space.
    pub(super) fn peek(&mut self) -> Result<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Ok(byte);
            }
            self.at += 1;
        }
        self.wrong("it ends early")
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.peek()? != wanted {
            return self.wrong(&format!("`{}` is missing", wanted as char));
        }
        self.at += 1;
        Ok(())
    }

    /// Calls `each` before each value of an object, with its key.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Json<'a>, &str) -> Result<()>,
    ) -> Result<()> {
        self.items(b'{', b'}', |json| {
            let key = json.text()?;
            json.expect(b':')?;
            each(json, &key)
        })
    }

    /// Calls `each` before each value of an array.
    pub(super) fn array(&mut self, each: impl FnMut(&mut Json<'a>) -> Result<()>) -> Result<()> {
        self.items(b'[', b']', each)
    }

    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut each: impl FnMut(&mut Json<'a>) -> Result<()>,
    ) -> Result<()> {
        self.expect(open)?;
        if self.depth == DEPTH_MAX {
            return self.wrong("it is nested too deeply");
        }
        self.depth += 1;
        if self.peek()? != close {
            loop {
                each(self)?;
                match self.peek()? {
                    b',' => self.at += 1,
                    _ => break,
                }
            }
        }
        self.depth -= 1;
        self.expect(close)
    }

    /// After the outermost value only space may come.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => self.wrong("something comes after its end"),
        }
    }

    /// A string.
    pub(super) fn text(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut has_escape = false;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escape = true;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
                None => {
                    self.at = self.bytes.len();
                    return self.wrong("a string does not end");
                }
            }
        }
        let inner = &self.bytes[start..self.at];
        self.at += 1;
        if has_escape {
            // Escapes are rare: the library does them.
            let quoted = &self.bytes[start - 1..self.at];
            return match serde_json::from_slice::<String>(quoted) {
                Ok(text) => Ok(Cow::Owned(text)),
                Err(_) => self.wrong("a broken string"),
            };
        }
        match std::str::from_utf8(inner) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => self.wrong("a string is not UTF-8"),
        }
    }

    /// The characters of a number or a word.
    fn word(&mut self) -> Result<&'a str> {
        self.peek()?;
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
            .unwrap_or(rest.len());
        self.at += length;
        match std::str::from_utf8(&rest[..length]) {
            Ok(word) if !word.is_empty() => Ok(word),
            _ => self.wrong("a value is missing"),
        }
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            b'{' => self.object(|json, _| json.skip()),
            b'[' => self.array(Json::skip),
            b'"' => self.text().map(drop),
            _ => self.word().map(drop),
        }
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self) -> Result<bool> {
        match self.word()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => self.wrong("`true` or `false` is missing"),
        }
    }

    /// A count.
    pub(super) fn count(&mut self) -> Result<usize> {
        match self.word()?.parse() {
            Ok(count) => Ok(count),
            Err(_) => self.wrong("a count is missing"),
        }
    }

    /// A 64-bit number; `null` is NaN.
    pub(super) fn double(&mut self) -> Result<f64> {
        number(self.word()?).map_or_else(|| self.wrong("a number is missing"), Ok)
    }

    /// Reads nested arrays of one type and appends the elements; `shape` gets their dimensions.
    pub(super) fn tensor(&mut self, datatype: Datatype, shape: &mut Vec<usize>) -> Result<Data> {
        let mut nested = Nested {
            shape: Vec::new(),
            leaf: None,
        };
        let data = match datatype {
            Datatype::F32 => {
                let mut values = Vec::new();
                nested.fill(self, 0, &mut |json| {
                    let word = json.word()?;
                    let value = single(word).or_else(|| number(word));
                    match value {
                        Some(value) => values.push(value),
                        None => return json.wrong("a number is missing"),
                    }
                    Ok(())
                })?;
                Data::F32(values)
            }
            Datatype::F64 => {
                let mut values = Vec::new();
                nested.fill(self, 0, &mut |json| {
                    values.push(json.double()?);
                    Ok(())
                })?;
                Data::F64(values)
            }
            Datatype::Bytes => {
                let mut values = Vec::new();
                nested.fill(self, 0, &mut |json| {
                    values.push(json.bytes()?);
                    Ok(())
                })?;
                Data::Bytes(values)
            }
            Datatype::Bool
            | Datatype::U8
            | Datatype::U16
            | Datatype::U32
            | Datatype::U64
            | Datatype::I8
            | Datatype::I16
            | Datatype::I32
            | Datatype::I64 => {
                let mut values = Vec::new();
                nested.fill(self, 0, &mut |json| {
                    let value = match json.word()? {
                        "true" => Some(1),
                        "false" => Some(0),
                        // Numbers over 2^63 wrap, as a cast does.
                        word if datatype == Datatype::U64 => {
                            word.parse().ok().map(u64::cast_signed)
                        }
                        word => word.parse().ok(),
                    };
                    match value {
                        Some(value) => values.push(value),
                        None => return json.wrong("a whole number is missing"),
                    }
                    Ok(())
                })?;
                Data::Int(values)
            }
        };
        *shape = nested.shape;
        Ok(data)
    }

    /// A string, or `{"b64": "…"}`.
    fn bytes(&mut self) -> Result<Bytes> {
        if self.peek()? != b'{' {
            return Ok(Bytes::from(self.text()?.into_owned()));
        }
        let mut decoded = None;
        self.object(|json, key| {
            if key != "b64" {
                return json.wrong("a string or `{\"b64\": …}` is missing");
            }
            let text = json.text()?;
            match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
                Ok(bytes) => decoded = Some(Bytes::from(bytes)),
                Err(_) => return json.wrong("broken base64"),
            }
            Ok(())
        })?;
        match decoded {
            Some(decoded) => Ok(decoded),
            None => self.wrong("`b64` is missing"),
        }
    }
}

/// The bytes of a string or of `{"b64": "…"}` that was read already.
pub(super) fn plain_bytes(value: &serde_json::Value) -> Option<Bytes> {
    match value {
        serde_json::Value::String(text) => Some(Bytes::from(text.clone())),
        serde_json::Value::Object(object) if object.len() == 1 => {
            let text = object.get("b64")?.as_str()?;
            let engine = base64::engine::general_purpose::STANDARD;
            engine.decode(text).ok().map(Bytes::from)
        }
        _ => None,
    }
}

/// Nested arrays: the dimensions must be the same everywhere.
struct Nested {
    shape: Vec<usize>,
    /// At which depth the elements are.
    leaf: Option<usize>,
}

/// A dimension that no array has ended yet.
const OPEN: usize = usize::MAX;

impl Nested {
    fn fill(
        &mut self,
        json: &mut Json<'_>,
        depth: usize,
        each: &mut dyn FnMut(&mut Json<'_>) -> Result<()>,
    ) -> Result<()> {
        if json.peek()? != b'[' {
            if *self.leaf.get_or_insert(depth) != depth {
                return json.wrong("arrays of different depth");
            }
            return each(json);
        }
        if self.leaf.is_some_and(|leaf| depth >= leaf) {
            return json.wrong("arrays of different depth");
        }
        if self.shape.len() == depth {
            self.shape.push(OPEN);
        }
        let mut count = 0;
        json.array(|json| {
            count += 1;
            // The rows of a matrix are most of a request; their elements need no call back into here.
            self.fill(json, depth + 1, &mut *each)
        })?;
        if self.shape[depth] == OPEN {
            self.shape[depth] = count;
        } else if self.shape[depth] != count {
            return json.wrong(&format!(
                "an array has {count} items, those before it have {}",
                self.shape[depth]
            ));
        }
        Ok(())
    }
}

trait Number: Sized + std::str::FromStr {
    const NAN: Self;
    const INFINITY: Self;
    const NEG_INFINITY: Self;
}

macro_rules! number {
    ($($type:ident)*) => {$(
        impl Number for $type {
            const NAN: Self = $type::NAN;
            const INFINITY: Self = $type::INFINITY;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
        }
    )*};
}
number!(f32 f64);

fn number<T: Number>(word: &str) -> Option<T> {
    match word {
        "null" | "NaN" => Some(T::NAN),
        "Infinity" => Some(T::INFINITY),
        "-Infinity" => Some(T::NEG_INFINITY),
        _ if word.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            word.parse().ok()
        }
        _ => None,
    }
}

/// Powers of ten that 32 bits hold exactly.
const POWERS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// A short decimal number, rounded correctly by one division: both sides are exact (Clinger, "How to read
/// floating point numbers accurately", 1990). `None` where that does not hold.
fn single(word: &str) -> Option<f32> {
    let bytes = word.as_bytes();
    let (is_negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    // Sixteen characters keep the sum below within 64 bits.
    if digits.is_empty() || digits.len() > 16 || !digits[0].is_ascii_digit() {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut n_fraction = 0;
    let mut has_point = false;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                n_fraction += usize::from(has_point);
            }
            b'.' if !has_point => has_point = true,
            _ => return None,
        }
    }
    if mantissa > 1 << 24 || n_fraction >= POWERS.len() || (has_point && n_fraction == 0) {
        return None;
    }
    let value = mantissa as f32 / POWERS[n_fraction];
    Some(if is_negative { -value } else { value })
}

/// How numbers without a JSON form are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// `NaN`, `Infinity`: TensorFlow Serving.
    Words,
    /// `null`: what every JSON parser reads.
    Null,
}

/// Writes elements `first..first + shape.product()` of a tensor as nested arrays.
pub(super) fn write_nested(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    shape: &[usize],
    first: usize,
    odd: Odd,
) {
    let Some((&n, inner)) = shape.split_first() else {
        write_element(out, tensor, first, odd);
        return;
    };
    let width: usize = inner.iter().product();
    out.push(b'[');
    for at in 0..n {
        if at > 0 {
            out.push(b',');
        }
        write_nested(out, tensor, inner, first + at * width, odd);
    }
    out.push(b']');
}

fn write_element(out: &mut Vec<u8>, tensor: &Tensor, at: usize, odd: Odd) {
    // Writing to memory does not fail.
    let _ = match &tensor.data {
        Data::F32(values) if values[at].is_finite() => write!(out, "{:?}", values[at]),
        Data::F64(values) if values[at].is_finite() => write!(out, "{:?}", values[at]),
        Data::F32(values) => out.write_all(odd_word(f64::from(values[at]), odd)),
        Data::F64(values) => out.write_all(odd_word(values[at], odd)),
        Data::Int(values) => match tensor.datatype {
            Datatype::Bool => write!(out, "{}", values[at] != 0),
            // They were wrapped.
            Datatype::U64 => write!(out, "{}", values[at] as u64),
            _ => write!(out, "{}", values[at]),
        },
        // TensorFlow Serving's convention: what is called so is never text.
        Data::Bytes(values) if odd == Odd::Words && tensor.name.ends_with("_bytes") => {
            write_base64(out, &values[at])
        }
        Data::Bytes(values) => match std::str::from_utf8(&values[at]) {
            Ok(text) => {
                write_text(out, text);
                Ok(())
            }
            Err(_) => write_base64(out, &values[at]),
        },
    };
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) -> std::io::Result<()> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    write!(out, "{{\"b64\":\"{encoded}\"}}")
}

fn odd_word(value: f64, odd: Odd) -> &'static [u8] {
    match odd {
        Odd::Null => b"null",
        Odd::Words if value.is_nan() => b"NaN",
        Odd::Words if value > 0.0 => b"Infinity",
        Odd::Words => b"-Infinity",
    }
}

/// Writes a string in quotes.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    // A string always has a JSON form.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests;
