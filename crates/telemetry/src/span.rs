//! A span for a request that came in.

use http::{HeaderMap, StatusCode};
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::sync::OnceLock;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Requests of this process are traced from now on.
pub(crate) fn put(provider: &SdkTracerProvider) {
    // A second one in one process (tests) changes nothing.
    let _ = TRACER.set(provider.tracer("moonshot"));
}

/// A request's span. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Context);

/// A span of the kind `server` for a request with these headers, below the caller's span if they name one
/// (`traceparent`). `None` where nobody collects spans.
pub fn request(name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Span> {
    let tracer = TRACER.get()?;
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    let builder = tracer.span_builder(name()).with_kind(SpanKind::Server);
    let span = builder.start_with_context(tracer, &parent);
    Some(Span(parent.with_span(span)))
}

impl Span {
    /// Sets an attribute, by OpenTelemetry's names where there is one (`http.request.method`).
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// A name that is known only now.
    pub fn rename(&self, name: String) {
        self.0.span().update_name(name);
    }

    /// The answer's status; class 5xx is an error.
    pub fn answered(&self, status: StatusCode) {
        self.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            self.0.span().set_status(Status::error(""));
        }
    }

    /// Names this span as the parent of what the receiver of the headers does.
    pub fn write(&self, headers: &mut HeaderMap) {
        TraceContextPropagator::new().inject_context(&self.0, &mut HeaderInjector(headers));
    }

    /// The work that belongs to it: log records within name it.
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.0.clone()).await
    }
}
