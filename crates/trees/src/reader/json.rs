//! JSON as XGBoost writes it: RFC 8259 plus bare `NaN` and `Infinity` (its 2.1 writes them).

use super::{DEPTH_MAX, Next, Reader};
use crate::error::Result;

/// A reader over JSON text.
pub(crate) struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    /// For each open container: whether an item was read already.
    open: Vec<bool>,
}

impl<'a> Json<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Json<'a> {
        Json {
            bytes,
            at: 0,
            open: Vec::new(),
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn byte(&mut self) -> Result<u8> {
        self.space();
        match self.bytes.get(self.at) {
            Some(&byte) => Ok(byte),
            None => self.wrong("the document ends early"),
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.byte()? != wanted {
            return self.wrong(&format!("`{}` is missing", wanted as char));
        }
        self.at += 1;
        Ok(())
    }

    fn enter(&mut self, bracket: u8) -> Result<()> {
        self.expect(bracket)?;
        if self.open.len() == DEPTH_MAX {
            return self.wrong("the document is nested too deeply");
        }
        self.open.push(false);
        Ok(())
    }

    /// Moves to the next item of the innermost container, or past its end.
    fn more(&mut self, end: u8) -> Result<bool> {
        let byte = self.byte()?;
        if byte == end {
            self.at += 1;
            self.open.pop();
            return Ok(false);
        }
        match self.open.last_mut() {
            Some(begun) if *begun => self.expect(b',')?,
            Some(begun) => *begun = true,
            None => return self.wrong("a value stands outside of containers"),
        }
        Ok(true)
    }

    /// The characters of a number or a word.
    fn word(&mut self) -> Result<&'a str> {
        self.space();
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
            .unwrap_or(rest.len());
        match std::str::from_utf8(&rest[..length]) {
            Ok(word) if !word.is_empty() => {
                self.at += length;
                Ok(word)
            }
            _ => self.wrong("a number is missing"),
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(&kind) = self.bytes.get(self.at) else {
            return self.wrong("a string ends early");
        };
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => kind as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&high)
                    && self.bytes[self.at..].starts_with(b"\\u")
                {
                    self.at += 2;
                    let low = self.hex()?;
                    0x1_0000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    high
                };
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return self.wrong("an unknown escape"),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.wrong("a broken escape"),
        }
    }
}

impl Reader for Json<'_> {
    fn peek(&mut self) -> Result<Next> {
        Ok(match self.byte()? {
            b'{' => Next::Object,
            b'[' => Next::Array,
            b'"' => Next::Text,
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
        let key = self.text()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    fn array(&mut self) -> Result<()> {
        self.enter(b'[')
    }

    fn item(&mut self) -> Result<bool> {
        self.more(b']')
    }

    fn text(&mut self) -> Result<String> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                return self.wrong("a string does not end");
            };
            text.extend_from_slice(&rest[..length]);
            self.at += length + 1;
            if rest[length] == b'"' {
                break;
            }
            let escaped = self.escape()?;
            text.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(text),
            Err(_) => self.wrong("a string is not UTF-8"),
        }
    }

    fn float(&mut self) -> Result<f32> {
        match self.word()? {
            "true" => Ok(1.0),
            "false" => Ok(0.0),
            "null" => Ok(f32::NAN),
            word => match word.parse() {
                Ok(number) => Ok(number),
                Err(_) => self.wrong("a broken number"),
            },
        }
    }

    fn int(&mut self) -> Result<i64> {
        match self.word()? {
            "true" => Ok(1),
            "false" => Ok(0),
            word => match word.parse::<i64>() {
                Ok(number) => Ok(number),
                // Some writers give whole numbers a fraction or an exponent.
                Err(_) => match word.parse::<f64>() {
                    Ok(number) if number.trunc() == number && number.abs() < 9e15 => {
                        Ok(number as i64)
                    }
                    _ => self.wrong("a whole number is missing"),
                },
            },
        }
    }

    fn floats(&mut self) -> Result<Vec<f32>> {
        let mut numbers = Vec::new();
        self.array()?;
        while self.item()? {
            numbers.push(self.float()?);
        }
        Ok(numbers)
    }

    fn ints(&mut self) -> Result<Vec<i64>> {
        let mut numbers = Vec::new();
        self.array()?;
        while self.item()? {
            numbers.push(self.int()?);
        }
        Ok(numbers)
    }

    fn at(&self) -> usize {
        self.at
    }
}
