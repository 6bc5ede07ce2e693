//! What a model takes and gives in the words of the protocols.

use super::session::Session;
use super::value::{self, Given, Key, Taken};
use crate::runtime::{DEFAULT, PREDICT, Signature, Task};
use crate::tensor::{Datatype, Port};
use ort::value::{TensorElementType, ValueType};

/// A signature, with what the model's own types are.
pub(super) struct Head {
    pub(super) signature: Signature,
    /// Of each input.
    pub(super) given: Vec<Given>,
    /// Of each output of the model, with its name; a sequence of maps becomes two of the signature.
    pub(super) taken: Vec<(String, Taken)>,
}

pub(super) fn read(session: &Session) -> Result<Head, String> {
    let mut given = Vec::new();
    let mut inputs = Vec::new();
    for (name, kind) in session.inputs() {
        let ValueType::Tensor { ty, shape, .. } = kind else {
            return Err(format!(
                "input `{name}` is {kind}, which no protocol carries; convert the model so that it takes tensors"
            ));
        };
        let (datatype, how) = value::datatype(*ty).ok_or_else(|| uncarried("input", name, *ty))?;
        inputs.push(port(name, datatype, shape));
        given.push(how);
    }
    let mut taken = Vec::new();
    let mut outputs = Vec::new();
    for (name, kind) in session.outputs() {
        let (how, ports) = output(name, kind)?;
        outputs.extend(ports);
        taken.push((name.to_owned(), how));
    }
    if outputs.is_empty() {
        return Err("it has no output".to_owned());
    }
    Ok(Head {
        signature: Signature {
            name: DEFAULT.to_owned(),
            method: PREDICT.to_owned(),
            inputs,
            outputs,
            columns: crate::runtime::Columns::default(),
            task: Task::Other,
            is_row_wise: false,
        },
        given,
        taken,
    })
}

fn output(name: &str, kind: &ValueType) -> Result<(Taken, Vec<Port>), String> {
    match kind {
        ValueType::Tensor { ty, shape, .. } => {
            let (datatype, _) =
                value::datatype(*ty).ok_or_else(|| uncarried("output", name, *ty))?;
            Ok((Taken::Tensor(*ty), vec![port(name, datatype, shape)]))
        }
        ValueType::Sequence(inner) => match **inner {
            ValueType::Map {
                key: key @ (TensorElementType::Int64 | TensorElementType::String),
                value: TensorElementType::Float32,
            } => {
                let key = if key == TensorElementType::Int64 {
                    Key::Int
                } else {
                    Key::Text
                };
                let matrix = [-1, -1];
                let ports = vec![
                    port(name, Datatype::F32, &matrix),
                    port(&value::keys_name(name), key.datatype(), &matrix),
                ];
                Ok((Taken::Maps(key), ports))
            }
            _ => Err(odd_output(name, kind)),
        },
        ValueType::Map { .. } | ValueType::Optional(_) => Err(odd_output(name, kind)),
    }
}

fn odd_output(name: &str, kind: &ValueType) -> String {
    format!(
        "output `{name}` is {kind}, which no protocol carries; convert the model so that it gives tensors (for scikit-learn: the option `zipmap=False`)"
    )
}

fn uncarried(what: &str, name: &str, element: TensorElementType) -> String {
    format!("{what} `{name}` is of type {element}, which no protocol carries")
}

/// ONNX Runtime has no dimensions for a tensor of any rank, and none for a scalar.
fn port(name: &str, datatype: Datatype, shape: &[i64]) -> Port {
    Port {
        name: name.to_owned(),
        datatype,
        shape: (!shape.is_empty()).then(|| shape.iter().map(|&size| size.max(-1)).collect()),
    }
}
