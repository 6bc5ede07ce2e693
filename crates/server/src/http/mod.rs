//! The HTTP API: routes, the caller, errors. Handlers are thin: they read the request, call one use case, and
//! write its answer. The routes are those of [`api::routes`].

mod access;
mod gateway;
mod manifest;
mod models;
mod objects;
mod once;
mod outputs;
mod problem;
mod socket;
mod streams;
mod subresources;
mod watch;

use crate::auth;
use crate::error::UseError;
use crate::platform::{Platform, new_uid};
use crate::usecase::Caller;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use base::Code;
use std::sync::Arc;

pub(crate) use problem::Refusal;

/// The largest body of a request that is not an upload: a manifest of [`api::manifest::MANIFEST_BYTES_MAX`] fits,
/// and a larger one is refused in words.
const BODY_MAX: usize = 16 << 20;
/// The session's cookie.
const SESSION: &str = "moonshot_session";

/// Shared by all handlers.
pub(crate) type Shared = State<Arc<Platform>>;

/// Every route of the API, and the console where it is built in.
pub fn router(platform: Arc<Platform>) -> Router {
    let project = "/v1/projects/{project}";
    let job = format!("{project}/jobs/{{name}}");
    let app = format!("{project}/apps/{{name}}");
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(access::ready))
        .route("/metrics", get(access::metrics))
        .route("/v1/openapi.json", get(access::openapi))
        .route("/v1/login", post(access::login))
        .route("/v1/logout", post(access::logout))
        .route("/v1/whoami", get(access::whoami))
        .route("/v1/status", get(access::status))
        .route("/v1/tokens", get(access::tokens).post(access::create_token))
        .route("/v1/tokens/{id}", delete(access::revoke_token))
        .route("/v1/audit", get(access::audit))
        .route("/v1/apply", post(manifest::apply))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/gateway/feed", get(gateway::feed))
        .route("/v1/top", get(streams::usage))
        .route("/v1/ingest", post(streams::take_output))
        .route("/v1/rsh", get(streams::rsh))
        .route("/v1/nodes/{name}/cordon", post(subresources::cordon))
        .route("/v1/nodes/{name}/uncordon", post(subresources::uncordon))
        .route("/v1/nodes/{name}/drain", post(subresources::drain))
        .route(&format!("{job}/cancel"), post(subresources::cancel))
        .route(&format!("{job}/suspend"), post(subresources::suspend))
        .route(&format!("{job}/resume"), post(subresources::resume))
        .route(&format!("{job}/rerun"), post(subresources::rerun))
        .route(
            &format!("{job}/outputs/{{output}}"),
            get(outputs::job_output),
        )
        .route(&format!("{job}/attempts"), get(streams::job_attempts))
        .route(&format!("{job}/exec"), get(streams::job_exec))
        .route(
            &format!("{job}/portforward"),
            get(streams::job_port_forward),
        )
        .route(&format!("{app}/exec"), get(streams::app_exec))
        .route(
            &format!("{app}/portforward"),
            get(streams::app_port_forward),
        )
        .route(&format!("{job}/logs"), get(outputs::job_logs))
        .route(&format!("{app}/logs"), get(outputs::app_logs))
        .route(&format!("{app}/revisions"), get(subresources::revisions))
        .route(&format!("{app}/rollback"), post(subresources::rollback))
        .route(&format!("{app}/restart"), post(subresources::restart))
        .route(&format!("{app}/scale"), put(subresources::scale))
        .route(
            &format!("{project}/models/{{name}}/versions"),
            get(models::versions).post(models::push),
        )
        .route(
            &format!("{project}/blobs"),
            put(outputs::put_blob).layer(DefaultBodyLimit::disable()),
        )
        .route(
            &format!("{project}/blobs/{{digest}}"),
            get(outputs::get_blob).head(outputs::head_blob),
        )
        .route(
            &format!("{project}/{{plural}}"),
            get(objects::list_in).post(objects::create_in),
        )
        .route(
            &format!("{project}/{{plural}}/{{name}}"),
            get(objects::get_in)
                .put(objects::apply_in)
                .patch(objects::patch_in)
                .delete(objects::delete_in),
        )
        .route(
            &format!("{project}/{{plural}}/{{name}}/events"),
            get(subresources::events),
        )
        .route(
            &format!("{project}/{{plural}}/{{name}}/why"),
            get(subresources::why),
        )
        .route("/v1/{plural}", get(objects::list).post(objects::create))
        .route(
            "/v1/{plural}/{name}",
            get(objects::get)
                .put(objects::apply)
                .patch(objects::patch)
                .delete(objects::delete),
        )
        .fallback(access::console)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&platform),
            once::once,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(&platform), guard))
        .with_state(platform)
}

/// The request's id, made here unless the client sent one.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Request ids, Host and Origin checks, the access log.
async fn guard(State(platform): Shared, mut request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let sent = request
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok());
    let good = |id: &&str| {
        !id.is_empty()
            && id.len() <= 64
            && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let id = sent
        .filter(good)
        .map_or_else(|| new_uid(platform.clock.now()).to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // Its name has few forms: the route's, without the names in it.
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str);
    let span = telemetry::request(|| format!("{method} {route}"), request.headers());
    if let Some(span) = &span {
        span.set("http.request.method", method.to_string());
        span.set("http.route", route.to_owned());
        span.set("url.path", path.clone());
        span.set("moonshot.request_id", id.clone());
    }
    let answer = async {
        match check_origin(&platform, &request) {
            Ok(()) => next.run(request).await,
            Err(error) => Refusal(error, id.clone()).into_response(),
        }
    };
    let mut response = match &span {
        Some(span) => span.cover(answer).await,
        None => answer.await,
    };
    if let Some(span) = &span {
        span.answered(response.status());
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    let took = started.elapsed();
    platform.requests.count(&method, response.status(), took);
    tracing::debug!(%method, path, status = response.status().as_u16(), ms = took.as_millis() as u64, request = id, "served");
    response
}

/// A browser must be on our own pages: a foreign page may neither read (DNS rebinding, by Host) nor act (by Origin).
fn check_origin(platform: &Platform, request: &Request) -> Result<(), UseError> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let host = text(header::HOST).unwrap_or_default();
    if !platform.hosts.accepts(host) {
        let detail =
            format!("host `{host}` is not served here; add it to `hosts` in the configuration");
        return Err(UseError::new(Code::Denied, detail));
    }
    let acts = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    // A WebSocket begins with GET, and browsers let every page open one.
    let acts = acts || request.headers().contains_key(header::UPGRADE);
    if let Some(origin) = text(header::ORIGIN).filter(|_| acts) {
        let authority = origin
            .split_once("://")
            .map_or(origin, |(_, authority)| authority);
        if authority != host {
            return Err(UseError::new(
                Code::Denied,
                format!("a page of `{origin}` may not act here"),
            ));
        }
    }
    Ok(())
}

/// The caller of a request, by `Authorization: Bearer` or the console's cookie.
pub(crate) struct Known(pub(crate) Caller);

impl FromRequestParts<Arc<Platform>> for Known {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        platform: &Arc<Platform>,
    ) -> Result<Self, Refusal> {
        let request = parts
            .extensions
            .get::<RequestId>()
            .map_or_else(String::new, |id| id.0.clone());
        let refuse = |error| Refusal(error, request.clone());
        let Some(token) = token(parts) else {
            let detail =
                "send `Authorization: Bearer <token>`; `moonshot token show` prints the first one";
            return Err(refuse(UseError::new(Code::Unauthenticated, detail)));
        };
        let actor = auth::authenticate(platform, &token).await.map_err(refuse)?;
        Ok(Known(Caller { actor, request }))
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim)
}

fn token(parts: &Parts) -> Option<String> {
    if let Some(bearer) = bearer(&parts.headers) {
        return Some(bearer.to_owned());
    }
    let cookies = parts.headers.get(header::COOKIE)?.to_str().ok()?;
    let session = cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    session
        .filter(|(name, _)| *name == SESSION)
        .map(|(_, value)| value.to_owned())
        .next()
}

/// An answer without a body.
pub(crate) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The API as something that can be served.
pub type App = Router;

/// Serves until `stop`; requests in flight are finished.
pub async fn serve(
    listener: tokio::net::TcpListener,
    app: App,
    stop: tokio_util::sync::CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}
