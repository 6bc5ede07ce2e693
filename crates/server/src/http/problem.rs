//! Errors on the wire, in one place: status, problem+json, the request's id, and one line in the log for what is
//! our own fault.

use crate::error::UseError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A refused request with its id.
pub(crate) struct Refusal(pub(crate) UseError, pub(crate) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(error, request) = self;
        let mut problem = error.problem();
        problem.request_id.clone_from(&request);
        if error.is_ours() {
            tracing::error!(
                request,
                error = &error as &dyn std::error::Error,
                "a request failed"
            );
        }
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).expect("a problem is JSON");
        let mut response = (status, body).into_response();
        let media = HeaderValue::from_static(api::problem::PROBLEM_JSON);
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        if problem.status == 503 || problem.status == 429 {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
