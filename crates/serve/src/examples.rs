//! Classify and regress, TensorFlow Serving's calls by tf.Example: rows of named features in, classes with
//! scores or one value a row out. A model that takes serialised examples gets them; a model with named columns
//! gets a matrix.

use crate::error::{Result, ServeError};
use crate::proto::tensorflow::feature::Kind;
use crate::proto::tensorflow::{Example, Feature, Features};
use crate::records::Rows;
use crate::runtime::{Signature, Task};
use crate::tensor::{Data, Datatype, Tensor};
use bytes::Bytes;
use prost::Message as _;
use std::collections::HashMap;

/// A class and its score.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) label: String,
    pub(crate) score: f64,
}

/// Inputs of a signature from examples; features of the context are in every one that does not have them.
pub(crate) fn inputs(
    signature: &Signature,
    mut examples: Vec<Example>,
    context: Option<Example>,
) -> Result<Vec<Tensor>> {
    if let Some(context) = context.and_then(|context| context.features) {
        for example in &mut examples {
            let own = example.features.get_or_insert_with(Features::default);
            for (name, feature) in &context.feature {
                own.feature
                    .entry(name.clone())
                    .or_insert_with(|| feature.clone());
            }
        }
    }
    let [port] = signature.inputs.as_slice() else {
        return Err(takes_none(signature));
    };
    if port.datatype == Datatype::Bytes && signature.columns.is_empty() {
        let rows: Vec<Bytes> = examples
            .iter()
            .map(|example| Bytes::from(example.encode_to_vec()))
            .collect();
        return Ok(vec![Tensor {
            name: port.name.clone(),
            datatype: Datatype::Bytes,
            shape: vec![rows.len()],
            data: Data::Bytes(rows),
        }]);
    }
    if signature.columns.is_empty() {
        return Err(takes_none(signature));
    }
    let mut rows = Rows::new(signature)?;
    for (row, example) in examples.iter().enumerate() {
        rows.add(1)?;
        let features: &HashMap<String, Feature> = match &example.features {
            Some(features) => &features.feature,
            None => continue,
        };
        for (name, feature) in features {
            let (at, column) = rows.find(name)?;
            let value = match &feature.kind {
                Some(Kind::FloatList(list)) if list.value.len() == 1 => {
                    column.number(list.value[0].into())
                }
                Some(Kind::Int64List(list)) if list.value.len() == 1 => {
                    column.number(list.value[0] as f64)
                }
                Some(Kind::BytesList(list)) if list.value.len() == 1 => {
                    column.text(&String::from_utf8_lossy(&list.value[0]))
                }
                None => column.number(f64::NAN),
                Some(_) => Err(ServeError::invalid(format!(
                    "feature `{name}` is not one value"
                ))),
            };
            rows.set(at, value.map_err(|error| of_row(row, &error))?);
        }
    }
    Ok(rows.finish())
}

/// What is wrong, with the example in which.
pub(crate) fn of_row(row: usize, error: &ServeError) -> ServeError {
    ServeError::invalid(format!("example {row}: {}", error.text))
}

fn takes_none(signature: &Signature) -> ServeError {
    ServeError::invalid(format!(
        "signature `{}` takes no examples; use predict",
        signature.name
    ))
}

/// The classes of each row.
pub(crate) fn classes(signature: &Signature, outputs: &[Tensor]) -> Result<Vec<Vec<Class>>> {
    let number = |label: usize, score: f64| Class {
        label: label.to_string(),
        score,
    };
    let rows = |scores: Vec<f64>, n_rows: usize| -> Vec<Vec<f64>> {
        let width = (scores.len() / n_rows.max(1)).max(1);
        scores.chunks(width).map(<[f64]>::to_vec).collect()
    };
    match (signature.task, outputs) {
        (Task::Binary, [output]) => Ok(doubles(output)?
            .into_iter()
            .map(|score| vec![number(0, 1.0 - score), number(1, score)])
            .collect()),
        (Task::Classes, [output]) => Ok(rows(doubles(output)?, output.n_rows())
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .enumerate()
                    .map(|(at, score)| number(at, score))
                    .collect()
            })
            .collect()),
        _ => labelled(signature, outputs),
    }
}

/// Outputs called `classes` and `scores`, of which one may be missing, as TensorFlow Serving takes them.
fn labelled(signature: &Signature, outputs: &[Tensor]) -> Result<Vec<Vec<Class>>> {
    let find = |name: &str| outputs.iter().find(|output| output.name == name);
    let (labels, scores) = (find("classes"), find("scores"));
    let Some(first) = labels.or(scores) else {
        return Err(ServeError::invalid(format!(
            "signature `{}` gives no classes or scores; use predict",
            signature.name
        )));
    };
    let (n_rows, n) = (first.n_rows(), first.data.len());
    let labels = match labels.map(|labels| &labels.data) {
        None => vec![String::new(); n],
        Some(Data::Bytes(labels)) => labels
            .iter()
            .map(|label| String::from_utf8_lossy(label).into_owned())
            .collect(),
        Some(Data::Int(labels)) => labels.iter().map(i64::to_string).collect(),
        Some(Data::F32(_) | Data::F64(_)) => {
            return Err(ServeError::invalid("the model's `classes` are no strings"));
        }
    };
    let scores = match scores {
        Some(scores) => doubles(scores)?,
        None => vec![0.0; n],
    };
    if scores.len() != n || labels.len() != n {
        return Err(ServeError::invalid(
            "the model's `classes` and `scores` differ in shape",
        ));
    }
    let all: Vec<Class> = labels
        .into_iter()
        .zip(scores)
        .map(|(label, score)| Class { label, score })
        .collect();
    let width = (n / n_rows.max(1)).max(1);
    Ok(all.chunks(width).map(<[Class]>::to_vec).collect())
}

/// The value of each row, as a tensor of one dimension.
pub(crate) fn values(signature: &Signature, outputs: &[Tensor]) -> Result<Tensor> {
    let output = match outputs {
        [output] => Some(output),
        outputs => outputs.iter().find(|output| output.name == "outputs"),
    };
    match output {
        Some(output) if output.data.len() == output.n_rows() && !output.shape.is_empty() => {
            let mut output = output.clone();
            output.shape.truncate(1);
            doubles(&output)?;
            Ok(output)
        }
        _ => Err(ServeError::invalid(format!(
            "signature `{}` does not give one value a row; use predict",
            signature.name
        ))),
    }
}

/// The elements as 64-bit numbers.
pub(crate) fn doubles(output: &Tensor) -> Result<Vec<f64>> {
    match &output.data {
        Data::F32(values) => Ok(values.iter().map(|&value| f64::from(value)).collect()),
        Data::F64(values) => Ok(values.clone()),
        Data::Int(_) | Data::Bytes(_) => Err(ServeError::invalid(format!(
            "output `{}` has no scores: its elements are {}",
            output.name,
            output.datatype.oip()
        ))),
    }
}
