//! A namespace with the pods of one contender, and what is seen of them.

use crate::Failure;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher;
use kube::runtime::watcher::Event as Seen;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Calls at once: of the bare loop, and for making and removing pods.
pub(crate) const CALLS: usize = 64;
/// For everything to be as it shall be.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks at something that is not watched.
const LOOK: Duration = Duration::from_millis(100);
/// Events that do not come within this time after the last are not coming.
const SILENCE: Duration = Duration::from_secs(10);
/// Objects in one page of a list.
pub(crate) const PAGE: u32 = 500;

pub(crate) struct Space {
    client: Client,
    pub(crate) name: &'static str,
    pub(crate) pods: Api<Pod>,
    pub(crate) events: Api<Event>,
}

/// An event that says where a pod was put.
pub(crate) struct Told {
    pub(crate) pod: String,
    /// Microseconds since 1970, by the clock of who bound it.
    pub(crate) at_us: i64,
    sentence: String,
    is_plain: bool,
}

impl Space {
    /// Makes the namespace.
    pub(crate) async fn new(client: &Client, name: &'static str) -> Result<Space, Failure> {
        let space: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let spaces = Api::<Namespace>::all(client.clone());
        spaces.create(&PostParams::default(), &space).await?;
        // Without its service account no pod can be made; it comes a moment later.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        let started = Instant::now();
        while accounts.get_opt("default").await?.is_none() {
            patient(started, "the namespace's service account")?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(Space {
            client: client.clone(),
            name,
            pods: Api::namespaced(client.clone(), name),
            events: Api::namespaced(client.clone(), name),
        })
    }

    /// The manifest of a pod of one CPU that simulated nodes take; the scheduler and the rest of the spec are the caller's.
    pub(crate) fn pod(name: &str, mut spec: Value) -> Value {
        spec["automountServiceAccountToken"] = json!(false);
        spec["terminationGracePeriodSeconds"] = json!(0);
        spec["tolerations"] = json!([{"key": "kwok", "operator": "Exists"}]);
        spec["containers"] = json!([{
            "name": "main", "image": "none.test/none:1",
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        }]);
        json!({"metadata": {"name": name}, "spec": spec})
    }

    /// Makes pods.
    pub(crate) async fn fill(&self, pods: impl Iterator<Item = Value>) -> Result<(), Failure> {
        let calls = pods.map(|pod| async move {
            let pod: Pod = serde_json::from_value(pod)?;
            self.pods.create(&PostParams::default(), &pod).await?;
            Ok::<(), Failure>(())
        });
        let calls: Vec<_> = calls.collect();
        let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
        while calls.try_next().await?.is_some() {}
        Ok(())
    }

    /// How many events there are, by a list of one.
    async fn n_events(&self) -> Result<usize, Failure> {
        let one = self
            .events
            .list_metadata(&ListParams::default().limit(1))
            .await?;
        let left = one.metadata.remaining_item_count.unwrap_or(0);
        Ok(one.items.len() + usize::try_from(left).unwrap_or(0))
    }

    /// Waits until so many events were written, or no more come; how many there are.
    pub(crate) async fn told(&self, n: usize) -> Result<usize, Failure> {
        let (mut before, mut last) = (0, Instant::now());
        loop {
            let n_events = self.n_events().await?;
            if n_events != before {
                (before, last) = (n_events, Instant::now());
            }
            let silence = if n_events == 0 { PATIENCE } else { SILENCE };
            if n_events >= n || last.elapsed() > silence {
                return Ok(n_events);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until so many bound pods were told of, or no more are; when the last event was seen.
    pub(crate) async fn all_told(&self, n: usize) -> Result<Instant, Failure> {
        // Lists by a field are dear: they begin when there may be enough.
        self.told(n).await?;
        let field = ListParams::default().fields("reason=Scheduled");
        let (mut before, mut last) = (0, Instant::now());
        loop {
            let n_told = self.events.list_metadata(&field).await?.items.len();
            if n_told != before {
                (before, last) = (n_told, Instant::now());
            }
            if n_told >= n || last.elapsed() > SILENCE {
                return Ok(last);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All events of pods that were bound.
    pub(crate) async fn scheduled(&self) -> Result<Vec<Told>, Failure> {
        let mut told = Vec::new();
        let mut page = ListParams::default().fields("reason=Scheduled").limit(PAGE);
        loop {
            let list = self.events.list(&page).await?;
            told.extend(list.items.into_iter().filter_map(|event| {
                let regarding = event.regarding?;
                Some(Told {
                    is_plain: event.type_.as_deref() == Some("Normal")
                        && event.action.as_deref() == Some("Binding")
                        && regarding.kind.as_deref() == Some("Pod")
                        && regarding.uid.is_some(),
                    pod: regarding.name?,
                    at_us: event.event_time.map_or(0, |at| at.0.as_microsecond()),
                    sentence: event.note.unwrap_or_default(),
                })
            }));
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                return Ok(told);
            }
        }
    }

    /// How many pods have no event, with the sentence of all schedulers, that says where they are.
    pub(crate) async fn untold(&self, sights: &HashMap<String, Sight>) -> Result<usize, Failure> {
        let scheduled = self.scheduled().await?;
        let told: HashMap<&str, &Told> = scheduled
            .iter()
            .map(|told| (told.pod.as_str(), told))
            .collect();
        let is_told = |(pod, sight): &(&String, &Sight)| {
            let node = sight.node.as_deref().unwrap_or_default();
            let sentence = format!("Successfully assigned {}/{pod} to {node}", self.name);
            told.get(pod.as_str())
                .is_some_and(|told| told.is_plain && told.sentence == sentence)
        };
        Ok(sights.iter().filter(|sight| !is_told(sight)).count())
    }

    /// Removes pods, events and the namespace, and waits until the pods are gone.
    pub(crate) async fn remove(self) -> Result<(), Failure> {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        // One by one: all at once takes the API server longer than it allows one call.
        loop {
            let pods = self.pods.list_metadata(&ListParams::default()).await?;
            let events = self.events.list_metadata(&ListParams::default()).await?;
            if pods.items.is_empty() && events.items.is_empty() {
                break;
            }
            let pods = pods.items.into_iter().map(|pod| (true, pod.metadata.name));
            let events = events.items.into_iter();
            let all = pods.chain(events.map(|event| (false, event.metadata.name)));
            let (space, now) = (&self, &now);
            let calls = all.map(|(is_pod, name)| async move {
                let name = name.unwrap_or_default();
                let done = if is_pod {
                    space.pods.delete(&name, now).await.map(drop)
                } else {
                    space.events.delete(&name, now).await.map(drop)
                };
                match done {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    other => other,
                }
            });
            let calls: Vec<_> = calls.collect();
            let mut calls = futures_util::stream::iter(calls).buffer_unordered(CALLS);
            while calls.try_next().await?.is_some() {}
        }
        Api::<Namespace>::all(self.client.clone())
            .delete(self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }
}

fn patient(started: Instant, what: &str) -> Result<(), Failure> {
    if started.elapsed() > PATIENCE {
        return Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into());
    }
    Ok(())
}

// ---- what is seen ----

/// What was seen of a pod, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) node: Option<String>,
    pub(crate) bound: Option<Instant>,
    pub(crate) running: Option<Instant>,
}

/// How many pods were seen bound, and running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    n_bound: usize,
    n_running: usize,
}

/// A watch of a namespace's pods, in a task of its own.
pub(crate) struct Watch {
    sights: Arc<Mutex<HashMap<String, Sight>>>,
    counts: watch::Receiver<Counts>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Watch {
    /// Begins, and returns once everything that is there has been seen. Pods that are seen bound for the first time go to
    /// `bound`.
    pub(crate) async fn new(
        pods: &Api<Pod>,
        bound: Option<mpsc::UnboundedSender<Pod>>,
    ) -> Result<Watch, Failure> {
        Watch::of(pods, watcher::Config::default(), bound).await
    }

    /// Of one pod.
    pub(crate) async fn of_pod(pods: &Api<Pod>, name: &str) -> Result<Watch, Failure> {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Watch::of(pods, config, None).await
    }

    async fn of(
        pods: &Api<Pod>,
        config: watcher::Config,
        bound: Option<mpsc::UnboundedSender<Pod>>,
    ) -> Result<Watch, Failure> {
        let sights = Arc::new(Mutex::new(HashMap::new()));
        let (counted, counts) = watch::channel(Counts::default());
        let (listed, is_listed) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&sights);
        let events = watcher::watcher(pods.clone(), config);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut events = std::pin::pin!(events);
            let mut listed = Some(listed);
            while let Some(event) = events.next().await {
                match event {
                    Ok(Seen::Apply(pod) | Seen::InitApply(pod)) => {
                        let is_new = see(&mut lock(&shared), &counted, &pod);
                        if let (true, Some(bound)) = (is_new, &bound) {
                            // Whoever asked may have heard enough.
                            let _ = bound.send(pod);
                        }
                    }
                    Ok(Seen::InitDone) => {
                        if let Some(listed) = listed.take() {
                            let _ = listed.send(());
                        }
                    }
                    // Sights stay; the watch begins anew by itself.
                    Ok(Seen::Init | Seen::Delete(_)) | Err(_) => {}
                }
            }
        });
        is_listed.await?;
        Ok(Watch {
            sights,
            counts,
            _task: task,
        })
    }

    pub(crate) async fn bound(&mut self, n: usize) -> Result<(), Failure> {
        self.until("bound", n, |counts| counts.n_bound).await
    }

    pub(crate) async fn running(&mut self, n: usize) -> Result<(), Failure> {
        self.until("running", n, |counts| counts.n_running).await
    }

    async fn until(
        &mut self,
        what: &str,
        n: usize,
        of: impl Fn(&Counts) -> usize,
    ) -> Result<(), Failure> {
        let reached = self.counts.wait_for(|counts| of(counts) >= n);
        let Ok(reached) = tokio::time::timeout(PATIENCE, reached).await else {
            let n_there = of(&self.counts.borrow());
            return Err(format!("{n_there} of {n} pods are {what}").into());
        };
        reached?;
        Ok(())
    }

    /// What was seen until now, by the pod's name.
    pub(crate) fn sights(&self) -> HashMap<String, Sight> {
        lock(&self.sights).clone()
    }
}

/// Takes a pod in; whether it is bound and was not before.
fn see(sights: &mut HashMap<String, Sight>, counted: &watch::Sender<Counts>, pod: &Pod) -> bool {
    let sight = sights
        .entry(pod.metadata.name.clone().unwrap_or_default())
        .or_default();
    let (was_bound, was_running) = (sight.bound.is_some(), sight.running.is_some());
    if sight.node.is_none() {
        sight.node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    }
    if sight.node.is_some() {
        sight.bound.get_or_insert_with(Instant::now);
    }
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if phase == Some("Running") {
        sight.running.get_or_insert_with(Instant::now);
    }
    let is_newly_bound = !was_bound && sight.bound.is_some();
    let is_newly_running = !was_running && sight.running.is_some();
    if is_newly_bound || is_newly_running {
        counted.send_modify(|counts| {
            counts.n_bound += usize::from(is_newly_bound);
            counts.n_running += usize::from(is_newly_running);
        });
    }
    is_newly_bound
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value below which a share of all lie, in hundredths.
pub(crate) fn percentile(mut values: Vec<f64>, hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * hundredths).div_ceil(100).max(1) - 1;
    values.get(at).copied().unwrap_or(0.0)
}
