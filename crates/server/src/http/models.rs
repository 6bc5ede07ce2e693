//! Versions of Models.

use super::subresources::read_json;
use super::{Known, Refusal, Shared};
use crate::error::UseError;
use crate::usecase::model;
use api::Object;
use api::answer::{Items, PushRequest};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;

pub(crate) async fn versions(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Path<(String, String)>,
) -> Result<Json<Items<Object>>, Refusal> {
    let versions = model::versions(&platform, &caller, &project, &name).await;
    versions
        .map(|items| Json(Items { items }))
        .map_err(|error| Refusal(error, caller.request))
}

pub(crate) async fn push(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<(StatusCode, Json<Object>), Refusal> {
    let request = caller.request.clone();
    let work = async {
        let push: PushRequest = read_json(&body)?;
        model::push(&platform, &caller, &project, &name, push).await
    };
    work.await
        .map(|object| (StatusCode::CREATED, Json(object)))
        .map_err(|error: UseError| Refusal(error, request))
}
