//! `steps.json` beside a model: what is done to records before it and to its answers after it, so that callers send
//! what they have and get what they want.

use super::{Column, Columns, LoadError, Signature, Words};
use crate::tensor::{Datatype, Port};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The file's name.
pub(crate) const FILE: &str = "steps.json";
/// Bytes of it.
const FILE_MAX: u64 = 256 << 20;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    /// The signature that they belong to; else the default one.
    pub(super) signature: Option<String>,
    /// The columns of the model's only input, in its order.
    columns: Option<Vec<ColumnStep>>,
    /// What is done to one of its outputs.
    pub(super) output: Option<OutputStep>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnStep {
    name: String,
    /// Stands for what is left out, before `mean` and `scale`.
    missing: Option<f64>,
    /// The model gets `(value - mean) / scale`, as of scikit-learn's `StandardScaler`.
    mean: Option<f64>,
    scale: Option<f64>,
    /// A word's number is its place here, from 0.
    words: Option<Vec<String>>,
    /// The number of other words; else they are missing.
    unknown: Option<f64>,
}

/// What is done to an output.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputStep {
    /// Its name, where the model has several.
    pub(super) name: Option<String>,
    /// Numbers of a row become probabilities.
    #[serde(default)]
    pub(super) softmax: bool,
    /// What the numbers of a row are called.
    pub(super) classes: Option<Vec<String>>,
    /// The best so many of a row, best first.
    pub(super) top: Option<usize>,
}

/// Reads the file where there is one.
pub(super) fn read(dir: &Path) -> Result<Option<Steps>, LoadError> {
    let path = dir.join(FILE);
    let failed = |error: std::io::Error| LoadError::Read(path.clone(), error.to_string());
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(known) if known.len() > FILE_MAX => {
            return Err(wrong(format!("it is larger than {FILE_MAX} bytes")));
        }
        Ok(_) => {}
    }
    let text = std::fs::read(&path).map_err(failed)?;
    let steps = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(steps))
}

/// What is wrong with the file.
pub(super) fn wrong(text: impl Into<String>) -> LoadError {
    LoadError::Model(FILE.to_owned(), text.into())
}

impl Steps {
    /// The columns, checked against what the model says of its input.
    pub(super) fn columns(&mut self, signature: &Signature) -> Result<Option<Columns>, LoadError> {
        let Some(steps) = self.columns.take() else {
            return Ok(None);
        };
        let [port] = signature.inputs.as_slice() else {
            return Err(wrong(format!(
                "`columns` are for models of one input; this one has {}",
                signature.inputs.len()
            )));
        };
        check_width(port, steps.len())?;
        let mut names = HashSet::new();
        for (at, step) in steps.iter().enumerate() {
            if !names.insert(step.name.as_str()) {
                return Err(wrong(format!("column `{}` is there twice", step.name)));
            }
            // Models without names call their columns f0, f1 … (XGBoost) or Column_0 … (LightGBM), which says nothing.
            let unnamed = [format!("f{at}"), format!("Column_{at}")];
            let own = signature
                .columns
                .list()
                .get(at)
                .map(|own| own.name.as_str());
            if let Some(own) =
                own.filter(|own| *own != step.name && !unnamed.iter().any(|name| name == own))
            {
                return Err(wrong(format!(
                    "column {at} is `{}`, the model's is `{own}`",
                    step.name
                )));
            }
        }
        let columns: Result<Vec<Column>, LoadError> = steps.into_iter().map(column).collect();
        Ok(Some(Columns::new(columns?)))
    }
}

fn check_width(port: &Port, n_columns: usize) -> Result<(), LoadError> {
    let is_float = matches!(port.datatype, Datatype::F32 | Datatype::F64);
    let width = match port.shape.as_deref() {
        Some([_, width]) => *width,
        _ => i64::MIN,
    };
    if !is_float || width == i64::MIN {
        return Err(wrong(format!(
            "`columns` are for an input of rows of FP32 or FP64; `{}` is {} {}",
            port.name,
            port.datatype.oip(),
            port.shape_text()
        )));
    }
    if width >= 0 && width as usize != n_columns {
        return Err(wrong(format!(
            "`columns` has {n_columns} entries, the model has {width} columns"
        )));
    }
    Ok(())
}

fn column(step: ColumnStep) -> Result<Column, LoadError> {
    let name = &step.name;
    let Some(list) = step.words else {
        if step.unknown.is_some() {
            return Err(wrong(format!(
                "column `{name}` has `unknown` but no `words`"
            )));
        }
        let (mean, scale) = (step.mean.unwrap_or(0.0), step.scale.unwrap_or(1.0));
        if scale == 0.0 {
            return Err(wrong(format!("column `{name}`: `scale` is 0")));
        }
        return Ok(Column {
            missing: step
                .missing
                .map_or(f64::NAN, |value| (value - mean) / scale),
            mean,
            scale,
            words: None,
            name: step.name,
        });
    };
    if step.mean.is_some() || step.scale.is_some() {
        return Err(wrong(format!(
            "column `{name}` has `words`; `mean` and `scale` are for numbers"
        )));
    }
    let mut numbers = HashMap::with_capacity(list.len());
    for (number, word) in list.into_iter().enumerate() {
        if let Some(first) = numbers.insert(word, number as f64) {
            return Err(wrong(format!(
                "column `{name}`: words {first} and {number} are the same"
            )));
        }
    }
    let missing = step.missing.unwrap_or(f64::NAN);
    Ok(Column {
        missing,
        mean: 0.0,
        scale: 1.0,
        words: Some(Words {
            numbers,
            unknown: step.unknown.unwrap_or(missing),
        }),
        name: step.name,
    })
}
