//! How much of nodes, pools and queues is used, in their status.

use super::convert;
use super::platform_objects::{ROWS_MAX, Told};
use super::{Control, ControlError};
use api::platform::{PoolStatus, QueueStatus};
use db::{DbError, Tx, control as tables, objects};
use sched::NodeId;
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Fields of a status as they were written last, by kind and name.
pub type Written = HashMap<(&'static str, String), serde_json::Value>;

/// Writes what the scheduler says now, where it differs from `written`.
pub async fn write(
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
    let mut of_nodes = Vec::with_capacity(nodes.len());
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
        let fields = json!({
            "used": convert::shown(&used),
            "replicas": held.get(&name).copied().unwrap_or(0),
            "pool": pool,
        });
        of_nodes.push((name, fields));
    }
    let of_pools = by_pool
        .into_iter()
        .map(|(pool, (nodes, allocatable, used))| {
            let status = PoolStatus {
                nodes,
                allocatable: convert::shown(&allocatable),
                used: convert::shown(&used),
            };
            (
                pool,
                serde_json::to_value(status).expect("a status is JSON"),
            )
        });
    let of_queues = queues.into_iter().map(|(queue, used, waiting)| {
        let status = QueueStatus {
            used,
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            running: running.get(&queue).copied().unwrap_or(0),
        };
        (
            queue,
            serde_json::to_value(status).expect("a status is JSON"),
        )
    });
    patch(control, written, "Node", of_nodes).await?;
    patch(control, written, "Pool", of_pools.collect()).await?;
    patch(control, written, "Queue", of_queues.collect()).await
}

async fn running_by_queue(control: &Control) -> Result<HashMap<String, u32>, DbError> {
    let mut running = HashMap::new();
    for (queue, count) in tables::admitted_by_queue(&control.db).await? {
        running.insert(queue, count);
    }
    Ok(running)
}

/// Writes some fields of each status, where they differ from what was written last.
async fn patch(
    control: &Control,
    written: &mut Written,
    kind: &'static str,
    mut all: Vec<(String, serde_json::Value)>,
) -> Result<(), ControlError> {
    all.retain(|(name, fields)| written.get(&(kind, name.clone())) != Some(fields));
    for some in all.chunks(ROWS_MAX) {
        let shared: Arc<[(String, serde_json::Value)]> = some.into();
        let found: Result<HashSet<String>, DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { write_fields(tx, kind, &shared).await })
            })
            .await;
        let found = found?;
        let some = some.iter().filter(|(name, _)| found.contains(name));
        written.extend(some.map(|(name, fields)| ((kind, name.clone()), fields.clone())));
    }
    Ok(())
}

/// The names of those that are there.
async fn write_fields(
    tx: &mut Tx<'_>,
    kind: &str,
    all: &[(String, serde_json::Value)],
) -> Result<HashSet<String>, DbError> {
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let fields: HashMap<&str, &serde_json::Value> = all
        .iter()
        .map(|(name, fields)| (name.as_str(), fields))
        .collect();
    let mut found = HashSet::with_capacity(all.len());
    for object in objects::get_named(tx, kind, &names).await? {
        let mut status = match object.status {
            serde_json::Value::Object(status) => status,
            _ => serde_json::Map::new(),
        };
        let fields = fields.get(object.name.as_str());
        status.extend(
            fields
                .and_then(|fields| fields.as_object())
                .cloned()
                .unwrap_or_default(),
        );
        objects::set_status(tx, object.uid, &object.phase, &status.into()).await?;
        found.insert(object.name);
    }
    Ok(found)
}
