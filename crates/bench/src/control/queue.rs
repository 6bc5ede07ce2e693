//! `core.queue`: a full queue. 2,000 replicas run (in an engine in memory), 10,000 Jobs wait, and people submit, list
//! and watch at the same time, over HTTP from this process. Before that, what a fresh `moonshot up` holds in memory.

use crate::http::{Api, Ask, closed_loop, open_loop};
use crate::report::{Better, Figure, Report};
use crate::samples::Samples;
use crate::usage;
use crate::{Failure, Scale, note};
use e2e::Installation;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// What `up` starts may hold when nobody uses it: the server and one gateway.
const IDLE_MB: f64 = 80.0 + 40.0;
const SUBMIT_P99_MS: f64 = 20.0;
/// After the start, memory is looked at when it has settled.
const SETTLE: Duration = Duration::from_secs(10);
/// Seats of a node.
const SLOTS: usize = 20;
/// Connections that fill the queue.
const WIDTH: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);
const JOBS: &str = "/v1/projects/default/jobs";

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    idle(scale, report)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(loaded(scale, report))
}

/// What a fresh installation holds.
fn idle(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let installation = Installation::start(&[]);
    std::thread::sleep(scale.pick(Duration::ZERO, SETTLE, SETTLE));
    let used = usage::of(&usage::processes_of(&installation.data()));
    let case = format!("idle, {} processes", used.n_processes);
    note(format!("{case}: {:.0} MB", used.rss_mb));
    let rss = Figure::new(&case, "rss_mb", used.rss_mb, "MB", Better::Lower);
    report.add(rss.aim(IDLE_MB))
}

/// The server with the engine in memory, and a gateway; both end with this.
struct Host {
    dir: tempfile::TempDir,
    listen: String,
    children: Vec<Child>,
}

impl Host {
    fn start(n_running: usize) -> Result<Host, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("moonshot-bench-")
            .tempdir()?;
        let [listen, gateway] = [free_port()?, free_port()?];
        let mut host = Host {
            dir,
            listen,
            children: Vec::new(),
        };
        let nodes = n_running.div_ceil(SLOTS).to_string();
        let data = host.dir.path().display().to_string();
        let mut server = Command::new(std::env::current_exe()?);
        server.args(["host", &data, &host.listen, &nodes, &SLOTS.to_string()]);
        host.spawn(&mut server)?;
        let mut proxy = Command::new(e2e::installation::moonshot());
        proxy
            .arg("gateway")
            .env("MOONSHOT_GATEWAY_LISTEN", gateway)
            .env("MOONSHOT_LISTEN", &host.listen);
        host.spawn(&mut proxy)?;
        Ok(host)
    }

    fn spawn(&mut self, command: &mut Command) -> Result<(), Failure> {
        let child = command
            .env("MOONSHOT_DATA_DIR", self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log(self.dir.path())?)
            .spawn()?;
        self.children.push(child);
        Ok(())
    }

    /// The API, once it answers.
    async fn api(&self) -> Result<Api, Failure> {
        let token = self.dir.path().join("admin.token");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&token).unwrap_or_default();
            let api = Api::new(&self.listen, &text);
            match api.call(Method::GET, "/v1/status", None).await {
                Ok(_) => return Ok(api),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn used(&self) -> usage::Usage {
        usage::of(&usage::processes_of(self.dir.path()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn log(dir: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::File::options();
    options.create(true).append(true).open(dir.join("log"))
}

fn free_port() -> std::io::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

async fn loaded(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let n_running = scale.pick(20, 2_000, 2_000);
    let n_waiting = scale.pick(50, 10_000, 10_000);
    let host = Host::start(n_running)?;
    let api = host.api().await?;

    let start = Instant::now();
    closed_loop(&api, WIDTH, n_running, |n| submit(&format!("running-{n}"))).await?;
    running(&api, n_running).await?;
    let rate = n_running as f64 / start.elapsed().as_secs_f64();
    let case = format!("{n_running} Jobs from submit to running");
    note(format!("{case}: {rate:.0}/s"));
    report.add(Figure::rate(case, rate))?;

    let took = closed_loop(&api, WIDTH, n_waiting, |n| submit(&format!("waiting-{n}"))).await?;
    let rate = n_waiting as f64 / took.as_secs_f64();
    let case = format!("{n_waiting} Jobs into the queue, {WIDTH} connections");
    note(format!("{case}: {rate:.0}/s"));
    report.add(Figure::rate(case, rate))?;
    queued(&api, n_waiting).await?;

    let before = host.used();
    let state = format!("{n_running} run, {n_waiting} wait");
    let seconds = scale.pick(1, 20, 60);
    note(format!(
        "{state}: submits, lists and a watch for {seconds} s"
    ));
    let seen = mixed(&api, seconds).await?;
    let case = |what: &str| format!("{what}, {state}");
    seen.submit.report(report, &case("submit"), |figure| {
        if figure.metric == "p99_ms" {
            figure.aim(SUBMIT_P99_MS)
        } else {
            figure
        }
    })?;
    seen.list
        .report(report, &case("list of 100"), |figure| figure)?;
    seen.watch
        .report(report, &case("submit until seen by a watch"), |figure| {
            figure
        })?;
    let after = host.used();
    let spent = after.cpu_s - before.cpu_s;
    let mut add = |metric, value, unit| {
        let case = case(&format!("server and gateway, {seconds} s of load"));
        report.add(Figure::new(case, metric, value, unit, Better::Lower))
    };
    add("cpu_s", spent, "s")?;
    add("peak_mb", after.peak_mb, "MB")
}

struct Seen {
    submit: Samples,
    list: Samples,
    watch: Samples,
}

/// Submits 25 times a second, lists 10 times a second, and one who watches.
async fn mixed(api: &Api, seconds: usize) -> Result<Seen, Failure> {
    let n = 25 * seconds;
    let stream = api.open("/v1/watch?kinds=Job&project=default").await?;
    let start = Instant::now() + Duration::from_millis(20);
    let submits = open_loop(api, 25.0, n, |n| submit(&format!("late-{n}")));
    let lists = open_loop(api, 10.0, 10 * seconds, |n| {
        let filter = ["?limit=100", "?limit=100&phase=Running"][n % 2];
        Ask::get(format!("{JOBS}{filter}"))
    });
    let watch = tokio::time::timeout(PATIENCE, watched(stream, n));
    let (submit, list, watch) = tokio::join!(submits, lists, watch);
    let arrivals = watch.map_err(|_| "the watch did not see every Job")??;
    let mut samples = Samples::default();
    for n in 0..n {
        let due = start + Duration::from_secs_f64(n as f64 / 25.0);
        let at = arrivals.get(&format!("late-{n}"));
        samples.push(at.ok_or("a Job was not seen")?.duration_since(due));
    }
    Ok(Seen {
        submit: submit?,
        list: list?,
        watch: samples,
    })
}

/// When each of the late Jobs was first seen.
async fn watched(
    mut stream: hyper::body::Incoming,
    n: usize,
) -> Result<HashMap<String, Instant>, Failure> {
    let mut arrivals = HashMap::new();
    let mut buffer = Vec::new();
    while arrivals.len() < n {
        let frame = stream.frame().await.ok_or("the watch has ended")??;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let now = Instant::now();
        buffer.extend_from_slice(&data);
        while let Some(at) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=at).collect();
            let Some(json) = line.strip_prefix(b"data: ") else {
                continue;
            };
            let change: Value = serde_json::from_slice(json)?;
            let name = change["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or_default();
            if name.starts_with("late-") {
                arrivals.entry(name.to_owned()).or_insert(now);
            }
        }
    }
    Ok(arrivals)
}

fn submit(name: &str) -> Ask {
    let body = json!({
        "apiVersion": "moonshot/v1", "kind": "Job",
        "metadata": {"name": name, "labels": {"team": "bench"}},
        "spec": {"command": ["sleep", "infinity"], "resources": {"cpu": "1", "memory": "1Gi"}},
    });
    Ask {
        method: Method::POST,
        path: JOBS.to_owned(),
        body: Some(body),
    }
}

async fn running(api: &Api, n: usize) -> Result<(), Failure> {
    phase(api, "Running", n).await
}

async fn queued(api: &Api, n: usize) -> Result<(), Failure> {
    phase(api, "Queued", n).await
}

/// Waits until so many Jobs are in a phase.
async fn phase(api: &Api, phase: &str, n: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = api.call(Method::GET, "/v1/status", None).await?;
        let count = status["jobs"][phase].as_u64().unwrap_or(0);
        if count >= n as u64 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{count} of {n} Jobs are {phase}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
