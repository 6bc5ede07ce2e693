//! What kind of failure something is, told once and mapped to HTTP once (in `server`).

use std::fmt;

/// The kind of an error that can reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The named object does not exist, or the caller may not know that it does.
    NotFound,
    /// The request contradicts the present state (generation, immutable field, name taken).
    Conflict,
    /// The request itself is wrong; repeating it cannot help.
    Invalid,
    /// The caller is known and may not do this.
    Denied,
    /// The caller is not known.
    Unauthenticated,
    /// A bound was reached (quota, queue length, size).
    Exhausted,
    /// Something needed is down; try again.
    Unavailable,
    /// The time for it ran out.
    Timeout,
    /// This part does not do that here.
    Unsupported,
    /// A feed position that is no longer kept: list again.
    Gone,
    /// A defect on our side. Its detail goes to the log, never to the client.
    Internal,
}

impl Code {
    /// All codes, for tables and tests.
    pub const ALL: [Code; 11] = [
        Code::NotFound,
        Code::Conflict,
        Code::Invalid,
        Code::Denied,
        Code::Unauthenticated,
        Code::Exhausted,
        Code::Unavailable,
        Code::Timeout,
        Code::Unsupported,
        Code::Gone,
        Code::Internal,
    ];

    /// The stable word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::NotFound => "not_found",
            Code::Conflict => "conflict",
            Code::Invalid => "invalid",
            Code::Denied => "denied",
            Code::Unauthenticated => "unauthenticated",
            Code::Exhausted => "exhausted",
            Code::Unavailable => "unavailable",
            Code::Timeout => "timeout",
            Code::Unsupported => "unsupported",
            Code::Gone => "gone",
            Code::Internal => "internal",
        }
    }

    /// The code with this wire word.
    pub fn from_word(word: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// What a caller may do after an error of this kind, unless the error says otherwise.
    pub fn retry(self) -> Retry {
        match self {
            Code::Unavailable | Code::Timeout | Code::Exhausted => Retry::Later,
            Code::Conflict | Code::Gone => Retry::AfterReread,
            Code::NotFound
            | Code::Invalid
            | Code::Denied
            | Code::Unauthenticated
            | Code::Unsupported
            | Code::Internal => Retry::Never,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether repeating a failed call can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call fails the same way.
    Never,
    /// The same call may succeed later.
    Later,
    /// Read the present state first, then decide.
    AfterReread,
}
