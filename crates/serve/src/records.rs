//! Records instead of matrices: rows whose columns are sent by name, put in the model's order. What a record
//! leaves out is missing; a name that the model does not have is an error.

use crate::error::{Result, ServeError};
use crate::runtime::{Column, Columns, Signature};
use crate::tensor::{Data, Datatype, Port, Tensor};

/// Values of one request's records; a record that leaves most columns out is small on the wire.
const VALUES_MAX: usize = 1 << 24;

/// The input of a model that has one.
pub(crate) fn only_input(signature: &Signature) -> Result<&Port> {
    match signature.inputs.as_slice() {
        [port] => Ok(port),
        ports => Err(ServeError::invalid(format!(
            "the model has {} inputs; each must be sent by name",
            ports.len()
        ))),
    }
}

/// The matrix while its records are read.
pub(crate) struct Rows<'a> {
    columns: &'a Columns,
    port: &'a Port,
    values: Vec<f64>,
    n_rows: usize,
    /// The column that comes next in a record that names them in order.
    next: usize,
}

impl<'a> Rows<'a> {
    /// For a signature with named columns.
    pub(crate) fn new(signature: &'a Signature) -> Result<Rows<'a>> {
        Ok(Rows {
            columns: &signature.columns,
            port: only_input(signature)?,
            values: Vec::new(),
            n_rows: 0,
            next: 0,
        })
    }

    /// Adds rows in which everything is missing; the last one is the one that is filled next.
    pub(crate) fn add(&mut self, n_rows: usize) -> Result<()> {
        self.n_rows = self.n_rows.saturating_add(n_rows);
        let n_columns = self.columns.len();
        match self.n_rows.checked_mul(n_columns) {
            Some(n) if n <= VALUES_MAX => {}
            _ => {
                return Err(ServeError::invalid(format!(
                    "{} records of {n_columns} columns are more than {VALUES_MAX} values; send fewer at a time",
                    self.n_rows
                )));
            }
        }
        for _ in 0..n_rows {
            let missing = self.columns.list().iter().map(|column| column.missing);
            self.values.extend(missing);
        }
        self.next = 0;
        Ok(())
    }

    /// Where a column is, and what it takes.
    pub(crate) fn find(&mut self, name: &str) -> Result<(usize, &'a Column)> {
        let at = self.columns.find(name, self.next)?;
        self.next = at + 1;
        Ok((at, &self.columns.list()[at]))
    }

    /// Sets a value of the last row.
    pub(crate) fn set(&mut self, at: usize, value: f64) {
        let row = self.n_rows.saturating_sub(1);
        self.put(row, at, value);
    }

    fn put(&mut self, row: usize, at: usize, value: f64) {
        self.values[row * self.columns.len() + at] = value;
    }

    /// The matrix, in the type of the model's input.
    pub(crate) fn finish(self) -> Vec<Tensor> {
        let (datatype, data) = match self.port.datatype {
            Datatype::F32 => {
                let values = self.values.into_iter().map(|value| value as f32).collect();
                (Datatype::F32, Data::F32(values))
            }
            _ => (Datatype::F64, Data::F64(self.values)),
        };
        vec![Tensor {
            name: self.port.name.clone(),
            datatype,
            shape: vec![self.n_rows, self.columns.len()],
            data,
        }]
    }
}

/// One tensor for each column, each with a value a row.
pub(crate) fn join(inputs: &[Tensor], signature: &Signature) -> Result<Vec<Tensor>> {
    let n_rows = inputs.first().map_or(0, Tensor::n_rows);
    let mut rows = Rows::new(signature)?;
    rows.add(n_rows)?;
    for input in inputs {
        let (at, column) = rows.find(&input.name)?;
        input.check()?;
        if input.n_rows() != n_rows || input.data.len() != n_rows {
            return Err(ServeError::invalid(format!(
                "column `{}`: expected shape [{n_rows}], got {:?}",
                input.name, input.shape
            )));
        }
        match &input.data {
            Data::F32(values) => {
                for (row, &value) in values.iter().enumerate() {
                    rows.put(row, at, column.number(value.into())?);
                }
            }
            Data::F64(values) => {
                for (row, &value) in values.iter().enumerate() {
                    rows.put(row, at, column.number(value)?);
                }
            }
            Data::Int(values) => {
                for (row, &value) in values.iter().enumerate() {
                    rows.put(row, at, column.number(value as f64)?);
                }
            }
            Data::Bytes(values) => {
                for (row, value) in values.iter().enumerate() {
                    rows.put(row, at, column.text(&String::from_utf8_lossy(value))?);
                }
            }
        }
    }
    Ok(rows.finish())
}
