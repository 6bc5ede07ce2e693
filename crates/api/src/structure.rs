//! The structure of what a client writes: JSON Schema over the OpenAPI document's own schemas.
//!
//! Every error is told by path and in words. So that the checks of meaning can still run beside them,
//! what is wrong is taken out of the value (or, where the field is required, replaced by an empty one);
//! the caller drops what those checks then say about the same places.

use crate::kind::Kind;
use crate::manifest::{brief, cut};
use crate::meta::Metadata;
use crate::openapi;
use crate::path;
use crate::problem::{FIELD_ERRORS_MAX, FieldError};
use crate::{nearest, schema};
use base::{Digest, Span, Time, Uid, quantity};
use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Fields whose insides are the user's own: a `null` there means something.
const FREE_FORM: [&str; 2] = ["params", "conda"];

static VALIDATORS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    Kind::ALL
        .iter()
        .map(|kind| spec_schema(*kind))
        .chain(["Metadata".to_owned()])
        .map(|name| {
            let validator = validator(&name);
            (name, validator)
        })
        .collect()
});

fn spec_schema(kind: Kind) -> String {
    format!("{}Spec", kind.as_str())
}

fn validator(name: &str) -> Validator {
    let root = json!({
        "$ref": format!("{}{name}", openapi::SCHEMAS),
        "components": openapi::document()["components"],
    });
    jsonschema::options()
        .should_validate_formats(true)
        .with_format(schema::QUANTITY, |text: &str| {
            format_error(schema::QUANTITY, text).is_none()
        })
        .with_format(schema::DURATION, |text: &str| {
            format_error(schema::DURATION, text).is_none()
        })
        .with_format(schema::TIMESTAMP, |text: &str| {
            format_error(schema::TIMESTAMP, text).is_none()
        })
        .with_format(schema::SHA256, |text: &str| {
            format_error(schema::SHA256, text).is_none()
        })
        .with_format(schema::UID, |text: &str| {
            format_error(schema::UID, text).is_none()
        })
        .build(&root)
        .expect("the derived schemas are valid, every one is compiled by a test")
}

/// What is wrong with a text of one of our formats.
fn format_error(format: &str, text: &str) -> Option<String> {
    match format {
        // Both, so that whatever the field is, its own type can read the text.
        schema::QUANTITY => quantity::parse_milli(text)
            .and_then(|_| quantity::parse_whole(text))
            .err()
            .map(|error| error.to_string()),
        schema::DURATION => text.parse::<Span>().err().map(|error| error.to_string()),
        schema::TIMESTAMP => text.parse::<Time>().err().map(|error| error.to_string()),
        schema::SHA256 => text.parse::<Digest>().err().map(|error| error.to_string()),
        schema::UID => text.parse::<Uid>().err().map(|error| error.to_string()),
        _ => None,
    }
}

/// Checks the structure of a spec and takes what is wrong out of it.
pub(crate) fn spec(kind: Kind, value: &mut Value, errors: &mut Vec<FieldError>) {
    if value.is_null() {
        *value = json!({});
    }
    check(&spec_schema(kind), value, "spec", errors);
}

/// Reads an object's metadata; what is wrong is told and left out.
pub(crate) fn metadata(mut value: Value, errors: &mut Vec<FieldError>) -> Option<Metadata> {
    if value.is_null() {
        errors.push(FieldError::new(
            "metadata",
            "is missing; at least `metadata.name` is needed",
        ));
        return None;
    }
    check("Metadata", &mut value, "metadata", errors);
    match serde_json::from_value(value) {
        Ok(metadata) => Some(metadata),
        Err(error) if errors.is_empty() => {
            errors.push(FieldError::new("metadata", error.to_string()));
            None
        }
        Err(_) => None,
    }
}

fn check(schema_name: &str, value: &mut Value, root: &str, errors: &mut Vec<FieldError>) {
    drop_nulls(value);
    let validator = &VALIDATORS[schema_name];
    let mut wrong: Vec<String> = Vec::new();
    // One more than is told, so that the reader knows there are more.
    for error in validator.iter_errors(value).take(FIELD_ERRORS_MAX + 1) {
        for (pointer, message) in explain(schema_name, &error) {
            let inner = path::from_pointer(&pointer);
            let field = if inner.is_empty() || inner.starts_with('[') {
                format!("{root}{inner}")
            } else {
                format!("{root}.{inner}")
            };
            errors.push(FieldError::new(field, message));
            wrong.push(pointer);
        }
    }
    // The deepest first: an outer one may take the inner ones with it.
    wrong.sort_by_key(|pointer| std::cmp::Reverse(pointer.matches('/').count()));
    for pointer in wrong {
        take_out(schema_name, value, &pointer);
    }
}

/// An absent field says the same as `null`.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            for (_, child) in map
                .iter_mut()
                .filter(|(name, _)| !FREE_FORM.contains(&name.as_str()))
            {
                drop_nulls(child);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

// ---- words ----

fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

/// One schema error as (JSON pointer, message) pairs.
fn explain(schema_name: &str, error: &ValidationError<'_>) -> Vec<(String, String)> {
    let pointer = error.instance_path().as_str().to_owned();
    let instance = error.instance();
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let schema = schema_at(schema_name, &pointer);
            let known: Vec<&str> = schema
                .and_then(|schema| schema["properties"].as_object())
                .map(|properties| properties.keys().map(String::as_str).collect())
                .unwrap_or_default();
            return unexpected
                .iter()
                .map(|name| {
                    let message = format!("unknown field{}", meant(name, &known));
                    (format!("{pointer}/{}", escape(name)), message)
                })
                .collect();
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            return vec![(
                format!("{pointer}/{}", escape(name)),
                "is missing".to_owned(),
            )];
        }
        ValidationErrorKind::Type { kind } => {
            let about = schema_at(schema_name, &pointer);
            wrong_type(kind, instance, about)
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> = options
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let hint = instance.as_str().map_or_else(String::new, |word| {
                nearest::hint(word, words.iter().copied())
            });
            format!(
                "is {}; {} is expected{hint}",
                brief(instance),
                one_of(&words)
            )
        }
        ValidationErrorKind::Format { format } => {
            let text = instance.as_str().unwrap_or_default();
            format_error(format, text)
                .unwrap_or_else(|| format!("is {}, which is not a {format}", brief(instance)))
        }
        ValidationErrorKind::Minimum { limit } => {
            format!("is {}; at least {limit} is expected", brief(instance))
        }
        ValidationErrorKind::Maximum { limit } => {
            format!("is {}; at most {limit} is expected", brief(instance))
        }
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::AnyOf { .. } => {
            let about = schema_at(schema_name, &pointer)
                .and_then(|schema| schema["description"].as_str())
                .unwrap_or_default();
            format!(
                "is {}; {} is expected",
                brief(instance),
                about.trim_end_matches('.')
            )
        }
        _ => format!(
            "is {}, which breaks the rule `{}`",
            brief(instance),
            error.kind().keyword()
        ),
    };
    vec![(pointer, message)]
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => "something else".to_owned(),
    }
}

fn wrong_type(kind: &TypeKind, instance: &Value, schema: Option<&Value>) -> String {
    let names: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(many) => many.iter().map(|one| one.to_string()).collect(),
    };
    let has = |name: &str| names.iter().any(|have| have == name);
    let format = schema.and_then(|schema| schema["format"].as_str());
    let expected = match format {
        Some(schema::DURATION) => "a length of time such as `90s` or `4h`",
        Some(schema::QUANTITY) => "a quantity such as `500m`, `2` or `4Gi`",
        Some(_) | None if has("string") => "text",
        Some(_) | None if has("object") => "an object",
        Some(_) | None if has("array") => "a list",
        Some(_) | None if has("boolean") => "`true` or `false`",
        Some(_) | None if has("integer") => "a whole number",
        Some(_) | None => "a number",
    };
    let quotes = match instance {
        Value::Number(_) | Value::Bool(_) if expected == "text" => {
            format!(": write it in quotes, `\"{}\"`", cut(&instance.to_string()))
        }
        _ => String::new(),
    };
    format!("is {}; {expected} is expected{quotes}", brief(instance))
}

// ---- schema by pointer ----

fn resolve(schema: &Value) -> &Value {
    let Some(name) = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.strip_prefix(openapi::SCHEMAS))
    else {
        return schema;
    };
    &openapi::document()["components"]["schemas"][name]
}

/// The schema of the value at a JSON pointer.
fn schema_at(name: &str, pointer: &str) -> Option<&'static Value> {
    let mut schema: &'static Value = &openapi::document()["components"]["schemas"][name];
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = schema
            .get("properties")
            .and_then(|properties| properties.get(&step))
            .or_else(|| schema.get("items"))
            .or_else(|| schema.get("additionalProperties"))?;
        schema = resolve(next);
    }
    Some(schema)
}

/// Takes the value at a pointer out: the innermost field that holds it goes, so that no list shifts.
fn take_out(schema_name: &str, value: &mut Value, pointer: &str) {
    let mut at = pointer;
    while let Some((parent, step)) = at.rsplit_once('/') {
        let step = step.replace("~1", "/").replace("~0", "~");
        if let Some(Value::Object(map)) = value.pointer_mut(parent) {
            map.remove(&step);
            let schema = schema_at(schema_name, parent);
            let required = schema
                .and_then(|schema| schema["required"].as_array())
                .is_some_and(|required| required.iter().any(|name| *name == step));
            if let (true, Some(field)) = (
                required,
                schema_at(schema_name, &format!("{parent}/{}", escape(&step))),
            ) {
                map.insert(step, empty(field));
            }
            return;
        }
        at = parent;
    }
    *value = json!({});
}

/// A value that a schema accepts and that says nothing.
fn empty(schema: &Value) -> Value {
    if let Some(first) = schema["enum"]
        .as_array()
        .and_then(|options| options.first())
    {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => json!(schema["minimum"].as_u64().unwrap_or(0).max(1)),
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("object") => {
            let mut object = json!({});
            for name in schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                object[name] = empty(resolve(&schema["properties"][name]));
            }
            object
        }
        Some(_) | None => json!(""),
    }
}

/// The field that was meant; where none is near, those that there are, if they are few enough to be read.
fn meant(name: &str, known: &[&str]) -> String {
    const FIELDS_MAX: usize = 8;
    let near = nearest::hint(name, known.iter().copied());
    if near.is_empty() && (1..=FIELDS_MAX).contains(&known.len()) {
        let words: Vec<String> = known.iter().map(|field| format!("`{field}`")).collect();
        return format!("; there are {}", words.join(", "));
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(kind: Kind, mut value: Value) -> Vec<String> {
        let mut errors = Vec::new();
        spec(kind, &mut value, &mut errors);
        let mut again = Vec::new();
        spec(kind, &mut value, &mut again);
        assert_eq!(again, [], "what is wrong was taken out");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_schema_compiles() {
        assert_eq!(VALIDATORS.len(), Kind::ALL.len() + 1);
    }

    #[test]
    fn all_errors_at_once_by_path_and_in_words() {
        let found = errors(
            Kind::Job,
            json!({
                "frameworks": "xgboost",
                "framework": "pytorh",
                "command": ["python", 3],
                "timeLimit": 90,
                "ttl": "5 minutes",
                "groups": [{"replicas": -1, "resources": {"cpu": "lots", "memory": [], "gpus": 1}}, "x"],
                "env": [{"name": "A", "value": 8080}],
                "array": {"count": 1.5},
                "checkpoint": "yes",
                "params": {"anything": null, "goes": [1]},
                "queue": null,
            }),
        );
        let expect = [
            "spec.array.count: is `1.5`; a whole number is expected",
            "spec.checkpoint: is `yes`; `true` or `false` is expected",
            "spec.command[1]: is `3`; text is expected: write it in quotes, `\"3\"`",
            "spec.env[0].value: is `8080`; text is expected: write it in quotes, `\"8080\"`",
            "spec.framework: is `pytorh`; `xgboost`, `tensorflow`, `pytorch`, `mpi`, `mxnet` or `caffe` is expected; did you mean `pytorch`?",
            "spec.frameworks: unknown field; did you mean `framework`?",
            "spec.groups[0].name: is missing",
            "spec.groups[0].replicas: is `-1`; at least 0 is expected",
            "spec.groups[0].resources.cpu: `lots` is not a quantity: expected a number such as `500m`, `2` or `4Gi`",
            "spec.groups[0].resources.gpus: unknown field; did you mean `gpu`?",
            "spec.groups[0].resources.memory: is a list; a quantity such as `500m`, `2` or `4Gi` is expected",
            "spec.groups[1]: is `x`; an object is expected",
            "spec.timeLimit: is `90`; a length of time such as `90s` or `4h` is expected",
            "spec.ttl: `5 minutes` is not a duration; write for example `90s`, `4h`, `1h30m` or `250ms`",
        ];
        let mut found = found;
        found.sort();
        assert_eq!(found, expect);
    }

    #[test]
    fn where_no_field_is_near_the_few_that_there_are_are_named() {
        let app = json!({"template": {"command": ["x"]}, "rollout": {"readyWithin": "10s"}});
        assert_eq!(
            errors(Kind::App, app),
            [
                "spec.rollout.readyWithin: unknown field; there are `maxSurge`, `maxUnavailable`, `progressDeadline`, `drain`, `stepBack`, `history`"
            ]
        );
    }

    #[test]
    fn quantities_may_be_numbers() {
        assert_eq!(
            errors(
                Kind::Job,
                json!({"resources": {"cpu": 2, "memory": 1_073_741_824, "gpu": 0.5}})
            ),
            [] as [&str; 0]
        );
        assert_eq!(
            errors(Kind::Job, json!({"resources": {"cpu": -2}})),
            ["spec.resources.cpu: is `-2`; at least 0 is expected"]
        );
    }

    #[test]
    fn a_spec_that_is_no_object() {
        assert_eq!(
            errors(Kind::Tenant, json!("x")),
            ["spec: is `x`; an object is expected"]
        );
        assert_eq!(errors(Kind::Tenant, Value::Null), [] as [&str; 0]);
    }

    #[test]
    fn alternatives_are_told_in_words() {
        assert_eq!(
            errors(
                Kind::App,
                json!({"template": {}, "rollout": {"maxSurge": [], "maxUnavailable": "25%"}})
            ),
            ["spec.rollout.maxSurge: is a list; `2` or `25%` is expected"]
        );
    }

    #[test]
    fn a_hundred_thousand_wrong_items_are_told_within_bounds() {
        let items: Vec<Value> = (0..100_000).map(|n| json!(n)).collect();
        let mut value = json!({ "command": items });
        let mut errors = Vec::new();
        spec(Kind::Job, &mut value, &mut errors);
        assert_eq!(errors.len(), FIELD_ERRORS_MAX + 1);
    }
}
