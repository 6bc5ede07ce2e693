//! The subscriber of all log lines, and the exporters.

use crate::span;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Variables that name a collector.
const ENDPOINTS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];
/// What carries records to the collector; records of its own would never end.
const EXPORTING: [&str; 5] = ["opentelemetry", "hyper", "h2", "reqwest", "rustls"];

/// Sends what waits when it is dropped. With a collector that does not answer that takes some seconds.
#[derive(Debug, Default)]
#[must_use = "what waits is sent when it is dropped"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // A collector that is gone at the end has been complained of before.
        if let Some(traces) = self.traces.take() {
            let _ = traces.shutdown();
        }
        if let Some(logs) = self.logs.take() {
            let _ = logs.shutdown();
        }
    }
}

/// Structured log lines on standard error; `MOONSHOT_LOG` sets the level, as `info,server=debug`, and `MOONSHOT_LOG_FORMAT=json` the
/// form. With `OTEL_EXPORTER_OTLP_ENDPOINT` (or that of traces or logs alone) they go to the collector too, and so do spans. `service` is
/// the `service.name` unless `OTEL_SERVICE_NAME` is set. Exporters that cannot be made are a warning: the role runs without.
pub fn start(service: &'static str) -> Telemetry {
    let (telemetry, problem) = match exporters(service) {
        Ok(telemetry) => (telemetry, None),
        Err(problem) => (Telemetry::default(), Some(problem)),
    };
    let filter =
        || EnvFilter::try_from_env("MOONSHOT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if std::env::var("MOONSHOT_LOG_FORMAT").as_deref() == Ok("json") {
        lines.json().with_filter(filter()).boxed()
    } else {
        lines.with_filter(filter()).boxed()
    };
    let records = telemetry.logs.as_ref().map(|logs| {
        let ours = tracing_subscriber::filter::filter_fn(|about| {
            !EXPORTING.iter().any(|own| about.target().starts_with(own))
        });
        OpenTelemetryTracingBridge::new(logs)
            .with_filter(filter())
            .with_filter(ours)
    });
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(records)
        .try_init();
    if let Some(problem) = problem {
        tracing::warn!(problem, "nothing is sent by OTLP");
    }
    telemetry
}

/// Those that the variables ask for.
fn exporters(service: &'static str) -> Result<Telemetry, String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_disabled =
        set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let [both, traces, logs] = ENDPOINTS.map(|name| set(name).is_some());
    if is_disabled || !(both || traces || logs) {
        return Ok(Telemetry::default());
    }
    if let Some(protocol) =
        set("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|said| said != "http/protobuf")
    {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`; only `http/protobuf` is spoken (a collector's port 4318)"
        ));
    }
    // Fails where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut resource = Resource::builder();
    if set("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let resource = resource.build();
    let words = |error: ExporterBuildError| error.to_string();
    let mut telemetry = Telemetry::default();
    if both || traces {
        let exporter = SpanExporter::builder().with_http().build().map_err(words)?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.clone())
            .build();
        span::put(&provider);
        telemetry.traces = Some(provider);
    }
    if both || logs {
        let exporter = LogExporter::builder().with_http().build().map_err(words)?;
        let provider = SdkLoggerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        telemetry.logs = Some(provider);
    }
    Ok(telemetry)
}
