//! kill -9 at bad moments.

use crate::processes;
use e2e::{Installation, eventually};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_killed_server_loses_nothing_and_runs_nothing_twice() {
    let mut installation = Installation::start(&[]);
    let marks = installation.home().join("marks");
    std::fs::create_dir_all(&marks).expect("a directory");
    let n_jobs = 12;
    for n in 0..n_jobs {
        let script = format!(
            "echo $$ >> {}/{n}; for i in $(seq 1 20); do echo line $i; sleep 0.1; done",
            marks.display()
        );
        let spec = serde_json::json!({
            "command": ["sh", "-c", script],
            "resources": {"cpu": "100m", "memory": "32Mi"},
            "groups": [{"name": "worker", "replicas": 2}],
        });
        installation.apply(&format!(
            "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: j{n}}}\nspec: {spec}\n"
        ));
    }
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(700));
        installation.kill_server();
        installation.start_server();
    }
    for n in 0..n_jobs {
        let name = format!("j{n}");
        let job = installation.wait_for("job", &name, &["Succeeded", "Failed"], PATIENCE);
        assert_eq!(
            (&job["status"]["phase"], &job["status"]["attempts"]),
            (&"Succeeded".into(), &1.into()),
            "{job:#}"
        );
        let started = std::fs::read_to_string(marks.join(n.to_string())).expect("it ran");
        assert_eq!(
            started.lines().count(),
            2,
            "each of the two replicas started once"
        );
        let log = installation.run(&["logs", &format!("job/{name}")]).ok();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for line in log.lines() {
            *lines.entry(line.trim().to_owned()).or_default() += 1;
        }
        assert_eq!(
            lines.values().sum::<usize>(),
            40,
            "no line is missing or doubled: {log}"
        );
        assert!(lines.values().all(|count| *count == 1), "{lines:?}");
    }
}

#[test]
fn a_killed_gateway_comes_back_and_apps_survive_the_server() {
    let mut installation = Installation::start(&[]);
    let program = "import http.server, os, socketserver\nclass S(http.server.ThreadingHTTPServer):\n  server_bind = socketserver.TCPServer.server_bind\nS(('127.0.0.1', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()";
    let spec = serde_json::json!({
        "route": {"auth": "none"},
        "template": {"command": ["python3", "-c", program], "resources": {"cpu": "400m", "memory": "128Mi"}, "ports": [{"name": "http"}]},
    });
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {spec}\n"
    ));
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    let serves = || installation.ask("GET", "/default/web/", "", false).0 == 200;
    eventually("the App is reached", PATIENCE, serves);
    let pid = installation.gateway_pid().expect("the gateway runs");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the gateway runs");
    eventually("the gateway is started again", PATIENCE, serves);
    installation.kill_server();
    for _ in 0..20 {
        assert_eq!(
            installation.ask("GET", "/default/web/", "", false).0,
            200,
            "Apps need no server"
        );
    }
    installation.start_server();
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    let app = installation.get("app", "web").expect("the App");
    assert_eq!(
        app["status"]["instances"][0]["restarts"], 0,
        "the replica was found, not restarted: {app:#}"
    );
}

#[test]
fn down_leaves_nothing_behind() {
    let installation = Installation::start(&[]);
    let spec = serde_json::json!({
        "command": ["sh", "-c", "trap '' TERM; setsid sleep 300 & sleep 300; sleep 300"],
        "resources": {"cpu": "100m", "memory": "32Mi"},
    });
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: stubborn}}\nspec: {spec}\n"
    ));
    installation.wait_for("job", "stubborn", &["Running"], PATIENCE);
    let data = installation.data();
    eventually("both programs run", PATIENCE, || {
        processes::programs(&data).len() >= 3
    });
    let groups = || processes::cgroups(&[processes::tag(&data)]);
    assert!(!groups().is_empty() || !rustix::process::geteuid().is_root());
    installation.run(&["down"]).ok();
    assert_eq!(processes::shims(&data).len(), 0);
    eventually("its programs are gone", PATIENCE, || {
        processes::programs(&data).is_empty()
    });
    assert_eq!(groups(), Vec::<std::path::PathBuf>::new());
}
