//! The Open Inference Protocol, version 2 (<https://github.com/kserve/open-inference-protocol>), with Triton's
//! extensions for binary tensors and for the model repository.

use super::json::{Json, Odd, write_nested, write_text};
use super::{Call, Reply, Run, Shared, copy, infer, predictor, version, wants};
use crate::error::{Result, ServeError};
use crate::loader::OrderKind;
use crate::models::{Model, Pick, Version};
use crate::records;
use crate::tensor::{Data, Datatype, Port, Tensor, from_le, to_le};
use base::Code;
use bytes::{Buf, Bytes};
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::Duration;

/// Where the JSON of a body ends and binary tensors begin.
const LENGTH_HEADER: &str = "inference-header-content-length";
/// Inputs or outputs of one request.
const TENSORS_MAX: usize = 4_096;
/// Dimensions of a tensor.
const RANK_MAX: usize = 16;

/// Answers what is under `/v2`.
pub(super) async fn answer(shared: &Shared, call: &Call, path: &[&str]) -> Result<Reply> {
    let path = path.strip_suffix(&[""]).unwrap_or(path);
    match path {
        [] => {
            wants(call, &Method::GET)?;
            Ok(Reply::value(&json!({
                "name": "moonshot",
                "version": env!("CARGO_PKG_VERSION"),
                "extensions": ["binary_tensor_data", "model_repository"],
            })))
        }
        // The status is what probes look at; KServe's client reads the body.
        ["health", "live"] => Ok(Reply::value(&json!({ "live": true }))),
        ["health", "ready"] => Ok(match shared.models.table().unready() {
            None => Reply::value(&json!({ "ready": true })),
            Some(why) => Reply {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..Reply::value(&json!({ "ready": false, "error": why }))
            },
        }),
        ["repository", "index"] => {
            wants(call, &Method::POST)?;
            index(shared, call)
        }
        ["repository", "models", model, "load"] => {
            wants(call, &Method::POST)?;
            shared.load(model).await?;
            Ok(Reply::value(&json!({})))
        }
        ["repository", "models", model, "unload"] => {
            wants(call, &Method::POST)?;
            shared.loader.order(OrderKind::Unload, model).await?;
            Ok(Reply::value(&json!({})))
        }
        ["models", model, "traffic"] => {
            wants(call, &Method::GET)?;
            traffic(shared, model)
        }
        ["models", model, rest @ ..] => {
            let (pick, rest) = match rest {
                ["versions", number, rest @ ..] => match number.parse() {
                    Ok(number) => (Pick::Number(number), rest),
                    Err(_) => {
                        return Err(ServeError::invalid(format!(
                            "`{number}` is no version number"
                        )));
                    }
                },
                rest => (Pick::Latest, rest),
            };
            shared.models.table().answers(model, pick)?;
            match rest {
                [] => {
                    wants(call, &Method::GET)?;
                    let version = version(shared, call, model, pick).await?;
                    let table = shared.models.table();
                    Ok(Reply::value(&metadata(&version, table.known(model)?)))
                }
                ["ready"] => Ok(Reply::value(&json!({ "name": model, "ready": true }))),
                ["infer"] => {
                    wants(call, &Method::POST)?;
                    predict(shared, call, model, pick).await
                }
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

fn unknown() -> ServeError {
    ServeError::not_found(
        "the path is not known; it is /v2, /v2/health/{live,ready}, /v2/models/NAME[/versions/NUMBER][/ready|/infer], /v2/models/NAME/traffic, /v2/repository/index or /v2/repository/models/NAME/{load,unload}",
    )
}

fn metadata(version: &Version, model: &Model) -> Value {
    let ports = |ports: &[Port]| -> Vec<Value> {
        let each = ports.iter().map(|port| {
            // The protocol has no form for any rank.
            let shape = port.shape.as_deref().unwrap_or(&[-1]);
            json!({ "name": port.name, "datatype": port.datatype.oip(), "shape": shape })
        });
        each.collect()
    };
    let signature = version.any_signature();
    let versions: Vec<String> = model.numbers().iter().map(u64::to_string).collect();
    json!({
        "name": version.model,
        "versions": versions,
        "platform": version.runtime.platform(),
        "inputs": ports(&signature.inputs),
        "outputs": ports(&signature.outputs),
    })
}

/// Who answers requests that name no version, and how they fare.
fn traffic(shared: &Shared, model: &str) -> Result<Reply> {
    let table = shared.models.table();
    match &table.known(model)?.traffic {
        Some(traffic) => Ok(Reply::value(&traffic.json())),
        None => Err(ServeError::not_found(format!(
            "model `{model}` shares no requests among its versions: its model.toml has no `[traffic]`"
        ))),
    }
}

fn index(shared: &Shared, call: &Call) -> Result<Reply> {
    let asked: Value = if call.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&call.body)
            .map_err(|error| ServeError::invalid(format!("the body is not JSON: {error}")))?
    };
    let only_ready = asked["ready"].as_bool().unwrap_or(false);
    let table = shared.models.table();
    let mut names: Vec<&String> = table.models.keys().collect();
    names.sort();
    let mut entries = Vec::new();
    for name in names {
        for (number, status) in &table.models[name].status {
            if only_ready && !status.state.answers() {
                continue;
            }
            entries.push(json!({
                "name": name,
                "version": number.to_string(),
                "state": status.state.triton(),
                "reason": status.reason(),
            }));
        }
    }
    Ok(Reply::value(&Value::Array(entries)))
}

// ---- requests ----

/// What a request says besides its tensors.
#[derive(Debug, Default)]
struct Asked {
    id: Option<String>,
    /// Which of the model's signatures, by name.
    signature: Option<String>,
    /// All outputs as binary.
    all_binary: bool,
    timeout: Option<Duration>,
    /// The outputs by name, and whether as binary; empty means all.
    outputs: Vec<(String, Option<bool>)>,
}

async fn predict(shared: &Shared, call: &Call, model: &str, pick: Pick<'_>) -> Result<Reply> {
    let length = length(call)?;
    let (inputs, asked) = request(&call.body, length)?;
    let version = &predictor(shared, call, model, pick, asked.timeout).await?;
    let (at, inputs) = arrange(inputs, &asked, version)?;
    let signature = &version.runtime.signatures()[at];
    for (name, _) in &asked.outputs {
        if !signature.outputs.iter().any(|port| port.name == *name) {
            let known: Vec<&str> = signature
                .outputs
                .iter()
                .map(|port| port.name.as_str())
                .collect();
            return Err(ServeError::invalid(format!(
                "unexpected inference output `{name}` for model `{}`; it has `{}`",
                version.model,
                known.join("`, `")
            )));
        }
    }
    let run = Run {
        version,
        signature: at,
        inputs,
        timeout: asked.timeout,
        copy: copy(call, |body| {
            move |version: &Version| {
                let (inputs, asked) = request(&body, length)?;
                arrange(inputs, &asked, version)
            }
        }),
    };
    infer(shared, call, run, |outputs| {
        response(version, &asked, outputs)
    })
    .await
}

/// Which signature is asked for, and its inputs: a model of one input takes it under any name, and several names may be
/// its columns.
fn arrange(inputs: Vec<Tensor>, asked: &Asked, version: &Version) -> Result<(usize, Vec<Tensor>)> {
    let (at, signature) = version.signature(asked.signature.as_deref().unwrap_or(""))?;
    let are_columns = inputs.len() > signature.inputs.len()
        || inputs.iter().all(|input| {
            input.shape.iter().product::<usize>() == input.n_rows()
                && signature.columns.len() > 1
                && signature.columns.get(&input.name).is_some()
        });
    let inputs = if are_columns && signature.inputs.len() == 1 && !signature.columns.is_empty() {
        records::join(&inputs, signature)?
    } else {
        inputs
    };
    Ok((at, inputs))
}

/// Where the JSON of the body ends.
fn length(call: &Call) -> Result<usize> {
    let header = call.headers.get(LENGTH_HEADER);
    match header.map(|value| value.to_str().ok().and_then(|text| text.parse().ok())) {
        None => Ok(call.body.len()),
        Some(Some(length)) if length <= call.body.len() => Ok(length),
        Some(_) => Err(ServeError::invalid(format!(
            "header `{LENGTH_HEADER}` is no length within the body of {} bytes",
            call.body.len()
        ))),
    }
}

fn request(body: &Bytes, length: usize) -> Result<(Vec<Tensor>, Asked)> {
    let text = body.slice(..length);
    let mut binary = body.slice(length..);
    let mut asked = Asked::default();
    let mut inputs = None;
    let mut json = Json::new(&text);
    json.object(|json, key| {
        match key {
            "id" => asked.id = Some(json.text()?.into_owned()),
            "parameters" => json.object(|json, key| {
                match key {
                    "binary_data_output" => asked.all_binary = json.bool()?,
                    "signature_name" => asked.signature = Some(json.text()?.into_owned()),
                    "timeout" => asked.timeout = Some(Duration::from_micros(json.count()? as u64)),
                    _ => json.skip()?,
                }
                Ok(())
            })?,
            "inputs" => {
                let mut list = Vec::new();
                json.array(|json| {
                    if list.len() == TENSORS_MAX {
                        return json.wrong("too many inputs");
                    }
                    list.push(input(json, &mut binary)?);
                    Ok(())
                })?;
                inputs = Some(list);
            }
            "outputs" => json.array(|json| {
                if asked.outputs.len() == TENSORS_MAX {
                    return json.wrong("too many outputs");
                }
                asked.outputs.push(output(json)?);
                Ok(())
            })?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    json.end()?;
    if !binary.is_empty() {
        return Err(ServeError::invalid(format!(
            "{} bytes of binary data belong to no input",
            binary.len()
        )));
    }
    let inputs = inputs.ok_or_else(|| ServeError::invalid("`inputs` is missing"))?;
    if inputs.is_empty() {
        return Err(ServeError::invalid("`inputs` is empty"));
    }
    Ok((inputs, asked))
}

fn input(json: &mut Json<'_>, binary: &mut Bytes) -> Result<Tensor> {
    let mut name = None;
    let mut datatype = None;
    let mut shape = None;
    let mut size = None;
    // The data may stand before the type that says how to read it.
    let mut data_at = None;
    json.object(|json, key| {
        match key {
            "name" => name = Some(json.text()?.into_owned()),
            "datatype" => {
                let text = json.text()?;
                match Datatype::from_oip(&text) {
                    Some(known) => datatype = Some(known),
                    None => return json.wrong(&format!("`{text}` is no datatype that is taken")),
                }
            }
            "shape" => {
                let mut sizes = Vec::new();
                json.array(|json| {
                    if sizes.len() == RANK_MAX {
                        return json.wrong("too many dimensions");
                    }
                    sizes.push(json.count()?);
                    Ok(())
                })?;
                shape = Some(sizes);
            }
            "parameters" => json.object(|json, key| {
                match key {
                    "binary_data_size" => size = Some(json.count()?),
                    _ => json.skip()?,
                }
                Ok(())
            })?,
            "data" => {
                json.peek()?;
                data_at = Some(json.at());
                json.skip()?;
            }
            _ => json.skip()?,
        }
        Ok(())
    })?;
    let Some(name) = name else {
        return json.wrong("an input without `name`");
    };
    let missing = |what: &str| ServeError::invalid(format!("input `{name}`: `{what}` is missing"));
    let datatype = datatype.ok_or_else(|| missing("datatype"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let data = match (size, data_at) {
        (Some(size), _) if size > binary.len() => {
            return Err(ServeError::invalid(format!(
                "input `{name}`: `binary_data_size` is {size}, {} bytes are left in the body",
                binary.len()
            )));
        }
        (Some(size), _) => from_binary(&name, datatype, binary.split_to(size))?,
        (None, Some(at)) => json.from(at).tensor(datatype, &mut Vec::new())?,
        (None, None) => return Err(missing("data")),
    };
    Tensor::new(name, datatype, shape, data)
}

fn output(json: &mut Json<'_>) -> Result<(String, Option<bool>)> {
    let mut name = None;
    let mut binary = None;
    json.object(|json, key| {
        match key {
            "name" => name = Some(json.text()?.into_owned()),
            "parameters" => json.object(|json, key| {
                match key {
                    "binary_data" => binary = Some(json.bool()?),
                    _ => json.skip()?,
                }
                Ok(())
            })?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    match name {
        Some(name) => Ok((name, binary)),
        None => json.wrong("an output without `name`"),
    }
}

/// Little-endian elements; strings each behind a 32-bit length.
pub(crate) fn from_binary(name: &str, datatype: Datatype, mut bytes: Bytes) -> Result<Data> {
    let Some(size) = datatype.size() else {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let length = (bytes.len() >= 4).then(|| bytes.get_u32_le() as usize);
            match length {
                Some(length) if length <= bytes.len() => values.push(bytes.split_to(length)),
                _ => {
                    return Err(ServeError::invalid(format!(
                        "input `{name}`: its binary strings end early"
                    )));
                }
            }
        }
        return Ok(Data::Bytes(values));
    };
    if !bytes.len().is_multiple_of(size) {
        return Err(ServeError::invalid(format!(
            "input `{name}`: {} bytes are not whole elements of {}",
            bytes.len(),
            datatype.oip()
        )));
    }
    Ok(from_le(datatype, &bytes))
}

// ---- responses ----

fn response(version: &Version, asked: &Asked, outputs: &[Tensor]) -> Result<Reply> {
    let mut out = b"{\"model_name\":".to_vec();
    let mut binary = Vec::new();
    write_text(&mut out, &version.model);
    let _ = write!(out, ",\"model_version\":\"{}\"", version.number);
    if let Some(id) = &asked.id {
        out.extend_from_slice(b",\"id\":");
        write_text(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":[");
    let mut is_first = true;
    for output in outputs {
        let wanted = asked.outputs.iter().find(|(name, _)| *name == output.name);
        if wanted.is_none() && !asked.outputs.is_empty() {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        out.extend_from_slice(b"{\"name\":");
        write_text(&mut out, &output.name);
        let _ = write!(
            out,
            ",\"datatype\":\"{}\",\"shape\":[",
            output.datatype.oip()
        );
        for (at, size) in output.shape.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{size}");
        }
        out.push(b']');
        let as_binary = wanted
            .and_then(|(_, binary)| *binary)
            .unwrap_or(asked.all_binary);
        if as_binary {
            let start = binary.len();
            to_binary(&mut binary, output)?;
            let size = binary.len() - start;
            let _ = write!(out, ",\"parameters\":{{\"binary_data_size\":{size}}}}}");
        } else {
            out.extend_from_slice(b",\"data\":");
            write_nested(&mut out, output, &[output.data.len()], 0, Odd::Null);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"]}");
    if binary.is_empty() {
        return Ok(Reply::json(out));
    }
    let length = out.len();
    out.append(&mut binary);
    let mut reply = Reply::json(out);
    reply.content_type = "application/octet-stream";
    let name = HeaderName::from_static(LENGTH_HEADER);
    reply.headers.push((name, HeaderValue::from(length)));
    Ok(reply)
}

pub(crate) fn to_binary(out: &mut Vec<u8>, output: &Tensor) -> Result<()> {
    let Data::Bytes(values) = &output.data else {
        to_le(out, output);
        return Ok(());
    };
    for value in values {
        let length = u32::try_from(value.len())
            .map_err(|_| ServeError::new(Code::Internal, "a string of the answer is over 4 GiB"))?;
        out.extend(length.to_le_bytes());
        out.extend_from_slice(value);
    }
    Ok(())
}
