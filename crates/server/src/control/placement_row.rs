//! A placement between its row and the planner.

use base::{Bytes, Digest, Time, Uid};
use db::control::Placement;
use engine::{Cause, DeviceGrant, Output, Phase, ReplicaKey, ReplicaReport, StopReason};
use plan::{SlotEnd, Stage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A placement as stored.
#[derive(Clone, Debug)]
pub struct PlacementRow {
    /// Which replica.
    pub key: ReplicaKey,
    /// Its restart unit's text.
    pub unit: String,
    /// The task that was admitted.
    pub task: Uid,
    /// The node.
    pub node: String,
    /// Its devices.
    pub devices: Vec<DeviceGrant>,
    /// Its ports.
    pub ports: BTreeMap<String, u16>,
    /// Where it stands.
    pub stage: Stage,
    /// When it was admitted.
    pub admitted: Time,
    /// What was kept of its files.
    pub outputs: Vec<Output>,
    /// The most memory it used.
    pub memory_peak: Option<Bytes>,
}

/// From the row.
pub fn from_row(row: &Placement) -> PlacementRow {
    let reason = || stop_reason(&row.reason).unwrap_or(StopReason::Cancelled);
    let stage = match row.state.as_str() {
        "reserved" => Stage::Reserved,
        "bound" => Stage::Bound,
        "releasing" => Stage::Releasing {
            deadline: row.deadline.unwrap_or_default(),
            reason: reason(),
        },
        _ => Stage::Released(end(&row.ending)),
    };
    PlacementRow {
        key: ReplicaKey {
            owner: row.owner,
            group: row.group.clone(),
            index: row.index,
            attempt: row.attempt,
        },
        unit: row.unit.clone(),
        task: row.task,
        node: row.node.clone(),
        devices: devices_from(&row.devices),
        ports: serde_json::from_value(row.ports.clone()).unwrap_or_default(),
        stage,
        admitted: row.created_at,
        outputs: outputs(&row.ending),
        memory_peak: row.ending["memoryPeak"].as_u64().map(Bytes),
    }
}

/// Devices as stored.
pub fn devices(grants: &[DeviceGrant]) -> Value {
    let one = |grant: &DeviceGrant| json!({"id": grant.id, "class": grant.class, "milli": grant.milli, "memory": grant.memory.0});
    Value::Array(grants.iter().map(one).collect())
}

fn devices_from(value: &Value) -> Vec<DeviceGrant> {
    let one = |value: &Value| {
        Some(DeviceGrant {
            id: value["id"].as_str()?.to_owned(),
            class: value["class"].as_str()?.to_owned(),
            milli: u16::try_from(value["milli"].as_u64()?).ok()?,
            memory: Bytes(value["memory"].as_u64()?),
        })
    };
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(one)
        .collect()
}

/// How it ended, as stored; with what the engine kept and measured.
pub fn ending(end: &SlotEnd, report: Option<&ReplicaReport>) -> Value {
    let last = match report.map(|report| &report.phase) {
        Some(Phase::Ended(last)) => Some(last),
        _ => None,
    };
    let outputs: Vec<Value> = last
        .into_iter()
        .flat_map(|last| &last.outputs)
        .map(|output| json!({"name": output.name, "digest": output.digest, "size": output.size.0}))
        .collect();
    json!({
        "cause": end.cause.as_str(),
        "stopped": end.stopped.map(StopReason::as_str),
        "exitCode": end.exit_code,
        "signal": end.signal,
        "started": end.started,
        "at": end.at,
        "message": end.message,
        "memoryPeak": last.map(|last| last.memory_peak.0),
        "outputs": outputs,
    })
}

fn end(value: &Value) -> SlotEnd {
    let time = |name: &str| value[name].as_str().and_then(|text| text.parse().ok());
    let number = |name: &str| value[name].as_i64().and_then(|n| i32::try_from(n).ok());
    SlotEnd {
        cause: value["cause"]
            .as_str()
            .and_then(Cause::from_word)
            .unwrap_or(Cause::NodeLost),
        stopped: value["stopped"].as_str().and_then(stop_reason),
        exit_code: number("exitCode"),
        signal: number("signal"),
        started: time("started"),
        at: time("at").unwrap_or_default(),
        message: value["message"].as_str().unwrap_or_default().to_owned(),
    }
}

/// What was kept of its files.
pub fn outputs(ending: &Value) -> Vec<Output> {
    let one = |value: &Value| {
        Some(Output {
            name: value["name"].as_str()?.to_owned(),
            digest: value["digest"].as_str()?.parse::<Digest>().ok()?,
            size: Bytes(value["size"].as_u64()?),
        })
    };
    ending["outputs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(one)
        .collect()
}

fn stop_reason(word: &str) -> Option<StopReason> {
    const ALL: [StopReason; 8] = [
        StopReason::Cancelled,
        StopReason::Suspended,
        StopReason::Preempted,
        StopReason::TimeLimit,
        StopReason::GangDone,
        StopReason::Replaced,
        StopReason::Forget,
        StopReason::Drained,
    ];
    ALL.into_iter().find(|reason| reason.as_str() == word)
}
