//! Nodes as the engine reports them, in their objects.

use super::convert;
use super::platform_objects::ROWS_MAX;
use super::{Control, ControlError};
use crate::platform::new_uid;
use api::platform::{DeviceStatus, NodeStatus};
use base::{Generation, Time};
use db::objects::{self, Object};
use db::{DbError, Tx};
use engine::NodeReport;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Writes what an engine reports of nodes into their objects, which are made where they are missing.
pub async fn write(control: &Control, reports: &[NodeReport]) -> Result<(), ControlError> {
    for report in reports {
        if let Some(range) = report.ports {
            control.sched.node_ports(report.name.clone(), range).await;
        }
    }
    for some in reports.chunks(ROWS_MAX) {
        let (cluster, now) = (control.cluster.clone(), control.now());
        let some: Arc<[NodeReport]> = some.into();
        let written: Result<(), DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                let (cluster, some) = (cluster.clone(), Arc::clone(&some));
                Box::pin(async move { write_reports(tx, &cluster, &some, now).await })
            })
            .await;
        written?;
    }
    Ok(())
}

async fn write_reports(
    tx: &mut Tx<'_>,
    cluster: &str,
    reports: &[NodeReport],
    now: Time,
) -> Result<(), DbError> {
    let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
    let known: HashMap<String, Object> = objects::get_named(tx, "Node", &names)
        .await?
        .into_iter()
        .map(|object| (object.name.clone(), object))
        .collect();
    for report in reports {
        let status = node_status(cluster, report);
        let Some(object) = known.get(&report.name) else {
            objects::insert(tx, &node_object(cluster, report, &status, now)).await?;
            continue;
        };
        let old: NodeStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
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
    Ok(())
}

fn node_object(cluster: &str, report: &NodeReport, status: &NodeStatus, now: Time) -> Object {
    Object {
        uid: new_uid(now),
        kind: "Node".to_owned(),
        tenant: String::new(),
        project: String::new(),
        cluster: cluster.to_owned(),
        name: report.name.clone(),
        owner: "system".to_owned(),
        creator: "system".to_owned(),
        generation: Generation(1),
        seq: base::Seq(0),
        phase: phase(status).to_owned(),
        spec: json!({}),
        desired: json!({}),
        status: serde_json::to_value(status).expect("a status is JSON"),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
        finished_at: None,
        is_current: true,
    }
}

/// The names of this Cluster's Nodes.
pub async fn names(control: &Control) -> Result<Vec<String>, ControlError> {
    let nodes = objects::all(&control.db, "Node").await?;
    let ours = nodes
        .into_iter()
        .filter(|node| node.cluster == control.cluster);
    Ok(ours.map(|node| node.name).collect())
}

/// Writes down that the engine does not have a node any more.
pub async fn missing(control: &Control, name: &str) -> Result<(), ControlError> {
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
