//! Requests that are done once, however often they are sent: a POST with an `Idempotency-Key` is answered as the first
//! one of its caller under this key was, for 24 hours. Another request under the same key is refused.
//!
//! A key is written down before the work begins, so two that come at once are not both done. Answers are kept sealed: one
//! may hold a token's text. Only what succeeded is kept; a request that failed may be tried again.

use super::{BODY_MAX, Known, Refusal, Shared};
use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::{Caller, seal};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base::{Code, Span};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use db::access::{self, Begun};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The longest key.
const KEY_MAX: usize = 128;
/// The largest answer that is kept; a larger one is given once.
const ANSWER_MAX: usize = 4 << 20;
/// A request that was begun and not answered for so long died with its server.
const ABANDONED: Span = Span::from_secs(60);

/// Does the work of a request, or gives the answer that it got.
pub(crate) async fn once(State(platform): Shared, request: Request, next: Next) -> Response {
    let has_key = request.headers().contains_key("idempotency-key");
    let is_session = ["/v1/login", "/v1/logout"].contains(&request.uri().path());
    if request.method() != Method::POST || !has_key || is_session {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let caller = match Known::from_request_parts(&mut parts, &platform).await {
        Ok(Known(caller)) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    let refuse = |error| Refusal(error, caller.request.clone()).into_response();
    let key = match key(parts.headers.get("idempotency-key")) {
        Ok(key) => key,
        Err(error) => return refuse(error),
    };
    let body = match to_bytes(body, BODY_MAX).await {
        Ok(body) => body,
        Err(_) => {
            let detail = format!("the body is larger than {BODY_MAX} bytes, or it broke off");
            return refuse(UseError::new(Code::Invalid, detail));
        }
    };
    let digest = digest(&parts.uri.to_string(), &body);
    let begun = match begin(&platform, &caller, &key, &digest).await {
        Ok(begun) => begun,
        Err(error) => return refuse(error),
    };
    match begun {
        Begun::Fresh => {}
        Begun::Answered(kept) => {
            return answered(&platform, &caller, &key, &kept).unwrap_or_else(refuse);
        }
        Begun::Other => {
            let detail =
                format!("the key `{key}` was used for another request; choose a fresh one");
            return refuse(UseError::new(Code::Conflict, detail));
        }
        Begun::Pending => {
            let detail = format!("the request under the key `{key}` is being done; ask again");
            return refuse(UseError::new(Code::Conflict, detail));
        }
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(&platform, &caller, key, response).await
}

fn key(value: Option<&HeaderValue>) -> Result<String, UseError> {
    let text = value.and_then(|value| value.to_str().ok());
    let good = text.filter(|text| !text.is_empty() && text.len() <= KEY_MAX);
    good.map(str::to_owned).ok_or_else(|| {
        UseError::field(
            "Idempotency-Key",
            format!("must be 1 to {KEY_MAX} visible characters, such as a UUID"),
        )
    })
}

fn digest(uri: &str, body: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(uri.as_bytes())
        .chain_update(b"\n")
        .chain_update(body)
        .finalize();
    base::hex(digest)
}

async fn begin(
    platform: &Platform,
    caller: &Caller,
    key: &str,
    digest: &str,
) -> Result<Begun, UseError> {
    let (actor, key, digest) = (caller.actor.name.clone(), key.to_owned(), digest.to_owned());
    platform
        .db
        .write(None, move |tx| {
            let (actor, key, digest) = (actor.clone(), key.clone(), digest.clone());
            Box::pin(async move { Ok(access::begin(tx, &actor, &key, &digest, ABANDONED).await?) })
        })
        .await
}

/// Keeps an answer, or forgets that the request was begun.
async fn keep(platform: &Platform, caller: &Caller, key: String, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            let error = UseError::internal("an answer broke off", error);
            return Refusal(error, caller.request.clone()).into_response();
        }
    };
    let kept = (parts.status.is_success() && body.len() <= ANSWER_MAX)
        .then(|| sealed(platform, caller, &key, &parts, &body));
    let kept = match kept.transpose() {
        Ok(kept) => kept,
        Err(error) => return Refusal(error, caller.request.clone()).into_response(),
    };
    let actor = caller.actor.name.clone();
    let written: Result<(), db::DbError> = platform
        .db
        .write(None, move |tx| {
            let (actor, key, kept) = (actor.clone(), key.clone(), kept.clone());
            Box::pin(async move { access::finish(tx, &actor, &key, kept.as_ref()).await })
        })
        .await;
    if let Err(error) = written {
        // The work is done and its caller is told. The same request soon is told to wait.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an answer could not be kept"
        );
    }
    Response::from_parts(parts, Body::from(body))
}

fn bound(caller: &Caller, key: &str) -> String {
    format!("answer {} {key}", caller.actor.name)
}

fn sealed(
    platform: &Platform,
    caller: &Caller,
    key: &str,
    parts: &axum::http::response::Parts,
    body: &[u8],
) -> Result<Value, UseError> {
    let told = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];
    let headers: Vec<(&str, &str)> = told
        .iter()
        .filter_map(|name| Some((name.as_str(), parts.headers.get(name)?.to_str().ok()?)))
        .collect();
    let sealed = seal::seal_bytes(&platform.key, &bound(caller, key), body)?;
    Ok(json!({
        "status": parts.status.as_u16(), "headers": headers, "sealed": BASE64.encode(sealed),
    }))
}

fn answered(
    platform: &Platform,
    caller: &Caller,
    key: &str,
    kept: &Value,
) -> Result<Response, UseError> {
    let damaged = || UseError::internal("a kept answer cannot be read", "its form is unknown");
    let sealed = BASE64
        .decode(kept["sealed"].as_str().unwrap_or_default())
        .map_err(|_| damaged())?;
    let body = seal::open_bytes(&platform.key, &bound(caller, key), &sealed)?;
    let status = kept["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = (status.ok_or_else(damaged)?, Bytes::from(body)).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for pair in kept["headers"].as_array().into_iter().flatten() {
        let (Some(name), Some(value)) = (pair[0].as_str(), pair[1].as_str()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
