//! Every try of a Job's restart units: what the rows still know of it.

use super::read;
use crate::auth::Actor;
use crate::control::job_status;
use crate::control::placement_row::{self, PlacementRow};
use crate::control::unit_row::{StageRow, UnitRow};
use crate::error::UseError;
use crate::platform::Platform;
use api::Kind;
use api::answer::JobAttempt;
use api::job::{JobStatus, ReplicaStatus};
use base::Attempt;
use db::control;
use plan::job::describe;
use plan::{SlotEnd, Stage, UnitKey, decisive};
use std::collections::BTreeMap;

/// The most tries that are listed; the newest of them.
const ATTEMPTS_MAX: usize = 10_000;

/// A Job's tries in the order of its units, the oldest first; `index` picks one of an array.
pub async fn attempts(
    platform: &Platform,
    actor: &Actor,
    project: &str,
    name: &str,
    index: Option<u32>,
) -> Result<Vec<JobAttempt>, UseError> {
    let object = read::stored(platform, actor, Kind::Job, project, name).await?;
    let status: JobStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
    let rows = control::placements(&platform.db, object.uid).await?;
    let placements: Vec<PlacementRow> = rows.iter().map(placement_row::from_row).collect();
    let units = control::units(&platform.db, object.uid).await?;
    let units = units.into_iter().filter_map(|unit| {
        let row = serde_json::from_value::<UnitRow>(unit.data).ok()?;
        Some((unit.unit.parse::<UnitKey>().ok()?, row))
    });
    let mut listed = list(&units.collect(), &placements, &status.replicas);
    if let Some(index) = index {
        listed.retain(|attempt| attempt.unit == Some(index));
    }
    listed.drain(..listed.len().saturating_sub(ATTEMPTS_MAX));
    Ok(listed)
}

/// The tries that rows and the last status tell of.
fn list(
    units: &BTreeMap<UnitKey, UnitRow>,
    placements: &[PlacementRow],
    replicas: &[ReplicaStatus],
) -> Vec<JobAttempt> {
    let mut tries: BTreeMap<(UnitKey, Attempt), Vec<&PlacementRow>> = BTreeMap::new();
    for (unit, row) in units {
        tries.entry((unit.clone(), row.attempt)).or_default();
    }
    for placement in placements {
        let Ok(unit) = placement.unit.parse::<UnitKey>() else {
            continue;
        };
        let attempt = (unit, placement.key.attempt);
        tries.entry(attempt).or_default().push(placement);
    }
    tries
        .into_iter()
        .map(|((unit, attempt), members)| {
            let row = units.get(&unit).filter(|row| row.attempt == attempt);
            one(&unit, attempt, row, &members, replicas)
        })
        .collect()
}

fn one(
    unit: &UnitKey,
    attempt: Attempt,
    row: Option<&UnitRow>,
    members: &[&PlacementRow],
    replicas: &[ReplicaStatus],
) -> JobAttempt {
    let shown: Vec<ReplicaStatus> = members
        .iter()
        .map(|member| replica(member, replicas))
        .collect();
    let ends: Vec<(&PlacementRow, &SlotEnd)> = members
        .iter()
        .filter_map(|member| match &member.stage {
            Stage::Released(end) => Some((*member, end)),
            Stage::Reserved | Stage::Bound | Stage::Releasing { .. } => None,
        })
        .collect();
    let is_over = !members.is_empty() && ends.len() == members.len();
    let broke = decisive(ends.iter().copied(), |(_, end)| end);
    let stopped = ends.iter().find_map(|(_, end)| end.stopped);
    let (phase, reason, message) = match (row.map(|row| &row.stage), broke) {
        (Some(StageRow::Succeeded), _) => ("Succeeded", String::new(), String::new()),
        (Some(StageRow::Failed { code, sentence }), _) => {
            ("Failed", code.clone(), sentence.clone())
        }
        _ if !is_over => (standing(row, members, &shown), String::new(), String::new()),
        (_, Some((member, end))) => {
            let who = format!("{}/{}", member.key.group, member.key.index);
            ("Failed", end.cause.as_str().to_owned(), describe(&who, end))
        }
        (_, None) => match stopped {
            Some(reason) => ("Stopped", reason.as_str().to_owned(), String::new()),
            None => ("Succeeded", String::new(), String::new()),
        },
    };
    let unit = match unit {
        UnitKey::Index(index) => Some(index.0),
        UnitKey::Gang | UnitKey::Rank { .. } => None,
    };
    JobAttempt {
        unit,
        attempt: attempt.0,
        phase: phase.to_owned(),
        reason,
        message,
        charged: is_over && phase == "Failed" && broke.is_some_and(|(_, end)| end.is_own_failure()),
        started_at: shown.iter().filter_map(|member| member.started_at).min(),
        finished_at: shown
            .iter()
            .filter_map(|member| member.finished_at)
            .max()
            .filter(|_| is_over),
        replicas: shown,
    }
}

/// A try that is not over.
fn standing(
    row: Option<&UnitRow>,
    members: &[&PlacementRow],
    shown: &[ReplicaStatus],
) -> &'static str {
    let is_releasing = |member: &&PlacementRow| matches!(member.stage, Stage::Releasing { .. });
    if members.is_empty() {
        return match row.map(|row| &row.stage) {
            Some(StageRow::BackingOff { .. }) => "BackingOff",
            Some(StageRow::Stopped) => "Stopped",
            _ => "Waiting",
        };
    }
    if members.iter().any(is_releasing) {
        return "Stopping";
    }
    if shown.iter().any(|member| member.phase == "Running") {
        return "Running";
    }
    "Starting"
}

/// A member by its row where it has ended, else as the Job's status tells of it.
fn replica(placement: &PlacementRow, replicas: &[ReplicaStatus]) -> ReplicaStatus {
    let by_row = job_status::replica(placement, None);
    if matches!(placement.stage, Stage::Released(_)) {
        return by_row;
    }
    let same = |known: &&ReplicaStatus| {
        known.group == by_row.group
            && known.index == by_row.index
            && known.attempt == by_row.attempt
    };
    replicas.iter().find(same).cloned().unwrap_or(by_row)
}
