//! A Job's status from its plan and what is seen of its replicas; written only when it changed.

use super::Control;
use super::ControlError;
use super::job_context::JobContext;
use super::placement_row::PlacementRow;
use super::rows::{self, JobRows, RowOp};
use super::sights::Sighting;
use api::job::{JobPhase, JobStatus, OutputStatus, ReplicaStatus, UnitCounts};
use base::Time;
use engine::{End, Phase, ReplicaKey};
use plan::{Finished, JobPlan, Stage};
use serde_json::Value;
use std::collections::BTreeMap;

/// Members that a status lists; the logs and events have all of them.
const REPLICAS_MAX: usize = 1_000;

/// Writes the status if it changed.
pub async fn write(
    control: &Control,
    rows: &JobRows,
    context: &JobContext,
    plan: &JobPlan,
    sights: &BTreeMap<ReplicaKey, Sighting>,
) -> Result<(), ControlError> {
    let old: JobStatus =
        serde_json::from_value(rows.owned.object.status.clone()).unwrap_or_default();
    let new = status(&old, rows, context, plan, sights);
    if new == old {
        return Ok(());
    }
    let phase = new.phase.as_str();
    let value = serde_json::to_value(&new).expect("a status is JSON");
    rows::write(
        control,
        rows.owned.uid(),
        vec![RowOp::Status {
            phase: phase.to_owned(),
            status: value,
        }],
    )
    .await
}

/// A Job whose Environment is not there yet.
pub async fn write_waiting(
    control: &Control,
    rows: &JobRows,
    code: &str,
    sentence: &str,
) -> Result<(), ControlError> {
    let old: JobStatus =
        serde_json::from_value(rows.owned.object.status.clone()).unwrap_or_default();
    let new = JobStatus {
        phase: JobPhase::Queued,
        reason: code.to_owned(),
        message: sentence.to_owned(),
        observed_generation: rows.owned.object.generation.0,
        ..old.clone()
    };
    if new == old {
        return Ok(());
    }
    let value = serde_json::to_value(&new).expect("a status is JSON");
    let op = RowOp::Status {
        phase: new.phase.as_str().to_owned(),
        status: value,
    };
    rows::write(control, rows.owned.uid(), vec![op]).await
}

/// The last status of a Job whose plan is to finish: everything but how it ended, which `Finish` adds.
pub fn last(
    rows: &JobRows,
    context: &JobContext,
    plan: &JobPlan,
    sights: &BTreeMap<ReplicaKey, Sighting>,
) -> Value {
    let old: JobStatus =
        serde_json::from_value(rows.owned.object.status.clone()).unwrap_or_default();
    let new = status(&old, rows, context, plan, sights);
    serde_json::to_value(&new).expect("a status is JSON")
}

/// A Job that was cancelled before anything of it was tried.
pub fn cancelled(now: Time) -> RowOp {
    RowOp::Finish {
        phase: "Cancelled".to_owned(),
        code: "Cancelled".to_owned(),
        sentence: "cancelled before it started".to_owned(),
        at: now,
        status: Value::Null,
    }
}

/// When it first ran, as an earlier status kept it.
pub fn started(status: &Value) -> Option<Time> {
    status["startedAt"]
        .as_str()
        .and_then(|text| text.parse().ok())
}

/// How it finished, as an earlier status kept it.
pub fn finished(status: &Value) -> Option<Finished> {
    let phase = plan::JobPhase::from_word(status["phase"].as_str()?)?;
    let at = status["finishedAt"].as_str()?.parse().ok()?;
    let code = status["reason"].as_str().unwrap_or_default();
    Some(super::jobs::finished_of(
        phase,
        code,
        status["message"].as_str().unwrap_or_default(),
        at,
    ))
}

fn status(
    old: &JobStatus,
    rows: &JobRows,
    context: &JobContext,
    plan: &JobPlan,
    sights: &BTreeMap<ReplicaKey, Sighting>,
) -> JobStatus {
    let planned = &plan.status;
    let attempts = rows.units.values().map(|unit| unit.attempt.0).sum();
    let is_array = matches!(context.spec.restart, plan::Restart::Index { .. });
    let is_over = rows.owned.object.finished_at.is_some();
    let counts = planned.units;
    let cancelling = super::jobs::is_cancelled(rows);
    JobStatus {
        phase: if cancelling {
            JobPhase::Cancelling
        } else {
            phase(planned.phase)
        },
        // How it ended was written once, also by others than the planner.
        reason: if is_over {
            old.reason.clone()
        } else {
            planned.reason.code.as_str().to_owned()
        },
        message: if is_over {
            old.message.clone()
        } else {
            planned.reason.sentence.clone()
        },
        observed_generation: rows.owned.object.generation.0,
        started_at: planned.started.or(old.started_at).or(first_start(rows)),
        finished_at: rows.owned.object.finished_at,
        attempts,
        failures: rows.units.values().map(|unit| unit.charged).sum(),
        units: is_array.then_some(UnitCounts {
            waiting: counts.pending + counts.backing_off + counts.waiting,
            running: counts.starting + counts.running + counts.stopping,
            succeeded: counts.succeeded,
            failed: counts.failed + counts.stopped,
        }),
        replicas: replicas(rows, sights),
        outputs: outputs(old, rows),
        // Kept apart: see `usecase::wire`.
        delivery: None,
        conditions: Vec::new(),
    }
}

fn phase(phase: plan::JobPhase) -> JobPhase {
    match phase {
        plan::JobPhase::Queued => JobPhase::Queued,
        plan::JobPhase::Starting => JobPhase::Starting,
        plan::JobPhase::Running => JobPhase::Running,
        plan::JobPhase::Suspending => JobPhase::Suspending,
        plan::JobPhase::Suspended => JobPhase::Suspended,
        plan::JobPhase::Succeeded => JobPhase::Succeeded,
        plan::JobPhase::Failed => JobPhase::Failed,
        plan::JobPhase::Cancelled => JobPhase::Cancelled,
    }
}

/// When the first member started, of a Job that was over before it was seen running.
fn first_start(rows: &JobRows) -> Option<Time> {
    let starts = rows.placements.iter().filter_map(|row| match &row.stage {
        Stage::Released(end) => end.started,
        Stage::Reserved | Stage::Bound | Stage::Releasing { .. } => None,
    });
    starts.min()
}

/// The newest attempt of each member.
fn replicas(rows: &JobRows, sights: &BTreeMap<ReplicaKey, Sighting>) -> Vec<ReplicaStatus> {
    let mut newest: BTreeMap<(&str, u32), &PlacementRow> = BTreeMap::new();
    for placement in &rows.placements {
        let seat = (placement.key.group.as_str(), placement.key.index.0);
        let is_newer = newest
            .get(&seat)
            .is_none_or(|other| other.key.attempt < placement.key.attempt);
        if is_newer {
            newest.insert(seat, placement);
        }
    }
    newest
        .into_values()
        .take(REPLICAS_MAX)
        .map(|placement| replica(placement, sights.get(&placement.key)))
        .collect()
}

/// One member: its row where it has ended, else what the engine sees.
pub fn replica(placement: &PlacementRow, sighting: Option<&Sighting>) -> ReplicaStatus {
    let report = sighting.and_then(Sighting::report);
    let mut status = ReplicaStatus {
        group: placement.key.group.clone(),
        index: placement.key.index.0,
        attempt: placement.key.attempt.0,
        phase: "Pending".to_owned(),
        node: placement.node.clone(),
        devices: placement
            .devices
            .iter()
            .map(|device| device.id.clone())
            .collect(),
        addresses: BTreeMap::new(),
        ready: false,
        restarts: report.map_or(0, |report| report.restarts),
        exit_code: None,
        message: String::new(),
        memory_peak: None,
        started_at: report.and_then(|report| report.started),
        finished_at: None,
    };
    if let Stage::Released(end) = &placement.stage {
        status.phase = end
            .stopped
            .map_or(end.cause.as_str(), engine::StopReason::as_str)
            .to_owned();
        status.exit_code = end.exit_code;
        status.message.clone_from(&end.message);
        status.memory_peak = placement.memory_peak;
        status.started_at = end.started;
        status.finished_at = Some(end.at);
        return status;
    }
    let Some(report) = report else { return status };
    // Where the engine gives them away itself, it alone knows which.
    if status.devices.is_empty() {
        let devices = report.devices.iter();
        status.devices = devices.map(|device| device.id.clone()).collect();
    }
    let last: Option<&End> = match &report.phase {
        Phase::Ended(end) => Some(end),
        Phase::Preparing | Phase::Running | Phase::BackingOff(_) | Phase::Stopping(_) => {
            report.last_failure.as_ref()
        }
    };
    status.phase = match &report.phase {
        Phase::Preparing => "Preparing".to_owned(),
        Phase::Running => "Running".to_owned(),
        Phase::BackingOff(_) => "BackingOff".to_owned(),
        Phase::Stopping(_) => "Stopping".to_owned(),
        Phase::Ended(end) => end.cause.as_str().to_owned(),
    };
    status.exit_code = last.and_then(|end| end.exit_code);
    let unready = report.unready.as_ref().map(|said| match report.phase {
        Phase::Preparing => said.clone(),
        _ => format!("not ready: {said}"),
    });
    let message = unready.or_else(|| last.map(|end| end.message.clone()));
    status.message = message.unwrap_or_default();
    if let Some(endpoint) = &report.endpoint {
        status.addresses.clone_from(&endpoint.addresses);
        status.ready = true;
    }
    if report.output_lost.0 > 0 {
        let lost = format!("{} bytes of output were lost", report.output_lost.0);
        status.message = if status.message.is_empty() {
            lost
        } else {
            format!("{}; {lost}", status.message)
        };
    }
    status
}

fn outputs(old: &JobStatus, rows: &JobRows) -> Vec<OutputStatus> {
    let mut outputs = old.outputs.clone();
    for placement in &rows.placements {
        for output in &placement.outputs {
            let status = OutputStatus {
                name: output.name.clone(),
                replica: format!("{}/{}", placement.key.group, placement.key.index),
                digest: output.digest,
                size: output.size,
            };
            let same =
                |other: &OutputStatus| other.name == status.name && other.replica == status.replica;
            match outputs.iter_mut().find(|other| same(other)) {
                Some(known) => *known = status,
                None => outputs.push(status),
            }
        }
    }
    outputs
}
