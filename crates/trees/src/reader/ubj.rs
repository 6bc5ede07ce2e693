//! Universal Binary JSON, draft 12 (<https://ubjson.org>), as XGBoost writes it: big-endian numbers,
//! counted and typed arrays.

use super::{DEPTH_MAX, Next, Reader};
use crate::error::Result;

/// A reader over UBJSON bytes.
pub(crate) struct Ubj<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Vec<Container>,
}

/// An open container.
struct Container {
    /// Items left; `None` where an end mark closes it.
    left: Option<usize>,
    /// The type of every item, where it is said once for all.
    kind: Option<u8>,
}

/// The size of a number of this type.
fn width(kind: u8) -> Option<usize> {
    match kind {
        b'i' | b'U' => Some(1),
        b'I' => Some(2),
        b'l' | b'd' => Some(4),
        b'L' | b'D' => Some(8),
        _ => None,
    }
}

/// The number in bytes of the right width.
fn number(kind: u8, bytes: &[u8]) -> f64 {
    match (kind, bytes) {
        (b'd', &[a, b, c, d]) => f64::from(f32::from_be_bytes([a, b, c, d])),
        (b'D', &[a, b, c, d, e, f, g, h]) => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => whole(kind, bytes) as f64,
    }
}

/// The whole number in bytes of the right width; fractions are cut off.
fn whole(kind: u8, bytes: &[u8]) -> i64 {
    match (kind, bytes) {
        (b'U', &[a]) => i64::from(a),
        (b'i', &[a]) => i64::from(i8::from_be_bytes([a])),
        (b'I', &[a, b]) => i64::from(i16::from_be_bytes([a, b])),
        (b'l', &[a, b, c, d]) => i64::from(i32::from_be_bytes([a, b, c, d])),
        (b'L', &[a, b, c, d, e, f, g, h]) => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => number(kind, bytes) as i64,
    }
}

impl<'a> Ubj<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Ubj<'a> {
        Ubj {
            bytes,
            at: 0,
            open: Vec::new(),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if length > rest.len() {
            return self.wrong("the document ends early");
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// The byte here, after bytes that mean nothing.
    fn byte(&mut self) -> Result<u8> {
        while self.bytes.get(self.at) == Some(&b'N') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(&byte) => Ok(byte),
            None => self.wrong("the document ends early"),
        }
    }

    /// The type of the value that comes next, whose mark is not taken.
    fn kind(&mut self) -> Result<u8> {
        match self.open.last().and_then(|container| container.kind) {
            Some(kind) => Ok(kind),
            None => self.byte(),
        }
    }

    /// Takes the mark of the next value.
    fn mark(&mut self) -> Result<u8> {
        let kind = self.kind()?;
        if self
            .open
            .last()
            .is_none_or(|container| container.kind.is_none())
        {
            self.at += 1;
        }
        Ok(kind)
    }

    fn length(&mut self) -> Result<usize> {
        let kind = self.byte()?;
        self.at += 1;
        let Some(width) = width(kind).filter(|_| !matches!(kind, b'd' | b'D')) else {
            return self.wrong("a length is missing");
        };
        let bytes = self.take(width)?;
        match usize::try_from(whole(kind, bytes)) {
            Ok(length) => Ok(length),
            Err(_) => self.wrong("a length is negative"),
        }
    }

    fn enter(&mut self, bracket: u8) -> Result<()> {
        if self.mark()? != bracket {
            return self.wrong(&format!("`{}` is missing", bracket as char));
        }
        if self.open.len() == DEPTH_MAX {
            return self.wrong("the document is nested too deeply");
        }
        let mut container = Container {
            left: None,
            kind: None,
        };
        if self.byte()? == b'$' {
            self.at += 1;
            let kind = self.byte()?;
            self.at += 1;
            // Types without a payload would make endless arrays out of a few bytes.
            if width(kind).is_none() {
                return self.wrong("an array of a type that is not a number");
            }
            container.kind = Some(kind);
            if self.byte()? != b'#' {
                return self.wrong("a typed array has no length");
            }
        }
        if self.byte()? == b'#' {
            self.at += 1;
            let length = self.length()?;
            if length > self.bytes.len() - self.at {
                return self.wrong("an array is longer than the file");
            }
            container.left = Some(length);
        }
        self.open.push(container);
        Ok(())
    }

    fn more(&mut self, end: u8) -> Result<bool> {
        let counted = match self.open.last_mut() {
            None => return self.wrong("a value stands outside of containers"),
            Some(container) => container.left.as_mut().map(|left| {
                let more = *left > 0;
                *left = left.saturating_sub(1);
                more
            }),
        };
        let more = match counted {
            Some(more) => more,
            None if self.byte()? == end => {
                self.at += 1;
                false
            }
            None => true,
        };
        if !more {
            self.open.pop();
        }
        Ok(more)
    }

    fn raw_text(&mut self) -> Result<String> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.wrong("a string is not UTF-8"),
        }
    }

    /// The next value if it is a number of known width.
    fn scalar(&mut self) -> Result<(u8, &'a [u8])> {
        let kind = self.mark()?;
        match kind {
            b'T' => Ok((b'U', &[1])),
            b'F' => Ok((b'U', &[0])),
            b'Z' => Ok((b'd', &[0x7f, 0xc0, 0, 0])),
            _ => match width(kind) {
                Some(width) => Ok((kind, self.take(width)?)),
                None => self.wrong("a number is missing"),
            },
        }
    }

    /// All items of the array that comes next.
    fn numbers<T>(&mut self, convert: impl Fn(u8, &[u8]) -> T) -> Result<Vec<T>> {
        self.enter(b'[')?;
        let typed = self
            .open
            .last()
            .and_then(|container| container.kind.zip(container.left));
        if let Some((kind, length)) = typed {
            let size = width(kind).unwrap_or(1);
            let Some(total) = size.checked_mul(length) else {
                return self.wrong("an array is longer than the file");
            };
            let bytes = self.take(total)?;
            self.open.pop();
            return Ok(bytes
                .chunks_exact(size)
                .map(|bytes| convert(kind, bytes))
                .collect());
        }
        let mut numbers = Vec::new();
        while self.item()? {
            let (kind, bytes) = self.scalar()?;
            numbers.push(convert(kind, bytes));
        }
        Ok(numbers)
    }
}

impl Reader for Ubj<'_> {
    fn peek(&mut self) -> Result<Next> {
        Ok(match self.kind()? {
            b'{' => Next::Object,
            b'[' => Next::Array,
            b'S' | b'H' | b'C' => Next::Text,
            _ => Next::Scalar,
        })
    }

    fn object(&mut self) -> Result<()> {
        self.enter(b'{')
    }

    fn key(&mut self) -> Result<Option<String>> {
        if !self.more(b'}')? {
            return Ok(None);
        }
        self.byte()?;
        self.raw_text().map(Some)
    }

    fn array(&mut self) -> Result<()> {
        self.enter(b'[')
    }

    fn item(&mut self) -> Result<bool> {
        self.more(b']')
    }

    fn text(&mut self) -> Result<String> {
        match self.mark()? {
            b'S' | b'H' => self.raw_text(),
            b'C' => Ok(self.take(1)?.iter().map(|&byte| byte as char).collect()),
            _ => self.wrong("a string is missing"),
        }
    }

    fn float(&mut self) -> Result<f32> {
        let (kind, bytes) = self.scalar()?;
        Ok(number(kind, bytes) as f32)
    }

    fn int(&mut self) -> Result<i64> {
        let (kind, bytes) = self.scalar()?;
        Ok(whole(kind, bytes))
    }

    fn floats(&mut self) -> Result<Vec<f32>> {
        self.numbers(|kind, bytes| number(kind, bytes) as f32)
    }

    fn ints(&mut self) -> Result<Vec<i64>> {
        self.numbers(whole)
    }

    fn at(&self) -> usize {
        self.at
    }
}
