//! Cordon, drain and uncordon on a machine that is split into two nodes.

use e2e::{Installation, eventually, eventually_some};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn nodes_of(object: &Value, field: &str) -> BTreeSet<String> {
    let members = object["status"][field]
        .as_array()
        .cloned()
        .unwrap_or_default();
    members
        .iter()
        .filter_map(|member| member["node"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_drain_moves_an_app_without_a_lost_request_and_a_job_to_its_checkpoint() {
    let installation = Installation::start(&[("MOONSHOT_NODES", "2")]);
    // They are known as soon as the engine has told of them.
    let names: Vec<String> = eventually_some("there are two nodes", PATIENCE, || {
        let names = installation.run(&["get", "nodes", "-o", "name"]).ok();
        let names = names.lines().filter_map(|name| name.strip_prefix("node/"));
        Some(names.map(str::to_owned).collect()).filter(|names: &Vec<String>| names.len() == 2)
    });
    let (a, b) = (names[0].as_str(), names[1].as_str());
    installation.run(&["cordon", b]).ok();
    // Slow to become ready: a replica that went too early would leave nobody to answer.
    let program = "import http.server, os, socketserver, time\ntime.sleep(1)\nclass S(http.server.ThreadingHTTPServer):\n  server_bind = socketserver.TCPServer.server_bind\nclass H(http.server.BaseHTTPRequestHandler):\n  protocol_version = 'HTTP/1.1'\n  def do_GET(self):\n    body = os.environ['MOONSHOT_NODE'].encode()\n    self.send_response(200)\n    self.send_header('Content-Length', str(len(body)))\n    self.end_headers()\n    self.wfile.write(body)\n  def log_message(self, *args): pass\nS(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()";
    let app = json!({
        "apiVersion": "moonshot/v1", "kind": "App", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "route": {"auth": "none"},
            "rollout": {"maxSurge": 1, "maxUnavailable": 0, "drain": "500ms"},
            "template": {
                "command": ["python3", "-c", program],
                "resources": {"cpu": "100m", "memory": "64Mi"},
                "ports": [{"name": "http"}],
                "probes": {"readiness": {"http": {"path": "/"}}},
                "grace": "2s",
            },
        },
    });
    let job = json!({
        "apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "long"},
        "spec": {
            "command": ["sh", "-c", "trap 'echo saved $MOONSHOT_ATTEMPT >> $MOONSHOT_CHECKPOINT/log; exit 1' TERM; cat $MOONSHOT_CHECKPOINT/log; echo here; while :; do sleep 0.1; done"],
            "checkpoint": true,
            "resources": {"cpu": "10m", "memory": "32Mi"},
            "grace": "5s",
        },
    });
    installation.apply(&app.to_string());
    installation.apply(&job.to_string());
    let app = installation.wait_for("app", "web", &["Ready"], PATIENCE);
    assert_eq!(nodes_of(&app, "instances"), BTreeSet::from([a.to_owned()]));
    eventually("the Job has set its trap", PATIENCE, || {
        installation
            .run(&["logs", "job/long"])
            .stdout
            .contains("here")
    });
    eventually("the gateway knows the App", PATIENCE, || {
        installation.ask("GET", "/default/web/", "", false) == (200, a.to_owned())
    });

    installation.run(&["uncordon", b]).ok();
    let over = AtomicBool::new(false);
    let (n_asked, drained) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut n_asked = 0;
            while !over.load(Ordering::Relaxed) {
                let (status, answer) = installation.ask("GET", "/default/web/", "", false);
                assert_eq!(status, 200, "request {n_asked}: {answer}");
                n_asked += 1;
            }
            n_asked
        });
        let drained = installation.run(&["drain", a, "--timeout", "60s"]);
        over.store(true, Ordering::Relaxed);
        (asking.join().expect("no request is lost"), drained)
    });
    assert!(
        drained.code == 0 && drained.stdout.contains("drained"),
        "{drained:?}"
    );
    assert!(n_asked > 20, "only {n_asked} requests were made");
    let app = installation.wait_for("app", "web", &["Ready"], PATIENCE);
    assert_eq!(nodes_of(&app, "instances"), BTreeSet::from([b.to_owned()]));
    let job = installation.wait_for("job", "long", &["Running"], PATIENCE);
    assert_eq!(nodes_of(&job, "replicas"), BTreeSet::from([b.to_owned()]));
    assert_eq!(
        (&job["status"]["attempts"], &job["status"]["failures"]),
        (&json!(2), &json!(0))
    );
    eventually(
        "the second attempt finds what the first saved",
        PATIENCE,
        || {
            installation
                .run(&["logs", "job/long"])
                .stdout
                .contains("saved 1")
        },
    );
    let events = installation.run(&["events", "job/long"]).ok();
    assert!(events.contains("drained"), "{events}");
    let node = installation.get("node", a).expect("the node");
    assert_eq!(node["spec"]["unschedulable"], json!(true), "{node:#}");

    // A drain that cannot end says what is left; uncordoned, the node takes work again.
    installation.run(&["cordon", a]).ok();
    let stuck = installation.run(&["drain", b, "--timeout", "1s"]);
    assert!(
        stuck.code != 0 && stuck.stderr.contains("still holds"),
        "{stuck:?}"
    );
    let (status, _) = installation.ask("GET", "/default/web/", "", false);
    assert_eq!(status, 200, "there is nowhere to go, so it stays");
    installation.run(&["uncordon", a, b]).ok();
    installation.wait_for("job", "long", &["Running"], PATIENCE);
}
