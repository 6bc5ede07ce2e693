//! The REST side: what comes is routed to TensorFlow Serving's API (`/v1`) or the Open Inference Protocol
//! (`/v2`); both read tensors, run them by [`mod@infer`] and write answers in their own form.

mod by_examples;
mod json;
pub(crate) mod oip;
mod tfs;

use crate::error::{Result, ServeError};
use crate::infer::{self, Shared};
use crate::loader::stopping;
use crate::metrics;
use crate::models::{Pick, Version};
use crate::tensor::Tensor;
use crate::traffic::Trial;
use crate::traffic::shadow;
use base::Code;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// A request's own time limit, in milliseconds; at most the server's.
const TIMEOUT_HEADER: &str = "x-moonshot-timeout-ms";
/// With any value: the answer says where the time went, as `Server-Timing`.
const TIMING_HEADER: &str = "x-moonshot-timing";

/// Bytes of a body that takes so long to read that it is done away from the thread that other connections need.
const LARGE: usize = 128 << 10;

/// A whole request.
struct Call {
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    started: Instant,
    /// How long it waited for its version to be loaded, where it asks for times.
    load: OnceLock<Duration>,
    /// Where its version was given to it by the model's traffic.
    trial: OnceLock<Trial>,
}

/// An answer before it has a form of HTTP.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    fn json(body: Vec<u8>) -> Reply {
        Reply {
            status: StatusCode::OK,
            content_type: "application/json",
            body,
            headers: Vec::new(),
        }
    }

    fn value(value: &serde_json::Value) -> Reply {
        Reply::json(value.to_string().into_bytes())
    }
}

/// Answers a request.
pub(crate) async fn handle(shared: &Arc<Shared>, req: Request<Incoming>) -> Response<Full<Bytes>> {
    let started = Instant::now();
    let reply = match answer(shared, req, started).await {
        Ok(reply) => reply,
        Err(error) => {
            // Both protocols call the text `error`.
            let body = serde_json::json!({ "error": error.text });
            Reply {
                status: status(error.code),
                ..Reply::value(&body)
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(reply.content_type),
    );
    for (name, value) in reply.headers {
        headers.insert(name, value);
    }
    response
}

async fn answer(shared: &Arc<Shared>, req: Request<Incoming>, started: Instant) -> Result<Reply> {
    let _place = shared.place()?;
    let (parts, body) = req.into_parts();
    let body = match Limited::new(body, shared.config.body_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let max = shared.config.body_max;
            let body = serde_json::json!({
                "error": format!("the body is larger than {max} bytes; the server's --body-max is the bound")
            });
            return Ok(Reply {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..Reply::value(&body)
            });
        }
        Err(error) => {
            return Err(ServeError::invalid(format!(
                "the body ended early: {error}"
            )));
        }
    };
    let call = Call {
        uri: parts.uri,
        method: parts.method,
        headers: parts.headers,
        body,
        started,
        load: OnceLock::new(),
        trial: OnceLock::new(),
    };
    if call.body.len() < LARGE {
        return reply(shared, &call).await;
    }
    let own = Arc::clone(shared);
    let apart = shared.apart.spawn(async move { reply(&own, &call).await });
    // Who leaves takes the request back.
    match AbortOnDropHandle::new(apart).await {
        Ok(reply) => reply,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(stopping()),
    }
}

async fn reply(shared: &Shared, call: &Call) -> Result<Reply> {
    let reply = routed(shared, call).await;
    if let Some(trial) = call.trial.get() {
        trial.answered(reply.is_err(), call.started.elapsed());
    }
    reply
}

async fn routed(shared: &Shared, call: &Call) -> Result<Reply> {
    let path: Vec<&str> = call.uri.path().trim_matches('/').split('/').collect();
    match path[..] {
        ["v1", "models", ref rest @ ..] if !rest.is_empty() => {
            tfs::answer(shared, call, rest).await
        }
        ["v2", ref rest @ ..] => oip::answer(shared, call, rest).await,
        ["metrics"] | ["monitoring", "prometheus", "metrics"] => Ok(Reply {
            content_type: "text/plain; version=0.0.4",
            ..Reply::json(metrics::text(&shared.models.table(), &shared.loader.loads).into_bytes())
        }),
        _ => Err(ServeError::not_found(
            "there is nothing here; models are at /v1/models/NAME and /v2/models/NAME",
        )),
    }
}

/// HTTP's word for a kind of failure.
fn status(code: Code) -> StatusCode {
    match code {
        Code::NotFound | Code::Gone => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::Invalid => StatusCode::BAD_REQUEST,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn wants(call: &Call, method: &Method) -> Result<()> {
    if call.method == *method {
        return Ok(());
    }
    Err(ServeError::invalid(format!(
        "this path wants {method}, not {}",
        call.method
    )))
}

/// The version that predicts; where the request names none, by the model's traffic.
async fn predictor(
    shared: &Shared,
    call: &Call,
    model: &str,
    pick: Pick<'_>,
    timeout: Option<Duration>,
) -> Result<Arc<Version>> {
    let header = |name: &str| {
        let value = call.headers.get(name)?.to_str();
        value.ok().map(str::to_owned)
    };
    let (pick, trial) = shared.route(model, pick, header)?;
    if let Some(trial) = trial {
        call.trial.get_or_init(|| trial);
    }
    find(shared, call, model, pick, timeout).await
}

/// The version that is looked at.
async fn version(
    shared: &Shared,
    call: &Call,
    model: &str,
    pick: Pick<'_>,
) -> Result<Arc<Version>> {
    find(shared, call, model, shared.standing(model, pick), None).await
}

/// A version; it may have to be loaded, within the request's time.
async fn find(
    shared: &Shared,
    call: &Call,
    model: &str,
    pick: Pick<'_>,
    timeout: Option<Duration>,
) -> Result<Arc<Version>> {
    let timeout = own_timeout(call, timeout)?;
    let is_timed = call.headers.contains_key(TIMING_HEADER);
    let waits = is_timed && shared.models.table().missing(model, pick).is_some();
    let asked = Instant::now();
    let found = shared.version(model, pick, call.started, timeout).await?;
    if waits {
        call.load.get_or_init(|| asked.elapsed());
    }
    Ok(found)
}

/// The time that the header gives, else what the body does.
fn own_timeout(call: &Call, timeout: Option<Duration>) -> Result<Option<Duration>> {
    let Some(value) = call.headers.get(TIMEOUT_HEADER) else {
        return Ok(timeout);
    };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(ms) => Ok(Some(Duration::from_millis(ms))),
        None => Err(ServeError::invalid(format!(
            "header `{TIMEOUT_HEADER}` is no number of milliseconds"
        ))),
    }
}

/// A copy of the request for a version that is only compared, where it is one of those that are copied.
fn copy<R>(call: &Call, read: impl FnOnce(Bytes) -> R) -> Option<shadow::Copy>
where
    R: FnOnce(&Version) -> Result<(usize, Vec<Tensor>)> + Send + 'static,
{
    let ticket = call.trial.get()?.ticket.clone()?;
    Some(shadow::Copy {
        ticket,
        bytes: call.body.len(),
        read: Box::new(read(call.body.clone())),
    })
}

/// What is run, and for whom.
struct Run<'a> {
    version: &'a Arc<Version>,
    signature: usize,
    inputs: Vec<Tensor>,
    timeout: Option<Duration>,
    copy: Option<shadow::Copy>,
}

/// Runs inputs and writes what came by `write`; says where the time went to who asks.
async fn infer(
    shared: &Shared,
    call: &Call,
    run: Run<'_>,
    write: impl FnOnce(&[Tensor]) -> Result<Reply>,
) -> Result<Reply> {
    let request = infer::Request {
        version: run.version,
        signature: run.signature,
        inputs: run.inputs,
        started: call.started,
        timeout: own_timeout(call, run.timeout)?,
        copy: run.copy,
    };
    let (mut reply, timing) = shared.infer(request, write).await?;
    if call.headers.contains_key(TIMING_HEADER) {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let load = call.load.get();
        let load = load.map_or_else(String::new, |took| format!("load;dur={:.3}, ", ms(*took)));
        let text = format!(
            "{load}queue;dur={:.3}, compute;dur={:.3}, serialise;dur={:.3}",
            ms(timing.queue),
            ms(timing.compute),
            ms(timing.serialise)
        );
        if let Ok(value) = HeaderValue::from_str(&text) {
            reply
                .headers
                .push((HeaderName::from_static("server-timing"), value));
        }
    }
    Ok(reply)
}
