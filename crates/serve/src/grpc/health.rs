//! gRPC's health checks: the server as a whole (the empty name), each service, and each model by its name.

use super::Api;
use crate::proto::grpc::health::v1::health_check_response::ServingStatus;
use crate::proto::grpc::health::v1::health_server::Health;
use crate::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use futures_util::{Stream, stream};
use std::pin::Pin;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Between looks for who watches.
const LOOK: Duration = Duration::from_millis(500);

/// Services that are healthy when the server is.
const SERVICES: [&str; 4] = [
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "inference.GRPCInferenceService",
];

impl Api {
    fn health(&self, service: &str) -> Option<ServingStatus> {
        let table = self.0.models.table();
        let is_ready = if SERVICES.contains(&service) {
            table.unready().is_none()
        } else {
            !table.models.get(service)?.numbers().is_empty()
        };
        Some(if is_ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        })
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Api {
    async fn check(
        &self,
        req: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = req.into_inner().service;
        match self.health(&service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found(format!(
                "there is no service or model `{service}`"
            ))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        req: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = req.into_inner().service;
        let watch = (self.clone(), service, None);
        let changes = stream::unfold(watch, |(api, service, last)| async move {
            loop {
                let status = api
                    .health(&service)
                    .unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) {
                    let next = (api, service, Some(status));
                    return Some((Ok(response(status)), next));
                }
                tokio::select! {
                    () = api.0.stop.cancelled() => return None,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
