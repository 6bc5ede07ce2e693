//! A model with steps around it: records by its own columns, answers as classes. To everybody else it is a model.

use super::steps::{self, OutputStep, Steps};
use super::{FirstRun, LoadError, Runtime, Signature, Task};
use crate::error::{Result, ServeError};
use crate::tensor::{Data, Datatype, Port, Tensor};
use base::Code;
use bytes::Bytes;

/// What outputs with the names of classes and their scores are for, in TensorFlow's words.
const CLASSIFY: &str = "tensorflow/serving/classify";
/// The outputs that a step makes, called as TensorFlow Serving's classification calls them.
const CLASSES: &str = "classes";
const SCORES: &str = "scores";

/// Puts the steps of a file, if there is one, around a model.
pub(super) fn wrap(
    inner: Box<dyn Runtime>,
    steps: Option<Steps>,
) -> std::result::Result<Box<dyn Runtime>, LoadError> {
    let Some(mut steps) = steps else {
        return Ok(inner);
    };
    let mut signatures = inner.signatures().to_vec();
    let wanted = steps.signature.as_deref().unwrap_or(super::DEFAULT);
    let only = (steps.signature.is_none() && signatures.len() == 1).then_some(0);
    let found = signatures
        .iter()
        .position(|signature| signature.name == wanted);
    let at = found
        .or(only)
        .ok_or_else(|| steps::wrong(format!("the model has no signature `{wanted}`")))?;
    let mut memory = 0;
    if let Some(columns) = steps.columns(&signatures[at])? {
        memory = columns.memory();
        signatures[at].columns = columns;
    }
    let last = match steps.output.take() {
        Some(step) => Some(Last::new(step, &mut signatures[at])?),
        None => None,
    };
    Ok(Box::new(Stepped {
        inner,
        signatures,
        at,
        last,
        memory,
    }))
}

struct Stepped {
    inner: Box<dyn Runtime>,
    signatures: Vec<Signature>,
    /// The signature that has steps.
    at: usize,
    last: Option<Last>,
    /// Bytes of the steps.
    memory: u64,
}

impl Runtime for Stepped {
    fn platform(&self) -> &'static str {
        self.inner.platform()
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn memory(&self) -> u64 {
        self.inner.memory() + self.memory
    }

    fn check(&self, signature: usize, inputs: &mut Vec<Tensor>) -> Result<()> {
        self.inner.check(signature, inputs)
    }

    fn run(&self, signature: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut outputs = self.inner.run(signature, inputs)?;
        if let Some(last) = self.last.as_ref().filter(|_| signature == self.at) {
            last.run(&mut outputs)?;
        }
        Ok(outputs)
    }

    fn warm_up(&self) -> Vec<FirstRun> {
        self.inner.warm_up()
    }

    fn restarts(&self) -> Option<u64> {
        self.inner.restarts()
    }
}

/// What is done to an output.
struct Last {
    /// Its place.
    at: usize,
    softmax: bool,
    best: Option<Best>,
}

/// The best classes of each row.
struct Best {
    /// Their names, where they have some; else their numbers are told.
    classes: Option<Vec<Bytes>>,
    /// How many; `None` is one, without a dimension of its own.
    top: Option<usize>,
}

impl Last {
    fn new(step: OutputStep, signature: &mut Signature) -> std::result::Result<Last, LoadError> {
        let outputs = &mut signature.outputs;
        let found = match &step.name {
            Some(name) => outputs.iter().position(|port| port.name == *name),
            None => (outputs.len() == 1).then_some(0),
        };
        let at = found.ok_or_else(|| {
            let known: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
            steps::wrong(format!(
                "`output.name` must be one of `{}`",
                known.join("`, `")
            ))
        })?;
        let port = outputs[at].clone();
        let width = match port.shape.as_deref() {
            Some([_]) => Some(1),
            Some([_, width]) => usize::try_from(*width).ok(),
            _ => {
                return Err(steps::wrong(format!(
                    "`output` is for rows of numbers; `{}` has shape {}",
                    port.name,
                    port.shape_text()
                )));
            }
        };
        if !matches!(port.datatype, Datatype::F32 | Datatype::F64) {
            return Err(steps::wrong(format!(
                "`output` is for FP32 or FP64; `{}` is {}",
                port.name,
                port.datatype.oip()
            )));
        }
        if step.softmax && width == Some(1) {
            return Err(steps::wrong(
                "`softmax` needs several numbers a row; this model gives one",
            ));
        }
        // One number a row is the probability of the second of two classes.
        let n_classes = width.map(|width| width.max(2));
        if let (Some(classes), Some(n)) = (&step.classes, n_classes)
            && classes.len() != n
        {
            return Err(steps::wrong(format!(
                "`classes` has {} names, the model has {n} classes",
                classes.len()
            )));
        }
        let most = n_classes.or(step.classes.as_ref().map(Vec::len));
        if let Some(top) = step.top
            && (top == 0 || most.is_some_and(|most| top > most))
        {
            return Err(steps::wrong(format!(
                "`top` is {top}; a number from 1 to that of the classes is expected"
            )));
        }
        let best = (step.classes.is_some() || step.top.is_some()).then(|| Best {
            classes: step
                .classes
                .map(|names| names.into_iter().map(Bytes::from).collect()),
            top: step.top,
        });
        if let Some(best) = &best {
            let others = outputs.iter().enumerate().filter(|(other, _)| *other != at);
            let taken = |port: &Port| port.name == CLASSES || port.name == SCORES;
            if let Some((_, other)) = others.into_iter().find(|(_, port)| taken(port)) {
                return Err(steps::wrong(format!(
                    "the model has an output `{}` already",
                    other.name
                )));
            }
            outputs.splice(at..=at, best.ports(port.datatype));
            CLASSIFY.clone_into(&mut signature.method);
            signature.task = Task::Other;
        }
        Ok(Last {
            at,
            softmax: step.softmax,
            best,
        })
    }

    fn run(&self, outputs: &mut Vec<Tensor>) -> Result<()> {
        let output = &mut outputs[self.at];
        let n_rows = output.n_rows();
        if self.softmax {
            let width = output.data.len() / n_rows.max(1);
            match &mut output.data {
                Data::F32(values) => {
                    let wide: Vec<f64> = values.iter().map(|&value| value.into()).collect();
                    let soft = softmax(wide, width);
                    *values = soft.into_iter().map(|value| value as f32).collect();
                }
                Data::F64(values) => *values = softmax(std::mem::take(values), width),
                Data::Int(_) | Data::Bytes(_) => return Err(unchecked()),
            }
        }
        if let Some(best) = &self.best {
            let made = best.run(output, n_rows)?;
            outputs.splice(self.at..=self.at, made);
        }
        Ok(())
    }
}

fn unchecked() -> ServeError {
    ServeError::new(Code::Internal, "an output of another type than was told")
}

/// Of each row of so many numbers.
fn softmax(mut values: Vec<f64>, width: usize) -> Vec<f64> {
    for row in values.chunks_mut(width.max(1)) {
        // The largest becomes 1, so that nothing overflows.
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut()
            .for_each(|value| *value = (*value - largest).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    values
}

impl Best {
    fn ports(&self, datatype: Datatype) -> [Port; 2] {
        let shape = match self.top {
            None => vec![-1],
            Some(top) => vec![-1, top as i64],
        };
        let port = |name: &str, datatype| Port {
            name: name.to_owned(),
            datatype,
            shape: Some(shape.clone()),
        };
        let classes = match self.classes {
            Some(_) => Datatype::Bytes,
            None => Datatype::I64,
        };
        [port(CLASSES, classes), port(SCORES, datatype)]
    }

    fn run(&self, output: &Tensor, n_rows: usize) -> Result<[Tensor; 2]> {
        let values: Vec<f64> = match &output.data {
            Data::F32(values) => values.iter().map(|&value| value.into()).collect(),
            Data::F64(values) => values.clone(),
            Data::Int(_) | Data::Bytes(_) => return Err(unchecked()),
        };
        let width = (values.len() / n_rows.max(1)).max(1);
        let top = self.top.unwrap_or(1);
        let n_classes = width.max(2);
        let n_names = self.classes.as_ref().map_or(n_classes, Vec::len);
        // Known before only where the model says its width.
        if n_names != n_classes || top > n_classes {
            return Err(ServeError::new(
                Code::Internal,
                format!(
                    "the model gave {width} numbers a row; `{}` names {n_names} classes",
                    steps::FILE
                ),
            ));
        }
        let mut numbers = Vec::with_capacity(n_rows * top);
        let mut scores = Vec::with_capacity(n_rows * top);
        let mut ranked: Vec<(f64, usize)> = Vec::with_capacity(n_classes);
        for row in values.chunks(width) {
            ranked.clear();
            match row {
                [second] => ranked.extend([(1.0 - second, 0), (*second, 1)]),
                row => ranked.extend(row.iter().copied().zip(0..)),
            }
            // What is no number comes last; of equals the first.
            let rank = |score: f64| {
                if score.is_nan() {
                    f64::NEG_INFINITY
                } else {
                    score
                }
            };
            ranked.sort_by(|a, b| rank(b.0).total_cmp(&rank(a.0)).then(a.1.cmp(&b.1)));
            for (score, number) in &ranked[..top] {
                numbers.push(*number);
                scores.push(*score);
            }
        }
        let mut shape = vec![n_rows];
        shape.extend(self.top);
        let (datatype, classes) = match &self.classes {
            Some(names) => {
                let names = numbers.into_iter().map(|number| names[number].clone());
                (Datatype::Bytes, Data::Bytes(names.collect()))
            }
            None => {
                let numbers = numbers.into_iter().map(|number| number as i64);
                (Datatype::I64, Data::Int(numbers.collect()))
            }
        };
        let data = match output.datatype {
            Datatype::F32 => Data::F32(scores.into_iter().map(|score| score as f32).collect()),
            _ => Data::F64(scores),
        };
        Ok([
            Tensor {
                name: CLASSES.to_owned(),
                datatype,
                shape: shape.clone(),
                data: classes,
            },
            Tensor {
                name: SCORES.to_owned(),
                datatype: output.datatype,
                shape,
                data,
            },
        ])
    }
}

#[cfg(test)]
mod tests;
