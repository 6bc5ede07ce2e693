//! Apps behind the gateway.

use e2e::{Installation, eventually};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers one word. It does not look up its own name as Python's does, which can take many seconds.
fn app(word: &str, broken: bool) -> String {
    let program = if broken {
        "import sys; sys.exit('this revision is broken')".to_owned()
    } else {
        format!(
            "import http.server, os, socketserver\nclass S(http.server.ThreadingHTTPServer):\n  server_bind = socketserver.TCPServer.server_bind\nclass H(http.server.BaseHTTPRequestHandler):\n  protocol_version = 'HTTP/1.1'\n  def do_GET(self):\n    body = b'{word}'\n    self.send_response(200)\n    self.send_header('Content-Length', str(len(body)))\n    self.end_headers()\n    self.wfile.write(body)\n  def log_message(self, *args): pass\nS(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()"
        )
    };
    let spec = serde_json::json!({
        "replicas": 2,
        "rollout": {"progressDeadline": "8s", "drain": "500ms"},
        "route": {"auth": "none"},
        "template": {
            "command": ["python3", "-c", program],
            "resources": {"cpu": "400m", "memory": "128Mi"},
            "ports": [{"name": "http"}],
            "probes": {"readiness": {"http": {"path": "/"}}},
        },
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {spec}\n")
}

#[test]
fn a_rollout_loses_no_request_and_a_broken_one_is_rolled_back() {
    let installation = Installation::start(&[]);
    installation.apply(&app("one", false));
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    let word = || installation.ask("GET", "/default/web/", "", false);
    eventually("the gateway knows the App", PATIENCE, || {
        word() == (200, "one".to_owned())
    });

    installation.apply(&app("two", false));
    let mut answers = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, answer) = word();
        assert_eq!(status, 200, "request {answers} of the rollout: {answer}");
        answers += 1;
        let status = installation.get("app", "web").expect("the App")["status"].clone();
        let settled =
            status["phase"] == "Ready" && status["revision"] == 2 && status["stableRevision"] == 2;
        if answer == "two" && settled {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the rollout does not end: {status:#}"
        );
    }
    assert!(answers > 5, "only {answers} requests were made");

    // A Revision that never becomes ready is given up; the good one serves all the while.
    installation.apply(&app("three", true));
    eventually("the broken revision is rolled back", PATIENCE, || {
        let (status, answer) = word();
        assert_eq!((status, answer.as_str()), (200, "two"));
        let events = installation.run(&["events", "app/web"]).ok();
        events.contains("RolledBack")
    });

    // By hand to the first one.
    installation
        .run(&["rollout", "undo", "app/web", "--to-revision", "1"])
        .ok();
    eventually("the first revision serves again", PATIENCE, || {
        word().1 == "one"
    });
}
