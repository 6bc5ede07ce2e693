//! Environments and Secrets.

use super::{Errors, syntax};
use crate::environment::{EnvironmentSpec, SecretSpec};
use crate::path;

/// The most requirements of an Environment.
const REQUIREMENTS_MAX: usize = 1_000;
/// The most bytes of a Secret's values.
const SECRET_BYTES_MAX: usize = 1 << 20;

pub(super) fn environment(spec: &EnvironmentSpec, errors: &mut Errors) {
    if spec.conda.is_some() {
        errors.add("spec.conda", "conda is not supported: list the packages under `pip`, or build an image with conda and name it under `image`");
    }
    match (&spec.pip, &spec.image) {
        (Some(_), Some(_)) => errors.add("spec", "has `pip` and `image`; write one of them"),
        (None, None) if spec.conda.is_none() => {
            errors.add("spec", "has neither `pip` nor `image`; write one of them")
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => {}
    }
    if let Some(pip) = &spec.pip {
        requirements(pip, errors);
    }
    if let Some(python) = &spec.python {
        let parts: Vec<&str> = python.split('.').collect();
        let numeric = parts.iter().all(|part| {
            !part.is_empty() && part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit())
        });
        if !numeric || !(2..=3).contains(&parts.len()) || parts[0] != "3" {
            errors.add(
                "spec.python",
                format!("is `{python}`; a version such as `3.11` is expected"),
            );
        }
        if spec.image.is_some() {
            errors.add(
                "spec.python",
                "goes with `pip` alone; an image brings its own",
            );
        }
    }
    if let Some(image) = &spec.image {
        let well_formed = !image.is_empty()
            && image.len() <= 512
            && image
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./:@".contains(c));
        if !well_formed {
            errors.add(
                "spec.image",
                "is not the name of an image, such as `registry.example.org/team/train:1.2`",
            );
        }
    }
    for (name, value) in &spec.env {
        if let Err(why) = syntax::variable(name) {
            errors.add(path::field("spec.env", name), why);
        }
        if value.contains('\0') {
            errors.add(path::field("spec.env", name), "has a zero byte");
        }
    }
}

fn requirements(pip: &[String], errors: &mut Errors) {
    if pip.len() > REQUIREMENTS_MAX {
        errors.add(
            "spec.pip",
            format!(
                "has {} requirements; at most {REQUIREMENTS_MAX} are allowed",
                pip.len()
            ),
        );
        return;
    }
    for (i, requirement) in pip.iter().enumerate() {
        let at = path::index("spec.pip", i);
        let text = requirement.trim();
        if text.is_empty() {
            errors.add(at, "is empty");
        } else if text.starts_with('-') {
            errors.add(
                at,
                format!(
                    "`{}` is an option; only requirements are taken, such as `xgboost==3.0.0`",
                    crate::manifest::cut(text)
                ),
            );
        } else if text.contains(['\n', '\r', '\0']) {
            errors.add(at, "has several lines; write one requirement an item");
        }
    }
}

pub(super) fn secret(spec: &SecretSpec, errors: &mut Errors) {
    if spec.data.is_empty() && spec.binary_data.is_empty() {
        errors.add(
            "spec.data",
            "is empty; a Secret's values are never shown, so they must be written anew",
        );
    }
    for (field, entries) in [("data", &spec.data), ("binaryData", &spec.binary_data)] {
        for key in entries.keys() {
            let well_formed = !key.is_empty()
                && key.len() <= 253
                && key != "."
                && key != ".."
                && key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !well_formed {
                errors.add(
                    path::field(&format!("spec.{field}"), &crate::manifest::cut(key)),
                    "is not an entry's name; use letters, digits, `-`, `_` and `.`",
                );
            }
        }
    }
    for (key, value) in &spec.binary_data {
        let at = path::field("spec.binaryData", key);
        if spec.data.contains_key(key) {
            errors.add(at, "is in `data` too");
        } else if !is_base64(value) {
            errors.add(at, "is not base64");
        }
    }
    let bytes: usize = spec
        .data
        .values()
        .chain(spec.binary_data.values())
        .map(String::len)
        .sum();
    if bytes > SECRET_BYTES_MAX {
        errors.add(
            "spec.data",
            format!("has {bytes} bytes; at most {SECRET_BYTES_MAX} are allowed"),
        );
    }
}

/// Standard alphabet, padded (RFC 4648 §4).
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::is_base64;

    #[test]
    fn base64() {
        for text in ["", "YQ==", "YWI=", "YWJj", "+/+/"] {
            assert!(is_base64(text), "{text}");
        }
        for text in ["YQ", "YQ=", "Y===", "YW J", "YQ==YQ=="] {
            assert!(!is_base64(text), "{text}");
        }
    }
}
