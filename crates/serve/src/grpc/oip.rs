//! The Open Inference Protocol, version 2, with the extension for the model repository.

use super::{Api, Caller, count, status};
use crate::error::{Result as Served, ServeError};
use crate::http::oip::{from_binary, to_binary};
use crate::infer;
use crate::loader::OrderKind;
use crate::models::{Pick, Version};
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::model_infer_request::InferInputTensor;
use crate::proto::inference::model_infer_response::InferOutputTensor;
use crate::proto::inference::model_metadata_response::TensorMetadata;
use crate::proto::inference::repository_index_response::ModelIndex;
use crate::proto::inference::*;
use crate::records;
use crate::runtime::Signature;
use crate::tensor::{Data, Datatype, Port, Tensor};
use crate::traffic::shadow::Copy;
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status};

impl Api {
    async fn infer(&self, caller: &Caller, req: ModelInferRequest) -> Served<ModelInferResponse> {
        let _place = self.0.place()?;
        let pick = pick(&req.model_version)?;
        let (version, trial) = self.predictor(caller, &req.model_name, pick).await?;
        let ticket = trial.as_ref().and_then(|trial| trial.ticket.clone());
        let copy = ticket.map(|ticket| {
            let copied = req.clone();
            Copy {
                ticket,
                bytes: copied.encoded_len(),
                read: Box::new(move |version| read(copied, version)),
            }
        });
        let answered = self.infer_on(caller, &version, req, copy).await;
        count(trial.as_ref(), answered.is_err(), caller);
        answered
    }

    async fn infer_on(
        &self,
        caller: &Caller,
        version: &Arc<Version>,
        mut req: ModelInferRequest,
        copy: Option<Copy>,
    ) -> Served<ModelInferResponse> {
        let outputs = std::mem::take(&mut req.outputs).into_iter();
        let wanted: Vec<String> = outputs.map(|output| output.name).collect();
        let id = std::mem::take(&mut req.id);
        let (at, inputs) = read(req, version)?;
        let signature = &version.runtime.signatures()[at];
        let known = |name: &&String| signature.outputs.iter().any(|port| port.name == **name);
        if let Some(name) = wanted.iter().find(|name| !known(name)) {
            return Err(ServeError::invalid(format!(
                "unexpected inference output `{name}` for model `{}`",
                version.model
            )));
        }
        let request = infer::Request {
            version,
            signature: at,
            inputs,
            started: caller.started,
            timeout: caller.timeout,
            copy,
        };
        let write = |outputs: &[Tensor]| response(version, id, &wanted, outputs);
        Ok(self.0.infer(request, write).await?.0)
    }
}

/// Which signature is asked for, and its inputs.
fn read(mut req: ModelInferRequest, version: &Version) -> Served<(usize, Vec<Tensor>)> {
    let parameter = req.parameters.get("signature_name");
    let name = match parameter.and_then(|parameter| parameter.parameter_choice.as_ref()) {
        Some(ParameterChoice::StringParam(name)) => name.clone(),
        _ => String::new(),
    };
    let (at, signature) = version.signature(&name)?;
    Ok((at, inputs(&mut req, signature)?))
}

fn pick(number: &str) -> Served<Pick<'static>> {
    if number.is_empty() {
        return Ok(Pick::Latest);
    }
    match number.parse() {
        Ok(number) => Ok(Pick::Number(number)),
        Err(_) => Err(ServeError::invalid(format!(
            "`{number}` is no version number"
        ))),
    }
}

fn inputs(req: &mut ModelInferRequest, signature: &Signature) -> Served<Vec<Tensor>> {
    let raw = std::mem::take(&mut req.raw_input_contents);
    if !raw.is_empty() && raw.len() != req.inputs.len() {
        return Err(ServeError::invalid(format!(
            "`raw_input_contents` has {} entries for {} inputs",
            raw.len(),
            req.inputs.len()
        )));
    }
    let mut raw = raw.into_iter();
    let tensors: Vec<Tensor> = std::mem::take(&mut req.inputs)
        .into_iter()
        .map(|input| tensor(input, raw.next()))
        .collect::<Served<_>>()?;
    let columns = &signature.columns;
    let are_columns = tensors
        .iter()
        .all(|input| columns.get(&input.name).is_some());
    if columns.len() > 1 && are_columns && !tensors.is_empty() {
        return records::join(&tensors, signature);
    }
    Ok(tensors)
}

fn tensor(input: InferInputTensor, raw: Option<Bytes>) -> Served<Tensor> {
    let InferInputTensor {
        name,
        datatype,
        shape,
        contents,
        ..
    } = input;
    let datatype = Datatype::from_oip(&datatype).ok_or_else(|| {
        ServeError::invalid(format!(
            "input `{name}`: `{datatype}` is no datatype that is taken"
        ))
    })?;
    let shape = shape
        .iter()
        .map(|&size| usize::try_from(size))
        .collect::<Result<_, _>>()
        .map_err(|_| ServeError::invalid(format!("input `{name}`: a negative dimension")))?;
    let data = match raw {
        Some(raw) => from_binary(&name, datatype, raw)?,
        None => typed(datatype, contents.unwrap_or_default()),
    };
    Tensor::new(name, datatype, shape, data)
}

/// Elements in the field that belongs to the type.
fn typed(datatype: Datatype, contents: InferTensorContents) -> Data {
    match datatype {
        Datatype::Bool => Data::Int(contents.bool_contents.into_iter().map(i64::from).collect()),
        Datatype::U8 | Datatype::U16 | Datatype::U32 => {
            Data::Int(contents.uint_contents.into_iter().map(i64::from).collect())
        }
        Datatype::I8 | Datatype::I16 | Datatype::I32 => {
            Data::Int(contents.int_contents.into_iter().map(i64::from).collect())
        }
        Datatype::U64 => Data::Int(
            contents
                .uint64_contents
                .into_iter()
                .map(u64::cast_signed)
                .collect(),
        ),
        Datatype::I64 => Data::Int(contents.int64_contents),
        Datatype::F32 => Data::F32(contents.fp32_contents),
        Datatype::F64 => Data::F64(contents.fp64_contents),
        Datatype::Bytes => Data::Bytes(contents.bytes_contents),
    }
}

/// Outputs, all of them raw: every client reads that.
fn response(
    version: &Version,
    id: String,
    wanted: &[String],
    outputs: &[Tensor],
) -> Served<ModelInferResponse> {
    let mut response = ModelInferResponse {
        model_name: version.model.clone(),
        model_version: version.number.to_string(),
        id,
        ..ModelInferResponse::default()
    };
    for output in outputs {
        if !wanted.is_empty() && !wanted.contains(&output.name) {
            continue;
        }
        let mut raw = Vec::new();
        to_binary(&mut raw, output)?;
        response.raw_output_contents.push(raw.into());
        response.outputs.push(InferOutputTensor {
            name: output.name.clone(),
            datatype: output.datatype.oip().to_owned(),
            shape: output.shape.iter().map(|&size| size as i64).collect(),
            ..InferOutputTensor::default()
        });
    }
    Ok(response)
}

fn ports(ports: &[Port]) -> Vec<TensorMetadata> {
    ports
        .iter()
        .map(|port| TensorMetadata {
            name: port.name.clone(),
            datatype: port.datatype.oip().to_owned(),
            // The protocol has no form for any rank.
            shape: port.shape.clone().unwrap_or_else(|| vec![-1]),
        })
        .collect()
}

#[tonic::async_trait]
impl GrpcInferenceService for Api {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.0.models.table().unready().is_none();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        req: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = req.into_inner();
        let table = self.0.models.table();
        let ready = pick(&version).is_ok_and(|pick| table.answers(&name, pick).is_ok());
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "moonshot".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: vec!["model_repository".to_owned()],
        }))
    }

    async fn model_metadata(
        &self,
        req: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let (caller, ModelMetadataRequest { name, version }) = Caller::of(req);
        let pick = pick(&version).map_err(status)?;
        let version = self.looked_at(&caller, &name, pick).await;
        let version = version.map_err(status)?;
        let table = self.0.models.table();
        let model = table.known(&name).map_err(status)?;
        let signature = version.any_signature();
        Ok(Response::new(ModelMetadataResponse {
            name,
            versions: model.numbers().iter().map(u64::to_string).collect(),
            platform: version.runtime.platform().to_owned(),
            inputs: ports(&signature.inputs),
            outputs: ports(&signature.outputs),
        }))
    }

    async fn model_infer(
        &self,
        req: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let (caller, req) = Caller::of(req);
        let answered = self.infer(&caller, req).await;
        answered.map(Response::new).map_err(status)
    }

    async fn repository_index(
        &self,
        req: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let only_ready = req.into_inner().ready;
        let table = self.0.models.table();
        let mut models = Vec::new();
        for (name, model) in &table.models {
            for (number, known) in &model.status {
                if only_ready && !known.state.answers() {
                    continue;
                }
                models.push(ModelIndex {
                    name: name.clone(),
                    version: number.to_string(),
                    state: known.state.triton().to_owned(),
                    reason: known.reason(),
                });
            }
        }
        models.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        req: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let model = req.into_inner().model_name;
        self.0.load(&model).await.map_err(status)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        req: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let model = req.into_inner().model_name;
        let order = self.0.loader.order(OrderKind::Unload, &model);
        order.await.map_err(status)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}
