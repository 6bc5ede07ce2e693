//! Licences, bans and sources of everything that is linked in: `deny.toml`, checked here against
//! `cargo metadata` without another tool. Of the file's format, which is cargo-deny's, what it uses is
//! understood; a key that is not is refused, so that nothing is believed to be checked that is not.

use crate::sh::{self, Done, Failure};
use cargo_metadata::{Metadata, MetadataCommand};
use toml::{Table, Value};

/// `deny.toml`.
#[derive(Debug, Default, PartialEq)]
struct Rules {
    /// Licences, in SPDX's words.
    allowed: Vec<String>,
    banned: Vec<Ban>,
}

/// A crate that is not linked in, or only once.
#[derive(Debug, PartialEq)]
struct Ban {
    name: String,
    reason: String,
    /// One version of it is welcome.
    one_version: bool,
}

/// Fails with every package whose licence, source or name is not allowed.
pub(crate) fn check() -> Done {
    let path = sh::root().join("deny.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
    let rules = parse(&text).map_err(|error| Failure::new(format!("deny.toml: {error}")))?;
    let metadata = MetadataCommand::new()
        .manifest_path(sh::root().join("Cargo.toml"))
        .exec()
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let wrong = judge(&rules, &metadata);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

fn judge(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut wrong = Vec::new();
    for ban in &rules.banned {
        let versions: Vec<String> = metadata
            .packages
            .iter()
            .filter(|package| package.name.as_str() == ban.name)
            .map(|package| package.version.to_string())
            .collect();
        if versions.len() > usize::from(ban.one_version) {
            let (name, versions, reason) = (&ban.name, versions.join(" and "), &ban.reason);
            wrong.push(format!("{name} {versions} is banned: {reason}"));
        }
    }
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        match &package.source {
            None => {}
            Some(source) if source.is_crates_io() => {}
            Some(source) => {
                wrong.push(format!("{name} comes from {source}, not from the registry"))
            }
        }
        let licence = package.license.as_deref().unwrap_or("");
        if !is_allowed(licence, &rules.allowed) {
            wrong.push(format!("{name} has the licence `{licence}`"));
        }
    }
    wrong
}

fn parse(text: &str) -> Result<Rules, String> {
    let file: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    // What is said beside the lists must be what this check does.
    let fixed = [
        ("graph", "all-features", Value::Boolean(true)),
        (
            "bans",
            "multiple-versions",
            Value::String("warn".to_owned()),
        ),
        ("bans", "wildcards", Value::String("deny".to_owned())),
        ("bans", "allow-wildcard-paths", Value::Boolean(true)),
        (
            "sources",
            "unknown-registry",
            Value::String("deny".to_owned()),
        ),
        ("sources", "unknown-git", Value::String("deny".to_owned())),
        ("licenses", "confidence-threshold", Value::Float(0.9)),
    ];
    let mut rules = Rules::default();
    for (section, keys) in &file {
        let keys = keys
            .as_table()
            .ok_or(format!("`{section}` is no section"))?;
        for (key, value) in keys {
            match (section.as_str(), key.as_str()) {
                ("licenses", "allow") => rules.allowed = words(value)?,
                ("bans", "deny") => rules.banned = bans(value)?,
                _ => {
                    let is_known = fixed.iter().any(|(at, name, fixed)| {
                        (section.as_str(), key.as_str(), value) == (*at, *name, fixed)
                    });
                    if !is_known {
                        let text = format!("`{section}.{key} = {value}` is not understood here");
                        return Err(format!("{text}; teach xtask/src/licences.rs"));
                    }
                }
            }
        }
    }
    Ok(rules)
}

fn words(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or("`licenses.allow` is no list")?;
    let word = |item: &Value| {
        item.as_str()
            .map(str::to_owned)
            .ok_or("a licence is a text")
    };
    Ok(items.iter().map(word).collect::<Result<_, _>>()?)
}

fn bans(value: &Value) -> Result<Vec<Ban>, String> {
    let items = value.as_array().ok_or("`bans.deny` is no list")?;
    let one = |item: &Value| {
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Ban {
            name: text("crate")?,
            reason: text("reason")?,
            one_version: item
                .get("deny-multiple-versions")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        })
    };
    items
        .iter()
        .map(|item| one(item).ok_or(format!("{item} needs a `crate` and a `reason`")))
        .collect()
}

/// Evaluates an SPDX expression: `AND` needs both sides, `OR` one; an old `/` means `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let good = either(&words, &mut at, allowed);
    good && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut good = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        good |= both(words, at, allowed);
    }
    good
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut good = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        good &= one(words, at, allowed);
    }
    good
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else {
        // Cut off: past the end, so that the whole is refused.
        *at = words.len() + 1;
        return false;
    };
    *at += 1;
    if *word == "(" {
        let good = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return good && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let with = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
        return allowed.contains(&with);
    }
    allowed.iter().any(|licence| licence == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused() {
        let rules = parse(
            "[licenses]\nallow = ['MIT']\n[bans]\nmultiple-versions = 'warn'\ndeny = [{crate = 'a', reason = 'b'}]",
        )
        .unwrap();
        assert_eq!(rules.allowed, ["MIT"]);
        assert_eq!(
            rules.banned,
            [Ban {
                name: "a".to_owned(),
                reason: "b".to_owned(),
                one_version: false
            }]
        );
        for bad in [
            "[licenses]\nexceptions = []",
            "[bans]\nmultiple-versions = 'deny'",
            "[bans]\ndeny = [{crate = 'a'}]",
            "[advisories]\nyanked = 'deny'",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn expressions() {
        let allowed = [
            "MIT",
            "Apache-2.0",
            "Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ]
        .map(str::to_owned);
        let is_allowed = |text: &str| is_allowed(text, &allowed);
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
