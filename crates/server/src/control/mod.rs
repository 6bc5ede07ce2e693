//! The loops of the leader. One server leads; the others serve the API and wait for the lease.
//!
//! [`jobs`] and [`apps`] perform what `plan` says; [`scheduler`] owns `sched`, and [`sched_log`] writes down what it does; [`observer`] reads the engine;
//! [`platform_objects`] keeps nodes, pools and queues in step between the database and the scheduler;
//! [`projects`] tells the engine what keeps Projects apart; [`foreign`] takes in pods that others made; [`environments`] builds; [`deliveries`] brings what Jobs have made to Apps; [`retention`] forgets rows, [`collector`] removes bytes. Each has the same shape: no input, a period and a poke, one
//! path for both, no retries of its own.

pub mod admit;
pub mod app_status;
pub mod apps;
pub mod collector;
pub mod convert;
pub mod deliveries;
pub mod dirty;
pub mod environments;
pub mod foreign;
pub mod job_context;
pub mod job_rebuild;
pub mod job_status;
pub mod jobs;
pub mod leader;
pub mod node_reports;
pub mod nodes;
pub mod observer;
pub mod placement_row;
pub mod platform_objects;
pub mod ports;
pub mod projects;
pub mod queues;
mod relations;
pub mod retention;
pub mod rows;
pub mod sched_log;
pub mod scheduler;
pub mod seat_row;
pub mod served;
pub mod sights;
pub mod tasks;
pub mod ties;
pub mod unit_row;
pub mod usage;
pub mod venv;

use crate::platform::{Clock, Platform, Poke};
use base::{Epoch, Span, Time, Uid};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the loops of one term share.
pub struct Control {
    /// The control database.
    pub db: db::Db,
    /// The engine of this cell's only Cluster so far.
    pub engine: Arc<dyn engine::Engine>,
    /// The Cluster's name.
    pub cluster: String,
    /// The scheduler loop.
    pub sched: scheduler::SchedHandle,
    /// What the engine sees.
    pub sights: sights::Sights,
    /// Jobs to look at.
    pub jobs: dirty::Dirty,
    /// Apps to look at.
    pub apps: dirty::Dirty,
    /// Pods of others.
    pub foreign: foreign::Foreign,
    /// Poked when a Node, Pool or Queue changed.
    pub platform: Poke,
    /// Poked when a Project or a Secret changed.
    pub project_changed: Poke,
    /// What the engine knows of Projects.
    pub projects: projects::Projects,
    /// Poked when an Environment changed.
    pub builds: Poke,
    /// Which Queue takes which projects.
    pub queues: queues::Queues,
    /// Whether an owner is a Job or an App.
    pub kinds: Kinds,
    /// Which nodes answer, and what must leave them.
    pub hearing: nodes::Nodes,
    /// After this long a node that does not answer is fenced.
    pub node_lost_after: Span,
    /// Python environments.
    pub venvs: venv::Venvs,
    /// Code, outputs, models.
    pub store: store::Store,
    /// How long content stays that nobody needs.
    pub content_grace: base::Span,
    /// Output of replicas.
    pub logs: logs::Logs,
    /// How much of it is kept.
    pub log_bounds: crate::platform::LogBounds,
    /// The term.
    pub epoch: Epoch,
    /// From which tokens of attempts are made.
    pub key: Vec<u8>,
    /// Where Apps are reached.
    pub gateway_url: String,
    clock: Arc<dyn Clock>,
    nodes: Mutex<HashMap<String, u32>>,
    devices: Mutex<HashMap<String, Vec<String>>>,
}

/// Why a loop could not do its work this time.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The database refused or is away.
    #[error("the database refused")]
    Db(#[from] db::DbError),
    /// The engine refused or is away.
    #[error("the engine refused")]
    Engine(#[from] engine::EngineError),
    /// The store refused or is away.
    #[error("the store refused")]
    Store(#[source] store::StoreError),
    /// The directory of built Environments cannot be read or written.
    #[error("built Environments cannot be removed")]
    Environments(#[source] std::io::Error),
    /// A version or a Revision could not be made.
    #[error("what a Job made cannot be delivered")]
    Deliver(#[source] crate::error::UseError),
    /// A stored spec cannot be read: a newer server wrote it.
    #[error("the spec of {uid} cannot be read")]
    Spec {
        /// Whose.
        uid: Uid,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What owns placements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// A Job.
    Job,
    /// An App.
    App,
    /// Pods of others.
    Pods,
}

impl OwnerKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            OwnerKind::Job => "Job",
            OwnerKind::App => "App",
            OwnerKind::Pods => "PodGroup",
        }
    }
}

/// What an owner is, for those seen in this term.
#[derive(Debug, Default)]
pub struct Kinds(Mutex<HashMap<Uid, OwnerKind>>);

impl Kinds {
    /// The owner's kind, if it was seen.
    pub fn of(&self, uid: Uid) -> Option<OwnerKind> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&uid)
            .copied()
    }

    /// An owner was seen.
    pub fn put(&self, uid: Uid, kind: OwnerKind) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid, kind);
    }
}

/// What was performed and is not yet seen to be so is performed again after this, unless its owner is woken before.
const AGAIN: Span = Span::from_secs(1);

/// When to look again at an owner whose plan is the one that was just performed.
fn patiently(wake: Option<Time>, now: Time) -> Time {
    let again = now + AGAIN;
    wake.map_or(again, |wake| wake.min(again))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each use is one look-up or one insert: a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// A term's shared state.
    pub fn new(
        platform: &Platform,
        sched: scheduler::SchedHandle,
        jobs: dirty::Dirty,
        apps: dirty::Dirty,
        foreign: foreign::Foreign,
        epoch: Epoch,
    ) -> Control {
        Control {
            db: platform.db.clone(),
            engine: Arc::clone(&platform.engine),
            cluster: platform.cluster.clone(),
            sched,
            sights: sights::Sights::default(),
            jobs,
            apps,
            foreign,
            platform: Poke::default(),
            project_changed: Poke::default(),
            projects: projects::Projects::default(),
            builds: Poke::default(),
            queues: queues::Queues::default(),
            kinds: Kinds::default(),
            hearing: nodes::Nodes::default(),
            node_lost_after: platform.node_lost_after,
            venvs: platform.venvs.clone(),
            store: platform.store.clone(),
            content_grace: platform.content_grace,
            logs: platform.logs.clone(),
            log_bounds: platform.log_bounds,
            epoch,
            key: platform.key.clone(),
            gateway_url: platform.gateway_url.clone(),
            clock: Arc::clone(&platform.clock),
            nodes: Mutex::new(HashMap::new()),
            devices: Mutex::new(HashMap::new()),
        }
    }

    /// The server's time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A node's number, once it is known.
    pub fn node_id(&self, name: &str) -> Option<u32> {
        lock(&self.nodes).get(name).copied()
    }

    /// A node's number and its devices in order.
    pub fn know_node(&self, name: &str, id: u32, devices: Vec<String>) {
        lock(&self.nodes).insert(name.to_owned(), id);
        lock(&self.devices).insert(name.to_owned(), devices);
    }

    /// A device's position on its node.
    pub fn device_position(&self, node: &str, device: &str) -> Option<u16> {
        let devices = lock(&self.devices);
        let at = devices.get(node)?.iter().position(|id| id == device)?;
        u16::try_from(at).ok()
    }

    /// The queue that a project's work waits in: the one it names, else the first that takes the project, else
    /// `default`.
    pub async fn queue_of(
        &self,
        project: &str,
        named: Option<&str>,
    ) -> Result<String, ControlError> {
        if let Some(named) = named {
            return Ok(named.to_owned());
        }
        let queues = self.queues.read(&self.db).await?;
        Ok(queues::taking(&queues, project).to_owned())
    }

    /// The engine reports replicas of an owner that this term has not seen: look what it is. Replicas of an owner
    /// that does not exist are removed, for nobody else will.
    pub async fn adopt(&self, uid: Uid) -> Result<(), ControlError> {
        if let Some(object) = db::objects::read_by_uid(&self.db, uid).await? {
            let (kind, dirty) = if object.kind == "App" {
                (OwnerKind::App, &self.apps)
            } else {
                (OwnerKind::Job, &self.jobs)
            };
            self.kinds.put(uid, kind);
            dirty.add(uid);
            return Ok(());
        }
        for key in self.sights.of(uid).into_keys() {
            self.engine
                .remove(self.epoch, &key, Span::ZERO, engine::StopReason::Cancelled)
                .await?;
        }
        Ok(())
    }
}
