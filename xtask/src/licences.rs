//! Licences and sources of everything that is linked in, from `cargo metadata`. `deny.toml` holds the
//! same lists for `cargo deny`; here they are checked without another tool.

use crate::sh::{self, Done, Failure};
use cargo_metadata::MetadataCommand;

/// Permissive licences (and weak ones that concern only changed files). No GPL, LGPL or AGPL.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Never linked in, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "one TLS: rustls with ring"),
    ("aws-lc-sys", "one TLS provider: ring"),
    ("async-std", "one runtime: tokio"),
    ("serde_yaml", "abandoned; YAML is read with serde-saphyr"),
];

/// Fails with every package whose licence, source or name is not allowed.
pub(crate) fn check() -> Done {
    let metadata = MetadataCommand::new()
        .manifest_path(sh::root().join("Cargo.toml"))
        .exec()
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        if let Some((_, reason)) = BANNED
            .iter()
            .find(|(banned, _)| *banned == package.name.as_str())
        {
            wrong.push(format!("{name} is banned: {reason}"));
        }
        match &package.source {
            None => {}
            Some(source) if source.is_crates_io() => {}
            Some(source) => {
                wrong.push(format!("{name} comes from {source}, not from the registry"))
            }
        }
        let licence = package.license.as_deref().unwrap_or("");
        if !is_allowed(licence) {
            wrong.push(format!("{name} has the licence `{licence}`"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

/// Evaluates an SPDX expression: `AND` needs both sides, `OR` one; an old `/` means `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let allowed = either(&words, &mut at);
    allowed && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        allowed |= both(words, at);
    }
    allowed
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        allowed &= one(words, at);
    }
    allowed
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else {
        // Cut off: past the end, so that the whole is refused.
        *at = words.len() + 1;
        return false;
    };
    *at += 1;
    if *word == "(" {
        let allowed = either(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return allowed && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let with = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
        return ALLOWED.contains(&with.as_str());
    }
    ALLOWED.contains(word)
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "LGPL-2.1 OR (GPL-2.0 AND MIT)",
            "MIT OR",
            "(MIT",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
