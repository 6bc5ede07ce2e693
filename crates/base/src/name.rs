//! Names of objects: DNS labels (RFC 1123), because they become host names, paths and namespaces.

use std::fmt;

/// The longest allowed name, in bytes.
pub const NAME_LEN_MAX: usize = 63;

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadName {
    /// No characters at all.
    Empty,
    /// Longer than [`NAME_LEN_MAX`]; holds the length found.
    TooLong(usize),
    /// A character outside `a-z`, `0-9`, `-`, or a hyphen at an end.
    Character(char, usize),
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => f.write_str("is empty"),
            BadName::TooLong(len) => write!(
                f,
                "has {len} characters; at most {NAME_LEN_MAX} are allowed"
            ),
            BadName::Character(c, at) => write!(
                f,
                "has `{c}` at position {at}; use lower-case letters, digits and `-`, and begin and end with a letter or digit"
            ),
        }
    }
}
impl std::error::Error for BadName {}

/// Checks that `name` is a DNS label.
pub fn check(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(BadName::TooLong(name.len()));
    }
    let last = name.chars().count() - 1;
    for (at, c) in name.chars().enumerate() {
        let inner = at != 0 && at != last;
        let allowed = c.is_ascii_lowercase() || c.is_ascii_digit() || (c == '-' && inner);
        if !allowed {
            return Err(BadName::Character(c, at + 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "a-b", "flights-2", &"a".repeat(63)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check(&"a".repeat(64)), Err(BadName::TooLong(64)));
        assert_eq!(check("-a"), Err(BadName::Character('-', 1)));
        assert_eq!(check("a-"), Err(BadName::Character('-', 2)));
        assert_eq!(check("aB"), Err(BadName::Character('B', 2)));
        assert_eq!(check("é"), Err(BadName::Character('é', 1)));
        assert_eq!(check("a/../b"), Err(BadName::Character('/', 2)));
    }
}
