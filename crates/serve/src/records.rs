//! Records instead of matrices: rows whose columns are sent by name, put in the model's order. What a record
//! leaves out is missing (NaN); a name that the model does not have is an error.

use super::json::Json;
use crate::error::{Result, ServeError};
use crate::runtime::Signature;
use crate::tensor::{Data, Datatype, Tensor};
use std::collections::HashMap;

/// Values of one request's records; a record that leaves most columns out is small on the wire.
const VALUES_MAX: usize = 1 << 24;

/// Makes room for rows of NaN.
pub(crate) fn missing(n_rows: usize, n_columns: usize) -> Result<Vec<f64>> {
    match n_rows.checked_mul(n_columns) {
        Some(n) if n <= VALUES_MAX => Ok(vec![f64::NAN; n]),
        _ => Err(ServeError::invalid(format!(
            "{n_rows} records of {n_columns} columns are more than {VALUES_MAX} values; send fewer at a time"
        ))),
    }
}

/// Finds columns by name, at once where records name them in order.
pub(crate) struct Columns<'a> {
    names: &'a [String],
    next: usize,
    /// Made when the first name is out of order.
    index: Option<HashMap<&'a str, usize>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(names: &'a [String]) -> Columns<'a> {
        Columns {
            names,
            next: 0,
            index: None,
        }
    }

    pub(crate) fn find(&mut self, name: &str) -> Result<usize> {
        let expected = self.names.get(self.next).is_some_and(|next| next == name);
        let at = if expected {
            Some(self.next)
        } else {
            let index = self.index.get_or_insert_with(|| {
                let pairs = self.names.iter().enumerate();
                pairs.map(|(at, name)| (name.as_str(), at)).collect()
            });
            index.get(name).copied()
        };
        let Some(at) = at else {
            return Err(ServeError::invalid(format!(
                "the model has no column `{name}`; its columns are {}",
                first_names(self.names)
            )));
        };
        self.next = at + 1;
        Ok(at)
    }
}

/// Column names for a message.
fn first_names(names: &[String]) -> String {
    /// A message names so many.
    const SHOWN: usize = 10;
    let mut shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    if names.len() > SHOWN {
        shown.push("…");
    }
    shown.join(", ")
}

/// `[{"a": 1, "b": 2}, …]`: one record a row.
pub(super) fn rows(json: &mut Json<'_>, signature: &Signature) -> Result<Vec<Tensor>> {
    let names = &signature.columns;
    let mut columns = Columns::new(names);
    let mut values = Vec::new();
    let mut n_rows = 0;
    json.array(|json| {
        let start = values.len();
        n_rows += 1;
        if start + names.len() > VALUES_MAX {
            missing(n_rows, names.len())?;
        }
        values.resize(start + names.len(), f64::NAN);
        columns.next = 0;
        json.object(|json, name| {
            let at = columns.find(name)?;
            values[start + at] = json.double()?;
            Ok(())
        })
    })?;
    Ok(vec![matrix(signature, n_rows, values)])
}

/// One tensor for each column, each with a value a row.
pub(crate) fn join(inputs: &[Tensor], signature: &Signature) -> Result<Vec<Tensor>> {
    let names = &signature.columns;
    let n_rows = inputs.first().map_or(0, Tensor::n_rows);
    let mut columns = Columns::new(names);
    let mut values = missing(n_rows, names.len())?;
    for input in inputs {
        let at = columns.find(&input.name)?;
        input.check()?;
        if input.n_rows() != n_rows || input.data.len() != n_rows {
            return Err(ServeError::invalid(format!(
                "column `{}`: expected shape [{n_rows}], got {:?}",
                input.name, input.shape
            )));
        }
        let mut set = |row: usize, value: f64| values[row * names.len() + at] = value;
        match &input.data {
            Data::F32(column) => column
                .iter()
                .enumerate()
                .for_each(|(row, &value)| set(row, value.into())),
            Data::F64(column) => column
                .iter()
                .enumerate()
                .for_each(|(row, &value)| set(row, value)),
            Data::Int(column) => column
                .iter()
                .enumerate()
                .for_each(|(row, &value)| set(row, value as f64)),
            Data::Bytes(_) => {
                return Err(ServeError::invalid(format!(
                    "column `{}`: expected numbers, got {}",
                    input.name,
                    input.datatype.oip()
                )));
            }
        }
    }
    Ok(vec![matrix(signature, n_rows, values)])
}

fn matrix(signature: &Signature, n_rows: usize, values: Vec<f64>) -> Tensor {
    let port = &signature.inputs[0];
    let (datatype, data) = match port.datatype {
        Datatype::F32 => {
            let values = values.into_iter().map(|value| value as f32).collect();
            (Datatype::F32, Data::F32(values))
        }
        _ => (Datatype::F64, Data::F64(values)),
    };
    Tensor {
        name: port.name.clone(),
        datatype,
        shape: vec![n_rows, signature.columns.len()],
        data,
    }
}
