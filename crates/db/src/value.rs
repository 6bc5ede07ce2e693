//! Values and rows that are the same on both databases.

use crate::DbError;
use base::{Attempt, Digest, Epoch, Generation, Index, Seq, Time, Uid};

/// A bound argument or a column's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A number.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// One row, by column position.
#[derive(Clone, Debug)]
pub struct Row(pub(crate) Vec<Value>);

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Value { $made }
        })*
    };
}

from! {
    i64 => |value| Value::Int(value);
    i32 => |value| Value::Int(i64::from(value));
    u32 => |value| Value::Int(i64::from(value));
    u64 => |value| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
    bool => |value| Value::Int(i64::from(value));
    &str => |value| Value::Text(value.to_owned());
    String => |value| Value::Text(value);
    &String => |value| Value::Text(value.clone());
    Vec<u8> => |value| Value::Blob(value);
    Uid => |value| Value::Text(value.to_string());
    Digest => |value| Value::Text(value.to_string());
    Time => |value| Value::Int(value.as_ms());
    Seq => |value| Value::from(value.0);
    Epoch => |value| Value::from(value.0);
    Generation => |value| Value::from(value.0);
    Attempt => |value| Value::from(value.0);
    Index => |value| Value::from(value.0);
}

impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Value {
        Value::Text(value.to_string())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl Row {
    fn wrong(&self, at: usize, wanted: &'static str) -> DbError {
        DbError::Shape {
            at,
            wanted,
            found: format!("{:?}", self.0.get(at)),
        }
    }

    /// A number.
    pub fn int(&self, at: usize) -> Result<i64, DbError> {
        match self.0.get(at) {
            Some(Value::Int(value)) => Ok(*value),
            _ => Err(self.wrong(at, "a number")),
        }
    }
    /// A number that may be absent.
    pub fn int_or_null(&self, at: usize) -> Result<Option<i64>, DbError> {
        match self.0.get(at) {
            Some(Value::Null) => Ok(None),
            _ => self.int(at).map(Some),
        }
    }
    /// A count.
    pub fn count(&self, at: usize) -> Result<u64, DbError> {
        u64::try_from(self.int(at)?).map_err(|_| self.wrong(at, "a count"))
    }
    /// A small count.
    pub fn small(&self, at: usize) -> Result<u32, DbError> {
        u32::try_from(self.int(at)?).map_err(|_| self.wrong(at, "a small count"))
    }
    /// A truth.
    pub fn truth(&self, at: usize) -> Result<bool, DbError> {
        self.int(at).map(|value| value != 0)
    }
    /// Text.
    pub fn text(&self, at: usize) -> Result<String, DbError> {
        match self.0.get(at) {
            Some(Value::Text(value)) => Ok(value.clone()),
            _ => Err(self.wrong(at, "text")),
        }
    }
    /// Bytes.
    pub fn blob(&self, at: usize) -> Result<Vec<u8>, DbError> {
        match self.0.get(at) {
            Some(Value::Blob(value)) => Ok(value.clone()),
            _ => Err(self.wrong(at, "bytes")),
        }
    }
    /// A uid.
    pub fn uid(&self, at: usize) -> Result<Uid, DbError> {
        self.text(at)?.parse().map_err(|_| self.wrong(at, "a uid"))
    }
    /// A time.
    pub fn time(&self, at: usize) -> Result<Time, DbError> {
        self.int(at).map(Time::from_ms)
    }
    /// A time that may be absent.
    pub fn time_or_null(&self, at: usize) -> Result<Option<Time>, DbError> {
        Ok(self.int_or_null(at)?.map(Time::from_ms))
    }
    /// JSON.
    pub fn json(&self, at: usize) -> Result<serde_json::Value, DbError> {
        serde_json::from_str(&self.text(at)?).map_err(|_| self.wrong(at, "JSON"))
    }
}
