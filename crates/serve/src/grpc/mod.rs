//! The gRPC side, on the same port as REST: TensorFlow Serving's services, the Open Inference Protocol, health
//! and reflection.

mod health;
mod oip;
mod tfs;

use crate::error::ServeError;
use crate::infer::Shared;
use crate::models::{Pick, Version};
use crate::proto::DESCRIPTORS;
use crate::proto::grpc::health::v1::health_server::HealthServer;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::proto::tensorflow::serving::model_service_server::ModelServiceServer;
use crate::proto::tensorflow::serving::prediction_service_server::PredictionServiceServer;
use crate::traffic::Trial;
use base::Code;
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// How long a request may take, as gRPC says it.
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// What the services work on.
#[derive(Clone)]
struct Api(Arc<Shared>);

/// All services.
pub(crate) struct Grpc<R: ServerReflection> {
    prediction: PredictionServiceServer<Api>,
    model: ModelServiceServer<Api>,
    inference: GrpcInferenceServiceServer<Api>,
    health: HealthServer<Api>,
    reflection: ServerReflectionServer<R>,
}

/// Makes them.
pub(crate) fn services(
    shared: &Arc<Shared>,
) -> Result<Grpc<impl ServerReflection + use<>>, tonic_reflection::server::Error> {
    let api = || Api(Arc::clone(shared));
    let max = shared.config.body_max;
    Ok(Grpc {
        prediction: PredictionServiceServer::new(api())
            .max_decoding_message_size(max)
            .max_encoding_message_size(usize::MAX),
        model: ModelServiceServer::new(api()).max_decoding_message_size(max),
        inference: GrpcInferenceServiceServer::new(api())
            .max_decoding_message_size(max)
            .max_encoding_message_size(usize::MAX),
        health: HealthServer::new(api()),
        reflection: tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()?,
    })
}

/// Whether a request is gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl<R: ServerReflection> Grpc<R> {
    /// Answers a request.
    pub(crate) async fn handle(&self, req: Request<Incoming>) -> Response<Body> {
        let service = req.uri().path().split('/').nth(1).unwrap_or("");
        let answered: Result<Response<Body>, Infallible> = match service {
            "tensorflow.serving.PredictionService" => self.prediction.clone().call(req).await,
            "tensorflow.serving.ModelService" => self.model.clone().call(req).await,
            "inference.GRPCInferenceService" => self.inference.clone().call(req).await,
            "grpc.health.v1.Health" => self.health.clone().call(req).await,
            "grpc.reflection.v1.ServerReflection" => self.reflection.clone().call(req).await,
            other => {
                Ok(Status::unimplemented(format!("there is no service `{other}`")).into_http())
            }
        };
        let response = answered.unwrap_or_else(|never| match never {});
        match Status::from_header_map(response.headers()) {
            Some(status) if is_too_large(&status) => {
                let text = status.message();
                Status::resource_exhausted(format!("{text}; the server's --body-max is the bound"))
                    .into_http()
            }
            _ => response,
        }
    }
}

/// A message over the bound: tonic's own words, whose code is the one for numbers that are out of range.
fn is_too_large(status: &Status) -> bool {
    status.code() == tonic::Code::OutOfRange && status.message().contains("length too large")
}

/// gRPC's word for a kind of failure.
fn status(error: ServeError) -> Status {
    let code = match error.code {
        Code::NotFound | Code::Gone => tonic::Code::NotFound,
        Code::Conflict => tonic::Code::Aborted,
        Code::Invalid => tonic::Code::InvalidArgument,
        Code::Denied => tonic::Code::PermissionDenied,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::Exhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Timeout => tonic::Code::DeadlineExceeded,
        Code::Unsupported => tonic::Code::Unimplemented,
        Code::Internal => tonic::Code::Internal,
    };
    Status::new(code, error.text)
}

/// The time that a client gives: at most eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). What is none is no limit.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    parse_timeout(metadata.get(TIMEOUT_HEADER)?.to_str().ok()?)
}

/// What a client sent besides its message.
struct Caller {
    started: Instant,
    timeout: Option<Duration>,
    metadata: MetadataMap,
}

impl Caller {
    /// Takes a request apart; it began to come just now.
    fn of<T>(req: tonic::Request<T>) -> (Caller, T) {
        let started = Instant::now();
        let (metadata, _, message) = req.into_parts();
        let caller = Caller {
            started,
            timeout: timeout(&metadata),
            metadata,
        };
        (caller, message)
    }
}

impl Api {
    /// The version that predicts; where the request names none, by the model's traffic.
    async fn predictor(
        &self,
        caller: &Caller,
        model: &str,
        pick: Pick<'_>,
    ) -> Result<(Arc<Version>, Option<Trial>), ServeError> {
        let header = |name: &str| {
            let value = caller.metadata.get(name)?.to_str();
            value.ok().map(str::to_owned)
        };
        let (pick, trial) = self.0.route(model, pick, header)?;
        let found = self.0.version(model, pick, caller.started, caller.timeout);
        match found.await {
            Ok(version) => Ok((version, trial)),
            Err(error) => {
                count(trial.as_ref(), true, caller);
                Err(error)
            }
        }
    }

    /// The version that is looked at.
    async fn looked_at(
        &self,
        caller: &Caller,
        model: &str,
        pick: Pick<'_>,
    ) -> Result<Arc<Version>, ServeError> {
        let pick = self.0.standing(model, pick);
        let found = self.0.version(model, pick, caller.started, caller.timeout);
        found.await
    }
}

/// Counts an answer for the version that a model's traffic chose.
fn count(trial: Option<&Trial>, is_error: bool, caller: &Caller) {
    if let Some(trial) = trial {
        trial.answered(is_error, caller.started.elapsed());
    }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = (digits.len() <= 8 && is_number)
        .then(|| digits.parse().ok())
        .flatten()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, wanted) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("", None),
            ("m", None),
            ("-1m", None),
            ("100000000m", None),
            ("1é", None),
            ("1x", None),
        ] {
            assert_eq!(parse_timeout(text), wanted, "{text}");
        }
    }
}
