//! Load over HTTP: requests at set times (open loop), so that a slow answer does not hold back the next question
//! and waiting is part of what is measured.

use crate::Failure;
use crate::samples::Samples;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests under way at once; beyond it a request waits, and its wait counts.
const IN_FLIGHT_MAX: usize = 64;
/// An answer that takes longer is a failure.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server's API under a token.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    token: String,
}

impl Api {
    /// At `ip:port`.
    pub(crate) fn new(listen: &str, token: &str) -> Api {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Api {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: format!("http://{listen}"),
            token: token.trim().to_owned(),
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("the benches' paths are URLs")
    }

    /// Sends; the answer's status and whole body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let exchange = async {
            let response = self
                .client
                .request(self.request(method, path, body))
                .await?;
            let status = response.status();
            Ok::<_, Failure>((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| format!("no answer in {} s: {path}", TIMEOUT.as_secs()))?
    }

    /// A good answer as JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (status, bytes) = self.send(method, path, body).await?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes);
            return Err(format!("{path} answered {status}: {text}").into());
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Opens a stream.
    pub(crate) async fn open(&self, path: &str) -> Result<Incoming, Failure> {
        let response = self
            .client
            .request(self.request(Method::GET, path, None))
            .await?;
        if !response.status().is_success() {
            return Err(format!("{path} answered {}", response.status()).into());
        }
        Ok(response.into_body())
    }
}

/// One request of a load.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>) -> Ask {
        Ask {
            method: Method::GET,
            path: path.into(),
            body: None,
        }
    }
}

/// Sends `n` requests, `rate` a second, each at its time; how long after its time each was answered.
/// A request that is refused or not answered fails the bench.
pub(crate) async fn open_loop(
    api: &Api,
    rate: f64,
    n: usize,
    ask: impl Fn(usize) -> Ask,
) -> Result<Samples, Failure> {
    let start = Instant::now() + Duration::from_millis(20);
    let mut flying: JoinSet<Result<Duration, Failure>> = JoinSet::new();
    let mut samples = Samples::default();
    for at in 0..n {
        let due = start + Duration::from_secs_f64(at as f64 / rate);
        while flying.len() >= IN_FLIGHT_MAX {
            take(&mut samples, flying.join_next().await)?;
        }
        tokio::time::sleep_until(due).await;
        let (api, ask) = (api.clone(), ask(at));
        flying.spawn(async move {
            let (status, bytes) = api.send(ask.method, &ask.path, ask.body.as_ref()).await?;
            if !status.is_success() {
                let text = String::from_utf8_lossy(&bytes);
                return Err(format!("{} answered {status}: {text}", ask.path).into());
            }
            Ok(due.elapsed())
        });
        while let Some(done) = flying.try_join_next() {
            take(&mut samples, Some(done))?;
        }
    }
    while let Some(done) = flying.join_next().await {
        take(&mut samples, Some(done))?;
    }
    Ok(samples)
}

type Done = Result<Result<Duration, Failure>, tokio::task::JoinError>;

fn take(samples: &mut Samples, done: Option<Done>) -> Result<(), Failure> {
    if let Some(done) = done {
        samples.push(done??);
    }
    Ok(())
}

/// Sends requests as fast as `width` connections take them; how long it took.
pub(crate) async fn closed_loop(
    api: &Api,
    width: usize,
    n: usize,
    ask: impl Fn(usize) -> Ask,
) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut flying: JoinSet<Result<(), Failure>> = JoinSet::new();
    for at in 0..n {
        while flying.len() >= width {
            if let Some(done) = flying.join_next().await {
                done??;
            }
        }
        let (api, ask) = (api.clone(), ask(at));
        flying.spawn(async move {
            api.call(ask.method, &ask.path, ask.body.as_ref())
                .await
                .map(drop)
        });
    }
    while let Some(done) = flying.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}
