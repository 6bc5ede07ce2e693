//! Inputs against a signature, and rows of several requests as one batch.

use super::Signature;
use crate::error::{Result, ServeError};
use crate::tensor::{Data, Port, Tensor, shape_text};

/// Refuses inputs that do not fit a signature; puts them into its order. An only input may have any name.
pub(crate) fn check_ports(signature: &Signature, inputs: &mut Vec<Tensor>) -> Result<()> {
    let ports = &signature.inputs;
    if let ([port], [input]) = (ports.as_slice(), inputs.as_mut_slice()) {
        port.name.clone_into(&mut input.name);
    }
    for input in inputs.iter() {
        if !ports.iter().any(|port| port.name == input.name) {
            let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            return Err(ServeError::invalid(format!(
                "unexpected input `{}`: signature `{}` has `{}`",
                input.name,
                signature.name,
                known.join("`, `")
            )));
        }
    }
    for (at, port) in ports.iter().enumerate() {
        let found = inputs[at.min(inputs.len())..]
            .iter()
            .position(|input| input.name == port.name);
        let Some(found) = found else {
            return Err(ServeError::invalid(format!(
                "input `{}` is missing: signature `{}` wants {} {}",
                port.name,
                signature.name,
                port.datatype.oip(),
                port.shape_text()
            )));
        };
        inputs.swap(at, at + found);
        let input = &inputs[at];
        if input.datatype != port.datatype {
            return Err(ServeError::invalid(format!(
                "input `{}`: expected {}, got {}",
                port.name,
                port.datatype.oip(),
                input.datatype.oip()
            )));
        }
        if !port.fits(&input.shape) {
            return Err(ServeError::invalid(format!(
                "input `{}`: expected shape {}, got {}",
                port.name,
                port.shape_text(),
                shape_text(&input.shape)
            )));
        }
        input.check()?;
    }
    if inputs.len() > ports.len() {
        return Err(ServeError::invalid(format!(
            "{} inputs came, signature `{}` has {}",
            inputs.len(),
            signature.name,
            ports.len()
        )));
    }
    let rows = |port: &Port, input: &Tensor| port.is_batch().then(|| input.n_rows());
    if signature.is_row_wise
        && let Some(n_rows) = inputs.first().map(Tensor::n_rows)
        && let Some((port, input)) = ports
            .iter()
            .zip(inputs.iter())
            .find(|(port, input)| rows(port, input).is_some_and(|rows| rows != n_rows))
    {
        return Err(ServeError::invalid(format!(
            "input `{}` has {} rows, `{}` has {n_rows}",
            port.name,
            input.n_rows(),
            ports[0].name
        )));
    }
    Ok(())
}

/// Rows of several requests as one. `None` where they do not fit together.
pub(crate) fn merge(requests: &[&[Tensor]]) -> Option<Vec<Tensor>> {
    let first = requests.first()?;
    let mut merged = first.to_vec();
    for request in &requests[1..] {
        if request.len() != merged.len() {
            return None;
        }
        for (into, from) in merged.iter_mut().zip(request.iter()) {
            if !append(into, from) {
                return None;
            }
        }
    }
    Some(merged)
}

/// Adds rows to a tensor; `false`, and nothing is added, where they do not fit.
pub(crate) fn append(into: &mut Tensor, from: &Tensor) -> bool {
    if into.name != from.name
        || into.datatype != from.datatype
        || into.shape.is_empty()
        || into.shape.get(1..) != from.shape.get(1..)
    {
        return false;
    }
    match (&mut into.data, &from.data) {
        (Data::F32(into), Data::F32(from)) => into.extend_from_slice(from),
        (Data::F64(into), Data::F64(from)) => into.extend_from_slice(from),
        (Data::Int(into), Data::Int(from)) => into.extend_from_slice(from),
        (Data::Bytes(into), Data::Bytes(from)) => into.extend_from_slice(from),
        _ => return false,
    }
    into.shape[0] += from.n_rows();
    true
}

/// Rows of an answer, cut out.
pub(crate) fn cut(outputs: &[Tensor], first: usize, n_rows: usize) -> Vec<Tensor> {
    outputs
        .iter()
        .map(|output| {
            let width = output.data.len() / output.n_rows().max(1);
            let span = first * width..(first + n_rows) * width;
            let mut shape = output.shape.clone();
            shape[0] = n_rows;
            let data = match &output.data {
                Data::F32(values) => Data::F32(values[span].to_vec()),
                Data::F64(values) => Data::F64(values[span].to_vec()),
                Data::Int(values) => Data::Int(values[span].to_vec()),
                Data::Bytes(values) => Data::Bytes(values[span].to_vec()),
            };
            Tensor {
                name: output.name.clone(),
                datatype: output.datatype,
                shape,
                data,
            }
        })
        .collect()
}
