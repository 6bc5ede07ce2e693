//! XGBoost and LightGBM by the crate `trees`. One input, rows by features; one output.

use super::{Column, Columns, DEFAULT, FirstRun, PREDICT, Runtime, Signature, Task};
use crate::error::{Result, ServeError};
use crate::tensor::{Data, Datatype, Port, Tensor, shape_text};
use ::trees::{Format, Iterations, Kind, Matrix, Model, Options, Shape};
use base::Code;

/// The input's name. A request with one input may call it as it likes.
const INPUT: &str = "input";
/// The output's name, as MLServer calls it.
const OUTPUT: &str = "predict";

pub(super) struct Trees {
    model: Model,
    options: Options,
    signatures: [Signature; 1],
}

impl Trees {
    pub(super) fn new(model: Model, iterations: Iterations) -> Trees {
        let options = Options {
            kind: Kind::Value,
            iterations,
        };
        let datatype = if model.is_single() {
            Datatype::F32
        } else {
            Datatype::F64
        };
        let shape = match model.shape(options.kind) {
            Shape::Scalar => vec![-1],
            Shape::Vector(width) => vec![-1, width as i64],
        };
        let columns = if model.feature_names().is_empty() {
            // As XGBoost itself calls columns without names.
            (0..model.n_features()).map(|at| format!("f{at}")).collect()
        } else {
            model.feature_names().to_vec()
        };
        let signature = Signature {
            name: DEFAULT.to_owned(),
            method: PREDICT.to_owned(),
            task: task(&model, shape.len()),
            inputs: vec![Port {
                name: INPUT.to_owned(),
                datatype,
                shape: Some(vec![-1, model.n_features() as i64]),
            }],
            outputs: vec![Port {
                name: OUTPUT.to_owned(),
                datatype,
                shape: Some(shape),
            }],
            columns: Columns::new(columns.into_iter().map(Column::plain).collect()),
            is_row_wise: true,
        };
        Trees {
            signatures: [signature],
            options,
            model,
        }
    }
}

impl Runtime for Trees {
    fn platform(&self) -> &'static str {
        match self.model.format() {
            Format::Xgboost => "xgboost",
            Format::Lightgbm => "lightgbm",
        }
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn memory(&self) -> u64 {
        self.model.memory() as u64
    }

    fn check(&self, _: usize, inputs: &mut Vec<Tensor>) -> Result<()> {
        let [input] = inputs.as_mut_slice() else {
            return Err(ServeError::invalid(format!(
                "the model has 1 input, `{INPUT}`; got {}",
                inputs.len()
            )));
        };
        let n_features = self.model.n_features();
        // One row may come without its dimension of rows.
        if input.shape.len() == 1 && input.shape[0] == n_features {
            input.shape.insert(0, 1);
        }
        let fits = match input.shape[..] {
            [_, n_cols] => match self.model.format() {
                Format::Xgboost => (1..=n_features).contains(&n_cols),
                Format::Lightgbm => n_cols == n_features,
            },
            _ => false,
        };
        if !fits {
            return Err(ServeError::invalid(format!(
                "input `{}`: expected shape [-1,{n_features}], got {}",
                input.name,
                shape_text(&input.shape)
            )));
        }
        input.check()?;
        match std::mem::replace(&mut input.data, Data::Int(Vec::new())) {
            // Whole numbers are taken as the model's own type.
            Data::Int(values) => {
                input.data = Data::F64(values.into_iter().map(|value| value as f64).collect());
                input.datatype = Datatype::F64;
            }
            Data::Bytes(_) => {
                return Err(ServeError::invalid(format!(
                    "input `{}`: expected numbers ({}), got {}",
                    input.name,
                    self.signatures[0].inputs[0].datatype.oip(),
                    input.datatype.oip()
                )));
            }
            data => input.data = data,
        }
        INPUT.clone_into(&mut input.name);
        Ok(())
    }

    fn run(&self, _: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let input = &inputs[0];
        let rows = match &input.data {
            Data::F32(rows) => Matrix::F32(rows),
            Data::F64(rows) => Matrix::F64(rows),
            Data::Int(_) | Data::Bytes(_) => {
                return Err(ServeError::new(Code::Internal, "an unchecked input"));
            }
        };
        let mut out = Vec::new();
        self.model
            .predict(rows, input.shape[1], self.options, &mut out)
            .map_err(|error| ServeError::invalid(error.to_string()))?;
        let mut shape = vec![input.n_rows()];
        if let Shape::Vector(width) = self.model.shape(self.options.kind) {
            shape.push(width);
        }
        let data = if self.model.is_single() {
            Data::F32(out.into_iter().map(|value| value as f32).collect())
        } else {
            Data::F64(out)
        };
        Ok(vec![Tensor {
            name: OUTPUT.to_owned(),
            datatype: self.signatures[0].outputs[0].datatype,
            shape,
            data,
        }])
    }

    fn warm_up(&self) -> Vec<FirstRun> {
        // A full lane of rows and a few more, so that both ways through the trees run.
        let n_rows = 11;
        let n_cols = self.model.n_features().max(1);
        let input = Tensor {
            name: INPUT.to_owned(),
            datatype: Datatype::F64,
            shape: vec![n_rows, n_cols],
            data: Data::F64((0..n_rows * n_cols).map(|at| (at % 7) as f64).collect()),
        };
        vec![FirstRun {
            signature: 0,
            inputs: vec![input],
            may_refuse: false,
        }]
    }
}

fn task(model: &Model, rank: usize) -> Task {
    let objective = model.objective();
    match objective.split(' ').next().unwrap_or("") {
        "binary:logistic" | "binary" | "cross_entropy" => Task::Binary,
        "multi:softprob" | "multiclass" | "multiclassova" => Task::Classes,
        _ if rank == 1 => Task::Regression,
        _ => Task::Other,
    }
}
