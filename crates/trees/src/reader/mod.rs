//! A pull reader over the two encodings of XGBoost's document, so that arrays of numbers go straight into
//! vectors and nothing is built that the model does not need.

mod json;
mod ubj;

pub(crate) use json::Json;
pub(crate) use ubj::Ubj;

use crate::error::{Error, Result};

/// Nesting that is followed; XGBoost's own is below ten.
const DEPTH_MAX: usize = 64;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Object,
    Array,
    Text,
    /// A number, a boolean or null.
    Scalar,
}

/// One document, read front to back.
pub(crate) trait Reader {
    /// Looks at what comes next.
    fn peek(&mut self) -> Result<Next>;
    /// Enters an object.
    fn object(&mut self) -> Result<()>;
    /// The next key of the innermost object; `None` leaves it.
    fn key(&mut self) -> Result<Option<String>>;
    /// Enters an array.
    fn array(&mut self) -> Result<()>;
    /// Whether the innermost array has another item; `false` leaves it.
    fn item(&mut self) -> Result<bool>;
    /// A string.
    fn text(&mut self) -> Result<String>;
    /// A number as text would give it: 32-bit, rounded once.
    fn float(&mut self) -> Result<f32>;
    /// A whole number; booleans count as 0 and 1.
    fn int(&mut self) -> Result<i64>;
    /// An array of 32-bit numbers.
    fn floats(&mut self) -> Result<Vec<f32>>;
    /// An array of whole numbers.
    fn ints(&mut self) -> Result<Vec<i64>>;
    /// Where the reader stands, in bytes.
    fn at(&self) -> usize;

    /// Passes over one value of any kind.
    fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            Next::Object => {
                self.object()?;
                while self.key()?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Next::Array => {
                self.array()?;
                while self.item()? {
                    self.skip()?;
                }
                Ok(())
            }
            Next::Text => self.text().map(drop),
            Next::Scalar => self.float().map(drop),
        }
    }

    /// A string, or a number as text.
    fn text_or_number(&mut self) -> Result<String> {
        match self.peek()? {
            Next::Text => self.text(),
            _ => self.float().map(|number| number.to_string()),
        }
    }

    fn wrong<T>(&self, what: &str) -> Result<T> {
        Err(Error::corrupt(format!("{what} at byte {}", self.at())))
    }
}
