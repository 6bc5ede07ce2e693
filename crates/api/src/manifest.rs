//! Reading manifests: many YAML documents or JSON, within bounds, with line and column in every error.
//!
//! Here documents become [`Object`]s: only the envelope (`apiVersion`, `kind`, `metadata`) is looked
//! at. What is inside `spec` is the business of [`crate::check`].

use crate::kind::{Kind, Object, Typed};
use crate::meta::API_VERSION;
use crate::nearest;
use crate::node::{Node, Position, Positions, position};
use crate::path;
use crate::problem::{FIELD_ERRORS_MAX, FieldError, Problem};
use crate::validate::Purpose;
use base::Code;
use serde_json::Value;

/// The most bytes of one manifest, all its documents together.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// The most documents in one manifest.
pub const DOCUMENTS_MAX: usize = 1_000;
/// How deep values may be nested. A level costs about 32 KiB of stack in an unoptimised build, and a
/// thread has 2 MiB; no kind needs more than ten.
pub const DEPTH_MAX: usize = 24;
/// The most values in one manifest, those that aliases repeat included.
pub const NODES_MAX: usize = 250_000;
/// The most bytes of text in one manifest, what aliases repeat included.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// How a manifest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One or many YAML documents.
    Yaml,
    /// One JSON object or an array of them.
    Json,
}

/// One object of a manifest, with the places of its values for errors found later.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The object.
    pub object: Object,
    /// Where its values stand.
    pub positions: Positions,
    /// Fields whose errors have been told.
    told: Vec<String>,
}

impl Document {
    /// Adds lines and columns to errors about this document.
    pub fn locate(&self, errors: &mut [FieldError]) {
        for error in errors {
            locate(error, &self.positions);
        }
    }
}

/// Reads a manifest and checks every object in it: all that is wrong, in all documents, is told at once.
pub fn read(
    bytes: &[u8],
    format: Format,
    purpose: Purpose,
) -> Result<Vec<(Document, Typed)>, Box<Problem>> {
    let Reading {
        documents,
        mut errors,
    } = documents(bytes, format)?;
    let many = documents.len() > 1;
    let mut checked = Vec::with_capacity(documents.len());
    for (at, document) in documents.into_iter().enumerate() {
        let Some(document) = document else { continue };
        match crate::validate::check(&document.object, purpose) {
            Ok(typed) => checked.push((document, typed)),
            Err(mut found) => {
                // What the envelope's check has told is not told again.
                found.retain(|error| {
                    !document
                        .told
                        .iter()
                        .any(|told| path::related(told, &error.field))
                });
                document.locate(&mut found);
                errors.extend(found.into_iter().map(|error| of_document(error, at, many)));
            }
        }
    }
    if errors.is_empty() {
        return Ok(checked);
    }
    errors.sort_by_key(|error| (error.line, error.column));
    Err(Box::new(Problem::invalid(
        "the manifest is not valid",
        errors,
    )))
}

/// Reads a manifest. A `List` counts as the objects in it.
pub fn parse(bytes: &[u8], format: Format) -> Result<Vec<Document>, Box<Problem>> {
    let Reading { documents, errors } = documents(bytes, format)?;
    if errors.is_empty() {
        return Ok(documents.into_iter().flatten().collect());
    }
    Err(Box::new(Problem::invalid(
        "the manifest is not valid",
        errors,
    )))
}

/// What could be read of each document, and what is wrong with their envelopes.
struct Reading {
    documents: Vec<Option<Document>>,
    errors: Vec<FieldError>,
}

/// The documents, where they could be read, and what is wrong with their envelopes.
fn documents(bytes: &[u8], format: Format) -> Result<Reading, Box<Problem>> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        let (mib, max) = (bytes.len().div_ceil(1 << 20), MANIFEST_BYTES_MAX >> 20);
        let detail = format!(
            "the manifest has {mib} MiB; at most {max} MiB are read at once: split it, or upload data as code or a model"
        );
        return Err(Box::new(Problem::new(Code::Invalid, detail)));
    }
    let values = match format {
        Format::Yaml => read_yaml(bytes)?,
        Format::Json => read_json(bytes)?,
    };
    let mut flat = Vec::new();
    for (value, positions) in values {
        match unwrap_list(value) {
            Ok(value) => flat.push((value, positions)),
            Err(items) => flat.extend(items.into_iter().map(|item| (item, Positions::default()))),
        }
    }
    let many = flat.len() > 1;
    let mut errors = Vec::new();
    let mut documents = Vec::new();
    for (at, (value, positions)) in flat.into_iter().enumerate() {
        let mut found = Vec::new();
        let object = read_envelope(value, &mut found);
        let told = found.iter().map(|error| error.field.clone()).collect();
        for error in &mut found {
            locate(error, &positions);
        }
        errors.extend(found.into_iter().map(|error| of_document(error, at, many)));
        documents.push(object.map(|object| Document {
            object,
            positions,
            told,
        }));
    }
    Ok(Reading { documents, errors })
}

/// Says which of several documents an error is about.
fn of_document(error: FieldError, at: usize, many: bool) -> FieldError {
    if !many {
        return error;
    }
    let field = format!("[{at}].{}", error.field)
        .trim_end_matches('.')
        .to_owned();
    FieldError { field, ..error }
}

/// `kind: List` or `kind: JobList`, as `get -o yaml` prints several objects.
fn unwrap_list(mut value: Value) -> Result<Value, Vec<Value>> {
    let is_list = value["kind"].as_str().is_some_and(|kind| {
        kind == "List"
            || kind
                .strip_suffix("List")
                .is_some_and(|of| Kind::ALL.iter().any(|kind| kind.as_str() == of))
    });
    if !is_list {
        return Ok(value);
    }
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Err(items),
        Some(_) | None => Ok(value),
    }
}

// ---- syntax ----

fn read_yaml(bytes: &[u8]) -> Result<Vec<(Value, Positions)>, Box<Problem>> {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        max_documents: DOCUMENTS_MAX,
        max_nodes: NODES_MAX,
        max_total_scalar_bytes: TEXT_BYTES_MAX,
        max_recorded_anchor_events: NODES_MAX,
        max_recorded_anchor_bytes: TEXT_BYTES_MAX,
        max_aliases: 10_000,
        max_anchors: 10_000,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    let nodes: Vec<Node> = serde_saphyr::from_slice_multiple_with_options(bytes, options)
        .map_err(|error| yaml_problem(&error))?;
    Ok(nodes
        .into_iter()
        .map(Node::split)
        .filter(|(value, _)| !value.is_null())
        .collect())
}

fn yaml_problem(error: &serde_saphyr::Error) -> Box<Problem> {
    let error = error.without_snippet();
    let text = error.to_string();
    // The location is told apart from the text.
    let reason = text
        .split(" at line ")
        .next()
        .unwrap_or(&text)
        .trim_end_matches(['.', ':', ',']);
    let at = error.location().map(|location| position(&location));
    syntax_problem("YAML", reason, at)
}

fn read_json(bytes: &[u8]) -> Result<Vec<(Value, Positions)>, Box<Problem>> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or(&text);
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        syntax_problem(
            "JSON",
            reason,
            Some(Position {
                line: small(error.line()),
                column: small(error.column()),
            }),
        )
    })?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    if values.len() > DOCUMENTS_MAX {
        let detail = format!(
            "the manifest has {} objects; at most {DOCUMENTS_MAX} are read at once",
            values.len()
        );
        return Err(Box::new(Problem::new(Code::Invalid, detail)));
    }
    Ok(values
        .into_iter()
        .map(|value| (value, Positions::default()))
        .collect())
}

fn syntax_problem(language: &str, reason: &str, at: Option<Position>) -> Box<Problem> {
    let place = at.map_or_else(String::new, |at| {
        format!(" in line {}, column {}", at.line, at.column)
    });
    let mut problem = Problem::new(
        Code::Invalid,
        format!("this is not valid {language}{place}: {reason}"),
    );
    problem.errors.push(FieldError {
        field: String::new(),
        message: reason.to_owned(),
        line: at.map(|at| at.line),
        column: at.map(|at| at.column),
    });
    Box::new(problem)
}

// ---- envelope ----

const ENVELOPE: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

fn read_envelope(value: Value, errors: &mut Vec<FieldError>) -> Option<Object> {
    let Value::Object(mut map) = value else {
        errors.push(FieldError::new(
            "",
            "an object with `apiVersion`, `kind`, `metadata` and `spec` is expected here",
        ));
        return None;
    };
    for field in map
        .keys()
        .filter(|field| !ENVELOPE.contains(&field.as_str()))
        .take(FIELD_ERRORS_MAX)
    {
        errors.push(FieldError::new(
            field,
            format!("unknown field{}", nearest::hint(field, ENVELOPE)),
        ));
    }
    let api_version = match map.get("apiVersion") {
        None => {
            errors.push(FieldError::new(
                "apiVersion",
                format!("is missing; write `{API_VERSION}`"),
            ));
            String::new()
        }
        Some(Value::String(version)) if version == API_VERSION => version.clone(),
        Some(other) => {
            errors.push(FieldError::new(
                "apiVersion",
                format!("is {}; write `{API_VERSION}`", brief(other)),
            ));
            String::new()
        }
    };
    let kind = match map.get("kind") {
        None => {
            errors.push(FieldError::new(
                "kind",
                "is missing; `moonshot api-resources` lists the kinds",
            ));
            String::new()
        }
        Some(Value::String(word)) => {
            let names = Kind::ALL.iter().map(|kind| kind.as_str());
            if !names.clone().any(|name| name == word) {
                let hint = Kind::find(word).map_or_else(
                    || nearest::hint(word, names),
                    |kind| format!("; did you mean `{}`?", kind.as_str()),
                );
                errors.push(FieldError::new(
                    "kind",
                    format!("unknown kind `{}`{hint}", cut(word)),
                ));
            }
            word.clone()
        }
        Some(other) => {
            errors.push(FieldError::new(
                "kind",
                format!("is {}; a name such as `Job` is expected", brief(other)),
            ));
            String::new()
        }
    };
    let metadata = map.remove("metadata").unwrap_or(Value::Null);
    let metadata = crate::structure::metadata(metadata, errors)?;
    let spec = map.remove("spec").unwrap_or(Value::Null);
    // What a client sends as status is what it once read; the server alone writes it.
    Some(Object {
        api_version,
        kind,
        metadata,
        spec,
        status: None,
    })
}

fn locate(error: &mut FieldError, positions: &Positions) {
    let steps: Vec<String> = path::split(&error.field);
    if let Some(at) = positions.find(&steps).filter(|at| at.line > 0) {
        error.line = Some(at.line);
        error.column = Some(at.column);
    }
}

/// A value in few words, for errors.
pub(crate) fn brief(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::String(text) => format!("`{}`", cut(text)),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The beginning of a text of any length.
pub(crate) fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
