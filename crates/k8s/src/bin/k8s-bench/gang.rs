//! Gangs in queues with quotas beside the same pods without a gang, made by ReplicaSets; then a server that starts anew on the
//! full cluster.
//!
//! What must never be is counted: a pod that is bound before its gang's admission is committed, a gang of which only a part
//! is bound when everything rests, a pod beyond its queue's quota.

use crate::report::{Figure, Report};
use crate::server::{Reader, Server};
use crate::space::{CALLS, PATIENCE, Sight, Space, Watch, percentile};
use crate::{Failure, Scale, count, note, warm};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The namespace of the gangs.
const NAMESPACE: &str = "bench-gang";
/// The label that names a gang, and the one that says how large it is.
const GANG: &str = "moonshot/gang";
const GANG_SIZE: &str = "moonshot/gang-size";
/// On all pods, with or without a gang: the ReplicaSet that they are of.
const SET: &str = "bench/set";
/// Between two looks at something that is not watched.
const LOOK: Duration = Duration::from_millis(500);

/// How much work there is.
pub(crate) struct Plan {
    n_gangs: usize,
    size: usize,
    n_queues: usize,
    /// Pods on the cluster when the server starts anew.
    pub(crate) n_pods: usize,
}

impl Plan {
    fn n_members(&self) -> usize {
        self.n_gangs * self.size
    }

    /// Each queue has room for its gangs and for half of another.
    fn limit_cpu(&self) -> usize {
        self.n_gangs / self.n_queues * self.size + self.size / 2
    }

    fn queue(&self, gang: usize) -> String {
        format!("bench-{}", gang % self.n_queues)
    }

    /// A Project and its queues.
    fn manifest(&self, project: &str) -> String {
        let mut text =
            format!("apiVersion: moonshot/v1\nkind: Project\nmetadata: {{name: {project}}}\n");
        for n in 0..self.n_queues {
            let _ = write!(
                text,
                "---\napiVersion: moonshot/v1\nkind: Queue\nmetadata: {{name: bench-{n}}}\n\
                 spec: {{projects: [{project}], quotas: {{'*': {{limit: {{cpu: '{}'}}}}}}}}\n",
                self.limit_cpu()
            );
        }
        text
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let plan = Plan {
        n_gangs: scale.pick(4, 20, 100),
        size: scale.pick(20, 100, 100),
        n_queues: scale.pick(2, 5, 10),
        n_pods: scale.pick(500, 10_000, 50_000),
    };
    let client = Client::try_default().await?;
    let nodes = Api::<Node>::all(client.clone());
    let n_nodes = nodes
        .list_metadata(&ListParams::default())
        .await?
        .items
        .len();
    let (n_gangs, size) = (plan.n_gangs, plan.size);
    let case = format!("{n_gangs} gangs of {size}, {n_nodes} nodes");

    note(&format!("{case}: the same pods without gangs"));
    let mut server = Server::new()?;
    server.start()?;
    let single = Stage::new(&client, &server, "bench-single", &plan).await?;
    let single_s = single.start(&plan, 0..n_gangs, false, None).await?.seconds;
    single.remove(&plan).await?;
    server.stop()?;
    drop(server);

    note("gangs");
    let mut server = Server::new()?;
    server.start()?;
    let stage = Stage::new(&client, &server, NAMESPACE, &plan).await?;
    let (bound, first) = mpsc::unbounded_channel();
    let reader = server.reader()?;
    let witness = tokio::task::spawn_blocking(move || early(&reader, NAMESPACE, first));
    let ran = stage.start(&plan, 0..n_gangs, true, Some(bound)).await?;
    let (committed, mut n_early) = witness.await??;
    let spreads = spreads(&stage.space, &ran.sights, &committed, &mut n_early).await?;
    note("more gangs than the quotas allow");
    let more = n_gangs..n_gangs + plan.n_queues;
    let rest = stage.overfill(&plan, more.clone()).await?;

    let mut add = |metric, unit, value, peer, aim| {
        report.add(&Figure {
            case: &case,
            metric,
            unit,
            value,
            peer,
            aim,
            more_is_better: false,
        })
    };
    let peer = Some(("the same pods without gangs", single_s));
    add("running_s", "s", ran.seconds, peer, Some(1.2 * single_s))?;
    add("bound_before_commit", "", count(n_early), None, Some(0.0))?;
    add("partly_bound", "", count(rest.n_partly), None, Some(0.0))?;
    add("over_quota", "", count(rest.n_over), None, Some(0.0))?;
    let p50 = percentile(spreads.clone(), 50);
    add("first_to_last_p50_ms", "ms", p50, None, None)?;
    let p99 = percentile(spreads, 99);
    add("first_to_last_p99_ms", "ms", p99, None, None)?;

    stage.remove_sets(more).await?;
    stage.gone(plan.n_members()).await?;
    warm::run(&client, &mut server, NAMESPACE, &plan, report).await
}

// ---- ReplicaSets on the cluster ----

struct Stage {
    space: Space,
    sets: Api<ReplicaSet>,
}

/// What became of ReplicaSets.
struct Ran {
    /// From the first call until all pods were running.
    seconds: f64,
    sights: HashMap<String, Sight>,
}

/// How gangs stand that do not fit.
struct Rest {
    n_partly: usize,
    n_over: usize,
}

impl Stage {
    async fn new(
        client: &Client,
        server: &Server,
        name: &'static str,
        plan: &Plan,
    ) -> Result<Stage, Failure> {
        server.apply(&plan.manifest(name))?;
        Ok(Stage {
            space: Space::new(client, name).await?,
            sets: Api::namespaced(client.clone(), name),
        })
    }

    fn set(plan: &Plan, n: usize, is_gang: bool) -> Value {
        let name = format!("gang-{n}");
        let mut pod = Space::pod("", json!({"schedulerName": "moonshot"}));
        let mut labels = json!({SET: name, "moonshot/queue": plan.queue(n)});
        if is_gang {
            labels[GANG] = json!(name);
            labels[GANG_SIZE] = json!(plan.size.to_string());
        }
        pod["metadata"] = json!({"labels": labels});
        json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": plan.size,
                "selector": {"matchLabels": {SET: name}},
                "template": pod,
            },
        })
    }

    async fn make(
        &self,
        plan: &Plan,
        gangs: std::ops::Range<usize>,
        is_gang: bool,
    ) -> Result<(), Failure> {
        let calls = gangs.map(|n| async move {
            let set: ReplicaSet = serde_json::from_value(Stage::set(plan, n, is_gang))?;
            self.sets.create(&PostParams::default(), &set).await?;
            Ok::<(), Failure>(())
        });
        let calls: Vec<_> = calls.collect();
        let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
        while calls.try_next().await?.is_some() {}
        Ok(())
    }

    /// Makes ReplicaSets and waits until all their pods run.
    async fn start(
        &self,
        plan: &Plan,
        gangs: std::ops::Range<usize>,
        is_gang: bool,
        bound: Option<mpsc::UnboundedSender<Pod>>,
    ) -> Result<Ran, Failure> {
        let mut watch = Watch::new(&self.space.pods, bound).await?;
        let n_pods = gangs.len() * plan.size;
        let started = Instant::now();
        self.make(plan, gangs, is_gang).await?;
        watch.running(n_pods).await?;
        let ran = Ran {
            seconds: started.elapsed().as_secs_f64(),
            sights: watch.sights(),
        };
        // Events are written beside; they are read later.
        self.space.all_told(n_pods).await?;
        note(&format!("    {n_pods} pods run after {:.1} s", ran.seconds));
        Ok(ran)
    }

    /// One gang more for each queue, of which half would fit. Once each has been told why it waits, everything rests.
    async fn overfill(&self, plan: &Plan, more: std::ops::Range<usize>) -> Result<Rest, Failure> {
        self.make(plan, more.clone(), true).await?;
        let waits = ListParams::default().fields("reason=FailedScheduling");
        let started = Instant::now();
        loop {
            let told = self.space.events.list(&waits).await?;
            let of = |event: k8s_openapi::api::events::v1::Event| {
                let pod = event.regarding?.name?;
                Some(pod.rsplit_once('-')?.0.to_owned())
            };
            let mut sets: Vec<String> = told.items.into_iter().filter_map(of).collect();
            sets.sort();
            sets.dedup();
            if sets.len() >= more.len() {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err(format!(
                    "{} of {} gangs were told why they wait",
                    sets.len(),
                    more.len()
                )
                .into());
            }
            tokio::time::sleep(LOOK).await;
        }
        // By name: how many of each are there, and bound.
        let mut gangs: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for pod in self.space.pods.list(&ListParams::default()).await?.items {
            let gang = gangs.entry(gang_of(&pod)).or_default();
            gang.0 += 1;
            gang.1 += usize::from(pod.spec.is_some_and(|spec| spec.node_name.is_some()));
        }
        let is_partly = |(n, n_bound): &(usize, usize)| *n_bound != 0 && n_bound != n;
        let of_more = more.filter_map(|n| gangs.get(&format!("gang-{n}")));
        Ok(Rest {
            n_partly: gangs.values().filter(|gang| is_partly(gang)).count(),
            n_over: of_more.map(|(_, n_bound)| *n_bound).sum(),
        })
    }

    async fn remove_sets(&self, gangs: std::ops::Range<usize>) -> Result<(), Failure> {
        for n in gangs {
            let background = DeleteParams::background();
            self.sets.delete(&format!("gang-{n}"), &background).await?;
        }
        Ok(())
    }

    /// Waits until only so many pods are left.
    async fn gone(&self, n_left: usize) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let all = ListParams::default();
            let n_pods = self.space.pods.list_metadata(&all).await?.items.len();
            if n_pods <= n_left {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("{n_pods} pods are left, not {n_left}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn remove(self, plan: &Plan) -> Result<(), Failure> {
        self.remove_sets(0..plan.n_gangs).await?;
        self.space.remove().await
    }
}

fn gang_of(pod: &Pod) -> String {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SET))
        .cloned()
        .unwrap_or_default()
}

// ---- what must never be ----

/// When each gang's admission was committed, in microseconds since 1970, and how many gangs were not committed at the moment when
/// their first bound pod was seen.
fn early(
    server: &Reader,
    project: &str,
    mut bound: mpsc::UnboundedReceiver<Pod>,
) -> Result<(HashMap<String, i64>, usize), Failure> {
    let (mut committed, mut n_early) = (HashMap::new(), 0);
    while let Some(pod) = bound.blocking_recv() {
        let gang = gang_of(&pod);
        if committed.contains_key(&gang) {
            continue;
        }
        let path = format!("/v1/projects/{project}/podgroups/{gang}/events");
        let events = server.get(&path)?;
        match admitted(&events)? {
            Some(at) => drop(committed.insert(gang, at)),
            None => {
                n_early += 1;
                committed.insert(gang, i64::MAX);
            }
        }
    }
    Ok((committed, n_early))
}

/// When an object's admission was written, if it was.
fn admitted(events: &Value) -> Result<Option<i64>, Failure> {
    let items = events["items"].as_array().into_iter().flatten();
    for event in items {
        if event["spec"]["reason"] == "Admitted" {
            let at = event["spec"]["firstAt"].as_str().unwrap_or_default();
            let at: Timestamp = at.parse()?;
            return Ok(Some(at.as_microsecond()));
        }
    }
    Ok(None)
}

/// Milliseconds from the first to the last binding of each gang, as who bound it writes it in its events. A pod with an earlier
/// binding than its gang's admission is counted in `n_early`.
async fn spreads(
    space: &Space,
    sights: &HashMap<String, Sight>,
    committed: &HashMap<String, i64>,
    n_early: &mut usize,
) -> Result<Vec<f64>, Failure> {
    let mut gangs: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for told in space.scheduled().await? {
        if !sights.contains_key(&told.pod) {
            continue;
        }
        // A ReplicaSet's pod is named after it.
        let gang = told.pod.rsplit_once('-').unwrap_or_default().0.to_owned();
        if committed
            .get(&gang)
            .is_some_and(|at| told.at_us < *at && *at != i64::MAX)
        {
            *n_early += 1;
        }
        let (first, last) = gangs.entry(gang).or_insert((i64::MAX, i64::MIN));
        *first = (*first).min(told.at_us);
        *last = (*last).max(told.at_us);
    }
    let spread = |(first, last): &(i64, i64)| {
        Duration::from_micros((last - first).unsigned_abs()).as_secs_f64() * 1_000.0
    };
    Ok(gangs.values().map(spread).collect())
}
