//! The columns of a model's only input, by which records are sent instead of matrices.

use crate::error::{Result, ServeError};
use std::collections::HashMap;
use std::sync::Arc;

/// A column: what it is called, and what stands for what is not a number.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name in records.
    pub name: String,
    /// Stands for what is left out and for `null`. NaN where the model itself knows what is missing.
    pub missing: f64,
    /// The model gets `(value - mean) / scale`.
    pub mean: f64,
    #[expect(missing_docs, reason = "see `mean`")]
    pub scale: f64,
    /// Where records have text: the number of each word.
    pub words: Option<Words>,
}

/// A vocabulary.
#[derive(Clone, Debug)]
pub struct Words {
    /// The number of each word.
    pub numbers: HashMap<String, f64>,
    /// The number of every other word.
    pub unknown: f64,
}

impl Column {
    /// A column of numbers.
    pub fn plain(name: String) -> Column {
        Column {
            name,
            missing: f64::NAN,
            mean: 0.0,
            scale: 1.0,
            words: None,
        }
    }

    /// What the model gets for a number; NaN is missing.
    pub(crate) fn number(&self, value: f64) -> Result<f64> {
        match &self.words {
            _ if value.is_nan() => Ok(self.missing),
            None => Ok((value - self.mean) / self.scale),
            Some(_) => Err(self.wrong("text", &value.to_string())),
        }
    }

    /// What the model gets for a word.
    pub(crate) fn text(&self, text: &str) -> Result<f64> {
        match &self.words {
            Some(words) => Ok(*words.numbers.get(text).unwrap_or(&words.unknown)),
            None => Err(self.wrong("a number", &format!("`{}`", start(text)))),
        }
    }

    fn wrong(&self, expected: &str, got: &str) -> ServeError {
        ServeError::invalid(format!(
            "column `{}`: expected {expected}, got {got}",
            self.name
        ))
    }
}

/// So much of a text as a message shows.
fn start(text: &str) -> String {
    /// Characters.
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// All columns, in the model's order. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    list: Arc<[Column]>,
    places: Arc<HashMap<String, usize>>,
}

impl Columns {
    /// In the model's order. Of columns with the same name the last one is found.
    pub fn new(list: Vec<Column>) -> Columns {
        let places = list.iter().enumerate();
        Columns {
            places: Arc::new(
                places
                    .map(|(at, column)| (column.name.clone(), at))
                    .collect(),
            ),
            list: list.into(),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the model has no names for its columns.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes that vocabularies and names take, about.
    pub(crate) fn memory(&self) -> u64 {
        /// Of a column or a word besides its text.
        const ENTRY: usize = 64;
        let size = |column: &Column| {
            let words = column.words.iter().flat_map(|words| words.numbers.keys());
            words.map(|word| word.len() + ENTRY).sum::<usize>() + column.name.len() + ENTRY
        };
        self.list.iter().map(size).sum::<usize>() as u64
    }

    /// All of them.
    pub fn list(&self) -> &[Column] {
        &self.list
    }

    /// The column of this name.
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.list.get(*self.places.get(name)?)
    }

    /// Where the column of this name is. `expected` is looked at first: most records name columns in order.
    pub(crate) fn find(&self, name: &str, expected: usize) -> Result<usize> {
        let is_next = self
            .list
            .get(expected)
            .is_some_and(|next| next.name == name);
        if is_next {
            return Ok(expected);
        }
        self.places.get(name).copied().ok_or_else(|| {
            ServeError::invalid(format!(
                "the model has no column `{name}`; its columns are {}",
                self.first_names()
            ))
        })
    }

    /// Names for a message.
    fn first_names(&self) -> String {
        /// A message names so many.
        const SHOWN: usize = 10;
        let names = self.list.iter().map(|column| column.name.as_str());
        let mut shown: Vec<&str> = names.take(SHOWN).collect();
        if self.list.len() > SHOWN {
            shown.push("…");
        }
        shown.join(", ")
    }
}
