//! The engine's port on a cluster.

use crate::cache::Cache;
use crate::config::{AccessMode, Config};
use crate::endpoint::{self, Trusted};
use crate::error::{failed, is_conflict, is_gone};
use crate::others::{self, Notes};
use crate::view::{Holder, HolderKind, SlotState, Stop};
use crate::{claims, companions, exec, keeper, lead, manifest, names, spaces, watch};
use base::{Epoch, Span, Uid};
use engine::{
    BoxFuture, Cursor, Engine, EngineError, Exec, Group, Keeps, Life, Note, Observation, Phase,
    PodName, Prepared, Project, ReplicaKey, Slot, StopReason,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Others may write the same object at the same time.
const TRIES: u32 = 12;
/// Between tries.
const PAUSE: Duration = Duration::from_millis(30);

/// The engine on one cluster.
pub struct K8s {
    shared: Arc<Shared>,
    notes: Notes,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the engine's tasks share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) cache: Arc<Cache>,
    pub(crate) trusted: Trusted,
    /// The epoch under which this process leads; 0 before it does.
    epoch: AtomicU64,
}

impl Shared {
    /// The leader's epoch, if this process has it and no newer leader has been seen.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        let epoch = Epoch(self.epoch.load(Ordering::Acquire));
        (epoch != Epoch(0) && epoch >= self.cache.highest()).then_some(epoch)
    }

    /// Changes what is written of one Slot, by compare-and-set; `change` answers whether there is anything to write. A
    /// replica that is not there any more is no error.
    pub(crate) async fn edit(
        &self,
        key: &ReplicaKey,
        epoch: Epoch,
        mut change: impl FnMut(&mut SlotState) -> bool,
    ) -> Result<(), EngineError> {
        for _ in 0..TRIES {
            let Some((mut holder, slot)) = self.cache.holder(key) else {
                return Ok(());
            };
            let mut state = holder
                .slots
                .get(slot.index, slot.attempt)
                .cloned()
                .unwrap_or_default();
            if !change(&mut state) {
                return Ok(());
            }
            *holder.slots.entry(slot.index, slot.attempt) = state;
            let annotations = json!({
                names::SLOTS: holder.slots.to_text(),
                names::EPOCH: epoch.0.to_string(),
            });
            match self.write(&holder, annotations, None).await {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if is_conflict(&error) => self.refresh(&holder).await?,
                Err(error) => return Err(failed(format!("writing about `{key}`"), error)),
            }
        }
        Err(EngineError::Failed {
            operation: format!("writing about `{key}`"),
            source: "others write it all the time".into(),
        })
    }

    /// Patches a holder with the version that is known; what comes back is taken at once.
    async fn write(
        &self,
        holder: &Holder,
        annotations: Value,
        replicas: Option<usize>,
    ) -> kube::Result<()> {
        let (namespace, name) = &holder.place;
        let mut patch =
            json!({"metadata": {"resourceVersion": holder.version, "annotations": annotations}});
        if let Some(replicas) = replicas {
            patch["spec"] = json!({"replicas": replicas});
        }
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let client = self.client.clone();
        let written = match holder.kind {
            HolderKind::Job => {
                let job = Api::<Job>::namespaced(client, namespace)
                    .patch(name, &params, &patch)
                    .await?;
                Holder::of_job(&job)
            }
            HolderKind::Deployment => {
                let api = Api::<Deployment>::namespaced(client, namespace);
                Holder::of_deployment(&api.patch(name, &params, &patch).await?)
            }
        };
        if let Some(written) = written {
            self.cache.put_holder(written);
        }
        Ok(())
    }

    /// Reads a holder anew.
    async fn refresh(&self, holder: &Holder) -> Result<(), EngineError> {
        tokio::time::sleep(PAUSE).await;
        let (namespace, name) = &holder.place;
        let client = self.client.clone();
        let found = match holder.kind {
            HolderKind::Job => {
                let found = Api::<Job>::namespaced(client, namespace)
                    .get_opt(name)
                    .await;
                found.map(|job| job.as_ref().and_then(Holder::of_job))
            }
            HolderKind::Deployment => {
                let found = Api::<Deployment>::namespaced(client, namespace)
                    .get_opt(name)
                    .await;
                found.map(|deployment| deployment.as_ref().and_then(Holder::of_deployment))
            }
        };
        match found.map_err(|error| failed(format!("reading `{namespace}/{name}`"), error))? {
            Some(found) => self.cache.put_holder(found),
            None => self
                .cache
                .remove_holder(&(holder.kind, holder.place.clone())),
        }
        Ok(())
    }

    /// Makes an object unless it is there.
    pub(crate) async fn create<K>(
        &self,
        api: Api<K>,
        value: Value,
    ) -> Result<Option<K>, EngineError>
    where
        K: Clone + DeserializeOwned + Debug + serde::Serialize,
    {
        let name = value["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let object: K = serde_json::from_value(value).map_err(|error| EngineError::Failed {
            operation: format!("writing the manifest of `{name}`"),
            source: Box::new(error),
        })?;
        let params = PostParams {
            dry_run: false,
            field_manager: Some(names::MANAGER.to_owned()),
        };
        match api.create(&params, &object).await {
            Ok(made) => Ok(Some(made)),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(failed(format!("creating `{name}`"), error)),
        }
    }

    /// Refuses what a superseded leader wants.
    fn check(&self, ours: Epoch) -> Result<(), EngineError> {
        let led = Epoch(self.epoch.load(Ordering::Acquire));
        let highest = led.max(self.cache.highest());
        if ours < highest {
            return Err(EngineError::Superseded { ours, highest });
        }
        Ok(())
    }
}

impl K8s {
    /// Connects, lists what is there, and begins to listen for pods.
    pub async fn open(config: Config) -> Result<K8s, EngineError> {
        let kube = config.access.read().await?;
        let client =
            Client::try_from(kube).map_err(|error| failed("connecting to the cluster", error))?;
        let listener = tokio::net::TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|error| EngineError::Failed {
            operation: format!("listening for pods on {}", config.listen),
            source: Box::new(error),
        })?;
        let mut config = config;
        if let Ok(address) = listener.local_addr() {
            config.listen = address;
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (checkpoints, gpus) = (config.checkpoints.clone(), config.gpu_class.clone());
        let cache = Cache::new(now.as_secs(), checkpoints, gpus);
        let shared = Arc::new(Shared {
            client: client.clone(),
            config,
            cache: Arc::new(cache),
            trusted: Trusted::default(),
            epoch: AtomicU64::new(0),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (listed, mut is_listed) = tokio::sync::watch::channel(0);
        tasks.spawn(watch::run(
            client,
            Arc::clone(&shared.cache),
            listed,
            stop.clone(),
        ));
        tasks.spawn(keeper::run(Arc::clone(&shared), stop.clone()));
        tasks.spawn(endpoint::serve(Arc::clone(&shared), listener, stop.clone()));
        let (notes, written) = others::notes();
        tasks.spawn(others::write_notes(
            shared.client.clone(),
            written,
            stop.clone(),
        ));
        let complete = is_listed.wait_for(|n| *n == watch::KINDS).await;
        complete.map_err(|error| EngineError::Failed {
            operation: "listing the cluster's objects".to_owned(),
            source: Box::new(error),
        })?;
        Ok(K8s {
            shared,
            notes,
            tasks,
            stop,
        })
    }

    /// Where it listens for pods.
    pub fn listens_on(&self) -> std::net::SocketAddr {
        self.shared.config.listen
    }

    /// Ends its tasks; everything in the cluster goes on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn ensure_group(&self, epoch: Epoch, group: &Group) -> Result<(), EngineError> {
        self.shared.check(epoch)?;
        manifest::check(&self.shared.config.images, group)?;
        let missing: Vec<&Slot> = group
            .slots
            .iter()
            .filter(|slot| self.shared.cache.holder(&group.key(slot)).is_none())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let client = || self.shared.client.clone();
        spaces::make(&self.shared, &group.project, &group.tenant).await?;
        claims::make(&self.shared, group).await?;
        companions::make(&self.shared, group).await?;
        if group.life == Life::Service {
            return self.ensure_service(epoch, group).await;
        }
        let registries = self.shared.cache.spaces.registries(&group.project);
        for slot in missing {
            let manifest = manifest::job(&self.shared.config, &registries, group, slot, epoch);
            let made = self
                .shared
                .create(Api::<Job>::namespaced(client(), &group.project), manifest)
                .await?;
            if let Some(holder) = made.as_ref().and_then(Holder::of_job) {
                self.shared.cache.put_holder(holder);
            }
        }
        Ok(())
    }

    /// One Deployment for all Slots: made, or given the new ones.
    async fn ensure_service(&self, epoch: Epoch, group: &Group) -> Result<(), EngineError> {
        let client = || self.shared.client.clone();
        let api = || Api::<Deployment>::namespaced(client(), &group.project);
        let name = names::deployment(group);
        let registries = self.shared.cache.spaces.registries(&group.project);
        for _ in 0..TRIES {
            let manifest = manifest::deployment(&self.shared.config, &registries, group, epoch);
            if let Some(made) = self.shared.create(api(), manifest).await? {
                if let Some(holder) = Holder::of_deployment(&made) {
                    self.shared.cache.put_holder(holder);
                }
                return Ok(());
            }
            let found = api().get_opt(&name).await;
            let found = found.map_err(|error| failed(format!("reading `{name}`"), error))?;
            let Some(mut holder) = found.as_ref().and_then(Holder::of_deployment) else {
                continue;
            };
            let mut known = (*holder.group).clone();
            for slot in &group.slots {
                let key = group.key(slot);
                if !known.slots.iter().any(|slot| known.key(slot) == key) {
                    known.slots.push(slot.clone());
                }
            }
            holder.group = Arc::new(known);
            match self.shared.rewrite(&holder, epoch).await {
                Ok(()) => return Ok(()),
                Err(error) if is_conflict(&error) || is_gone(&error) => {}
                Err(error) => return Err(failed(format!("writing `{name}`"), error)),
            }
        }
        Err(EngineError::Failed {
            operation: format!("writing `{name}`"),
            source: "others write it all the time".into(),
        })
    }

    async fn remove_replica(
        &self,
        epoch: Epoch,
        key: &ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> Result<(), EngineError> {
        self.shared.check(epoch)?;
        let Some(report) = self.shared.cache.journal.report(key) else {
            self.shared.cache.journal.absent(key);
            return Ok(());
        };
        if matches!(report.phase, Phase::Ended(_)) {
            return self.forget(epoch, key).await;
        }
        let grace_ms = grace.as_ms();
        let at = keeper::now();
        let asked = self.shared.edit(key, epoch, |state| match &mut state.stop {
            // A later request can only shorten it.
            Some(stop) if stop.grace_ms <= grace_ms => false,
            Some(stop) => {
                stop.grace_ms = grace_ms;
                true
            }
            None => {
                state.stop = Some(Stop {
                    reason,
                    grace_ms,
                    at,
                });
                true
            }
        });
        asked.await?;
        // The keeper would do it too, a moment later.
        if let Some(pod) = self.shared.cache.pod(key) {
            match keeper::stop_pod(&self.shared.client, &pod, grace_ms).await {
                Err(error) if !is_gone(&error) && !is_conflict(&error) => {
                    return Err(failed(format!("stopping `{key}`"), error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.shared.rescale(key, epoch).await
    }

    /// Deletes what is left of an ended replica.
    async fn forget(&self, epoch: Epoch, key: &ReplicaKey) -> Result<(), EngineError> {
        for _ in 0..TRIES {
            let Some((mut holder, slot)) = self.shared.cache.holder(key) else {
                self.shared.cache.forget(key);
                return Ok(());
            };
            let (namespace, name) = holder.place.clone();
            let mut group = (*holder.group).clone();
            group
                .slots
                .retain(|other| (other.index, other.attempt) != (slot.index, slot.attempt));
            let is_last = group.slots.is_empty();
            self.shared.cache.forget(key);
            let done = if is_last {
                self.shared.delete(&holder).await
            } else {
                holder.slots.remove(slot.index, slot.attempt);
                holder.group = Arc::new(group);
                self.shared.rewrite(&holder, epoch).await
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if is_conflict(&error) => self.shared.refresh(&holder).await?,
                Err(error) => {
                    self.shared.cache.remember(key);
                    return Err(failed(format!("deleting `{namespace}/{name}`"), error));
                }
            }
        }
        self.shared.cache.remember(key);
        Err(EngineError::Failed {
            operation: format!("forgetting `{key}`"),
            source: "others write its object all the time".into(),
        })
    }
}

/// Deletes this very object, whatever has its name by then.
pub(crate) fn only(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

impl Shared {
    /// Writes a Deployment's Slots and how many pods they need.
    pub(crate) async fn rewrite(&self, holder: &Holder, epoch: Epoch) -> kube::Result<()> {
        let annotations = json!({
            names::ASKED: manifest::asked(&holder.group),
            names::SLOTS: holder.slots.to_text(),
            names::EPOCH: epoch.0.to_string(),
        });
        self.write(holder, annotations, Some(holder.n_live())).await
    }

    /// After a Slot was given up: one pod less. Its own is being deleted already, so that the unbound one that replaces it goes.
    async fn rescale(&self, key: &ReplicaKey, epoch: Epoch) -> Result<(), EngineError> {
        for _ in 0..TRIES {
            let Some((holder, _)) = self.cache.holder(key) else {
                return Ok(());
            };
            if holder.kind != HolderKind::Deployment {
                return Ok(());
            }
            match self.rewrite(&holder, epoch).await {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if is_conflict(&error) => self.refresh(&holder).await?,
                Err(error) => return Err(failed(format!("scaling for `{key}`"), error)),
            }
        }
        // The keeper's next look finds no pod for a stopped Slot: only one pod too many waits, unbound.
        Ok(())
    }

    async fn delete(&self, holder: &Holder) -> kube::Result<()> {
        let (namespace, name) = &holder.place;
        let params = DeleteParams {
            propagation_policy: DeleteParams::background().propagation_policy,
            ..only(&holder.uid)
        };
        let client = self.client.clone();
        match holder.kind {
            HolderKind::Job => Api::<Job>::namespaced(client, namespace)
                .delete(name, &params)
                .await
                .map(drop),
            HolderKind::Deployment => Api::<Deployment>::namespaced(client, namespace)
                .delete(name, &params)
                .await
                .map(drop),
        }
    }
}

impl Drop for K8s {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Engine for K8s {
    fn lead(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            lead::take(&self.shared.client, &self.shared.config.namespace, epoch).await?;
            lead::stamp(&self.shared.client, &self.shared.cache, epoch).await?;
            self.shared.epoch.fetch_max(epoch.0, Ordering::AcqRel);
            self.shared.cache.poke.notify_one();
            Ok(())
        })
    }

    fn ensure<'a>(
        &'a self,
        epoch: Epoch,
        group: &'a Group,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.ensure_group(epoch, group))
    }

    fn project<'a>(
        &'a self,
        epoch: Epoch,
        project: &'a Project,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            self.shared.cache.spaces.tell(project);
            spaces::keep(&self.shared, &project.name).await
        })
    }

    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        key: &'a ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.remove_replica(epoch, key, grace, reason))
    }

    fn observe(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> BoxFuture<'_, Result<Observation, EngineError>> {
        Box::pin(async move { Ok(self.shared.cache.journal.observe(cursor, wait).await) })
    }

    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Uid>, EngineError>> {
        Box::pin(async move { Ok(self.shared.cache.owners()) })
    }

    fn drop_checkpoints(&self, epoch: Epoch, owner: Uid) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            claims::drop(&self.shared, owner).await
        })
    }

    fn ties(&self, keeps: &Keeps) -> Result<BTreeMap<String, String>, EngineError> {
        let access = self.shared.config.checkpoints.access;
        if keeps.n_replicas > 1 && access == AccessMode::ReadWriteOnce {
            return Err(EngineError::Unsupported {
                field: "checkpoint".to_owned(),
                why: format!(
                    "{} replicas would share one directory, and claims for checkpoints are `ReadWriteOnce` on this cluster: have MOONSHOT_CHECKPOINT_ACCESS set to `ReadWriteMany` with a storage class that can do it, or run one replica",
                    keeps.n_replicas
                ),
            });
        }
        let name = names::checkpoint(keeps.owner, &keeps.claim);
        Ok(self.shared.cache.ties(&(keeps.project.clone(), name)))
    }

    fn peer_host(&self, key: &ReplicaKey, _node: &str) -> String {
        names::host(key)
    }

    fn prepare<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        node: &'a str,
    ) -> BoxFuture<'a, Result<Prepared, EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            others::prepare(&self.shared, pod, node).await
        })
    }

    fn bind<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        node: &'a str,
    ) -> BoxFuture<'a, Result<bool, EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            let is_bound = others::bind(&self.shared, epoch, pod, node).await?;
            if is_bound {
                let sentence = format!("Successfully assigned {pod} to {node}");
                self.notes.add(pod, false, "Scheduled", sentence);
            }
            Ok(is_bound)
        })
    }

    fn evict<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        grace: Span,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            others::evict(&self.shared.client, pod, grace).await
        })
    }

    fn tell<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        note: &'a Note,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.shared.check(epoch)?;
            let sentence = note.sentence.clone();
            self.notes.add(pod, note.is_warning, &note.reason, sentence);
            Ok(())
        })
    }

    fn exec<'a>(
        &'a self,
        key: &'a ReplicaKey,
        command: &'a [String],
        terminal: Option<(u16, u16)>,
    ) -> BoxFuture<'a, Result<Exec, EngineError>> {
        Box::pin(async move {
            let pod = self
                .shared
                .cache
                .pod(key)
                .filter(|pod| pod.node.is_some() && !pod.is_over);
            let pod = pod.ok_or_else(|| EngineError::NotRunning(key.clone()))?;
            exec::exec(&self.shared.client, &self.tasks, &pod, command, terminal).await
        })
    }
}
