//! TensorFlow Serving's REST API (<https://www.tensorflow.org/tfx/serving/api_rest>): status, metadata,
//! `:predict` in row and column format, `:classify`, `:regress`; versions by number or label.

use super::json::{Json, Odd, write_nested, write_text};
use super::{Call, Reply, Run, Shared, by_examples, copy, infer, predictor, version, wants};
use crate::error::{Result, ServeError};
use crate::models::{Pick, Version};
use crate::records::{self, Rows, only_input};
use crate::runtime::{Signature, append};
use crate::tensor::{Datatype, Port, Tensor, shape_text};
use http::Method;
use serde_json::{Value, json as value};
use std::sync::Arc;

/// Answers what is under `/v1/models/`.
pub(super) async fn answer(shared: &Shared, call: &Call, path: &[&str]) -> Result<Reply> {
    let (last, before) = path.split_last().ok_or_else(unknown)?;
    let (last, verb) = last
        .rsplit_once(':')
        .map_or((*last, None), |(last, verb)| (last, Some(verb)));
    let mut parts = before.to_vec();
    parts.push(last);
    let is_metadata = verb.is_none() && parts.len() > 1 && last == "metadata";
    if is_metadata {
        parts.pop();
    }
    let (model, pick) = match parts[..] {
        [model] => (model, Pick::Latest),
        [model, "versions", number] => match number.parse() {
            Ok(number) => (model, Pick::Number(number)),
            Err(_) => {
                return Err(ServeError::invalid(format!(
                    "`{number}` is no version number"
                )));
            }
        },
        [model, "labels", label] => (model, Pick::Label(label)),
        _ => return Err(unknown()),
    };
    let Some(verb) = verb else {
        wants(call, &Method::GET)?;
        return if is_metadata {
            let version = version(shared, call, model, pick).await?;
            Ok(Reply::value(&metadata(&version)))
        } else {
            status(shared, model, pick)
        };
    };
    wants(call, &Method::POST)?;
    let version = predictor(shared, call, model, pick, None).await?;
    match verb {
        "predict" => predict(shared, call, &version).await,
        "classify" => by_examples::answer(shared, call, &version, by_examples::classify).await,
        "regress" => by_examples::answer(shared, call, &version, by_examples::regress).await,
        other => Err(ServeError::not_found(format!(
            "there is no `:{other}`; `:predict`, `:classify` and `:regress` are"
        ))),
    }
}

fn unknown() -> ServeError {
    ServeError::not_found(
        "the path is not known; it is /v1/models/NAME[/versions/NUMBER|/labels/LABEL][/metadata|:predict|:classify|:regress]",
    )
}

// ---- status and metadata ----

fn status(shared: &Shared, name: &str, pick: Pick<'_>) -> Result<Reply> {
    let table = shared.models.table();
    let model = table.known(name)?;
    let only = match pick {
        Pick::Latest => None,
        Pick::Number(number) => Some(number),
        Pick::Label(label) => Some(*model.labels.get(label).ok_or_else(|| {
            ServeError::not_found(format!("model `{name}` has no label `{label}`"))
        })?),
    };
    let versions: Vec<Value> = model
        .status
        .iter()
        .rev()
        .filter(|(number, _)| only.is_none_or(|only| only == **number))
        .map(|(number, status)| {
            value!({
                "version": number.to_string(),
                "state": status.state.tensorflow(),
                "status": {
                    "error_code": if status.error.is_some() { "UNKNOWN" } else { "OK" },
                    "error_message": status.reason(),
                },
            })
        })
        .collect();
    if let (true, Some(number)) = (versions.is_empty(), only) {
        return Err(ServeError::not_found(format!(
            "model `{name}` has no version {number}"
        )));
    }
    Ok(Reply::value(&value!({ "model_version_status": versions })))
}

fn metadata(version: &Version) -> Value {
    let ports = |ports: &[Port]| -> Value {
        let entries = ports.iter().map(|port| {
            let sizes: Vec<Value> = port
                .shape
                .iter()
                .flatten()
                .map(|size| value!({ "size": size.to_string(), "name": "" }))
                .collect();
            let port_json = value!({
                "dtype": port.datatype.tensorflow(),
                "tensor_shape": { "dim": sizes, "unknown_rank": port.shape.is_none() },
                "name": port.name,
            });
            (port.name.clone(), port_json)
        });
        Value::Object(entries.collect())
    };
    let signatures = version.runtime.signatures().iter().map(|signature| {
        let signature_json = value!({
            "inputs": ports(&signature.inputs),
            "outputs": ports(&signature.outputs),
            "method_name": signature.method,
        });
        (signature.name.clone(), signature_json)
    });
    value!({
        "model_spec": {
            "name": version.model,
            "signature_name": "",
            "version": version.number.to_string(),
        },
        "metadata": { "signature_def": {
            "signature_def": Value::Object(signatures.collect()),
        } },
    })
}

// ---- predict ----

/// The two forms of a request, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Rows,
    Columns,
}

async fn predict(shared: &Shared, call: &Call, version: &Arc<Version>) -> Result<Reply> {
    let (signature, inputs, form) = request(&call.body, version)?;
    let run = Run {
        version,
        signature,
        inputs,
        timeout: None,
        copy: copy(call, |body| {
            move |version: &Version| request(&body, version).map(|(at, inputs, _)| (at, inputs))
        }),
    };
    infer(shared, call, run, |outputs| {
        Ok(Reply::json(match form {
            Form::Rows => predictions(outputs)?,
            Form::Columns => columns(outputs),
        }))
    })
    .await
}

fn request(body: &[u8], version: &Version) -> Result<(usize, Vec<Tensor>, Form)> {
    // Only where there is a choice, and the name may stand behind the tensors, is it looked for first.
    let mut asked = String::new();
    if version.runtime.signatures().len() > 1 {
        Json::new(body).object(|json, key| {
            match key {
                "signature_name" => json.text()?.as_ref().clone_into(&mut asked),
                _ => json.skip()?,
            }
            Ok(())
        })?;
    }
    let (at, signature) = version.signature(&asked)?;
    let mut json = Json::new(body);
    let mut inputs = None;
    json.object(|json, key| {
        match key {
            "instances" | "inputs" if inputs.is_some() => {
                return Err(ServeError::invalid(
                    "the body has both `instances` and `inputs`; one of them is expected",
                ));
            }
            "instances" => inputs = Some((rows(json, signature)?, Form::Rows)),
            "inputs" => inputs = Some((named(json, signature)?, Form::Columns)),
            "signature_name" => version.signature(&json.text()?).map(drop)?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    json.end()?;
    let (inputs, form) = inputs
        .ok_or_else(|| ServeError::invalid("the body has neither `instances` nor `inputs`"))?;
    Ok((at, inputs, form))
}

fn rows(json: &mut Json<'_>, signature: &Signature) -> Result<Vec<Tensor>> {
    json.peek()?;
    let start = json.at();
    // Looks at the first instance and at its first key, then reads from the start.
    let mut first_key = None;
    let mut is_record = false;
    let mut look = json.from(start);
    // Only the first item is of interest; the error ends the look.
    let _ = look.array(|look| {
        is_record = look.peek()? == b'{';
        if is_record {
            let _ = look.object(|_, key| {
                first_key = Some(key.to_owned());
                Err(ServeError::invalid(""))
            });
        }
        Err(ServeError::invalid(""))
    });
    let is_known = |key: &str| signature.inputs.iter().any(|port| port.name == key);
    // `{"b64": …}` is a value, not a record.
    let is_bytes = first_key.as_deref() == Some("b64") && !is_known("b64");
    if !is_record || is_bytes {
        let port = only_input(signature)?;
        return Ok(vec![tensor(json, &port.name, port.datatype)?]);
    }
    let are_columns = first_key
        .as_ref()
        .is_some_and(|key| !is_known(key) || signature.columns.get(key).is_some());
    if are_columns && !signature.columns.is_empty() {
        return records(json, signature);
    }
    instances(json, &signature.inputs)
}

/// `[{"a": 1, "b": "x"}, …]`: one record a row.
fn records(json: &mut Json<'_>, signature: &Signature) -> Result<Vec<Tensor>> {
    let mut rows = Rows::new(signature)?;
    json.array(|json| {
        rows.add(1)?;
        json.object(|json, name| {
            let (at, column) = rows.find(name)?;
            let value = if json.peek()? == b'"' {
                column.text(&json.text()?)?
            } else {
                column.number(json.double()?)?
            };
            rows.set(at, value);
            Ok(())
        })
    })?;
    Ok(rows.finish())
}

/// `[{"a": row, "b": row}, …]`: the rows of each input follow one another.
fn instances(json: &mut Json<'_>, ports: &[Port]) -> Result<Vec<Tensor>> {
    let mut wholes: Vec<Option<Tensor>> = vec![None; ports.len()];
    let mut n_rows = 0;
    json.array(|json| {
        n_rows += 1;
        let mut n_known = 0;
        json.object(|json, key| {
            let Some(at) = ports.iter().position(|port| port.name == key) else {
                return Err(unknown_input(key, ports));
            };
            let mut row = tensor(json, &ports[at].name, ports[at].datatype)?;
            row.shape.insert(0, 1);
            n_known += 1;
            let fits = match &mut wholes[at] {
                None => {
                    wholes[at] = Some(row);
                    true
                }
                Some(whole) => append(whole, &row),
            };
            if !fits {
                return Err(ServeError::invalid(format!(
                    "input `{}`: the instances differ in shape",
                    ports[at].name
                )));
            }
            Ok(())
        })?;
        // A name twice leaves another one out.
        let missing = wholes
            .iter()
            .position(|whole| whole.as_ref().is_none_or(|whole| whole.n_rows() != n_rows));
        match missing {
            None if n_known == ports.len() => Ok(()),
            missing => Err(ServeError::invalid(format!(
                "an instance has no `{}`",
                ports[missing.unwrap_or(0)].name
            ))),
        }
    })?;
    wholes
        .into_iter()
        .collect::<Option<Vec<Tensor>>>()
        .ok_or_else(|| ServeError::invalid("`instances` is empty"))
}

fn named(json: &mut Json<'_>, signature: &Signature) -> Result<Vec<Tensor>> {
    let ports = &signature.inputs;
    let mut is_value = json.peek()? != b'{';
    if !is_value && !ports.iter().any(|port| port.name == "b64") {
        let _ = json.from(json.at()).object(|_, key| {
            is_value = key == "b64";
            Err(ServeError::invalid(""))
        });
    }
    if is_value {
        let port = only_input(signature)?;
        return Ok(vec![tensor(json, &port.name, port.datatype)?]);
    }
    let mut inputs = Vec::new();
    json.object(|json, key| {
        let known = ports.iter().find(|port| port.name == key);
        let datatype = match (known, signature.columns.get(key)) {
            (Some(port), _) => port.datatype,
            (None, Some(column)) if column.words.is_some() => Datatype::Bytes,
            // A column of the only input.
            (None, Some(_)) => only_input(signature)?.datatype,
            (None, None) => return Err(unknown_input(key, ports)),
        };
        let input = tensor(json, key, datatype)?;
        inputs.push(input);
        Ok(())
    })?;
    let are_inputs = inputs
        .iter()
        .all(|input| ports.iter().any(|port| port.name == input.name));
    if are_inputs {
        Ok(inputs)
    } else {
        records::join(&inputs, signature)
    }
}

fn unknown_input(name: &str, ports: &[Port]) -> ServeError {
    let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    ServeError::invalid(format!(
        "the model has no input `{name}`; it has `{}`",
        known.join("`, `")
    ))
}

fn tensor(json: &mut Json<'_>, name: &str, datatype: Datatype) -> Result<Tensor> {
    let mut shape = Vec::new();
    let data = json.tensor(datatype, &mut shape)?;
    Ok(Tensor {
        name: name.to_owned(),
        datatype,
        shape,
        data,
    })
}

/// `{"predictions": […]}`: one value a row, or an object of the outputs.
fn predictions(outputs: &[Tensor]) -> Result<Vec<u8>> {
    let n_rows = outputs.first().map_or(0, Tensor::n_rows);
    let has_rows = |output: &Tensor| !output.shape.is_empty() && output.n_rows() == n_rows;
    if let Some(odd) = outputs.iter().find(|output| !has_rows(output)) {
        return Err(ServeError::invalid(format!(
            "output `{}` has shape {}, not a value for each of {n_rows} rows; send `inputs` instead of `instances`",
            odd.name,
            shape_text(&odd.shape)
        )));
    }
    let mut out = b"{\"predictions\": ".to_vec();
    if let [output] = outputs {
        write_nested(&mut out, output, &output.shape, 0, Odd::Words);
    } else {
        out.push(b'[');
        for row in 0..n_rows {
            out.extend_from_slice(if row > 0 { b",{" } else { b"{" });
            for (at, output) in outputs.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(&mut out, &output.name);
                out.push(b':');
                let width = output.data.len() / n_rows;
                let inner = output.shape.get(1..).unwrap_or(&[]);
                write_nested(&mut out, output, inner, row * width, Odd::Words);
            }
            out.push(b'}');
        }
        out.push(b']');
    }
    out.push(b'}');
    Ok(out)
}

/// `{"outputs": …}`: the only output's array, or an object of arrays.
fn columns(outputs: &[Tensor]) -> Vec<u8> {
    let mut out = b"{\"outputs\": ".to_vec();
    if let [output] = outputs {
        write_nested(&mut out, output, &output.shape, 0, Odd::Words);
    } else {
        out.push(b'{');
        for (at, output) in outputs.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_text(&mut out, &output.name);
            out.push(b':');
            write_nested(&mut out, output, &output.shape, 0, Odd::Words);
        }
        out.push(b'}');
    }
    out.push(b'}');
    out
}
