//! Nodes, pools and queues between the database and the scheduler: what operators write, and what the engine reports
//! ([`super::node_reports`]), becomes scheduler events; usage becomes status ([`usage`]).

use super::convert;
use super::nodes::Leaving;
use super::rows;
use super::usage;
use super::{Control, ControlError};
use api::platform::{NodeSpec, NodeStatus, PoolSpec, QueueSpec};
use db::objects::{self, Object};
use db::{DbError, control as tables};
use sched::{Event, NodeId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Objects that share a transaction.
pub const ROWS_MAX: usize = 256;

/// Usage is written at most this often.
const PERIOD: Duration = Duration::from_secs(2);

/// Without a poke, everything is read this often.
const RESYNC: Duration = Duration::from_secs(30);

/// After a failed look.
const FAILED_DELAY: Duration = Duration::from_secs(1);

/// What the scheduler was told last, so that only changes are told.
#[derive(Default)]
pub struct Told {
    pub(super) nodes: HashMap<String, sched::NodeSpec>,
    pub(super) pools: HashMap<String, sched::PoolSpec>,
    pub(super) queues: HashMap<String, sched::QueueSpec>,
    calendar: HashMap<String, sched::CalendarEntry>,
}

/// Tells the scheduler every pool, queue and node that changed since it was told last.
pub async fn tell(control: &Control, told: &mut Told) -> Result<(), ControlError> {
    let pools = objects::all(&control.db, "Pool").await?;
    let queues = objects::all(&control.db, "Queue").await?;
    let nodes = objects::all(&control.db, "Node").await?;
    let mut pool_specs = Vec::new();
    for object in &pools {
        let spec: PoolSpec = read(object)?;
        let told_spec = convert::pool(&object.name, &spec);
        if told.pools.get(&object.name) != Some(&told_spec) {
            control.sched.event(Event::Pool(told_spec.clone())).await;
            told.pools.insert(object.name.clone(), told_spec);
        }
        pool_specs.push((object.name.clone(), spec));
    }
    let mut calendar = HashMap::new();
    for object in &queues {
        let written: QueueSpec = read(object)?;
        let entries = convert::calendar(&object.name, &written, control.now());
        calendar.extend(entries.into_iter().map(|entry| (entry.name.clone(), entry)));
        let spec = convert::queue(&object.name, &written);
        if told.queues.get(&object.name) != Some(&spec) {
            control.sched.event(Event::Queue(spec.clone())).await;
            told.queues.insert(object.name.clone(), spec);
        }
    }
    tell_calendar(control, told, calendar).await;
    let ids = node_ids(control, &nodes).await?;
    for (object, id) in nodes.iter().zip(ids) {
        let spec = node(control, object, id, &pool_specs)?;
        if told.nodes.get(&object.name) != Some(&spec) {
            control.sched.event(Event::Node(spec.clone())).await;
            if control.hearing.set_leaving(&object.name, leaving(&spec)) {
                // Apps move by their own rollout; Jobs are evicted by the scheduler.
                control
                    .apps
                    .add_all(rows::active(&control.db, "App").await?);
            }
            told.nodes.insert(object.name.clone(), spec);
        }
    }
    forget_missing(
        &mut told.pools,
        &pools,
        |name, _| Event::PoolGone(name),
        control,
    )
    .await;
    forget_missing(
        &mut told.queues,
        &queues,
        |name, _| Event::QueueGone(name),
        control,
    )
    .await;
    forget_missing(
        &mut told.nodes,
        &nodes,
        |_, node: sched::NodeSpec| Event::NodeGone(node.id),
        control,
    )
    .await;
    Ok(())
}

/// What was reserved changes with each day, and with its Queue.
async fn tell_calendar(
    control: &Control,
    told: &mut Told,
    calendar: HashMap<String, sched::CalendarEntry>,
) {
    for (name, entry) in &calendar {
        if told.calendar.get(name) != Some(entry) {
            control.sched.event(Event::Calendar(entry.clone())).await;
        }
    }
    for name in told.calendar.keys() {
        if !calendar.contains_key(name) {
            control.sched.event(Event::CalendarGone(name.clone())).await;
        }
    }
    told.calendar = calendar;
}

async fn forget_missing<T>(
    told: &mut HashMap<String, T>,
    present: &[Object],
    event: impl Fn(String, T) -> Event,
    control: &Control,
) {
    let present: HashSet<&str> = present.iter().map(|object| object.name.as_str()).collect();
    let gone: Vec<String> = told
        .keys()
        .filter(|name| !present.contains(name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        if let Some(spec) = told.remove(&name) {
            control.sched.event(event(name, spec)).await;
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(object: &Object) -> Result<T, ControlError> {
    serde_json::from_value(object.spec.clone()).map_err(|source| ControlError::Spec {
        uid: object.uid,
        source,
    })
}

/// The pool a node belongs to: the one it names, else the first whose selector it matches, else `default`.
fn pool_of(
    spec: &NodeSpec,
    labels: &BTreeMap<String, String>,
    pools: &[(String, PoolSpec)],
) -> String {
    if let Some(pool) = &spec.pool {
        return pool.clone();
    }
    let matches = |pool: &PoolSpec| {
        !pool.node_selector.is_empty()
            && pool
                .node_selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    };
    let found = pools
        .iter()
        .find(|(_, pool)| matches(pool))
        .map(|(name, _)| name.clone());
    found.unwrap_or_else(|| "default".to_owned())
}

/// The number of each node, in their order.
async fn node_ids(control: &Control, nodes: &[Object]) -> Result<Vec<u32>, ControlError> {
    let mut ids = Vec::with_capacity(nodes.len());
    for some in nodes.chunks(ROWS_MAX) {
        let known: Option<Vec<u32>> = some
            .iter()
            .map(|node| control.node_id(&node.name))
            .collect();
        if let Some(known) = known {
            ids.extend(known);
            continue;
        }
        let names: Arc<[(String, String)]> = some
            .iter()
            .map(|node| (node.cluster.clone(), node.name.clone()))
            .collect();
        let given: Result<Vec<u32>, DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                let names = Arc::clone(&names);
                Box::pin(async move {
                    let mut given = Vec::with_capacity(names.len());
                    for (cluster, name) in names.iter() {
                        given.push(tables::node_id(tx, cluster, name).await?);
                    }
                    Ok(given)
                })
            })
            .await;
        ids.extend(given?);
    }
    Ok(ids)
}

fn node(
    control: &Control,
    object: &Object,
    id: u32,
    pools: &[(String, PoolSpec)],
) -> Result<sched::NodeSpec, ControlError> {
    let spec: NodeSpec = read(object)?;
    let status: NodeStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
    let mut labels = status.labels.clone();
    labels.extend(spec.labels.clone());
    labels.insert("host".to_owned(), object.name.clone());
    control.know_node(
        &object.name,
        id,
        status
            .devices
            .iter()
            .map(|device| device.id.clone())
            .collect(),
    );
    let pool = pool_of(&spec, &labels, pools);
    let amount = &status.allocatable;
    let devices = status.devices.iter().map(|device| sched::DeviceSpec {
        id: device.id.clone(),
        class: device.class.clone(),
        model: device.model.clone(),
        memory: device.memory,
        healthy: device.sick.is_empty(),
        link_group: 0,
        numa: 0,
        // What ails it, so that `why` can say it.
        taints: (!device.sick.is_empty())
            .then(|| sched::Taint {
                key: device.sick.clone(),
                value: String::new(),
                effect: sched::TaintEffect::NoExecute,
            })
            .into_iter()
            .collect(),
        lanes: BTreeMap::new(),
        partitions: Vec::new(),
    });
    Ok(sched::NodeSpec {
        id: NodeId(id),
        name: object.name.clone(),
        pool,
        allocatable: base::Resources {
            cpu: amount.cpu.unwrap_or_default(),
            memory: amount.memory.unwrap_or_default(),
            gpu_milli: convert::gpu_milli(amount.gpu.unwrap_or(0.0)),
            extended: amount.extended.clone(),
        },
        slots_max: status.slots_max,
        labels,
        taints: spec
            .taints
            .iter()
            .chain(&status.taints)
            .map(|taint| sched::Taint {
                key: taint.key.clone(),
                value: taint.value.clone(),
                effect: convert::taint_effect(taint.effect),
            })
            .collect(),
        unschedulable: spec.unschedulable
            || !status.ready
            || !control.hearing.answers(&object.name),
        devices: devices.collect(),
    })
}

/// What must leave a node.
fn leaving(node: &sched::NodeSpec) -> Leaving {
    let drives = |taint: &&sched::Taint| taint.effect == sched::TaintEffect::NoExecute;
    let sick = node.devices.iter().filter(|device| !device.healthy);
    Leaving {
        taints: node.taints.iter().filter(drives).cloned().collect(),
        devices: sick.map(|device| device.id.clone()).collect(),
    }
}

/// The loop: tells the scheduler what changed, and writes usage back.
pub async fn run(control: Arc<Control>, mut told: Told, stop: CancellationToken) {
    let mut due = tokio::time::interval(PERIOD);
    let mut resync = tokio::time::interval(RESYNC);
    let mut written = usage::Written::default();
    loop {
        tokio::select! {
            () = control.platform.poked() => {}
            _ = resync.tick() => {}
            _ = due.tick() => {
                if let Err(error) = usage::write(&control, &told, &mut written).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot write usage now");
                }
                continue;
            }
            () = stop.cancelled() => break,
        }
        if let Err(error) = tell(&control, &mut told).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot read nodes, pools and queues now"
            );
            resync.reset_after(FAILED_DELAY);
        }
    }
}
