//! gRPC through the gateway: which requests are gRPC, how an error is said in it, and how its answers are counted. What
//! went wrong stands in the trailers (`grpc-status`), behind a status of HTTP that is 200 either way.
//!
//! Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md) and "HTTP to gRPC status code mapping", github.com/grpc/grpc.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Whether it is a gRPC request. gRPC-Web is HTTP to us, and what comes by HTTP/1 could not hear how it ended.
pub(crate) fn is<B>(request: &Request<B>) -> bool {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
    kind && request.version() == Version::HTTP_2
}

/// An answer without messages: status and reason in its headers.
pub(crate) fn refuse<B>(status: StatusCode, detail: &str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert("grpc-status", HeaderValue::from(code_of(status)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(detail)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// gRPC's number for one of the gateway's own errors. No App of that name is `NOT_FOUND`, as `UNIMPLEMENTED`, which clients
/// make of HTTP's 404, is said of methods.
fn code_of(status: StatusCode) -> u16 {
    match status {
        StatusCode::NOT_FOUND => 5,
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::GATEWAY_TIMEOUT => 4,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 13,
    }
}

/// The status of HTTP that says the same, so that both protocols are counted by one rule.
fn status_of(code: u16) -> StatusCode {
    match code {
        // CANCELLED is the caller's will.
        0 | 1 => StatusCode::OK,
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        16 => StatusCode::UNAUTHORIZED,
        4 => StatusCode::GATEWAY_TIMEOUT,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What headers or trailers say of the answer.
fn said(headers: &HeaderMap) -> Option<StatusCode> {
    let text = headers.get("grpc-status")?.to_str().ok()?;
    // A number that nobody knows is an error (`UNKNOWN`).
    Some(status_of(text.trim().parse().unwrap_or(2)))
}

/// What may stand in `grpc-message`: printable ASCII but `%`, the rest as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A body that tells once how its answer ended. Dropped before its end, it tells nothing: the caller went.
pub(crate) struct Told<B, F> {
    body: B,
    tell: Option<F>,
}

impl<B, F: FnOnce(StatusCode)> Told<B, F> {
    /// Of an answer of gRPC; `tell` gets its status in HTTP's words.
    pub(crate) fn new(headers: &HeaderMap, http: StatusCode, body: B, tell: F) -> Told<B, F> {
        let mut told = Told {
            body,
            tell: Some(tell),
        };
        if http != StatusCode::OK {
            told.tell(http);
        } else if let Some(status) = said(headers) {
            told.tell(status);
        }
        told
    }

    fn tell(&mut self, status: StatusCode) {
        if let Some(tell) = self.tell.take() {
            tell(status);
        }
    }
}

impl<B, F> Body for Told<B, F>
where
    B: Body + Unpin,
    F: FnOnce(StatusCode) + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let told = self.get_mut();
        let polled = Pin::new(&mut told.body).poll_frame(ctx);
        let Poll::Ready(frame) = &polled else {
            return polled;
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = said(trailers).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    told.tell(status);
                }
            }
            Some(Err(_)) => told.tell(StatusCode::BAD_GATEWAY),
            // It ended without a word.
            None => told.tell(StatusCode::INTERNAL_SERVER_ERROR),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::convert::Infallible;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                (*name).parse().expect("a name"),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=1", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            for (version, may) in [(Version::HTTP_2, true), (Version::HTTP_11, false)] {
                let request = Request::builder().version(version);
                let request = request
                    .header("content-type", value)
                    .body(())
                    .expect("valid");
                assert_eq!(is(&request), expected && may, "{value}");
            }
        }
        assert!(!is(&Request::new(())));
    }

    #[test]
    fn a_refusal_is_said_in_headers_with_status_200() {
        let answer = refuse(StatusCode::NOT_FOUND, "no App `ü`: 100 %\n", ());
        assert_eq!(answer.status(), StatusCode::OK);
        let header = |name: &str| answer.headers()[name].to_str().expect("ASCII").to_owned();
        assert_eq!(header("grpc-status"), "5");
        assert_eq!(header("grpc-message"), "no App `%C3%BC`: 100 %25%0A");
        assert_eq!(header("content-type"), "application/grpc");
    }

    /// One message, then these trailers, if any.
    struct Answer(Option<HeaderMap>, bool);

    impl Body for Answer {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let frame = if std::mem::replace(&mut self.1, true) {
                self.0.take().map(Frame::trailers)
            } else {
                Some(Frame::data(Bytes::from_static(b"message")))
            };
            Poll::Ready(frame.map(Ok))
        }
    }

    /// What an answer with these headers, status and trailers tells.
    fn told(first: &HeaderMap, http: StatusCode, trailers: Option<HeaderMap>) -> Vec<u16> {
        let mut heard = Vec::new();
        let tell = |status: StatusCode| heard.push(status.as_u16());
        let mut body = Told::new(first, http, Answer(trailers, false), tell);
        let mut ctx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(_)) = Pin::new(&mut body).poll_frame(&mut ctx) {}
        drop(body);
        heard
    }

    #[test]
    fn an_answer_tells_once_how_it_ended() {
        let none = HeaderMap::new();
        let ok = StatusCode::OK;
        let status = |code| Some(headers(&[("grpc-status", code)]));
        assert_eq!(told(&none, ok, status("0")), [200]);
        assert_eq!(told(&none, ok, status("3")), [400]);
        assert_eq!(told(&none, ok, status("13")), [500]);
        assert_eq!(told(&none, ok, status("14")), [503]);
        assert_eq!(told(&none, ok, status("nonsense")), [500]);
        assert_eq!(told(&none, ok, None), [500], "it ended without a status");
        assert_eq!(told(&headers(&[("grpc-status", "8")]), ok, None), [429]);
        assert_eq!(told(&none, StatusCode::BAD_GATEWAY, None), [502]);
    }
}
