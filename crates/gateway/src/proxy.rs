//! Carries requests: streams bodies both ways, upgrades (WebSocket), tries another replica when one cannot be
//! connected to, and drains at the end.

use crate::feed::{self, Source};
use crate::once::Once;
use crate::problem::Problem;
use crate::table::Table;
use crate::{grpc, step_back};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use telemetry::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A client that does not send its header in this time is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// To connect to a replica on the same machine or network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept to each replica.
const IDLE_MAX: usize = 64;
/// Between signs of life on a connection of HTTP/2, and how long one is waited for.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// At the end, requests in flight get this long.
const DRAIN: Duration = Duration::from_secs(30);
/// Where a route does not say.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Headers that concern one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;
type Upstream = Client<HttpConnector, Once>;

/// How to run.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the table comes from.
    pub source: Source,
}

/// Why it could not run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {0}: another program may use it; choose another with MOONSHOT_GATEWAY_LISTEN"
    )]
    Listen(SocketAddr, #[source] std::io::Error),
}

struct Shared {
    table: watch::Receiver<Option<Arc<Table>>>,
    http1: Upstream,
    http2: Upstream,
}

/// Serves until `stop`, then drains.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), GatewayError> {
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| GatewayError::Listen(config.listen, error))?;
    let (sender, table) = watch::channel(feed::kept(&config.source.file).map(Arc::new));
    let mut tasks = JoinSet::new();
    let judged = step_back::watch(config.source.clone(), table.clone(), stop.clone());
    tasks.spawn(judged);
    tasks.spawn(feed::follow(config.source, sender, stop.clone()));
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30));
    let http1 = builder.build(connector.clone());
    // One connection carries many requests: one that died with its machine must not hold them until they time out.
    builder
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE);
    let http2 = builder.http2_only(true).build(connector);
    let shared = Arc::new(Shared {
        table,
        http1,
        http2,
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE));
    let graceful = GracefulShutdown::new();
    tracing::info!(listen = %config.listen, "gateway serves");
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, usually: others must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = tasks.join_next() => continue,
            () = stop.cancelled() => break,
        };
        // Small answers leave at once.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move {
                let is_grpc = grpc::is(&request);
                let span = begin(&request);
                let handled = handle(&shared, request, peer, is_grpc, span.as_ref()).await;
                if let Some(span) = span {
                    span.answered(match &handled {
                        Ok(response) => response.status(),
                        Err(problem) => problem.status,
                    });
                }
                Ok::<_, Infallible>(handled.unwrap_or_else(|problem| problem.answer(is_grpc)))
            }
        });
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(
            "requests in flight were cut off after {} s",
            DRAIN.as_secs()
        );
    }
    tasks.shutdown().await;
    Ok(())
}

/// The span of a request, where spans are collected. It gets the App's name when that is known, and ends when the answer begins.
fn begin(request: &Request<Incoming>) -> Option<Span> {
    let span = telemetry::request(|| request.method().to_string(), request.headers())?;
    span.set("http.request.method", request.method().to_string());
    span.set("url.path", request.uri().path().to_owned());
    Some(span)
}

async fn handle(
    shared: &Shared,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    is_grpc: bool,
    span: Option<&Span>,
) -> Result<Response<Body>, Problem> {
    let path = request.uri().path();
    let table = shared.table.borrow().clone();
    if path == "/-/ready" {
        let ready = table.is_some();
        return Ok(plain(
            if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            "gateway\n",
        ));
    }
    let Some(table) = table else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the gateway has no routes yet; try again in a moment",
        ));
    };
    // Names of all Apps are in it: for programs of this machine that did not come through another proxy.
    let is_near = peer.ip().is_loopback() && !request.headers().contains_key("x-forwarded-for");
    if path == "/-/metrics" && is_near {
        return Ok(Response::new(full(table.metrics())));
    }
    let host = request
        .uri()
        .host()
        .or_else(|| {
            request
                .headers()
                .get(header::HOST)
                .and_then(|value| value.to_str().ok())
        })
        .unwrap_or_default()
        .to_owned();
    let found = if is_grpc {
        table.find_grpc(&host, path)
    } else {
        table.find(&host, path)
    };
    let Some(route) = found else {
        let hint = if is_grpc {
            "; gRPC names an App by its authority, `APP.PROJECT` or the host of its route"
        } else {
            "; `moonshot get apps` shows their URLs"
        };
        let detail = format!("no App is reached by host `{host}` and path `{path}`{hint}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail));
    };
    if !route.accepts(token(request.headers()).as_deref()) {
        let detail = format!(
            "App `{}` needs a token: send `Authorization: Bearer <token>`; `moonshot token route {}` makes one",
            route.spec.app, route.spec.app
        );
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            detail,
        ));
    }
    if let Some(span) = span {
        span.rename(format!("{}/{}", route.spec.project, route.spec.app));
        span.write(request.headers_mut());
    }
    let endpoints = route.endpoints();
    if endpoints.is_empty() {
        let detail = format!(
            "App `{}` has no ready replica; `moonshot why app/{}` says why",
            route.spec.app, route.spec.app
        );
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            detail,
        ));
    }
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or("/", |both| both.as_str());
    let inner = route.inner_path(path_and_query);
    let timeout = if route.spec.timeout_ms == 0 {
        TIMEOUT
    } else {
        Duration::from_millis(route.spec.timeout_ms)
    };
    // A program that is asked in gRPC speaks HTTP/2, whatever its port is declared as.
    let is_h2c = is_grpc || route.spec.protocol == "h2c";
    let client = if is_h2c { &shared.http2 } else { &shared.http1 };
    if route.needs_token() {
        request.headers_mut().remove(header::AUTHORIZATION);
        request.headers_mut().remove("x-moonshot-token");
    }
    let began = Instant::now();
    let at = AtomicUsize::new(0);
    let work = forward(
        client, request, &endpoints, &at, &inner, peer, &host, is_h2c,
    );
    let answered = match tokio::time::timeout(timeout, work).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(detail)) => Err(Problem::new(StatusCode::BAD_GATEWAY, "unavailable", detail)),
        Err(_) => {
            let detail = format!(
                "App `{}` did not answer in {} s",
                route.spec.app,
                timeout.as_secs()
            );
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail))
        }
    };
    // Whoever was asked last made the answer that the caller sees.
    let counts = route.counts_of(endpoints[at.load(Ordering::Relaxed)]);
    let Some(counts) = counts.map(Arc::clone) else {
        return answered;
    };
    let (errors, took) = (route.errors(), began.elapsed());
    let count = move |status| counts.record(errors.has(status), took);
    match answered {
        Ok(response) if is_grpc => {
            let (parts, body) = response.into_parts();
            let body = grpc::Told::new(&parts.headers, parts.status, body, count);
            Ok(Response::from_parts(parts, body.boxed()))
        }
        Ok(response) => {
            count(response.status());
            Ok(response)
        }
        Err(problem) => {
            count(problem.status);
            Err(problem)
        }
    }
}

/// Sends the request to the first endpoint that can be connected to. A failure to connect is tried elsewhere: then
/// nothing of the request was sent. A connection that was kept may have died with its replica unnoticed: a request that
/// changes nothing (RFC 9110 §9.2.1) is sent once more, any other is not.
#[expect(
    clippy::too_many_arguments,
    reason = "all of one request, from its one caller"
)]
async fn forward(
    client: &Upstream,
    mut request: Request<Incoming>,
    endpoints: &[&str],
    at: &AtomicUsize,
    path: &str,
    peer: SocketAddr,
    host: &str,
    is_h2c: bool,
) -> Result<Response<Body>, String> {
    let upgrade = upgrade_of(request.headers());
    let client_upgrade = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    if let Some(protocol) = &upgrade {
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol.clone());
    }
    forwarded(&mut parts.headers, peer, host);
    parts.version = if is_h2c {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    let body = Once::new(body);
    let is_safe = parts.method.is_safe();
    let mut sent_again = false;
    let mut last = String::new();
    for (n, endpoint) in endpoints.iter().enumerate() {
        at.store(n, Ordering::Relaxed);
        let uri = Uri::builder()
            .scheme("http")
            .authority(*endpoint)
            .path_and_query(path)
            .build();
        parts.uri = uri.map_err(|error| format!("the path cannot be sent: {error}"))?;
        let request = Request::from_parts(parts.clone(), body.clone());
        match client.request(request).await {
            Ok(response) => return Ok(answer(response, client_upgrade)),
            Err(error) => {
                last = describe(endpoint, &error);
                let may_again = error.is_connect() || (is_safe && !sent_again);
                if !may_again || body.has_begun() {
                    return Err(last);
                }
                sent_again |= !error.is_connect();
            }
        }
    }
    Err(format!(
        "no replica could be connected to; the last: {last}"
    ))
}

fn describe(endpoint: &str, error: &ClientError) -> String {
    let mut text = format!("replica {endpoint} broke off: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn answer(
    mut response: Response<Incoming>,
    client: Option<hyper::upgrade::OnUpgrade>,
) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let upstream = hyper::upgrade::on(&mut response);
        #[expect(
            clippy::disallowed_methods,
            reason = "a tunnel lives as long as its two connections, which end it"
        )]
        tokio::spawn(async move {
            let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else {
                return;
            };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            // Whichever side ends, the other is told.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        });
        return response.map(|body| body.boxed());
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    parts.version = Version::default();
    Response::from_parts(parts, body.boxed())
}

/// Takes off what concerns one connection, and what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let wants_trailers = headers
        .get(header::TE)
        .is_some_and(|value| value == "trailers");
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if wants_trailers {
        // gRPC asks for trailers this way; it is the one value that may pass.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(header::CONNECTION)?.to_str().ok()?;
    let asks = connection
        .split(',')
        .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    asks.then(|| headers.get(header::UPGRADE).cloned())
        .flatten()
}

/// Tells the program who asked, and how.
fn forwarded(headers: &mut HeaderMap, peer: SocketAddr, host: &str) {
    let from = headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok());
    let chain = from.map_or_else(
        || peer.ip().to_string(),
        |before| format!("{before}, {}", peer.ip()),
    );
    let values = [
        ("x-forwarded-for", chain),
        ("x-forwarded-host", host.to_owned()),
        ("x-forwarded-proto", "http".to_owned()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn token(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    bearer
        .or_else(|| text("x-moonshot-token"))
        .map(|token| token.trim().to_owned())
}

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
}
