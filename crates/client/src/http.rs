//! Requests and answers: the one place where a URL is put together, a token added and a problem read.

use crate::error::ClientError;
use api::Problem;
use api::problem::PROBLEM_JSON;
use api::routes::Method;
use base::{Code, Span, Uid};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, OnceLock};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Span = Span::from_secs(5);
/// How long a connection may be silent before the system asks whether the other side is there.
const KEEPALIVE: Span = Span::from_secs(15);
/// How long a stream may be silent: servers send a comment every 15 seconds.
pub(crate) const SILENCE_MAX: Span = Span::from_secs(60);
/// The most bytes of an answer that is read as one value.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The most bytes of an error that is not problem+json.
const ERROR_BYTES_MAX: usize = 2_000;

/// Where and as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://127.0.0.1:7070`.
    pub server: String,
    /// Sent as a bearer token.
    pub token: Option<String>,
    /// Certificates (PEM) to trust besides the machine's.
    pub certificates: Option<Vec<u8>>,
    /// How long an answer may take; streams and transfers are bounded by silence instead.
    pub timeout: Span,
}

/// What every connection is made with. The token's header is not shown.
#[derive(Debug)]
struct Credentials {
    headers: HeaderMap,
    certificates: Option<Vec<u8>>,
}

/// A client. Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// WebSockets are an upgrade of HTTP/1.1.
    http1: reqwest::Client,
    /// For other places than the API, made when it is needed.
    outside: Arc<OnceLock<reqwest::Client>>,
    credentials: Arc<Credentials>,
    server: Url,
    timeout: Span,
}

impl Client {
    /// Prepares a client; nothing is sent yet.
    pub fn new(config: &Config) -> Result<Client, ClientError> {
        let bad_server = || ClientError::BadServer(config.server.clone());
        let mut server = Url::parse(&config.server).map_err(|_| bad_server())?;
        if !matches!(server.scheme(), "http" | "https") || server.host_str().is_none() {
            return Err(bad_server());
        }
        server.set_path("/");
        // Another part of the program may have installed the same provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The machine's certificates take longer to read than most answers take to come.
        let is_tls = server.scheme() == "https";
        let credentials = Credentials {
            headers: headers(config.token.as_deref())?,
            certificates: config.certificates.clone(),
        };
        Ok(Client {
            http: build(&credentials, is_tls, false)?,
            http1: build(&credentials, is_tls, true)?,
            outside: Arc::default(),
            credentials: Arc::new(credentials),
            server,
            timeout: config.timeout,
        })
    }

    /// The server, as configured.
    pub fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    /// A request to a path of plain segments; each is escaped.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let request = self.http.request(http_method(method), self.url(segments));
        match method {
            // A POST that is sent again acts once.
            Method::Post => request.header("Idempotency-Key", fresh_key()),
            Method::Get | Method::Head | Method::Put | Method::Patch | Method::Delete => request,
        }
    }

    /// A request that becomes a WebSocket.
    pub(crate) fn upgrade(&self, segments: &[&str]) -> RequestBuilder {
        self.http1.get(self.url(segments))
    }

    /// A request to another place than the API, with a body a POST.
    pub(crate) fn outside(
        &self,
        url: &str,
        body: Option<Vec<u8>>,
        media: &str,
    ) -> Result<RequestBuilder, ClientError> {
        let url = Url::parse(url).map_err(|_| ClientError::BadServer(url.to_owned()))?;
        let http = match self.outside.get() {
            Some(http) => http,
            None => {
                let made = build(&self.credentials, true, false)?;
                self.outside.get_or_init(|| made)
            }
        };
        let request = match body {
            Some(body) => http.post(url).header(CONTENT_TYPE, media).body(body),
            None => http.get(url),
        };
        Ok(request.timeout(self.timeout.as_std()))
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .expect("an http URL has segments")
            .clear()
            .extend(segments);
        url
    }

    /// Sends and reads a value.
    pub(crate) async fn value<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let response = self
            .good(
                request
                    .header(ACCEPT, "application/json")
                    .timeout(self.timeout.as_std()),
            )
            .await?;
        let bytes = self.bytes(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|source| self.not_understood(source))
    }

    /// Sends a value and reads one.
    pub(crate) async fn exchange<B: Serialize, T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        body: &B,
    ) -> Result<T, ClientError> {
        self.value(request.json(body)).await
    }

    /// Sends; the answer is of no interest.
    pub(crate) async fn done(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.good(request.timeout(self.timeout.as_std()))
            .await
            .map(drop)
    }

    /// Sends and gives the answer if it is a good one.
    pub(crate) async fn good(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.failed(source))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response) -> ClientError {
        let status = response.status();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|media| media.starts_with(PROBLEM_JSON));
        let bytes = match self.bytes(response, ANSWER_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        if let (true, Ok(problem)) = (is_problem, serde_json::from_slice::<Problem>(&bytes)) {
            return ClientError::Refused(Box::new(problem));
        }
        // Not our server's own words: a proxy's, or none.
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(ERROR_BYTES_MAX)])
            .trim()
            .to_owned();
        let detail = if text.is_empty() {
            format!("the server answered {status}")
        } else {
            format!("the server answered {status}: {text}")
        };
        ClientError::Refused(Box::new(Problem::new(code_of(status), detail)))
    }

    pub(crate) async fn bytes(
        &self,
        mut response: Response,
        max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| self.failed(source))?
        {
            if bytes.len() + chunk.len() > max {
                return Err(self.not_understood(format!("more than {max} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(crate) fn failed(&self, source: reqwest::Error) -> ClientError {
        let server = self.server().to_owned();
        if source.is_timeout() && !source.is_connect() {
            ClientError::Timeout { server, source }
        } else if source.is_connect() {
            ClientError::Unreachable { server, source }
        } else {
            ClientError::Broken { server, source }
        }
    }

    pub(crate) fn not_understood(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Answer {
            server: self.server().to_owned(),
            source: source.into(),
        }
    }
}

/// `is_tls`: whether it may meet a certificate.
fn build(
    credentials: &Credentials,
    is_tls: bool,
    http1: bool,
) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .default_headers(credentials.headers.clone())
        .user_agent(concat!("moonshot/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT.as_std())
        .tcp_keepalive(KEEPALIVE.as_std())
        .redirect(reqwest::redirect::Policy::none());
    if http1 {
        builder = builder.http1_only();
    }
    if !is_tls {
        builder = builder.tls_certs_only([]);
    } else if let Some(pem) = &credentials.certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|_| ClientError::BadCredential("certificate file"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(ClientError::Setup)
}

fn headers(token: Option<&str>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| ClientError::BadCredential("token"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn http_method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// A key that nobody has used.
fn fresh_key() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    Uid(u128::from_be_bytes(bytes)).to_string()
}

/// What a bare status says.
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::Denied,
        404 => Code::NotFound,
        409 | 412 => Code::Conflict,
        410 => Code::Gone,
        408 | 504 => Code::Timeout,
        413 | 429 => Code::Exhausted,
        501 => Code::Unsupported,
        502 | 503 => Code::Unavailable,
        400..=499 => Code::Invalid,
        _ => Code::Internal,
    }
}
