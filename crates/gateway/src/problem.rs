//! What the gateway itself answers where something is wrong: RFC 9457's JSON, or gRPC's status.

use crate::grpc;
use crate::proxy::{Body, full};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

/// One such answer.
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            status,
            code,
            detail: detail.into(),
        }
    }

    /// In the caller's protocol.
    pub(crate) fn answer(self, is_grpc: bool) -> Response<Body> {
        if is_grpc {
            return grpc::refuse(self.status, &self.detail, full(Bytes::new()));
        }
        let value = serde_json::json!({
            "type": format!("about:blank#{}", self.code),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = Response::new(full(value.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
