//! `serve.s1` and `serve.trees`: an XGBoost model of 500 trees, one row a request, against MLServer and against
//! the FastAPI server that people write by hand; and the evaluator against the libraries' own C calls.
//!
//! ```text
//! cargo run --release -p serve --example serve_bench [-- --full]
//! ```
//! Prints one JSON object a line. Load is `wrk` with one thread on the same machine, for every server alike.
//! Peers at their best on two cores: MLServer without parallel workers (faster here) and without access log, uvicorn
//! with two workers, an `async` handler and no access log, `inplace_predict` with one thread.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use trees::{Iterations, Kind, Matrix, Model, Options};

const XGBOOST: &str = "xgboost-cpu==3.2.0";
const FEATURES: usize = 50;
const OPTIONS: Options = Options {
    kind: Kind::Value,
    iterations: Iterations::All,
};

/// Ends with the bench, whatever happens.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that a server with workers of its own ends them too.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// What `wrk` measured.
struct Load {
    rate: f64,
    p99_ms: f64,
    rss_mb: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, dir, address] = args.as_slice()
        && verb == "serve"
    {
        serve_here(dir, address);
        return;
    }
    let seconds = if args.iter().any(|arg| arg == "--full") {
        20
    } else {
        5
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/serve_bench");
    let Some(python) = e2e::python(&[
        "numpy==1.26.4",
        XGBOOST,
        "lightgbm==4.7.0",
        "fastapi==0.165.0",
        "uvicorn[standard]",
        "scikit-learn==1.7.2",
    ]) else {
        return;
    };
    let work = tempfile::tempdir().expect("a directory");
    let dir = work.path();
    peer(&python, &here, "train", dir);
    evaluator(&python, &here, dir);

    let ours = start(dir, |port| {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command
            .args(["serve"])
            .arg(dir.join("repository"))
            .arg(format!("127.0.0.1:{port}"));
        command
    });
    let fastapi = start(dir, |port| {
        let mut command = Command::new(&python);
        command.args([
            "-m",
            "uvicorn",
            "--workers",
            "2",
            "--no-access-log",
            "--log-level",
            "warning",
        ]);
        command
            .args(["--port", &port.to_string(), "--app-dir"])
            .arg(&here)
            .arg("peer:app");
        command.env("PEER_DIR", dir);
        command
    });
    let mlserver = mlserver(dir);
    for connections in [1, 16, 64] {
        let mut measured = vec![("FastAPI, uvicorn, 2 async workers", 4.0, None, {
            load(
                &fastapi,
                "/predict",
                &dir.join("rows.json"),
                connections,
                seconds,
            )
        })];
        if let Some(mlserver) = &mlserver {
            let got = load(
                mlserver,
                "/v2/models/late/infer",
                &dir.join("oip.json"),
                connections,
                seconds,
            );
            measured.push(("MLServer 1.7.1", 15.0, Some(5.0), got));
        }
        let us = load(
            &ours,
            "/v2/models/late/infer",
            &dir.join("oip.json"),
            connections,
            seconds,
        );
        let case = format!("xgb500x6-1row-c{connections}");
        for (name, aim, aim_p99, them) in measured {
            // The aims are for 16 connections.
            let aimed = connections == 16;
            let show = |metric: &str, ours: f64, theirs: f64, unit: &str, better: &str| {
                line(
                    &json!({"bench": "serve.s1", "case": case, "metric": metric, "value": ours, "unit": unit,
                    "better": better, "peer": name, "peer_value": theirs}),
                );
            };
            show("rate_per_s", us.rate, them.rate, "1/s", "higher");
            show("p99_ms", us.p99_ms, them.p99_ms, "ms", "lower");
            show("rss_mb", us.rss_mb, them.rss_mb, "MB", "lower");
            ratio(
                "serve.s1",
                &format!("{case}-rate"),
                us.rate / them.rate,
                name,
                aimed.then_some(aim),
            );
            let p99 = them.p99_ms / us.p99_ms;
            ratio(
                "serve.s1",
                &format!("{case}-p99"),
                p99,
                name,
                aim_p99.filter(|_| aimed),
            );
        }
    }
}

/// The evaluator against the libraries.
fn evaluator(python: &Path, here: &Path, dir: &Path) {
    let bytes = std::fs::read(dir.join("rows.f4")).expect("rows");
    let rows: Vec<f32> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let wide: Vec<f64> = rows.iter().map(|&value| f64::from(value)).collect();
    let file = |path: &str| {
        let bytes = std::fs::read(dir.join(path)).expect("a model");
        Model::read(&bytes).expect("a sound model")
    };
    let xgboost = file("repository/late/1/model.json");
    let lightgbm = file("model.txt");
    for text in peer(python, here, "library", dir).lines() {
        let them: Value = serde_json::from_str(text).expect("a line of JSON");
        let n = them["rows"].as_u64().expect("a count") as usize;
        let library = them["library"].as_str().expect("a name");
        let (model, matrix, aim) = match library {
            "xgboost" => (
                &xgboost,
                Matrix::F32(&rows[..n * FEATURES]),
                if n == 1 { 6.0 } else { 1.0 },
            ),
            _ => (
                &lightgbm,
                Matrix::F64(&wide[..n * FEATURES]),
                if n == 1 { 2.0 } else { 1.0 },
            ),
        };
        let mut out = Vec::new();
        let mut times = Vec::new();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end || times.len() < 20 {
            out.clear();
            let started = Instant::now();
            model
                .predict(matrix, FEATURES, OPTIONS, &mut out)
                .expect("an answer");
            times.push(started.elapsed());
        }
        let check = them["check"].as_f64().expect("an answer");
        assert!(
            (out[0] - check).abs() < 1e-6,
            "{} instead of {check}",
            out[0]
        );
        times.sort_unstable();
        let us = times[times.len() / 2].as_secs_f64() * 1e6;
        let theirs = them["us"].as_f64().expect("a time");
        let case = format!("{library}-{n}rows");
        line(
            &json!({"bench": "serve.trees", "case": case, "metric": "p50_ms", "value": us / 1e3, "unit": "ms",
            "better": "lower", "peer": format!("{library} C call, 1 thread"), "peer_value": theirs / 1e3}),
        );
        ratio(
            "serve.trees",
            &case,
            theirs / us,
            &format!("{library} C call, 1 thread"),
            Some(aim),
        );
    }
}

fn ratio(bench: &str, case: &str, value: f64, peer: &str, aim: Option<f64>) {
    let mut object = json!({"bench": bench, "case": case, "metric": "ratio", "value": value, "unit": "x",
        "better": "higher", "peer": peer});
    if let Some(aim) = aim {
        object["aim"] = json!(aim);
        object["met"] = json!(value >= aim);
    }
    line(&object);
}

fn line(object: &Value) {
    let mut object = object.clone();
    let commit = std::env::var("MOONSHOT_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    object["commit"] = json!(commit);
    println!("{object}");
}

/// This program as the server, so that nothing but the crate is measured.
fn serve_here(dir: &str, address: &str) {
    let config = serve::Config {
        // Only tree models are served here.
        runtimes: serve::runtimes::Runtimes::usual(),
        listen_grpc: None,
        dir: PathBuf::from(dir),
        listen: address.parse().expect("an address"),
        versions: serve::config::Policy::Latest(1),
        poll: serve::config::POLL,
        n_workers: std::thread::available_parallelism().map_or(1, usize::from),
        memory_max: u64::MAX,
        body_max: serve::config::BODY_MAX,
        queue_max: serve::config::QUEUE_MAX,
        strict: false,
        on_demand: false,
        batch_rows_max: serve::config::BATCH_ROWS_MAX,
        timeout: serve::config::TIMEOUT,
    };
    // As `moonshot` itself is run.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let server = serve::Server::start(config).await.expect("a server");
        // Ends by a signal.
        server.run(tokio_util::sync::CancellationToken::new()).await;
    });
}

fn peer(python: &Path, here: &Path, verb: &str, dir: &Path) -> String {
    let ran = Command::new(python)
        .arg(here.join("peer.py"))
        .arg(verb)
        .arg(dir)
        .output()
        .expect("python");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// MLServer with its XGBoost runtime, on the CPU build of XGBoost.
fn mlserver(dir: &Path) -> Option<Server> {
    let with = [
        "mlserver==1.7.1",
        XGBOOST,
        "numpy",
        "scikit-learn",
        "uvloop<0.22",
    ];
    let python = e2e::python_and(&with, &["mlserver-xgboost==1.7.1"])?;
    let home = dir.join("mlserver");
    std::fs::create_dir_all(&home).expect("a directory");
    std::fs::copy(
        dir.join("repository/late/1/model.json"),
        home.join("model.json"),
    )
    .expect("a copy");
    let model = json!({"name": "late", "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": {"uri": "./model.json", "version": "v1"}});
    std::fs::write(home.join("model-settings.json"), model.to_string()).expect("a file");
    std::fs::write(
        home.join("settings.json"),
        json!({"parallel_workers": 0, "debug": false}).to_string(),
    )
    .expect("a file");
    Some(start(dir, |port| {
        let mut command = Command::new(python.with_file_name("mlserver"));
        command
            .arg("start")
            .arg(&home)
            .env("MLSERVER_HTTP_PORT", port.to_string());
        for other in ["MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT"] {
            command.env(other, free_port().to_string());
        }
        command.env("OMP_NUM_THREADS", "1");
        command
    }))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn start(dir: &Path, command: impl FnOnce(u16) -> Command) -> Server {
    let port = free_port();
    let log = std::fs::File::create(dir.join(format!("{port}.log"))).expect("a log");
    let mut command = command(port);
    command.stdout(Stdio::null()).stderr(log);
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Server { child, port }
}

/// Waits until the server answers, warms it and measures.
fn load(server: &Server, path: &str, body: &Path, connections: usize, seconds: u64) -> Load {
    let url = format!("http://127.0.0.1:{}{path}", server.port);
    e2e::eventually(&url, Duration::from_secs(60), || {
        let data = format!("@{}", body.display());
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--fail",
                "--header",
                "content-type: application/json",
                "--data",
                &data,
                &url,
            ])
            .output();
        curl.is_ok_and(|ran| ran.status.success())
    });
    let script = body.with_extension("lua");
    let text = std::fs::read_to_string(body).expect("a body");
    let lua = format!(
        "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = [==[{text}]==]\n"
    );
    std::fs::write(&script, lua).expect("a script");
    let wrk = |seconds: u64| {
        let mut command = Command::new("wrk");
        command.args([
            "--latency",
            "-t1",
            &format!("-c{connections}"),
            &format!("-d{seconds}s"),
            "-s",
        ]);
        command.arg(&script).arg(&url).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("wrk, of the Debian package of that name");
        let lines: Vec<String> = BufReader::new(child.stdout.take().expect("its output"))
            .lines()
            .map_while(Result::ok)
            .collect();
        child.wait().expect("its end");
        lines
    };
    wrk(2);
    let lines = wrk(seconds);
    let field = |name: &str| {
        let found = lines.iter().find_map(|line| line.trim().strip_prefix(name));
        found
            .map(str::trim)
            .unwrap_or_else(|| panic!("wrk said no `{name}`: {lines:?}"))
    };
    assert!(
        !lines.iter().any(|line| line.contains("Non-2xx")),
        "{url}: {lines:?}"
    );
    Load {
        rate: field("Requests/sec:").parse().expect("a number"),
        p99_ms: milliseconds(field("99%")),
        rss_mb: rss_mb(server.child.id()),
    }
}

/// `1.23ms`, `45.00us`, `1.02s`.
fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<f64>()
        {
            return number * factor;
        }
    }
    panic!("`{text}` is no time");
}

/// Of the process and its children.
fn rss_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let own = own
        .and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .unwrap_or(0.0);
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok());
    own / 1024.0 + children.map(rss_mb).sum::<f64>()
}
