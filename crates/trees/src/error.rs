//! What can be wrong with a model file or with rows.

/// Why a model cannot be read, or rows cannot be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no model of a known format.
    #[error("{0}")]
    Format(String),
    /// The file breaks its own format.
    #[error("the model is corrupt: {0}")]
    Corrupt(String),
    /// A model that is sound but of a kind that is not evaluated here.
    #[error("{0}")]
    Unsupported(String),
    /// A bound of this crate is passed.
    #[error("the model is too large: {what} is {got}, at most {max} is read")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        got: u64,
        /// How many are read.
        max: u64,
    },
    /// Rows that the model cannot take.
    #[error("{0}")]
    Input(String),
}

impl Error {
    pub(crate) fn corrupt(text: impl Into<String>) -> Error {
        Error::Corrupt(text.into())
    }
}

/// Shorthand of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Refuses what is over a bound.
pub(crate) fn limit(what: &'static str, got: usize, max: usize) -> Result<()> {
    if got > max {
        return Err(Error::Limit {
            what,
            got: got as u64,
            max: max as u64,
        });
    }
    Ok(())
}
