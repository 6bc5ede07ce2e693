//! Rows of PodGroups: drafts become objects with a task, steps change what is placed. Each call is one transaction.

use super::super::unit_row::{StageRow, UnitRow};
use super::super::{Control, ControlError, OwnerKind};
use super::gather::Draft;
use super::group;
use super::look::Rows;
use super::steps::Step;
use crate::platform::new_uid;
use api::Kind;
use api::pods::PodGroupSpec;
use base::name::NAME_LEN_MAX;
use base::{Generation, Index, Seq, Time, Uid};
use db::objects::{self, Object};
use db::{DbError, Tx, control as tables, control::Placement};
use engine::ForeignPod;
use sched::{NodeId, SlotId, TaskId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A draft that is written.
pub(super) struct Made {
    pub(super) object: Object,
    pub(super) spec: PodGroupSpec,
    /// Its task, once nobody is missing.
    pub(super) task: Option<(sched::TaskSpec, super::super::scheduler::TaskOwner)>,
    /// What it holds already: somebody else has bound it.
    pub(super) running: Option<sched::Placement>,
    pub(super) warning: Option<String>,
    pub(super) pods: Vec<ForeignPod>,
}

/// What a draft is written with.
#[derive(Clone)]
struct Plan {
    draft: Draft,
    project: String,
    tenant: String,
    queue: String,
    object: Uid,
    task: Uid,
    /// The node of a pod that somebody else has bound, and its number.
    node: Option<(String, NodeId)>,
}

/// Writes drafts.
pub(super) async fn drafts(
    control: &Control,
    drafts: Vec<Draft>,
    tenants: &HashMap<String, Option<String>>,
) -> Result<Vec<Made>, ControlError> {
    let now = control.now();
    let mut plans = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let Some(first) = draft.pods.first() else {
            continue;
        };
        let project = first.pod.namespace.clone();
        let node = match &first.node {
            None => None,
            // On a node that is not known yet: the next look.
            Some(name) => match control.node_id(name) {
                Some(id) => Some((name.clone(), NodeId(id))),
                None => continue,
            },
        };
        let queue = control.queue_of(&project, first.queue.as_deref()).await?;
        let tenant = tenants.get(&project).cloned().flatten().unwrap_or_default();
        plans.push(Plan {
            project,
            tenant,
            queue,
            object: new_uid(now),
            task: new_uid(now),
            node,
            draft,
        });
    }
    let plans = Arc::new(plans);
    let (cluster, epoch) = (control.cluster.clone(), control.epoch);
    let shared = Arc::clone(&plans);
    let written: Result<Vec<(Object, PodGroupSpec)>, DbError> = control
        .db
        .write(Some(epoch), move |tx| {
            let (plans, cluster) = (Arc::clone(&shared), cluster.clone());
            Box::pin(async move {
                let mut written = Vec::with_capacity(plans.len());
                for plan in plans.iter() {
                    written.push(draft(tx, plan, &cluster, epoch, now).await?);
                }
                Ok(written)
            })
        })
        .await;
    let made = written?
        .into_iter()
        .zip(plans.iter())
        .map(|((object, spec), plan)| {
            let task = TaskId(plan.task);
            let is_whole = plan.draft.is_whole;
            let node = plan.node.as_ref().map(|(_, id)| *id);
            Made {
                task: is_whole.then(|| group::task(&object, &spec, plan.queue.clone(), task)),
                running: node.map(|node| sched::Placement {
                    slot: SlotId { group: 0, index: 0 },
                    node,
                    devices: Vec::new(),
                }),
                warning: plan.draft.warning.clone(),
                pods: plan.draft.pods.clone(),
                object,
                spec,
            }
        });
    Ok(made.collect())
}

async fn draft(
    tx: &mut Tx<'_>,
    plan: &Plan,
    cluster: &str,
    epoch: base::Epoch,
    now: Time,
) -> Result<(Object, PodGroupSpec), DbError> {
    let draft = &plan.draft;
    let members = draft.pods.iter().map(group::member);
    let known = match draft.into {
        Some(uid) => objects::get_by_uid(tx, uid).await?,
        None => None,
    };
    let old: Option<PodGroupSpec> = known
        .as_ref()
        .and_then(|object| serde_json::from_value(object.spec.clone()).ok());
    let first = &draft.pods[0];
    let mut spec = old.unwrap_or_else(|| PodGroupSpec {
        gang: draft.gang.clone(),
        size: draft.size,
        queue: first.queue.clone(),
        priority: first.priority,
        pods: Vec::new(),
    });
    spec.pods.extend(members);
    let status = if plan.node.is_some() {
        status("Running", "", "")
    } else if draft.is_whole {
        status("Waiting", "", "")
    } else {
        gathering(&spec)
    };
    let phase = status["phase"].as_str().unwrap_or_default().to_owned();
    let value = serde_json::to_value(&spec).expect("a spec is JSON");
    let object = match known {
        Some(mut object) => {
            object.generation = Generation(object.generation.0 + 1);
            (object.spec, object.status, object.phase) = (value, status, phase);
            objects::update(tx, &object).await?;
            object
        }
        None => {
            let object = Object {
                uid: plan.object,
                kind: Kind::PodGroup.as_str().to_owned(),
                tenant: plan.tenant.clone(),
                project: plan.project.clone(),
                cluster: cluster.to_owned(),
                name: free_name(tx, plan).await?,
                owner: "system".to_owned(),
                creator: "system".to_owned(),
                generation: Generation(1),
                seq: Seq(0),
                phase,
                spec: value,
                desired: json!({}),
                status,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                created_at: now,
                updated_at: now,
                deleted_at: None,
                finished_at: None,
                is_current: true,
            };
            objects::insert(tx, &object).await?;
            object
        }
    };
    if draft.is_whole {
        start(tx, plan, &object, &spec, epoch, now).await?;
    }
    Ok((object, spec))
}

/// A whole PodGroup gets its task; one that somebody has bound holds its place at once.
async fn start(
    tx: &mut Tx<'_>,
    plan: &Plan,
    object: &Object,
    spec: &PodGroupSpec,
    epoch: base::Epoch,
    now: Time,
) -> Result<(), DbError> {
    let state = if plan.node.is_some() {
        "admitted"
    } else {
        "waiting"
    };
    let task = tables::Task {
        uid: plan.task,
        owner: object.uid,
        owner_kind: OwnerKind::Pods.as_str().to_owned(),
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        cluster: object.cluster.clone(),
        unit: group::UNIT.to_owned(),
        attempt: group::ATTEMPT,
        queue: plan.queue.clone(),
        priority: spec.priority,
        state: state.to_owned(),
        submitted_at: object.created_at,
        readmit: false,
    };
    tables::insert_task(tx, &task).await?;
    let (task, since) = (plan.task, now);
    let stage = match plan.node {
        Some(_) => StageRow::Placed { task, since },
        None => StageRow::Waiting { task, since },
    };
    put_unit(tx, object.uid, stage).await?;
    let Some((node, _)) = &plan.node else {
        return Ok(());
    };
    let placement = Placement {
        owner: object.uid,
        group: "g0".to_owned(),
        index: Index(0),
        attempt: group::ATTEMPT,
        task: plan.task,
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        cluster: object.cluster.clone(),
        unit: group::UNIT.to_owned(),
        node: node.clone(),
        devices: json!([]),
        ports: json!({}),
        state: "bound".to_owned(),
        deadline: None,
        reason: String::new(),
        epoch,
        created_at: now,
        ended_at: None,
        ending: json!({}),
    };
    tables::insert_placements(tx, &[placement]).await
}

async fn put_unit(tx: &mut Tx<'_>, owner: Uid, stage: StageRow) -> Result<(), DbError> {
    let row = UnitRow {
        attempt: group::ATTEMPT,
        stage,
        ..UnitRow::new()
    };
    let unit = tables::Unit {
        owner,
        unit: group::UNIT.to_owned(),
        attempt: row.attempt,
        word: row.word().to_owned(),
        data: serde_json::to_value(&row).expect("a row is JSON"),
    };
    tables::put_unit(tx, &unit).await
}

/// The gang's or pod's name, as far as it is a name here and free.
async fn free_name(tx: &mut Tx<'_>, plan: &Plan) -> Result<String, DbError> {
    let wanted = match &plan.draft.gang {
        Some(gang) => gang,
        None => &plan.draft.pods[0].pod.name,
    };
    let plain = wanted.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    });
    let plain: String = plain.take(NAME_LEN_MAX).collect();
    let plain = plain.trim_matches('-');
    let taken = objects::get(tx, Kind::PodGroup.as_str(), &plan.project, plain).await?;
    if taken.is_none() && plain == wanted.as_str() {
        return Ok(plain.to_owned());
    }
    let tail = plan.object.short();
    let room = NAME_LEN_MAX - tail.len() - 1;
    let head: String = plain.chars().take(room).collect();
    Ok(format!("{}-{tail}", head.trim_matches('-'))
        .trim_matches('-')
        .to_owned())
}

pub(super) fn status(phase: &str, reason: &str, message: &str) -> Value {
    let status = api::pods::PodGroupStatus {
        phase: phase.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    serde_json::to_value(status).expect("a status is JSON")
}

fn gathering(spec: &PodGroupSpec) -> Value {
    let message = format!("{} of {} pods are there", spec.pods.len(), spec.size);
    status("Gathering", "GangIncomplete", &message)
}

/// What one PodGroup's steps change.
#[derive(Clone)]
struct Change {
    object: Object,
    spec: PodGroupSpec,
    steps: Vec<Step>,
    /// Seats that were bound just now.
    bound: Vec<(String, Index)>,
}

/// Writes steps; `bound` are the pods that were given their node just now.
pub(super) async fn steps(
    control: &Control,
    all: &[(Rows, Vec<Step>)],
    bound: &BTreeSet<String>,
) -> Result<(), ControlError> {
    let changes = all.iter().filter(|(_, steps)| !steps.is_empty());
    let changes: Vec<Change> = changes
        .map(|(rows, steps)| {
            let seats = steps.iter().filter_map(|step| match step {
                Step::Bind { seat, pod, .. } if bound.contains(&pod.uid) => Some(seat.clone()),
                Step::Bound { seat } => Some(seat.clone()),
                _ => None,
            });
            Change {
                object: rows.object.clone(),
                spec: rows.spec.clone(),
                bound: seats.collect(),
                steps: steps.clone(),
            }
        })
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    let (changes, now) = (Arc::new(changes), control.now());
    let written: Result<(), DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let changes = Arc::clone(&changes);
            Box::pin(async move {
                let bound = changes.iter().flat_map(|change| {
                    let uid = change.object.uid;
                    change
                        .bound
                        .iter()
                        .map(move |(group, index)| tables::SeatOf {
                            owner: uid,
                            group,
                            index: *index,
                            attempt: group::ATTEMPT,
                        })
                });
                let bound: Vec<tables::SeatOf<'_>> = bound.collect();
                tables::move_placements(tx, &bound, "reserved", "bound").await?;
                for change in changes.iter() {
                    write(tx, change, now).await?;
                }
                Ok(())
            })
        })
        .await;
    Ok(written?)
}

async fn write(tx: &mut Tx<'_>, change: &Change, now: Time) -> Result<(), DbError> {
    let uid = change.object.uid;
    if !change.bound.is_empty() {
        objects::set_status(tx, uid, "Running", &status("Running", "", "")).await?;
    }
    for step in &change.steps {
        match step {
            Step::Release { seat } => release(tx, uid, seat, now).await?,
            Step::Withdraw { task } => tables::end_task(tx, *task).await?,
            Step::Remove { task } => {
                if let Some(task) = task {
                    tables::end_task(tx, *task).await?;
                }
                objects::remove(tx, &change.object).await?;
            }
            Step::Keep { uids } => {
                let mut object = change.object.clone();
                let mut spec = change.spec.clone();
                spec.pods.retain(|member| uids.contains(&member.uid));
                object.status = gathering(&spec);
                object.spec = serde_json::to_value(&spec).expect("a spec is JSON");
                objects::update(tx, &object).await?;
            }
            Step::Bind { .. } | Step::Bound { .. } | Step::Evict { .. } => {}
        }
    }
    Ok(())
}

/// Gives a placement's capacity back.
async fn release(
    tx: &mut Tx<'_>,
    owner: Uid,
    (name, index): &(String, Index),
    now: Time,
) -> Result<(), DbError> {
    let found = tables::get_placement(tx, owner, name, *index, group::ATTEMPT).await?;
    let Some(mut placement) = found.filter(|placement| placement.state != "released") else {
        return Ok(());
    };
    placement.state = "released".to_owned();
    placement.ended_at = Some(now);
    tables::update_placement(tx, &placement).await
}

/// Writes why a PodGroup waits, where that changed.
pub(super) async fn waits(
    control: &Control,
    uid: Uid,
    reason: &str,
    message: &str,
) -> Result<(), ControlError> {
    let value = status("Waiting", reason, message);
    let written: Result<bool, DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let value = value.clone();
            Box::pin(async move {
                let waits = objects::get_by_uid(tx, uid)
                    .await?
                    .is_some_and(|object| object.phase == "Waiting");
                if waits {
                    objects::set_status(tx, uid, "Waiting", &value).await?;
                }
                Ok(waits)
            })
        })
        .await;
    written?;
    Ok(())
}
