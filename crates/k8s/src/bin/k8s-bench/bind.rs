//! Pods that were made beforehand are bound to simulated nodes: by a bare loop of ready-made bindings, by kube-scheduler,
//! and by a `moonshot server`. Each has its own namespace; the others' are empty by then.
//!
//! Each begins when everything has been seen: kube-scheduler is stopped (SIGSTOP) while pods are made, the server is held
//! back by a Project that does not exist yet. One watch, begun beforehand, sees when a pod is bound.

use crate::process::{Usage, signal};
use crate::report::{Figure, Report};
use crate::server::Server;
use crate::space::{CALLS, Space, Watch, percentile};
use crate::{Failure, Scale, count, note};
use futures_util::TryStreamExt;
use futures_util::stream::StreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Instant;

/// What one contender did.
struct Outcome {
    n_pods: usize,
    /// From the start until the last pod was bound, and until its event was there too.
    bound_s: f64,
    told_s: f64,
    p99_ms: f64,
    used: Usage,
    n_untold: usize,
}

impl Outcome {
    fn rate(&self) -> f64 {
        count(self.n_pods) / self.bound_s.max(1e-9)
    }

    fn cpu_ms(&self) -> f64 {
        self.used.cpu_s * 1_000.0 / count(self.n_pods)
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let n_pods = scale.pick(300, 5_000, 10_000);
    let client = Client::try_default().await?;
    let nodes = node_names(&client).await?;
    note(&format!(
        "{n_pods} pods, {} nodes: a bare loop",
        nodes.len()
    ));
    let bare = bare(&client, &nodes, n_pods).await?;
    note("kube-scheduler");
    let kube = kube_scheduler(&client, n_pods).await?;
    note("moonshot server");
    let ours = ours(&client, n_pods).await?;
    let size = format!("{n_pods} pods, {} nodes", nodes.len());
    let beside_bare = format!("{size}, beside a bare loop");
    let beside_kube = format!("{size}, beside kube-scheduler");
    figures(report, &beside_bare, &ours, ("bare loop", &bare), None)?;
    let aims = Aims {
        rate: 1.0,
        cpu: 1.0 / 3.0,
        rss: 0.5,
        p99: 1.0,
    };
    figures(
        report,
        &beside_kube,
        &ours,
        ("kube-scheduler", &kube),
        Some(aims),
    )
}

/// Aims as parts of kube-scheduler's figures.
struct Aims {
    rate: f64,
    cpu: f64,
    rss: f64,
    p99: f64,
}

/// Of the bare loop that is wanted.
const RATE_OF_BARE: f64 = 0.9;

fn figures(
    report: &mut Report,
    case: &str,
    ours: &Outcome,
    (peer, theirs): (&str, &Outcome),
    aims: Option<Aims>,
) -> Result<(), Failure> {
    let part = |of: fn(&Aims) -> f64| aims.as_ref().map(of);
    let rate = part(|aims| aims.rate).unwrap_or(RATE_OF_BARE);
    let no_aim = None;
    for (metric, unit, ours, theirs, aim, more_is_better) in [
        (
            "rate_per_s",
            "1/s",
            ours.rate(),
            theirs.rate(),
            Some(rate),
            true,
        ),
        (
            "ratio",
            "x",
            ours.rate() / theirs.rate(),
            1.0,
            Some(rate),
            true,
        ),
        (
            "p99_ms",
            "ms",
            ours.p99_ms,
            theirs.p99_ms,
            part(|aims| aims.p99),
            false,
        ),
        (
            "cpu_ms_per_bind",
            "ms",
            ours.cpu_ms(),
            theirs.cpu_ms(),
            part(|aims| aims.cpu),
            false,
        ),
        (
            "rss_mb",
            "MB",
            ours.used.rss_mb,
            theirs.used.rss_mb,
            part(|aims| aims.rss),
            false,
        ),
        ("told_s", "s", ours.told_s, theirs.told_s, no_aim, false),
    ] {
        report.add(&Figure {
            case,
            metric,
            unit,
            value: ours,
            peer: Some((peer, theirs)),
            aim: aim.map(|part| part * theirs),
            more_is_better,
        })?;
    }
    report.add(&Figure {
        case,
        metric: "pods_without_event",
        unit: "",
        value: count(ours.n_untold),
        peer: Some((peer, count(theirs.n_untold))),
        aim: Some(0.0),
        more_is_better: false,
    })
}

async fn node_names(client: &Client) -> Result<Vec<String>, Failure> {
    let nodes = Api::<Node>::all(client.clone());
    let nodes = nodes.list_metadata(&ListParams::default()).await?;
    let names = nodes
        .items
        .into_iter()
        .filter_map(|node| node.metadata.name);
    Ok(names.collect())
}

/// Pods for a scheduler.
async fn pods(space: &Space, scheduler: &str, n: usize) -> Result<(), Failure> {
    let spec = || json!({"schedulerName": scheduler});
    let pods = (0..n).map(|at| Space::pod(&format!("p-{at}"), spec()));
    space.fill(pods).await
}

/// Waits until all are bound and told of, sums up, and removes everything.
async fn finish(
    space: Space,
    mut watch: Watch,
    started: Instant,
    used: impl Fn() -> Result<Usage, Failure>,
) -> Result<Outcome, Failure> {
    let n_pods = watch.sights().len();
    watch.bound(n_pods).await?;
    let bound_s = started.elapsed().as_secs_f64();
    let told = space.all_told(n_pods).await?;
    let used = used()?;
    let sights = watch.sights();
    drop(watch);
    let after = |at: Instant| at.saturating_duration_since(started).as_secs_f64() * 1_000.0;
    let times = sights.values().filter_map(|sight| sight.bound).map(after);
    let outcome = Outcome {
        n_pods,
        bound_s,
        told_s: told.saturating_duration_since(started).as_secs_f64(),
        p99_ms: percentile(times.collect(), 99),
        used,
        n_untold: space.untold(&sights).await?,
    };
    note(&format!(
        "    bound in {:.1} s, told in {:.1} s, {:.1} CPU s, {:.0} MB, {} pods without event",
        outcome.bound_s, outcome.told_s, outcome.used.cpu_s, outcome.used.rss_mb, outcome.n_untold
    ));
    space.remove().await?;
    Ok(outcome)
}

// ---- the contenders ----

/// Ready-made bindings and the same events, as fast as the API takes them.
async fn bare(client: &Client, nodes: &[String], n: usize) -> Result<Outcome, Failure> {
    let space = Space::new(client, "bench-bare").await?;
    pods(&space, "nobody", n).await?;
    let list = space.pods.list_metadata(&ListParams::default()).await?;
    let calls = list.items.into_iter().enumerate().map(|(at, pod)| {
        let (name, uid) = (
            pod.metadata.name.unwrap_or_default(),
            pod.metadata.uid.unwrap_or_default(),
        );
        let (node, in_namespace) = (nodes[at % nodes.len()].clone(), space.name);
        let (pods, events) = (space.pods.clone(), space.events.clone());
        async move {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": name, "namespace": in_namespace, "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let _: Status = pods
                .create_subresource("binding", &name, &PostParams::default(), &binding)
                .await?;
            let event = json!({
                "metadata": {"name": format!("{name}.bare"), "namespace": in_namespace},
                "eventTime": format!("{:.6}", Timestamp::now()),
                "reportingController": "bare", "reportingInstance": "bare",
                "action": "Binding", "reason": "Scheduled", "type": "Normal",
                "note": format!("Successfully assigned {in_namespace}/{name} to {node}"),
                "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": in_namespace, "name": name, "uid": uid},
            });
            let event: Event = serde_json::from_value(event)?;
            events.create(&PostParams::default(), &event).await?;
            Ok::<(), Failure>(())
        }
    });
    let calls: Vec<_> = calls.collect();
    let watch = Watch::new(&space.pods, None).await?;
    let pid = std::process::id();
    let before = Usage::of(pid)?;
    let started = Instant::now();
    let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
    while calls.try_next().await?.is_some() {}
    finish(space, watch, started, || Ok(Usage::of(pid)?.since(before))).await
}

/// The cluster's own scheduler.
async fn kube_scheduler(client: &Client, n: usize) -> Result<Outcome, Failure> {
    let pid: u32 = std::env::var("MOONSHOT_BENCH_SCHEDULER")?.parse()?;
    signal(pid, "STOP")?;
    let space = Space::new(client, "bench-kube").await?;
    pods(&space, "default-scheduler", n).await?;
    let watch = Watch::new(&space.pods, None).await?;
    let before = Usage::of(pid)?;
    let started = Instant::now();
    signal(pid, "CONT")?;
    finish(space, watch, started, || Ok(Usage::of(pid)?.since(before))).await
}

/// A server of ours.
async fn ours(client: &Client, n: usize) -> Result<Outcome, Failure> {
    let mut server = Server::new()?;
    server.start()?;
    let space = Space::new(client, "bench-ours").await?;
    pods(&space, "moonshot", n).await?;
    // Each pod is told that its Project is missing: then all have been seen.
    let n_told = space.told(n).await?;
    if n_told < n {
        return Err(format!("the server has seen {n_told} of {n} pods: {}", server.log()).into());
    }
    let watch = Watch::new(&space.pods, None).await?;
    let pid = server.pid();
    let before = Usage::of(pid)?;
    let started = Instant::now();
    server.apply("apiVersion: moonshot/v1\nkind: Project\nmetadata: {name: bench-ours}\n")?;
    let done = finish(space, watch, started, || Ok(Usage::of(pid)?.since(before))).await;
    server.stop()?;
    done
}
