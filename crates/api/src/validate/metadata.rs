//! Names, labels and annotations.

use super::{Errors, Purpose, syntax};
use crate::kind::{Kind, Scope};
use crate::manifest::cut;
use crate::meta::Metadata;
use crate::path;
use base::name::NAME_LEN_MAX;

/// The most labels of an object.
const LABELS_MAX: usize = 64;
/// The most bytes of an object's annotations, keys and values.
const ANNOTATION_BYTES_MAX: usize = 64 << 10;
/// What the server adds to `generateName`.
const GENERATED_LEN: usize = 6;

pub(super) fn check(metadata: &Metadata, kind: Kind, purpose: Purpose, errors: &mut Errors) {
    names(metadata, purpose, errors);
    if !metadata.project.is_empty() {
        if kind.scope() == Scope::Project {
            if let Err(why) = syntax::label(&metadata.project) {
                errors.add("metadata.project", why);
            }
        } else {
            errors.add(
                "metadata.project",
                format!("a {} belongs to no project; leave this out", kind.as_str()),
            );
        }
    }
    if metadata.labels.len() > LABELS_MAX {
        errors.add(
            "metadata.labels",
            format!(
                "has {} labels; at most {LABELS_MAX} are allowed",
                metadata.labels.len()
            ),
        );
    } else {
        for (key, value) in &metadata.labels {
            let field = path::field("metadata.labels", &cut(key));
            if let Err(why) = syntax::label_key(key) {
                errors.add(field.clone(), format!("the key {why}"));
            }
            if let Err(why) = syntax::label_value(value) {
                errors.add(field, format!("the value {why}"));
            }
        }
    }
    let bytes: usize = metadata
        .annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > ANNOTATION_BYTES_MAX {
        errors.add(
            "metadata.annotations",
            format!("has {bytes} bytes; at most {ANNOTATION_BYTES_MAX} are allowed"),
        );
        return;
    }
    for key in metadata.annotations.keys() {
        if let Err(why) = syntax::label_key(key) {
            errors.add(
                path::field("metadata.annotations", &cut(key)),
                format!("the key {why}"),
            );
        }
    }
}

fn names(metadata: &Metadata, purpose: Purpose, errors: &mut Errors) {
    match (&metadata.generate_name, metadata.name.is_empty()) {
        (Some(_), false) => errors.add(
            "metadata.generateName",
            "stands beside `name`; write one of them",
        ),
        (Some(_), true) if purpose == Purpose::Apply => {
            errors.add(
                "metadata.name",
                "is missing: apply needs a name; `moonshot create` takes `generateName`",
            );
        }
        (Some(prefix), true) => {
            let room = NAME_LEN_MAX - GENERATED_LEN;
            if prefix.len() > room {
                errors.add(
                    "metadata.generateName",
                    format!(
                        "has {} characters; at most {room} are allowed",
                        prefix.len()
                    ),
                );
            } else if let Err(why) = syntax::label(&format!("{prefix}0")) {
                errors.add("metadata.generateName", why);
            }
        }
        (None, true) => errors.add("metadata.name", "is missing"),
        (None, false) => {
            if let Err(why) = syntax::label(&metadata.name) {
                errors.add("metadata.name", why);
            }
        }
    }
}
