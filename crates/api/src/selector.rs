//! Label selectors in Kubernetes' words: `a=b`, `a==b`, `a!=b`, `a in (b, c)`, `a notin (b)`, `a`, `!a`,
//! with commas between, all of which must hold
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The most requirements of a selector.
pub const REQUIREMENTS_MAX: usize = 32;
/// The longest selector, in bytes.
pub const SELECTOR_LEN_MAX: usize = 4_096;

/// Requirements on labels, all of which must hold. Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label is there with one of these values.
    In(String, Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is absent.
    Absent(String),
}

/// Text that is not a selector: what was expected, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the label selector is wrong at character {at}: {expected} is expected; write for example `app=flights,tier in (a, b),!old`"
)]
pub struct BadSelector {
    at: usize,
    expected: &'static str,
}

impl Selector {
    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether labels fulfil every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match requirement {
                Requirement::In(key, values) if values.len() == 1 => {
                    write!(f, "{key}={}", values[0])?
                }
                Requirement::NotIn(key, values) if values.len() == 1 => {
                    write!(f, "{key}!={}", values[0])?
                }
                Requirement::In(key, values) => write!(f, "{key} in ({})", values.join(","))?,
                Requirement::NotIn(key, values) => write!(f, "{key} notin ({})", values.join(","))?,
                Requirement::Exists(key) => f.write_str(key)?,
                Requirement::Absent(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = BadSelector;
    fn from_str(text: &str) -> Result<Selector, BadSelector> {
        if text.len() > SELECTOR_LEN_MAX {
            return Err(BadSelector {
                at: SELECTOR_LEN_MAX,
                expected: "a shorter selector",
            });
        }
        let mut parser = Parser { text, at: 0 };
        let mut requirements = Vec::new();
        parser.spaces();
        if parser.is_done() {
            return Ok(Selector(requirements));
        }
        loop {
            requirements.push(parser.requirement()?);
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(parser.expected("a selector of at most 32 requirements"));
            }
            if parser.is_done() {
                return Ok(Selector(requirements));
            }
            if !parser.take(",") {
                return Err(parser.expected("`,`"));
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
    fn is_done(&self) -> bool {
        self.at == self.text.len()
    }
    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }
    fn expected(&self, expected: &'static str) -> BadSelector {
        BadSelector {
            at: self.text[..self.at].chars().count() + 1,
            expected,
        }
    }
    /// Takes a token and the spaces after it.
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.spaces();
        }
        found
    }
    /// Takes a word of a key or value and the spaces after it; it may be empty.
    fn word(&mut self) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let end = self
            .rest()
            .find(|c| !allowed(c))
            .unwrap_or(self.rest().len());
        let word = self.rest()[..end].to_owned();
        self.at += end;
        self.spaces();
        word
    }
    fn key(&mut self) -> Result<String, BadSelector> {
        let start = self.at;
        let key = self.word();
        if key.is_empty() {
            self.at = start;
            return Err(self.expected("a label's key"));
        }
        Ok(key)
    }
    fn requirement(&mut self) -> Result<Requirement, BadSelector> {
        self.spaces();
        if self.take("!") {
            return Ok(Requirement::Absent(self.key()?));
        }
        let key = self.key()?;
        if self.take("!=") {
            return Ok(Requirement::NotIn(key, vec![self.word()]));
        }
        if self.take("==") || self.take("=") {
            return Ok(Requirement::In(key, vec![self.word()]));
        }
        if self.take("notin") {
            return Ok(Requirement::NotIn(key, self.values()?));
        }
        if self.take("in") {
            return Ok(Requirement::In(key, self.values()?));
        }
        Ok(Requirement::Exists(key))
    }
    fn values(&mut self) -> Result<Vec<String>, BadSelector> {
        if !self.take("(") {
            return Err(self.expected("`(`"));
        }
        let mut values = vec![self.word()];
        while self.take(",") {
            values.push(self.word());
        }
        if !self.take(")") {
            return Err(self.expected("`,` or `)`"));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let labels = BTreeMap::from([
            ("app".to_owned(), "flights".to_owned()),
            ("tier".to_owned(), String::new()),
        ]);
        for (text, expect) in [
            ("", true),
            ("app=flights", true),
            ("app == flights , tier", true),
            ("app!=flights", false),
            ("other!=x", true),
            ("app in (a, flights)", true),
            ("app in (a)", false),
            ("app notin (a,b)", true),
            ("other notin (a)", true),
            ("tier=", true),
            ("!other", true),
            ("!app", false),
            ("other", false),
            ("tier in ()", true),
            ("inside", false),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&labels), expect, "{text}");
            assert_eq!(
                selector.to_string().parse::<Selector>().unwrap(),
                selector,
                "{text}"
            );
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, at) in [
            ("a,", 3),
            ("=b", 1),
            ("a in b", 6),
            ("a in (b", 8),
            ("a b", 3),
            ("é=b", 1),
            ("!", 2),
            ("a=b c", 5),
        ] {
            let error = text.parse::<Selector>().unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
        }
        assert!("a,".repeat(100_000).parse::<Selector>().is_err());
        assert!(vec!["a"; 33].join(",").parse::<Selector>().is_err());
    }
}
