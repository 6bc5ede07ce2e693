//! Spans and log records by OTLP, to a collector that decodes them with OpenTelemetry's own messages.

use e2e::{Installation, ask, ask_with, eventually, eventually_some, free_ports};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// As W3C's "Trace Context" has it: version, trace, parent, sampled.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Answers with the `traceparent` that it was sent.
const PROGRAM: &str = r#"
import http.server, os, socketserver
class Server(http.server.ThreadingHTTPServer):
    server_bind = socketserver.TCPServer.server_bind
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        text = str(self.headers.get("traceparent")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
Server((os.environ["MOONSHOT_BIND"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that the collector was sent.
fn heard(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A GET with the caller's span; the body of the answer.
fn traced(authority: &str, path: &str, token: &str) -> (u16, String) {
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("traceparent", &parent)];
    ask_with(authority, "GET", path, "", &headers)
}

#[test]
fn requests_are_spans_and_log_lines_are_records_of_a_collector() {
    let python = e2e::python(&["opentelemetry-proto==1.39.1"]).expect("a package index");
    let [address, _] = free_ports();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("heard");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/otlp.py");
    let port = address.rsplit(':').next().expect("a port");
    let collector = Command::new(python)
        .arg(script)
        .arg(&file)
        .arg(port)
        .spawn();
    let _collector = Collector(collector.expect("it starts"));
    eventually("the collector listens", PATIENCE, || {
        std::net::TcpStream::connect(&address).is_ok()
    });
    let endpoint = format!("http://{address}");
    let installation = Installation::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "200"),
    ]);
    let spec = json!({
        "route": {"auth": "none"},
        "template": {
            "command": ["python3", "-c", PROGRAM],
            "resources": {"cpu": "200m", "memory": "128Mi"},
            "ports": [{"name": "http"}],
        },
    });
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {spec}\n"
    ));
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    eventually("the App is reached", PATIENCE, || {
        ask(installation.gateway(), "GET", "/default/web/", "", None).0 == 200
    });

    // Through the gateway: the program is told of the gateway's span.
    let (status, told) = traced(installation.gateway(), "/default/web/path", "none");
    assert_eq!(status, 200);
    let span = eventually_some("the gateway's span", PATIENCE, || {
        let mut spans = heard(&file).into_iter();
        spans.find(|span| span["span"] == "default/web" && span["trace"] == TRACE)
    });
    println!("{span}");
    assert_eq!(span["parent"], PARENT);
    assert_eq!(span["service"], "moonshot-gateway");
    assert_eq!(span["http.response.status_code"], 200);
    assert_eq!(span["url.path"], "/default/web/path");
    let id = span["id"].as_str().expect("an id");
    assert_eq!(told, format!("00-{TRACE}-{id}-01"));

    // The API: named by route, with the id that answers carry.
    let token = std::fs::read_to_string(installation.data().join("admin.token"));
    let token = token.expect("the token");
    let path = "/v1/projects/default/apps/web";
    assert_eq!(traced(installation.listen(), path, token.trim()).0, 200);
    let span = eventually_some("the server's span", PATIENCE, || {
        let mut spans = heard(&file).into_iter();
        spans.find(|span| span["url.path"] == path && span["trace"] == TRACE)
    });
    println!("{span}");
    assert_eq!(span["span"], "GET /v1/projects/{project}/{plural}/{name}");
    assert_eq!(span["service"], "moonshot-server");
    assert_eq!(span["kind"], 2, "a server's");
    assert!(
        span["moonshot.request_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );

    // Log lines, of both.
    for (service, words) in [
        ("moonshot-server", "server serves"),
        ("moonshot-gateway", "gateway serves"),
    ] {
        eventually("the line is a record", PATIENCE, || {
            let all = heard(&file);
            all.iter()
                .any(|record| record["service"] == service && record["log"] == words)
        });
    }
    // Nothing that is secret is sent, and nothing tells of the sending.
    let all = std::fs::read_to_string(&file).expect("the file");
    assert!(!all.contains(token.trim()), "a token was sent");
    assert!(!all.contains("opentelemetry"), "{all}");
}

#[test]
fn a_collector_that_is_away_or_speaks_something_else_holds_nothing_up() {
    let [address, _] = free_ports();
    let endpoint = format!("http://{address}");
    let started = std::time::Instant::now();
    let installation = Installation::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let took = started.elapsed();
    installation.run(&["get", "nodes"]).ok();
    println!(
        "ready after {:.1} s without a collector",
        took.as_secs_f64()
    );
    drop(installation);
    let installation = Installation::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    installation.run(&["get", "nodes"]).ok();
    let log = installation.server_log();
    assert!(log.contains("only `http/protobuf` is spoken"), "{log}");
}
