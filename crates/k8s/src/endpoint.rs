//! Where pods ask what to run and bring what they have: output, files, their end (see [`pod::wire`]).
//!
//! A pod shows its projected service-account token; the cluster says whose it is (TokenReview), and the answer is kept for a
//! while by the token's hash. Only the pod that holds a Slot now is served: a superseded one has no way in.

use crate::cache::Cache;
use crate::packing;
use crate::port::Shared;
use crate::report::end_of_report;
use crate::spec::spec;
use crate::view::{Holder, Place, PodView};
use base::{Digest, Seq};
use bytes::Bytes;
use engine::{EngineError, Frame, ReplicaKey, Slot, Stream};
use futures_util::TryStreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use k8s_openapi::api::authentication::v1::TokenReview;
use kube::Api;
use kube::api::PostParams;
use pod::wire::{self, Grace, Kept, Report};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shim::frame::{Decoded, decode};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; each pod has one or two.
const CONNECTIONS_MAX: usize = 20_000;
/// How long the cluster's word about a token is good.
const TRUST: Duration = Duration::from_secs(60);
/// Tokens that are remembered.
const TRUSTED_MAX: usize = 50_000;
/// A report.
const REPORT_BYTES_MAX: usize = 1 << 20;

type Body = BoxBody<Bytes, io::Error>;
type Answer = Result<Response<Body>, Refusal>;

/// A refused request: the status and a sentence.
struct Refusal(StatusCode, String);

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Refusal {
        let status = match error {
            EngineError::Superseded { .. } => StatusCode::FORBIDDEN,
            EngineError::Unsupported { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            EngineError::NotRunning(_) => StatusCode::NOT_FOUND,
            EngineError::Failed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal(status, error.to_string())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// Which pod a token belongs to: its place and uid.
#[derive(Default)]
pub(crate) struct Trusted(Mutex<HashMap<[u8; 32], (Instant, Place, String)>>);

/// Serves until `stop`.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: pods try again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tracker.spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let builder = auto::Builder::new(TokioExecutor::new());
            let served = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A pod that goes in the middle of a request tries again or is gone.
                served = served => drop(served),
                () = stop.cancelled() => {}
            }
        });
    }
    tracker.close();
    tracker.wait().await;
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = route(&shared, request).await;
    Ok(answer.unwrap_or_else(|Refusal(status, sentence)| {
        tracing::debug!(path, status = status.as_u16(), sentence, "a pod is refused");
        let mut response = Response::new(full(sentence));
        *response.status_mut() = status;
        response
    }))
}

/// A pod that asks, with the Slot that it holds.
struct Asker {
    pod: PodView,
    key: ReplicaKey,
    holder: Holder,
    slot: Slot,
}

async fn route(shared: &Shared, request: Request<Incoming>) -> Answer {
    let asker = who(shared, &request).await?;
    let path = request.uri().path().to_owned();
    let tail = |prefix: &str| {
        path.strip_prefix(prefix)
            .and_then(|tail| tail.strip_prefix('/'))
    };
    match (request.method(), path.as_str()) {
        (&Method::GET, wire::SPEC) => give_spec(shared, &asker).await,
        (&Method::POST, wire::FRAMES) => take_frames(shared, &asker, request).await,
        (&Method::POST, wire::END) => take_end(shared, &asker, request).await,
        (&Method::GET, wire::STOP) => {
            let state = asker.holder.slots.get(asker.slot.index, asker.slot.attempt);
            let stop = state.and_then(|state| state.stop);
            answer_json(&Grace {
                grace_ms: stop.map(|stop| stop.grace_ms),
            })
        }
        (&Method::GET, path) if tail(wire::BLOBS).is_some() => {
            let digest = digest(path)?;
            let file = shared
                .config
                .content
                .blob(&asker.holder.group.project, &digest)
                .await?;
            give_file(tokio::fs::File::open(file).await?)
        }
        (&Method::GET, path) if tail(wire::ENVIRONMENTS).is_some() => {
            give_environment(shared, &asker, digest(path)?).await
        }
        (&Method::PUT, _) if tail(wire::OUTPUTS).is_some() => {
            let name = tail(wire::OUTPUTS).unwrap_or_default().to_owned();
            take_output(shared, &asker, name, request).await
        }
        (method, path) => Err(Refusal(
            StatusCode::NOT_FOUND,
            format!("there is no `{method} {path}`"),
        )),
    }
}

fn digest(path: &str) -> Result<Digest, Refusal> {
    let text = path.rsplit('/').next().unwrap_or_default();
    text.parse()
        .map_err(|_| Refusal(StatusCode::BAD_REQUEST, format!("`{text}` is not a digest")))
}

/// The pod that speaks and its Slot. 401 and 425 are asked again by it, 403 ends it.
async fn who(shared: &Shared, request: &Request<Incoming>) -> Result<Asker, Refusal> {
    let token = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| {
        Refusal(
            StatusCode::UNAUTHORIZED,
            "a pod's token is needed".to_owned(),
        )
    })?;
    let (place, uid) = review(shared, token).await?;
    let not_yet = || {
        Refusal(
            StatusCode::TOO_EARLY,
            "this pod is not known yet".to_owned(),
        )
    };
    let pod = shared.cache.pod_at(&place, &uid).ok_or_else(not_yet)?;
    let key = pod.key().ok_or_else(not_yet)?;
    let is_it = |cache: &Cache| cache.pod(&key).is_some_and(|now| now.uid == uid);
    let superseded = || {
        Refusal(
            StatusCode::FORBIDDEN,
            "another pod holds this place, or nobody wants it".to_owned(),
        )
    };
    let (holder, slot) = shared.cache.holder(&key).ok_or_else(superseded)?;
    if !is_it(&shared.cache) {
        return Err(superseded());
    }
    Ok(Asker {
        pod,
        key,
        holder,
        slot,
    })
}

/// Whose token it is.
async fn review(shared: &Shared, token: &str) -> Result<(Place, String), Refusal> {
    let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let now = Instant::now();
    let known = |trusted: &Trusted| {
        let trusted = trusted.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, place, uid) = trusted.get(&hash)?;
        (now.duration_since(*at) < TRUST).then(|| (place.clone(), uid.clone()))
    };
    if let Some(known) = known(&shared.trusted) {
        return Ok(known);
    }
    let review = json!({"spec": {"token": token, "audiences": [wire::AUDIENCE]}});
    let review: TokenReview = serde_json::from_value(review)
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let reviews: Api<TokenReview> = Api::all(shared.client.clone());
    let reviewed = reviews
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let stranger = || {
        Refusal(
            StatusCode::UNAUTHORIZED,
            "this is not the token of a pod".to_owned(),
        )
    };
    let status = reviewed.status.ok_or_else(stranger)?;
    if status.authenticated != Some(true) {
        return Err(stranger());
    }
    let user = status.user.ok_or_else(stranger)?;
    let extra = user.extra.unwrap_or_default();
    let first = |name: &str| extra.get(name).and_then(|values| values.first()).cloned();
    let name = first("authentication.kubernetes.io/pod-name").ok_or_else(stranger)?;
    let uid = first("authentication.kubernetes.io/pod-uid").ok_or_else(stranger)?;
    // `system:serviceaccount:NAMESPACE:NAME`
    let namespace = user
        .username
        .as_deref()
        .and_then(|user| user.split(':').nth(2))
        .map(str::to_owned);
    let place = (namespace.ok_or_else(stranger)?, name);
    let mut trusted = shared
        .trusted
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if trusted.len() >= TRUSTED_MAX {
        trusted.retain(|_, (at, ..)| now.duration_since(*at) < TRUST);
    }
    if trusted.len() < TRUSTED_MAX {
        trusted.insert(hash, (now, place.clone(), uid.clone()));
    }
    Ok((place, uid))
}

async fn give_spec(shared: &Shared, asker: &Asker) -> Answer {
    let state = asker.holder.slots.get(asker.slot.index, asker.slot.attempt);
    if asker.pod.is_deleting
        || state.is_some_and(|state| state.stop.is_some() || state.end.is_some())
    {
        // It will be told to end; until then it starts nothing.
        return Err(Refusal(
            StatusCode::TOO_EARLY,
            "it was asked to end".to_owned(),
        ));
    }
    let project = &asker.holder.group.project;
    let kept = shared
        .config
        .sink
        .append(project, &asker.key, Vec::new())
        .await?;
    answer_json(&spec(&shared.config, &asker.holder, &asker.slot, kept.0).await?)
}

async fn take_frames(shared: &Shared, asker: &Asker, request: Request<Incoming>) -> Answer {
    let bytes = read(request, 2 * wire::FRAMES_BYTES_MAX).await?;
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let Decoded::Frame(frame, len) = decode(rest) else {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "these are not whole frames".to_owned(),
            ));
        };
        rest = &rest[len..];
        frames.push(Frame {
            seq: frame.seq,
            stream: match frame.stream {
                shim::frame::Stream::Stdout => Stream::Stdout,
                shim::frame::Stream::Stderr => Stream::Stderr,
                shim::frame::Stream::Note => Stream::Note,
            },
            time: frame.time,
            bytes: frame.bytes,
        });
    }
    let project = &asker.holder.group.project;
    let Seq(kept) = shared
        .config
        .sink
        .append(project, &asker.key, frames)
        .await?;
    Ok(Response::new(full(kept.to_string())))
}

/// Writes the end down where it outlives the pod. A service that is restarted in place tells through its status.
async fn take_end(shared: &Shared, asker: &Asker, request: Request<Incoming>) -> Answer {
    let bytes = read(request, REPORT_BYTES_MAX).await?;
    let report: Report = serde_json::from_slice(&bytes).map_err(|error| {
        Refusal(
            StatusCode::BAD_REQUEST,
            format!("this is not a report: {error}"),
        )
    })?;
    let group = &asker.holder.group;
    let state = asker.holder.slots.get(asker.slot.index, asker.slot.attempt);
    let stop = state.and_then(|state| state.stop);
    let is_last = group.life == engine::Life::Batch || stop.is_some();
    if is_last {
        let end = end_of_report(group, &report, stop, true);
        let Some(epoch) = shared.epoch() else {
            return Err(Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "this server does not lead".to_owned(),
            ));
        };
        shared
            .edit(&asker.key, epoch, |state| {
                let is_new = state.end.is_none();
                state.end.get_or_insert_with(|| end.clone());
                is_new
            })
            .await?;
    }
    Ok(Response::new(full(String::new())))
}

async fn give_environment(shared: &Shared, asker: &Asker, digest: Digest) -> Answer {
    let project = &asker.holder.group.project;
    let venv = shared.config.content.environment(project, &digest).await?;
    let draft = tempfile::NamedTempFile::new_in(&shared.config.scratch)?;
    let path = draft.path().to_owned();
    blocking(move || packing::pack_environment(&venv, &path)).await?;
    // The name goes with `draft`; the bytes stay while they are sent.
    give_file(tokio::fs::File::open(draft.path()).await?)
}

async fn take_output(
    shared: &Shared,
    asker: &Asker,
    name: String,
    request: Request<Incoming>,
) -> Answer {
    let is_declared = asker
        .holder
        .group
        .template
        .outputs
        .iter()
        .any(|output| output.name == name);
    if !is_declared {
        return Err(Refusal(
            StatusCode::NOT_FOUND,
            format!("there is no output `{name}`"),
        ));
    }
    let draft = tempfile::tempdir_in(&shared.config.scratch)?;
    let (archive, files) = (draft.path().join("archive"), draft.path().join("files"));
    let mut file = tokio::fs::File::create(&archive).await?;
    let mut body = BodyStream::new(request.into_body());
    while let Some(part) = body
        .try_next()
        .await
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))?
    {
        if let Ok(data) = part.into_data() {
            file.write_all(&data).await?;
        }
    }
    file.flush().await?;
    tokio::fs::create_dir(&files).await?;
    let into = files.clone();
    blocking(move || packing::unpack(&archive, &into)).await?;
    let project = &asker.holder.group.project;
    let kept = shared
        .config
        .content
        .keep(project, &only_child(&files))
        .await?;
    answer_json(&Kept {
        name,
        digest: kept.0.to_string(),
        size: kept.1,
    })
}

/// A file that was sent alone is kept as a file, as on one machine.
fn only_child(dir: &std::path::Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    match (entries.next(), entries.next()) {
        (Some(one), None) if one.path().is_file() => one.path(),
        _ => dir.to_owned(),
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn read(request: Request<Incoming>, max: usize) -> Result<Bytes, Refusal> {
    let body = Limited::new(request.into_body(), max).collect().await;
    let body = body.map_err(|error| Refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    Ok(body.to_bytes())
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never| match never {})
        .boxed()
}

fn give_file(file: tokio::fs::File) -> Answer {
    let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
    let frames = stream.map_ok(hyper::body::Frame::data);
    Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))))
}

fn answer_json<T: serde::Serialize>(value: &T) -> Answer {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Response::new(full(bytes)))
}
