//! A new Revision that gets a share of the requests, and gives it back where its callers fare worse.

use e2e::{Installation, eventually, eventually_some};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(90);

/// Answers its own name; each `BAD`th answer is an error, and each takes `SLOW` milliseconds.
const PROGRAM: &str = r#"
import http.server, itertools, os, socketserver, time
name, bad, slow = os.environ["ME"], int(os.environ.get("BAD", 0)), int(os.environ.get("SLOW", 0))
count = itertools.count(1)
class Server(http.server.ThreadingHTTPServer):
    server_bind = socketserver.TCPServer.server_bind
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
        is_bad = self.path == "/ask" and bad > 0 and next(count) % bad == 0
        time.sleep(slow / 1000)
        self.send_response(500 if is_bad else 200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name.encode())
Server((os.environ["MOONSHOT_BIND"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn app(env: &Value, traffic: &Value) -> String {
    let spec = json!({
        "replicas": 2,
        "rollout": {"drain": "200ms"},
        "route": {"auth": "none"},
        "traffic": traffic,
        "template": {
            "command": ["python3", "-c", PROGRAM],
            "env": env,
            "resources": {"cpu": "200m", "memory": "128Mi"},
            "ports": [{"name": "http"}],
            "probes": {"readiness": {"http": {"path": "/"}, "period": "1s"}},
        },
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {spec}\n")
}

/// Gives a fifth of the requests to a Revision until it has lost them; what the event says.
#[track_caller]
fn steps_back(installation: &Installation, number: u32, env: &Value) -> String {
    let traffic = json!([{"revision": 1, "percent": 80}, {"revision": number, "percent": 20}]);
    installation.apply(&app(env, &traffic));
    let name = env[0]["value"].as_str().expect("its name");
    eventually("the canary answers", PATIENCE, || {
        installation.ask("GET", "/default/web/ask", "", false).1 == name
    });
    let begun = Instant::now();
    let mut looked = begun;
    let told = eventually_some("it steps back", PATIENCE, || {
        while looked.elapsed() < Duration::from_secs(1) {
            installation.ask("GET", "/default/web/ask", "", false);
        }
        looked = Instant::now();
        let events = installation.run(&["events", "app/web"]).ok();
        let of_it = format!("revision {number}: ");
        let line = events
            .lines()
            .find(|line| line.contains("SteppedBack") && line.contains(&of_it));
        line.map(str::to_owned)
    });
    println!("after {:.1} s: {told}", begun.elapsed().as_secs_f64());
    let app = installation.get("app", "web").expect("it is there");
    assert_eq!(app["spec"]["template"]["env"][0]["value"], "one");
    eventually("nobody reaches it any more", PATIENCE, || {
        (0..20).all(|_| installation.ask("GET", "/default/web/ask", "", false).1 == "one")
    });
    told
}

#[test]
fn a_canary_with_errors_or_slow_answers_gives_its_requests_back() {
    let installation = Installation::start(&[]);
    let one = json!([{"name": "ME", "value": "one"}, {"name": "SLOW", "value": "10"}]);
    installation.apply(&app(&one, &json!([])));
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    let bad = json!([{"name": "ME", "value": "two"}, {"name": "SLOW", "value": "10"}, {"name": "BAD", "value": "20"}]);
    let told = steps_back(&installation, 2, &bad);
    assert!(told.contains("were errors"), "{told}");
    let slow = json!([{"name": "ME", "value": "three"}, {"name": "SLOW", "value": "20"}]);
    let told = steps_back(&installation, 3, &slow);
    assert!(told.contains("took up to"), "{told}");
    // What callers saw is there for a monitor, by Revision.
    let metrics = installation.ask("GET", "/-/metrics", "", false).1;
    let answers =
        "moonshot_gateway_answer_seconds_count{project=\"default\",app=\"web\",revision=\"1\"}";
    assert!(metrics.contains(answers), "{metrics}");
}
