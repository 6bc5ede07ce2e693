//! The small languages of fields: names, references, relative paths, labels.

use base::name;

/// A DNS label, or why it is none.
pub(super) fn label(text: &str) -> Result<(), String> {
    name::check(text).map_err(|error| error.to_string())
}

/// `name` or `name@3`.
pub(super) fn versioned(text: &str) -> Result<(), String> {
    let (name, version) = text
        .split_once('@')
        .map_or((text, None), |(name, version)| (name, Some(version)));
    label(name)?;
    match version {
        Some(version) if !version.parse::<u32>().is_ok_and(|version| version > 0) => Err(format!(
            "has version `{version}`; write a number from 1, as in `{name}@3`"
        )),
        Some(_) | None => Ok(()),
    }
}

/// The name of an environment variable.
pub(super) fn variable(text: &str) -> Result<(), String> {
    let well_formed = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit());
    if well_formed {
        return Ok(());
    }
    Err(
        "is not a variable's name; use letters, digits and `_`, and do not begin with a digit"
            .to_owned(),
    )
}

/// A path that stays inside the directory it is relative to.
pub(super) fn relative_path(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.starts_with('/') {
        return Err(
            "begins with `/`; a path relative to the replica's directory is expected".to_owned(),
        );
    }
    if text.split('/').any(|part| part == "..") {
        return Err("leads out of its directory by `..`".to_owned());
    }
    if text.chars().any(char::is_control) || text.contains('\\') {
        return Err("has a control character or `\\`".to_owned());
    }
    Ok(())
}

/// A label's key: `name` or `prefix/name`, as in Kubernetes.
pub(super) fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        dns_name(prefix).map_err(|why| format!("has a prefix that {why}"))?;
    }
    if name.is_empty() {
        return Err("has an empty name".to_owned());
    }
    label_word(name)
}

/// A label's value: empty, or a word as in Kubernetes.
pub(super) fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Ok(())
    } else {
        label_word(text)
    }
}

fn label_word(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err(format!(
            "has {} characters; at most 63 are allowed",
            text.len()
        ));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().last()];
    let well_formed =
        text.bytes().all(inner) && ends.iter().flatten().all(u8::is_ascii_alphanumeric);
    if well_formed {
        return Ok(());
    }
    Err("uses other characters than letters, digits, `-`, `_` and `.`, or does not begin and end with a letter or digit".to_owned())
}

/// A host name: DNS labels with dots between.
pub(super) fn dns_name(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err(format!(
            "has {} characters; at most 253 are allowed",
            text.len()
        ));
    }
    text.split('.')
        .try_for_each(|part| label(part).map_err(|why| format!("has a part that {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages() {
        for (check, good, bad) in [
            (
                versioned as fn(&str) -> Result<(), String>,
                &["a", "a@1", "a-b@12"][..],
                &["", "@1", "a@", "a@0", "a@-1", "a@x", "A"][..],
            ),
            (variable, &["A", "_a", "A1"], &["", "1A", "A-B", "A=B", "É"]),
            (
                relative_path,
                &["a", "a/b", "./a", "a..b", "a b"],
                &["", "/a", "..", "a/../b", "a\0", "a\\b"],
            ),
            (
                label_key,
                &["a", "example.org/a_b", "A.b"],
                &["", "/a", "a/", "a/b/c", "-a", "a b", "Ex/a"],
            ),
            (label_value, &["", "1.0", "a_B"], &["-", "a b", "é", ".a"]),
            (
                dns_name,
                &["a", "a.b-c.d"],
                &["", "a..b", "A.b", "a_b", "*.a"],
            ),
        ] {
            for text in good {
                assert_eq!(check(text), Ok(()), "{text}");
            }
            for text in bad {
                assert!(check(text).is_err(), "{text}");
            }
        }
        assert!(label_value(&"a".repeat(64)).is_err() && dns_name(&"a.".repeat(127)).is_err());
    }
}
