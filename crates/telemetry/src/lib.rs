//! What a role of the program tells of itself: log lines on standard error, and, where the variables of OpenTelemetry name a
//! collector, the same lines as records and a span for each request, by OTLP (HTTP, protobuf).
//!
//! [`start`] once, at the beginning; its [`Telemetry`] is kept until the end, when what waits is sent. [`request`] begins a span
//! where a request comes in. Without a collector it is one look at a variable.
//!
//! Sources: OpenTelemetry's "Environment Variable Specification" and "OTLP Exporter Configuration"; W3C's "Trace Context".

mod otlp;
mod span;

pub use otlp::{Telemetry, start};
pub use span::{Span, request};
