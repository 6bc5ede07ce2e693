//! What a request can fail with; each protocol gives it its own form.

use base::Code;

/// Why a request got no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct ServeError {
    /// Its kind.
    pub code: Code,
    /// What is wrong and what to do.
    pub text: String,
}

impl ServeError {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> ServeError {
        ServeError {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> ServeError {
        ServeError::new(Code::Invalid, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> ServeError {
        ServeError::new(Code::NotFound, text)
    }
}

/// Shorthand of this crate.
pub(crate) type Result<T> = std::result::Result<T, ServeError>;
