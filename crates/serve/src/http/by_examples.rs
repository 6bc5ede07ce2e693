//! TensorFlow Serving's `:classify` and `:regress`: rows of named features in JSON, as tf.Examples or as a matrix.

use super::json::{self, Odd, write_nested, write_text};
use super::{Call, Reply, Run, Shared, copy, infer};
use crate::error::{Result, ServeError};
use crate::examples::{self, of_row};
use crate::models::Version;
use crate::proto::tensorflow::feature::Kind;
use crate::proto::tensorflow::{BytesList, Example, Feature, Features, FloatList, Int64List};
use crate::records::Rows;
use crate::runtime::Signature;
use crate::tensor::{Data, Tensor};
use serde_json::Value;
use std::io::Write as _;
use std::sync::Arc;

/// What is made of the outputs.
type Write = fn(&Signature, &[Tensor]) -> Result<Vec<u8>>;

/// `{"context": {…}, "examples": [{…}, …]}`: features by name, those of the context in every example.
pub(super) async fn answer(
    shared: &Shared,
    call: &Call,
    version: &Arc<Version>,
    write: Write,
) -> Result<Reply> {
    let (at, inputs) = request(&call.body, version)?;
    let signature = &version.runtime.signatures()[at];
    let run = Run {
        version,
        signature: at,
        inputs,
        timeout: None,
        copy: copy(call, |body| {
            move |version: &Version| request(&body, version)
        }),
    };
    infer(shared, call, run, |outputs| {
        Ok(Reply::json(write(signature, outputs)?))
    })
    .await
}

/// Which signature is asked for, and its inputs.
fn request(body: &[u8], version: &Version) -> Result<(usize, Vec<Tensor>)> {
    let mut body: serde_json::Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| ServeError::invalid(format!("the body is no JSON object: {error}")))?;
    let asked = body.get("signature_name").and_then(Value::as_str);
    let (at, signature) = version.signature(asked.unwrap_or(""))?;
    let context = body.remove("context").unwrap_or_default();
    let Some(Value::Array(examples)) = body.remove("examples") else {
        return Err(ServeError::invalid(
            "`examples` is missing: a list of objects is expected",
        ));
    };
    let inputs = if signature.columns.is_empty() {
        let context = context.as_object().map(example).transpose()?;
        let examples = examples.iter().enumerate().map(|(row, value)| {
            let object = value.as_object().ok_or_else(|| no_object(row))?;
            example(object)
        });
        examples::inputs(signature, examples.collect::<Result<_>>()?, context)?
    } else {
        matrix(signature, &context, &examples)?
    };
    Ok((at, inputs))
}

fn no_object(row: usize) -> ServeError {
    ServeError::invalid(format!("example {row} is no object"))
}

/// Columns by name, with all the digits that JSON has.
fn matrix(signature: &Signature, context: &Value, examples: &[Value]) -> Result<Vec<Tensor>> {
    let mut rows = Rows::new(signature)?;
    for (row, example) in examples.iter().enumerate() {
        let example = example.as_object().ok_or_else(|| no_object(row))?;
        let context = context.as_object().into_iter().flatten();
        rows.add(1)?;
        for (name, value) in context.chain(example) {
            let (at, column) = rows.find(name)?;
            // A feature may come as a list of one, as in tf.Example.
            let value = match value {
                Value::Array(list) if list.len() == 1 => &list[0],
                value => value,
            };
            let value = match value {
                Value::Null => column.number(f64::NAN),
                Value::String(text) => column.text(text),
                value => value.as_f64().map_or_else(
                    || {
                        Err(ServeError::invalid(format!(
                            "feature `{name}` is neither a number nor text"
                        )))
                    },
                    |value| column.number(value),
                ),
            };
            rows.set(at, value.map_err(|error| of_row(row, &error))?);
        }
    }
    Ok(rows.finish())
}

/// A tf.Example of a JSON object: strings and `{"b64": …}` are bytes, whole numbers integers, others floats.
fn example(object: &serde_json::Map<String, Value>) -> Result<Example> {
    let mut features = Features::default();
    for (name, value) in object {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let kind = if values.is_empty() {
            None
        } else if let Some(value) = values.iter().map(Value::as_i64).collect() {
            Some(Kind::Int64List(Int64List { value }))
        } else if let Some(value) = values
            .iter()
            .map(|value| value.as_f64().map(|value| value as f32))
            .collect()
        {
            Some(Kind::FloatList(FloatList { value }))
        } else if let Some(value) = values.iter().map(json::plain_bytes).collect() {
            Some(Kind::BytesList(BytesList { value }))
        } else {
            return Err(ServeError::invalid(format!(
                "feature `{name}` is neither numbers nor strings"
            )));
        };
        features.feature.insert(name.clone(), Feature { kind });
    }
    Ok(Example {
        features: Some(features),
    })
}

/// `{"results": [[["label", score], …], …]}`.
pub(super) fn classify(signature: &Signature, outputs: &[Tensor]) -> Result<Vec<u8>> {
    let is_single = outputs
        .iter()
        .any(|output| matches!(output.data, Data::F32(_)));
    let mut out = b"{\"results\": [".to_vec();
    for (row, classes) in examples::classes(signature, outputs)?.iter().enumerate() {
        out.extend_from_slice(if row > 0 { b",[" } else { b"[" });
        for (at, class) in classes.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b",[" } else { b"[" });
            write_text(&mut out, &class.label);
            // Scores have the precision of the output; one that is no number has no form but its word.
            let score = match class.score {
                score if !score.is_finite() => "NaN".to_owned(),
                score if is_single => format!("{:?}", score as f32),
                score => format!("{score:?}"),
            };
            let _ = write!(out, ",{score}]");
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// `{"results": [value, …]}`.
pub(super) fn regress(signature: &Signature, outputs: &[Tensor]) -> Result<Vec<u8>> {
    let values = examples::values(signature, outputs)?;
    let mut out = b"{\"results\": ".to_vec();
    write_nested(&mut out, &values, &values.shape, 0, Odd::Words);
    out.push(b'}');
    Ok(out)
}
