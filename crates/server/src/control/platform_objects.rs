//! Nodes, pools and queues between the database and the scheduler: what the engine reports becomes Node
//! objects; what operators write becomes scheduler events; usage becomes status.

use super::convert;
use super::nodes::Leaving;
use super::rows;
use super::{Control, ControlError};
use crate::platform::new_uid;
use api::platform::{
    DeviceStatus, NodeSpec, NodeStatus, PoolSpec, PoolStatus, QueueSpec, QueueStatus,
};
use base::Generation;
use db::objects::{self, Object};
use db::{DbError, control as tables};
use engine::NodeReport;
use sched::{Event, NodeId};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Usage is written at most this often.
const PERIOD: Duration = Duration::from_secs(2);

/// Without a poke, everything is read this often.
const RESYNC: Duration = Duration::from_secs(30);

/// After a failed look.
const FAILED_DELAY: Duration = Duration::from_secs(1);

/// What the scheduler was told last, so that only changes are told.
#[derive(Default)]
pub struct Told {
    nodes: HashMap<String, sched::NodeSpec>,
    pools: HashMap<String, sched::PoolSpec>,
    queues: HashMap<String, sched::QueueSpec>,
    calendar: HashMap<String, sched::CalendarEntry>,
}

/// Writes what an engine reports of a node into its object, which is made if it is missing.
pub async fn node_reported(control: &Control, report: &NodeReport) -> Result<(), ControlError> {
    let now = control.now();
    let (cluster, report) = (control.cluster.clone(), Arc::new(report.clone()));
    if let Some(range) = report.ports {
        control.sched.node_ports(report.name.clone(), range).await;
    }
    let written: Result<(), DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let (cluster, report) = (cluster.clone(), Arc::clone(&report));
            Box::pin(async move {
                let status = node_status(&cluster, &report);
                match objects::get(tx, "Node", "", &report.name).await? {
                    Some(object) => {
                        let old: NodeStatus =
                            serde_json::from_value(object.status.clone()).unwrap_or_default();
                        // Usage and pool are written by the other side of this loop.
                        let status = NodeStatus {
                            used: old.used,
                            replicas: old.replicas,
                            pool: old.pool,
                            ..status
                        };
                        let value = serde_json::to_value(&status).expect("a status is JSON");
                        objects::set_status(tx, object.uid, phase(&status), &value).await?;
                    }
                    None => {
                        let value = serde_json::to_value(&status).expect("a status is JSON");
                        let object = Object {
                            uid: new_uid(now),
                            kind: "Node".to_owned(),
                            tenant: String::new(),
                            project: String::new(),
                            cluster: cluster.clone(),
                            name: report.name.clone(),
                            owner: "system".to_owned(),
                            creator: "system".to_owned(),
                            generation: Generation(1),
                            seq: base::Seq(0),
                            phase: phase(&status).to_owned(),
                            spec: json!({}),
                            desired: json!({}),
                            status: value,
                            labels: BTreeMap::new(),
                            annotations: BTreeMap::new(),
                            created_at: now,
                            updated_at: now,
                            deleted_at: None,
                            finished_at: None,
                            is_current: true,
                        };
                        objects::insert(tx, &object).await?;
                    }
                }
                Ok(())
            })
        })
        .await;
    Ok(written?)
}

/// The names of this Cluster's Nodes.
pub async fn node_names(control: &Control) -> Result<Vec<String>, ControlError> {
    let nodes = objects::all(&control.db, "Node").await?;
    let ours = nodes
        .into_iter()
        .filter(|node| node.cluster == control.cluster);
    Ok(ours.map(|node| node.name).collect())
}

/// Writes down that the engine does not have a node any more.
pub async fn node_missing(control: &Control, name: &str) -> Result<(), ControlError> {
    let Some(object) = objects::read(&control.db, "Node", "", name).await? else {
        return Ok(());
    };
    let mut status: NodeStatus = serde_json::from_value(object.status).unwrap_or_default();
    status.ready = false;
    let uid = object.uid;
    let value = serde_json::to_value(&status).expect("a status is JSON");
    let written: Result<bool, DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let value = value.clone();
            Box::pin(async move { objects::set_status(tx, uid, "NotReady", &value).await })
        })
        .await;
    written?;
    Ok(())
}

fn phase(status: &NodeStatus) -> &'static str {
    if status.ready { "Ready" } else { "NotReady" }
}

fn node_status(cluster: &str, report: &NodeReport) -> NodeStatus {
    NodeStatus {
        cluster: cluster.to_owned(),
        ready: report.ready,
        address: report.address.clone(),
        pool: String::new(),
        allocatable: convert::shown(&report.allocatable),
        used: api::platform::AmountSpec::default(),
        replicas: 0,
        slots_max: report.slots_max,
        taints: report.taints.iter().map(convert::observed_taint).collect(),
        labels: report.labels.clone(),
        devices: report
            .devices
            .iter()
            .map(|device| DeviceStatus {
                id: device.id.clone(),
                class: device.class.clone(),
                model: device.model.clone(),
                memory: device.memory,
                sick: device.sick.clone().unwrap_or_default(),
                used_milli: 0,
            })
            .collect(),
        warnings: report.warnings.clone(),
        conditions: Vec::new(),
    }
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
    for object in &nodes {
        let spec = node(control, object, &pool_specs).await?;
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

async fn forget_missing<T>(
    told: &mut HashMap<String, T>,
    present: &[Object],
    event: impl Fn(String, T) -> Event,
    control: &Control,
) {
    let gone: Vec<String> = told
        .keys()
        .filter(|name| !present.iter().any(|object| object.name == **name))
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

async fn node(
    control: &Control,
    object: &Object,
    pools: &[(String, PoolSpec)],
) -> Result<sched::NodeSpec, ControlError> {
    let spec: NodeSpec = read(object)?;
    let status: NodeStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
    let mut labels = status.labels.clone();
    labels.extend(spec.labels.clone());
    labels.insert("host".to_owned(), object.name.clone());
    let (cluster, name) = (object.cluster.clone(), object.name.clone());
    let id: Result<u32, DbError> = match control.node_id(&object.name) {
        Some(id) => Ok(id),
        None => {
            control
                .db
                .write(Some(control.epoch), move |tx| {
                    let (cluster, name) = (cluster.clone(), name.clone());
                    Box::pin(async move { tables::node_id(tx, &cluster, &name).await })
                })
                .await
        }
    };
    let id = id?;
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
    let mut usage = tokio::time::interval(PERIOD);
    let mut resync = tokio::time::interval(RESYNC);
    let mut written = Written::default();
    loop {
        tokio::select! {
            () = control.platform.poked() => {}
            _ = resync.tick() => {}
            _ = usage.tick() => {
                if let Err(error) = write_usage(&control, &told, &mut written).await {
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

/// Fields of a status as they were written last, by kind and name.
type Written = HashMap<(&'static str, String), serde_json::Value>;

async fn write_usage(
    control: &Control,
    told: &Told,
    written: &mut Written,
) -> Result<(), ControlError> {
    let ids: Vec<(String, NodeId, String)> = told
        .nodes
        .values()
        .map(|node| (node.name.clone(), node.id, node.pool.clone()))
        .collect();
    let queues: Vec<String> = told.queues.keys().cloned().collect();
    let pools: Vec<String> = told.pools.keys().cloned().collect();
    let read = control
        .sched
        .read(move |sched| {
            let nodes: Vec<_> = ids
                .into_iter()
                .map(|(name, id, pool)| (name, pool, sched.node_usage(id)))
                .collect();
            let queues: Vec<_> = queues
                .into_iter()
                .map(|queue| {
                    let used: BTreeMap<String, api::platform::AmountSpec> = pools
                        .iter()
                        .filter_map(|pool| {
                            Some((
                                pool.clone(),
                                convert::shown(&sched.queue_used(&queue, pool)?),
                            ))
                        })
                        .collect();
                    let waiting = sched.queue_waiting(&queue);
                    (queue, used, waiting)
                })
                .collect();
            (nodes, queues)
        })
        .await;
    let Some((nodes, queues)) = read else {
        return Ok(());
    };
    let running = running_by_queue(control).await?;
    let held: HashMap<String, u32> = tables::held_by_node(&control.db)
        .await?
        .into_iter()
        .collect();
    let mut by_pool: BTreeMap<String, (u32, base::Resources, base::Resources)> = BTreeMap::new();
    for (name, pool, usage) in nodes {
        let Some((allocatable, free)) = usage else {
            continue;
        };
        let mut used = allocatable.clone();
        used.subtract(&free);
        let total = by_pool.entry(pool.clone()).or_default();
        total.0 += 1;
        total.1.add(&allocatable);
        total.2.add(&used);
        patch(
            control,
            written,
            "Node",
            &name,
            json!({
                "used": convert::shown(&used),
                "replicas": held.get(&name).copied().unwrap_or(0),
                "pool": pool,
            }),
        )
        .await?;
    }
    for (pool, (nodes, allocatable, used)) in by_pool {
        let status = PoolStatus {
            nodes,
            allocatable: convert::shown(&allocatable),
            used: convert::shown(&used),
        };
        patch(
            control,
            written,
            "Pool",
            &pool,
            serde_json::to_value(status).expect("a status is JSON"),
        )
        .await?;
    }
    for (queue, used, waiting) in queues {
        let status = QueueStatus {
            used,
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            running: running.get(&queue).copied().unwrap_or(0),
        };
        patch(
            control,
            written,
            "Queue",
            &queue,
            serde_json::to_value(status).expect("a status is JSON"),
        )
        .await?;
    }
    Ok(())
}

async fn running_by_queue(control: &Control) -> Result<HashMap<String, u32>, DbError> {
    let mut running = HashMap::new();
    for (queue, count) in tables::admitted_by_queue(&control.db).await? {
        running.insert(queue, count);
    }
    Ok(running)
}

/// Writes some fields of a status, if they differ.
async fn patch(
    control: &Control,
    written: &mut Written,
    kind: &'static str,
    name: &str,
    fields: serde_json::Value,
) -> Result<(), ControlError> {
    let place = (kind, name.to_owned());
    if written.get(&place) == Some(&fields) {
        return Ok(());
    }
    let Some(object) = objects::read(&control.db, kind, "", name).await? else {
        return Ok(());
    };
    let mut status = if object.status.is_object() {
        object.status.clone()
    } else {
        json!({})
    };
    if let (Some(status), Some(fields)) = (status.as_object_mut(), fields.as_object()) {
        status.extend(fields.clone());
    }
    if status == object.status {
        written.insert(place, fields);
        return Ok(());
    }
    let uid = object.uid;
    let done: Result<bool, DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let (phase, status) = (object.phase.clone(), status.clone());
            Box::pin(async move { objects::set_status(tx, uid, &phase, &status).await })
        })
        .await;
    done?;
    written.insert(place, fields);
    Ok(())
}
