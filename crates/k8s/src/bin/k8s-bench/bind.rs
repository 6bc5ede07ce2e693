//! Pods that were made beforehand are bound to simulated nodes: by a bare loop of ready-made bindings, by kube-scheduler,
//! and by a `moonshot server`. Each has its own namespace; the others' are empty by then.
//!
//! Each begins when everything has been seen: kube-scheduler is stopped (SIGSTOP) while pods are made, the server is held
//! back by a Project that does not exist yet.

use crate::Failure;
use crate::report::{Figure, Report};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher;
use kube::runtime::watcher::Event as Seen;
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Calls at once, of the bare loop and for making pods.
const CALLS: usize = 64;
/// For everything to be bound.
const PATIENCE: Duration = Duration::from_secs(600);
/// What the kernel counts CPU time in.
const TICKS_PER_S: f64 = 100.0;

/// What one contender did.
struct Outcome {
    seconds: f64,
    n_pods: usize,
    p99_ms: f64,
    /// CPU seconds and the highest resident memory in MB, where it is one process.
    used: Option<(f64, f64)>,
    n_events: usize,
}

pub(crate) async fn run(n_pods: usize, report: &mut Report) -> Result<(), Failure> {
    let client = Client::try_default().await?;
    let nodes: Vec<String> = Api::<Node>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|node| node.metadata.name)
        .collect();
    let case = format!("{} nodes, {n_pods} pods", nodes.len());
    note(&format!("{case}: a bare loop"));
    let bare = bare(&client, &nodes, n_pods).await?;
    note("kube-scheduler");
    let kube = kube_scheduler(&client, n_pods).await?;
    note("moonshot server");
    let ours = ours(&client, n_pods).await?;
    for (name, outcome) in [
        ("bare", &bare),
        ("kube-scheduler", &kube),
        ("moonshot", &ours),
    ] {
        note(&format!(
            "{name}: {:.1} s, {} events, {:?}",
            outcome.seconds, outcome.n_events, outcome.used
        ));
    }
    let rate = |outcome: &Outcome| per(outcome.n_pods, outcome.seconds);
    let mut add = |metric, unit, value, peer, aim, more_is_better| {
        report.add(&Figure {
            case: &case,
            metric,
            unit,
            value,
            peer: Some(peer),
            aim,
            more_is_better,
        })
    };
    let (bare_loop, scheduler) = ("bare loop", "kube-scheduler");
    add(
        "rate_per_s",
        "1/s",
        rate(&ours),
        (bare_loop, rate(&bare)),
        None,
        true,
    )?;
    let share = rate(&ours) / rate(&bare);
    add("ratio_bare", "x", share, (bare_loop, 1.0), Some(0.9), true)?;
    let share = rate(&ours) / rate(&kube);
    add("ratio_kube", "x", share, (scheduler, 1.0), Some(1.0), true)?;
    add(
        "p99_ms",
        "ms",
        ours.p99_ms,
        (scheduler, kube.p99_ms),
        Some(kube.p99_ms),
        false,
    )?;
    if let (Some((our_cpu, our_mb)), Some((cpu, mb))) = (ours.used, kube.used) {
        let each = |cpu: f64| cpu * 1_000.0 / count(n_pods);
        let (our_cpu, cpu) = (each(our_cpu), each(cpu));
        add(
            "cpu_ms_per_bind",
            "ms",
            our_cpu,
            (scheduler, cpu),
            Some(cpu / 3.0),
            false,
        )?;
        add(
            "rss_mb",
            "MB",
            our_mb,
            (scheduler, mb),
            Some(mb / 2.0),
            false,
        )?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a bench says what it is at")]
fn note(words: &str) {
    eprintln!("  {words}");
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn per(n: usize, seconds: f64) -> f64 {
    count(n) / seconds.max(1e-9)
}

// ---- the contenders ----

/// Ready-made bindings and the same events, as fast as the API takes them.
async fn bare(client: &Client, nodes: &[String], n: usize) -> Result<Outcome, Failure> {
    let space = Space::new(client, "bench-bare", "nobody", n).await?;
    let pods = space.pods.list_metadata(&ListParams::default()).await?;
    let calls = pods.items.into_iter().enumerate().map(|(at, pod)| {
        let (name, uid) = (
            pod.metadata.name.unwrap_or_default(),
            pod.metadata.uid.unwrap_or_default(),
        );
        let node = &nodes[at % nodes.len()];
        let (pods, events) = (&space.pods, &space.events);
        async move {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": name, "namespace": "bench-bare", "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let _: Status = pods
                .create_subresource("binding", &name, &PostParams::default(), &binding)
                .await?;
            let event = json!({
                "metadata": {"name": format!("{name}.bare"), "namespace": "bench-bare"},
                "eventTime": "2026-01-01T00:00:00.000000Z",
                "reportingController": "bare", "reportingInstance": "bare",
                "action": "Binding", "reason": "Scheduled", "type": "Normal",
                "note": format!("Successfully assigned bench-bare/{name} to {node}"),
                "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "bench-bare", "name": name, "uid": uid},
            });
            let event: Event = serde_json::from_value(event)?;
            events.create(&PostParams::default(), &event).await?;
            Ok::<(), Failure>(())
        }
    });
    let calls: Vec<_> = calls.collect();
    let started = Instant::now();
    let work = async {
        let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
        while calls.try_next().await?.is_some() {}
        Ok::<(), Failure>(())
    };
    let (done, times) = tokio::join!(work, space.bound(started));
    done?;
    space.finish(times?, None).await
}

/// The cluster's own scheduler.
async fn kube_scheduler(client: &Client, n: usize) -> Result<Outcome, Failure> {
    let pid = std::env::var("MOONSHOT_BENCH_SCHEDULER")?;
    signal(&pid, "STOP")?;
    let space = Space::new(client, "bench-kube", "default-scheduler", n).await?;
    let before = cpu(&pid)?;
    let started = Instant::now();
    signal(&pid, "CONT")?;
    let times = space.bound(started).await?;
    let used = (cpu(&pid)? - before, resident(&pid)?);
    space.finish(times, Some(used)).await
}

/// A server of ours.
async fn ours(client: &Client, n: usize) -> Result<Outcome, Failure> {
    let server = Server::start()?;
    let space = Space::new(client, "bench-ours", "moonshot", n).await?;
    // Each pod is told that its Project is missing: then all have been seen.
    space.told(n).await?;
    let pid = server.child.id().to_string();
    let file = server.dir.path().join("project.yaml");
    let manifest = "apiVersion: moonshot/v1\nkind: Project\nmetadata: {name: bench-ours}\n";
    std::fs::write(&file, manifest)?;
    let project = file.display().to_string();
    let before = cpu(&pid)?;
    let started = Instant::now();
    server.moonshot(&["apply", "-f", &project])?;
    let times = space.bound(started).await?;
    let used = (cpu(&pid)? - before, resident(&pid)?);
    let outcome = space.finish(times, Some(used)).await;
    drop(server);
    outcome
}

/// A `moonshot server` in a directory of its own.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Server {
    fn start() -> Result<Server, Failure> {
        let dir = tempfile::tempdir()?;
        let program = PathBuf::from(std::env::var("MOONSHOT_BIN")?);
        let log = std::fs::File::create(dir.path().join("log"))?;
        let mut command = Server::command(&program, dir.path());
        let child = command
            .arg("server")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let server = Server {
            child,
            dir,
            program,
        };
        let started = Instant::now();
        while server.moonshot(&["status"]).is_err() {
            if started.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(server.dir.path().join("log"))?;
                return Err(format!("the server does not start: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(server)
    }

    fn command(program: &PathBuf, dir: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap_or_default();
        command
            .env("HOME", dir)
            .env("MOONSHOT_DATA_DIR", dir.join("data"))
            .env("MOONSHOT_TOKEN_FILE", dir.join("data/admin.token"))
            .env("MOONSHOT_LISTEN", "127.0.0.1:27470")
            .env("MOONSHOT_SERVER", "http://127.0.0.1:27470")
            .env("MOONSHOT_GATEWAY_LISTEN", "127.0.0.1:27480")
            .env("MOONSHOT_ENGINE", "k8s")
            .env("MOONSHOT_KUBECONFIG", kubeconfig)
            .env("MOONSHOT_POD_LISTEN", "127.0.0.1:0");
        for name in ["AGENT", "HOST", "PYTHON"] {
            command.env(format!("MOONSHOT_IMAGE_{name}"), "none.test/none:1");
        }
        command
    }

    fn moonshot(&self, args: &[&str]) -> Result<(), Failure> {
        let output = Server::command(&self.program, self.dir.path())
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Server and gateway end in order; what does not is killed.
        let _ = self.moonshot(&["down"]);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- pods of one contender ----

struct Space {
    client: Client,
    name: &'static str,
    pods: Api<Pod>,
    events: Api<Event>,
    n: usize,
}

impl Space {
    /// A namespace with pods for a scheduler.
    async fn new(
        client: &Client,
        name: &'static str,
        scheduler: &str,
        n: usize,
    ) -> Result<Space, Failure> {
        let spaces = Api::<Namespace>::all(client.clone());
        let space: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        spaces.create(&PostParams::default(), &space).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), name);
        let manifest = |at: usize| {
            json!({
                "metadata": {"name": format!("p-{at}"), "namespace": name},
                "spec": {
                    "schedulerName": scheduler,
                    "automountServiceAccountToken": false,
                    "tolerations": [{"key": "kwok", "operator": "Exists"}],
                    "containers": [{
                        "name": "main", "image": "none.test/none:1",
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                    }],
                },
            })
        };
        // The service account comes a moment after its namespace.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let calls = (0..n).map(|at| {
            let (pods, manifest) = (&pods, manifest(at));
            async move {
                let pod: Pod = serde_json::from_value(manifest)?;
                pods.create(&PostParams::default(), &pod).await?;
                Ok::<(), Failure>(())
            }
        });
        let calls: Vec<_> = calls.collect();
        let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
        while calls.try_next().await?.is_some() {}
        drop(calls);
        Ok(Space {
            client: client.clone(),
            name,
            events: Api::namespaced(client.clone(), name),
            pods,
            n,
        })
    }

    /// When each pod was seen bound, in milliseconds since `started`.
    async fn bound(&self, started: Instant) -> Result<Vec<f64>, Failure> {
        let mut times: HashMap<String, f64> = HashMap::with_capacity(self.n);
        let events = watcher::watcher(self.pods.clone(), watcher::Config::default());
        let mut events = std::pin::pin!(events);
        while times.len() < self.n {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let next = tokio::time::timeout(left, events.next()).await;
            let next =
                next.map_err(|_| format!("{} of {} pods were bound", times.len(), self.n))?;
            let (Some(Ok(Seen::Apply(pod))) | Some(Ok(Seen::InitApply(pod)))) = next else {
                continue;
            };
            let is_bound = pod.spec.is_some_and(|spec| spec.node_name.is_some());
            if is_bound {
                let at = started.elapsed().as_secs_f64() * 1_000.0;
                times
                    .entry(pod.metadata.name.unwrap_or_default())
                    .or_insert(at);
            }
        }
        let mut times: Vec<f64> = times.into_values().collect();
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// Waits until so many events were written.
    async fn told(&self, n: usize) -> Result<usize, Failure> {
        let started = Instant::now();
        loop {
            let listed = self.events.list_metadata(&ListParams::default()).await?;
            let n_events = listed.items.len();
            if n_events >= n || started.elapsed() > Duration::from_secs(120) {
                return Ok(n_events);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Sums up, and removes everything.
    async fn finish(self, times: Vec<f64>, used: Option<(f64, f64)>) -> Result<Outcome, Failure> {
        // Events come a little later, whoever writes them.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let field = ListParams::default().fields("reason=Scheduled");
        let n_events = self.events.list_metadata(&field).await?.items.len();
        let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
        let outcome = Outcome {
            seconds: times.last().copied().unwrap_or(0.0) / 1_000.0,
            n_pods: times.len(),
            p99_ms: times.get(at).copied().unwrap_or(0.0),
            used,
            n_events,
        };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        self.pods
            .delete_collection(&now, &ListParams::default())
            .await?;
        self.events
            .delete_collection(&now, &ListParams::default())
            .await?;
        let started = Instant::now();
        while !self
            .pods
            .list_metadata(&ListParams::default().limit(1))
            .await?
            .items
            .is_empty()
        {
            if started.elapsed() > PATIENCE {
                return Err("the pods do not go".into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Api::<Namespace>::all(self.client)
            .delete(self.name, &DeleteParams::default())
            .await?;
        Ok(outcome)
    }
}

// ---- processes ----

fn signal(pid: &str, name: &str) -> Result<(), Failure> {
    let status = Command::new("kill")
        .args([&format!("-{name}"), pid])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cannot signal {pid}").into())
    }
}

/// CPU seconds of a process.
fn cpu(pid: &str) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    let numbers: Vec<f64> = rest
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    // The state is no number: utime and stime are the 11th and 12th after it.
    let ticks = numbers.get(10..12).map_or(0.0, |both| both.iter().sum());
    Ok(ticks / TICKS_PER_S)
}

/// The highest resident memory of a process, in MB.
fn resident(pid: &str) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kilobytes.unwrap_or(0.0) * 1_024.0 / 1e6)
}
