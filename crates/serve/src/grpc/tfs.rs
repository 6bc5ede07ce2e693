//! TensorFlow Serving's PredictionService and ModelService.

use super::{Api, Caller, count, status};
use crate::error::{Result as Served, ServeError};
use crate::examples;
use crate::infer;
use crate::loader::Configured;
use crate::models::{Pick, State, Version};
use crate::proto::tensorflow::serving::file_system_storage_path_source_config::servable_version_policy::PolicyChoice;
use crate::proto::tensorflow::serving::inference_result::Result as Outcome;
use crate::proto::tensorflow::serving::model_server_config::Config;
use crate::proto::tensorflow::serving::model_service_server::ModelService;
use crate::proto::tensorflow::serving::model_spec::VersionChoice;
use crate::proto::tensorflow::serving::prediction_service_server::PredictionService;
use crate::proto::tensorflow::serving::*;
use crate::proto::tensorflow::tensor_info::Encoding;
use crate::proto::tensorflow::tensor_shape_proto::Dim;
use crate::proto::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto, error};
use crate::runtime::Signature;
use crate::runtime::tensorflow::value;
use crate::runtime::warm_up::by_examples;
use crate::tensor::{Port, Tensor};
use crate::tensor_proto;
use crate::traffic::shadow::Copy;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The only kind of metadata that there is.
const SIGNATURES: &str = "signature_def";
/// Tasks of one MultiInference.
const TASKS_MAX: usize = 64;

/// Inputs as a message has them.
trait Inputs: Message + Clone + 'static {
    /// As a signature takes them.
    fn read(self, signature: &Signature) -> Served<Vec<Tensor>>;
}

impl Inputs for PredictRequest {
    fn read(self, _: &Signature) -> Served<Vec<Tensor>> {
        let inputs = self.inputs.into_iter();
        inputs
            .map(|(name, proto)| tensor_proto::read(&name, proto))
            .collect()
    }
}

/// Examples.
impl Inputs for Input {
    fn read(self, signature: &Signature) -> Served<Vec<Tensor>> {
        by_examples(signature, Some(self))
    }
}

fn pick(spec: &ModelSpec) -> Served<Pick<'_>> {
    Ok(match &spec.version_choice {
        None => Pick::Latest,
        Some(VersionChoice::VersionLabel(label)) => Pick::Label(label),
        Some(VersionChoice::Version(number)) => Pick::Number(
            u64::try_from(*number)
                .map_err(|_| ServeError::invalid(format!("`{number}` is no version number")))?,
        ),
    })
}

impl Api {
    /// Runs inputs by the signature that `spec` names.
    async fn run<I: Inputs, T>(
        &self,
        caller: &Caller,
        spec: &ModelSpec,
        inputs: I,
        write: impl FnOnce(&Signature, &[Tensor]) -> Served<T>,
    ) -> Result<(T, ModelSpec), Status> {
        let done = async {
            let _place = self.0.place()?;
            let (version, trial) = self.predictor(caller, &spec.name, pick(spec)?).await?;
            let ticket = trial.as_ref().and_then(|trial| trial.ticket.clone());
            let copy = ticket.map(|ticket| {
                let (copied, name) = (inputs.clone(), spec.signature_name.clone());
                let read = move |version: &Version| {
                    let (at, signature) = version.signature(&name)?;
                    Ok((at, copied.read(signature)?))
                };
                Copy {
                    ticket,
                    bytes: inputs.encoded_len(),
                    read: Box::new(read),
                }
            });
            let answered = self
                .run_on(caller, &version, spec, inputs, copy, write)
                .await;
            count(trial.as_ref(), answered.is_err(), caller);
            answered
        };
        done.await.map_err(status)
    }

    async fn run_on<I: Inputs, T>(
        &self,
        caller: &Caller,
        version: &Arc<Version>,
        spec: &ModelSpec,
        inputs: I,
        copy: Option<Copy>,
        write: impl FnOnce(&Signature, &[Tensor]) -> Served<T>,
    ) -> Served<(T, ModelSpec)> {
        let (at, signature) = version.signature(&spec.signature_name)?;
        let request = infer::Request {
            version,
            signature: at,
            inputs: inputs.read(signature)?,
            started: caller.started,
            timeout: caller.timeout,
            copy,
        };
        let write = |outputs: &[Tensor]| write(signature, outputs);
        let (written, _) = self.0.infer(request, write).await?;
        Ok((written, used(version, &signature.name)))
    }
}

/// Which version and signature answered.
fn used(version: &Version, signature: &str) -> ModelSpec {
    ModelSpec {
        name: version.model.clone(),
        version_choice: Some(VersionChoice::Version(version.number as i64)),
        signature_name: signature.to_owned(),
    }
}

fn spec(spec: Option<ModelSpec>) -> Result<ModelSpec, Status> {
    spec.ok_or_else(|| Status::invalid_argument("`model_spec` is missing"))
}

fn classified(signature: &Signature, outputs: &[Tensor]) -> Served<ClassificationResult> {
    let rows = examples::classes(signature, outputs)?.into_iter();
    Ok(ClassificationResult {
        classifications: rows
            .map(|row| Classifications {
                classes: row
                    .into_iter()
                    .map(|class| Class {
                        label: class.label,
                        score: class.score as f32,
                    })
                    .collect(),
            })
            .collect(),
    })
}

fn regressed(signature: &Signature, outputs: &[Tensor]) -> Served<RegressionResult> {
    let values = examples::doubles(&examples::values(signature, outputs)?)?;
    Ok(RegressionResult {
        regressions: values
            .into_iter()
            .map(|value| Regression {
                value: value as f32,
            })
            .collect(),
    })
}

#[tonic::async_trait]
impl PredictionService for Api {
    async fn predict(
        &self,
        req: Request<PredictRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        let (caller, mut req) = Caller::of(req);
        let spec = spec(req.model_spec.take())?;
        let output_filter = std::mem::take(&mut req.output_filter);
        let write = |signature: &Signature, outputs: &[Tensor]| {
            let known = |name: &&String| signature.outputs.iter().any(|port| port.name == **name);
            if let Some(name) = output_filter.iter().find(|name| !known(name)) {
                return Err(ServeError::invalid(format!(
                    "signature `{}` has no output `{name}`",
                    signature.name
                )));
            }
            let wanted = outputs
                .iter()
                .filter(|output| output_filter.is_empty() || output_filter.contains(&output.name));
            Ok(wanted
                .map(|output| (output.name.clone(), tensor_proto::write(output)))
                .collect::<HashMap<_, _>>())
        };
        let (outputs, used) = self.run(&caller, &spec, req, write).await?;
        Ok(Response::new(PredictResponse {
            outputs,
            model_spec: Some(used),
        }))
    }

    async fn classify(
        &self,
        req: Request<ClassificationRequest>,
    ) -> Result<Response<ClassificationResponse>, Status> {
        let (caller, ClassificationRequest { model_spec, input }) = Caller::of(req);
        let (spec, input) = (spec(model_spec)?, input.unwrap_or_default());
        let (result, used) = self.run(&caller, &spec, input, classified).await?;
        Ok(Response::new(ClassificationResponse {
            result: Some(result),
            model_spec: Some(used),
        }))
    }

    async fn regress(
        &self,
        req: Request<RegressionRequest>,
    ) -> Result<Response<RegressionResponse>, Status> {
        let (caller, RegressionRequest { model_spec, input }) = Caller::of(req);
        let (spec, input) = (spec(model_spec)?, input.unwrap_or_default());
        let (result, used) = self.run(&caller, &spec, input, regressed).await?;
        Ok(Response::new(RegressionResponse {
            result: Some(result),
            model_spec: Some(used),
        }))
    }

    async fn multi_inference(
        &self,
        req: Request<MultiInferenceRequest>,
    ) -> Result<Response<MultiInferenceResponse>, Status> {
        let (caller, MultiInferenceRequest { tasks, input }) = Caller::of(req);
        let input = input.unwrap_or_default();
        if tasks.len() > TASKS_MAX {
            return Err(Status::invalid_argument(format!(
                "{} tasks are more than {TASKS_MAX}",
                tasks.len()
            )));
        }
        let mut results = Vec::new();
        for task in tasks {
            let spec = spec(task.model_spec)?;
            let method = task.method_name;
            let write = |signature: &Signature, outputs: &[Tensor]| match method.as_str() {
                "tensorflow/serving/classify" => {
                    classified(signature, outputs).map(Outcome::ClassificationResult)
                }
                "tensorflow/serving/regress" => {
                    regressed(signature, outputs).map(Outcome::RegressionResult)
                }
                other => Err(ServeError::invalid(format!(
                    "`method_name` is `{other}`; it is `tensorflow/serving/classify` or `tensorflow/serving/regress`"
                ))),
            };
            let (result, used) = self.run(&caller, &spec, input.clone(), write).await?;
            results.push(InferenceResult {
                model_spec: Some(used),
                result: Some(result),
            });
        }
        Ok(Response::new(MultiInferenceResponse { results }))
    }

    async fn get_model_metadata(
        &self,
        req: Request<GetModelMetadataRequest>,
    ) -> Result<Response<GetModelMetadataResponse>, Status> {
        let (caller, req) = Caller::of(req);
        let GetModelMetadataRequest {
            model_spec,
            metadata_field,
        } = req;
        if metadata_field != [SIGNATURES] {
            return Err(Status::invalid_argument(format!(
                "`metadata_field` is [`{SIGNATURES}`]; got {metadata_field:?}"
            )));
        }
        let spec = spec(model_spec)?;
        let pick = pick(&spec).map_err(status)?;
        let version = self.looked_at(&caller, &spec.name, pick).await;
        let version = version.map_err(status)?;
        let signatures = version.runtime.signatures().iter();
        let map = SignatureDefMap {
            signature_def: signatures
                .map(|signature| (signature.name.clone(), definition(signature)))
                .collect(),
        };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
            value: map.encode_to_vec(),
        };
        Ok(Response::new(GetModelMetadataResponse {
            model_spec: Some(used(&version, "")),
            metadata: HashMap::from([(SIGNATURES.to_owned(), any)]),
        }))
    }
}

fn definition(signature: &Signature) -> SignatureDef {
    let infos = |ports: &[Port]| {
        let each = ports.iter().map(|port| {
            let dims = port.shape.iter().flatten().map(|&size| Dim {
                size,
                name: String::new(),
            });
            let info = TensorInfo {
                dtype: value::number(port.datatype),
                tensor_shape: Some(TensorShapeProto {
                    dim: dims.collect(),
                    unknown_rank: port.shape.is_none(),
                }),
                encoding: Some(Encoding::Name(port.name.clone())),
            };
            (port.name.clone(), info)
        });
        each.collect()
    };
    SignatureDef {
        inputs: infos(&signature.inputs),
        outputs: infos(&signature.outputs),
        method_name: signature.method.clone(),
    }
}

#[tonic::async_trait]
impl ModelService for Api {
    async fn get_model_status(
        &self,
        req: Request<GetModelStatusRequest>,
    ) -> Result<Response<GetModelStatusResponse>, Status> {
        let spec = spec(req.into_inner().model_spec)?;
        let table = self.0.models.table();
        let model = table.known(&spec.name).map_err(status)?;
        let only = match &spec.version_choice {
            None => None,
            Some(VersionChoice::Version(number)) => Some(*number as u64),
            Some(VersionChoice::VersionLabel(label)) => match model.labels.get(label) {
                Some(number) => Some(*number),
                None => {
                    return Err(Status::not_found(format!(
                        "model `{}` has no label `{label}`",
                        spec.name
                    )));
                }
            },
        };
        let wanted = model
            .status
            .iter()
            .rev()
            .filter(|(number, _)| only.is_none_or(|only| only == **number));
        let statuses: Vec<ModelVersionStatus> = wanted
            .map(|(&number, known)| ModelVersionStatus {
                version: number as i64,
                state: state(known.state).into(),
                status: Some(StatusProto {
                    error_code: match &known.error {
                        Some(_) => error::Code::Unknown.into(),
                        None => error::Code::Ok.into(),
                    },
                    error_message: known.reason(),
                }),
            })
            .collect();
        match (statuses.is_empty(), only) {
            (true, Some(number)) => Err(Status::not_found(format!(
                "model `{}` has no version {number}",
                spec.name
            ))),
            _ => Ok(Response::new(GetModelStatusResponse {
                model_version_status: statuses,
            })),
        }
    }

    async fn handle_reload_config_request(
        &self,
        req: Request<ReloadConfigRequest>,
    ) -> Result<Response<ReloadConfigResponse>, Status> {
        let Some(Config::ModelConfigList(list)) =
            req.into_inner().config.and_then(|config| config.config)
        else {
            return Err(Status::invalid_argument(
                "`config.model_config_list` is missing",
            ));
        };
        let configured = list.config.into_iter().map(configured).collect();
        let outcome = self.0.loader.configure(configured).await;
        let (error_code, error_message) = match outcome.map_err(status) {
            Ok(()) => (error::Code::Ok.into(), String::new()),
            Err(status) => (status.code() as i32, status.message().to_owned()),
        };
        Ok(Response::new(ReloadConfigResponse {
            status: Some(StatusProto {
                error_code,
                error_message,
            }),
        }))
    }
}

fn configured(config: ModelConfig) -> Configured {
    let choice = config
        .model_version_policy
        .and_then(|policy| policy.policy_choice);
    let versions = choice.map(|choice| match choice {
        PolicyChoice::Latest(latest) => format!("latest:{}", latest.num_versions.max(1)),
        PolicyChoice::All(_) => "all".to_owned(),
        PolicyChoice::Specific(specific) => {
            let numbers: Vec<String> = specific.versions.iter().map(i64::to_string).collect();
            format!("specific:{}", numbers.join(","))
        }
    });
    Configured {
        name: config.name,
        base_path: config.base_path.into(),
        versions,
        labels: config
            .version_labels
            .into_iter()
            .map(|(label, number)| (label, number as u64))
            .collect(),
    }
}

fn state(state: State) -> model_version_status::State {
    match state {
        State::Loading | State::Warming => model_version_status::State::Loading,
        State::Ready | State::OnDisk => model_version_status::State::Available,
        State::Draining => model_version_status::State::Unloading,
        State::Unloaded => model_version_status::State::End,
    }
}
