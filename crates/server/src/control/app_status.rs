//! An App's status from its plan and what is seen of its replicas; written only when it changed.

use super::job_status::replica;
use super::rows::{self, AppRows, RowOp};
use super::sights::Sighting;
use super::{Control, ControlError};
use api::app::{AppSpec, AppStatus};
use api::job::ReplicaStatus;
use engine::ReplicaKey;
use plan::app::group_name;
use plan::{AppInput, AppPlan, Stage};
use std::collections::BTreeMap;

/// Instances that a status lists.
const INSTANCES_MAX: usize = 1_000;

/// Writes the status if it changed.
pub async fn write(
    control: &Control,
    rows: &AppRows,
    spec: &AppSpec,
    input: &AppInput,
    plan: &AppPlan,
    sights: &BTreeMap<ReplicaKey, Sighting>,
) -> Result<(), ControlError> {
    let object = &rows.owned.object;
    let old: AppStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
    let planned = &plan.status;
    let target = input.target;
    let mut message = planned.reason.sentence.clone();
    if let Some(failure) = &planned.last_failure
        && !message.contains(failure.as_str())
    {
        message = format!("{message}; last failure: {failure}");
    }
    let new = AppStatus {
        phase: planned.phase.as_str().to_owned(),
        reason: planned.reason.code.as_str().to_owned(),
        message,
        observed_generation: object.generation.0,
        replicas: input.replicas,
        ready: planned.ready,
        updated: planned
            .revisions
            .get(&target)
            .map_or(0, |counts| counts.ready),
        revision: target,
        stable_revision: input.stable.unwrap_or(0),
        url: url(control, object, spec),
        instances: instances(rows, sights),
        conditions: old.conditions.clone(),
    };
    if new == old {
        return Ok(());
    }
    let status = serde_json::to_value(&new).expect("a status is JSON");
    rows::write(
        control,
        object.uid,
        vec![RowOp::Status {
            phase: new.phase,
            status,
        }],
    )
    .await
}

/// An App whose Environment is not there.
pub async fn write_waiting(
    control: &Control,
    rows: &AppRows,
    reason: &str,
    sentence: &str,
) -> Result<(), ControlError> {
    let object = &rows.owned.object;
    let old: AppStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
    let new = AppStatus {
        phase: "Progressing".to_owned(),
        reason: reason.to_owned(),
        message: sentence.to_owned(),
        observed_generation: object.generation.0,
        ..old.clone()
    };
    if new == old {
        return Ok(());
    }
    let status = serde_json::to_value(&new).expect("a status is JSON");
    rows::write(
        control,
        object.uid,
        vec![RowOp::Status {
            phase: new.phase,
            status,
        }],
    )
    .await
}

/// Where requests reach it.
fn url(control: &Control, object: &db::objects::Object, spec: &AppSpec) -> String {
    let route = spec.route.clone().unwrap_or_default();
    let path = route
        .path
        .unwrap_or_else(|| format!("/{}/{}", object.project, object.name));
    match route.host.filter(|host| !host.starts_with('*')) {
        Some(host) => format!("http://{host}{path}"),
        None => format!("{}{path}", control.gateway_url),
    }
}

/// What holds a seat now, newest Revision first.
fn instances(rows: &AppRows, sights: &BTreeMap<ReplicaKey, Sighting>) -> Vec<ReplicaStatus> {
    let live = rows
        .placements
        .iter()
        .filter(|placement| !matches!(placement.stage, Stage::Released(_)));
    let mut instances: Vec<ReplicaStatus> = live
        .map(|placement| {
            let mut status = replica(placement, sights.get(&placement.key));
            // A seat that drains takes no new requests, whatever its probe says.
            let seat = rows.seats.iter().find(|((revision, index), _)| {
                group_name(*revision) == placement.key.group && *index == placement.key.index
            });
            if seat.is_some_and(|(_, seat)| seat.draining.is_some()) {
                status.ready = false;
            }
            status
        })
        .collect();
    instances.sort_by(|a, b| b.group.cmp(&a.group).then(a.index.cmp(&b.index)));
    instances.truncate(INSTANCES_MAX);
    instances
}
