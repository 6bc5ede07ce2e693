//! What the controllers read and write, in their own words. Each write is one transaction under the leader's
//! epoch; each operation checks that what it names is still so, and may be repeated.

use super::placement_row::{self, PlacementRow};
use super::seat_row::{AppRow, SeatRow};
use super::unit_row::{StageRow, UnitRow};
use super::{Control, ControlError};
use crate::pinned::Pinned;
use crate::platform::new_uid;
use base::{Attempt, Index, Time, Uid};
use db::objects::Object;
use db::{Db, DbError, Tx, blobs, control, deliveries, events, objects, versions};
use engine::{ReplicaKey, ReplicaReport, StopReason};
use plan::{Reason, SlotEnd, Tally, Then, UnitKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The unit row that holds what an App's planner remembers.
const APP_UNIT: &str = "app";

/// A Job or App as stored.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The object.
    pub object: Object,
    /// What its references meant when it was created.
    pub pinned: Pinned,
}

/// All rows of a Job.
#[derive(Clone, Debug)]
pub struct JobRows {
    /// The Job.
    pub owned: Owned,
    /// Its restart units that have a row.
    pub units: BTreeMap<UnitKey, UnitRow>,
    /// Its placements, of all attempts.
    pub placements: Vec<PlacementRow>,
}

/// All rows of an App.
#[derive(Clone, Debug)]
pub struct AppRows {
    /// The App.
    pub owned: Owned,
    /// What the planner remembers of it.
    pub app: AppRow,
    /// Its Revisions, newest first.
    pub revisions: Vec<versions::Revision>,
    /// Its seats by Revision and index.
    pub seats: BTreeMap<(u32, Index), SeatRow>,
    /// Its placements, of all attempts.
    pub placements: Vec<PlacementRow>,
}

/// One change of rows.
#[derive(Clone, Debug)]
pub enum RowOp {
    /// The attempt of a Job's unit gets a task.
    Submit {
        unit: String,
        attempt: Attempt,
        task: Uid,
        now: Time,
        queue: String,
        priority: i32,
        readmit: bool,
    },
    /// A task that waits is taken back.
    Withdraw { unit: String, attempt: Attempt },
    /// Placements may be known to the engine from now on.
    Bind { keys: Vec<ReplicaKey> },
    /// A placement shall end.
    Releasing {
        key: ReplicaKey,
        deadline: Time,
        reason: StopReason,
    },
    /// A placement ended.
    Release {
        key: ReplicaKey,
        end: SlotEnd,
        report: Option<Box<ReplicaReport>>,
    },
    /// A member of an elastic gang is replaced by itself.
    Replace {
        unit: String,
        attempt: Attempt,
        tally: Tally,
        not_before: Time,
        readmit: bool,
    },
    /// An attempt is over.
    EndAttempt {
        unit: String,
        attempt: Attempt,
        tally: Tally,
        then: Then,
    },
    /// The Job is over: its whole last status, in the same transaction.
    Finish {
        phase: String,
        code: String,
        sentence: String,
        at: Time,
        status: Value,
    },
    /// A seat of an App gets a task.
    SubmitSeat {
        unit: String,
        attempt: Attempt,
        task: Uid,
        now: Time,
        queue: String,
        priority: i32,
        readmit: bool,
    },
    /// A seat of an App changes.
    PutSeat { unit: String, seat: SeatRow },
    /// A seat of an App is gone.
    RemoveSeat { unit: String, task: Option<Uid> },
    /// What the planner remembers of an App.
    PutApp { app: AppRow },
    /// A Revision's state.
    RevisionState {
        number: u32,
        state: &'static str,
        message: String,
    },
    /// A Revision is forgotten.
    RemoveRevision { number: u32 },
    /// An App's target is another Revision, by an automatic rollback.
    Retarget { to: u32 },
    /// The status changed.
    Status { phase: String, status: Value },
    /// Something happened that people may want to know.
    Event {
        warning: bool,
        code: String,
        sentence: String,
    },
    /// The object is gone.
    Delete,
}

impl RowOp {
    /// What happened, from a plan's reason.
    pub fn event(warning: bool, reason: &Reason) -> RowOp {
        RowOp::Event {
            warning,
            code: reason.code.as_str().to_owned(),
            sentence: reason.sentence.clone(),
        }
    }
}

impl Owned {
    fn new(object: Object) -> Owned {
        // Pins are the server's own; an object without any has none.
        let pinned = serde_json::from_value(object.desired["pinned"].clone()).unwrap_or_default();
        Owned { object, pinned }
    }

    /// Its uid.
    pub fn uid(&self) -> Uid {
        self.object.uid
    }
}

/// Uids of Jobs that are not over, and of those that are to be deleted.
pub async fn active(db: &Db, kind: &str) -> Result<Vec<Uid>, DbError> {
    objects::active(db, kind).await
}

/// Everything of one Job, if it is there.
pub async fn load_job(db: &Db, uid: Uid) -> Result<Option<JobRows>, DbError> {
    let Some(object) = objects::read_by_uid(db, uid).await? else {
        return Ok(None);
    };
    let mut units = BTreeMap::new();
    for unit in control::units(db, uid).await? {
        if let (Ok(key), Ok(row)) = (
            unit.unit.parse::<UnitKey>(),
            serde_json::from_value(unit.data),
        ) {
            units.insert(key, row);
        }
    }
    let placements = control::placements(db, uid)
        .await?
        .iter()
        .map(placement_row::from_row)
        .collect();
    Ok(Some(JobRows {
        owned: Owned::new(object),
        units,
        placements,
    }))
}

/// Everything of one App, if it is there.
pub async fn load_app(db: &Db, uid: Uid) -> Result<Option<AppRows>, DbError> {
    let Some(object) = objects::read_by_uid(db, uid).await? else {
        return Ok(None);
    };
    let mut seats = BTreeMap::new();
    let mut app = AppRow::default();
    for unit in control::units(db, uid).await? {
        if unit.unit == APP_UNIT {
            app = serde_json::from_value(unit.data).unwrap_or_default();
        } else if let (Some(key), Ok(seat)) = (
            SeatRow::parse_unit(&unit.unit),
            serde_json::from_value(unit.data),
        ) {
            seats.insert(key, seat);
        }
    }
    let revisions = versions::revisions(db, uid).await?;
    let placements = control::placements(db, uid)
        .await?
        .iter()
        .map(placement_row::from_row)
        .collect();
    Ok(Some(AppRows {
        owned: Owned::new(object),
        app,
        revisions,
        seats,
        placements,
    }))
}

/// Performs operations on one owner's rows, all or none.
pub async fn write(control: &Control, uid: Uid, ops: Vec<RowOp>) -> Result<(), ControlError> {
    let ops = Arc::new(ops);
    let cluster = control.cluster.clone();
    let now = control.now();
    let written: Result<(), DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let (ops, cluster) = (Arc::clone(&ops), cluster.clone());
            Box::pin(async move {
                for op in ops.iter() {
                    apply(tx, uid, op, &cluster, now).await?;
                }
                Ok(())
            })
        })
        .await;
    Ok(written?)
}

async fn apply(
    tx: &mut Tx<'_>,
    uid: Uid,
    op: &RowOp,
    cluster: &str,
    at: Time,
) -> Result<(), DbError> {
    match op {
        RowOp::Submit {
            unit,
            attempt,
            task,
            now,
            queue,
            priority,
            readmit,
        } => {
            let mut row = unit_row(tx, uid, unit).await?.unwrap_or_default();
            let may = row.attempt == *attempt
                && matches!(row.stage, StageRow::New | StageRow::BackingOff { .. });
            if !may {
                return Ok(());
            }
            row.stage = StageRow::Waiting {
                task: *task,
                since: *now,
            };
            put_unit(tx, uid, unit, &row).await?;
            insert_task(
                tx,
                uid,
                cluster,
                &NewTask {
                    unit,
                    attempt: *attempt,
                    task: *task,
                    queue,
                    priority: *priority,
                    readmit: *readmit,
                },
            )
            .await
        }
        RowOp::Withdraw { unit, attempt } => {
            let Some(mut row) = unit_row(tx, uid, unit).await? else {
                return Ok(());
            };
            let StageRow::Waiting { task, .. } = row.stage else {
                return Ok(());
            };
            if row.attempt == *attempt {
                control::end_task(tx, task).await?;
                row.stage = StageRow::New;
                put_unit(tx, uid, unit, &row).await?;
            }
            Ok(())
        }
        RowOp::Bind { keys } => {
            for key in keys {
                if let Some(mut placement) = placement(tx, key)
                    .await?
                    .filter(|placement| placement.state == "reserved")
                {
                    placement.state = "bound".to_owned();
                    control::update_placement(tx, &placement).await?;
                }
            }
            Ok(())
        }
        RowOp::Releasing {
            key,
            deadline,
            reason,
        } => {
            let Some(mut placement) = placement(tx, key).await? else {
                return Ok(());
            };
            if matches!(placement.state.as_str(), "reserved" | "bound") {
                placement.state = "releasing".to_owned();
                placement.deadline = Some(*deadline);
                placement.reason = reason.as_str().to_owned();
                control::update_placement(tx, &placement).await?;
            }
            Ok(())
        }
        RowOp::Release { key, end, report } => release(tx, key, end, report.as_deref()).await,
        RowOp::Replace {
            unit,
            attempt,
            tally,
            not_before,
            readmit,
        } => {
            let mut row = unit_row(tx, uid, unit).await?.unwrap_or_default();
            row.attempt = *attempt;
            row.set_tally(*tally);
            row.readmit = *readmit;
            row.stage = StageRow::BackingOff { until: *not_before };
            put_unit(tx, uid, unit, &row).await
        }
        RowOp::EndAttempt {
            unit,
            attempt,
            tally,
            then,
        } => {
            let mut row = unit_row(tx, uid, unit).await?.unwrap_or_default();
            if row.attempt != *attempt {
                return Ok(());
            }
            if let Some(task) = row.task() {
                control::end_task(tx, task.0).await?;
            }
            row.set_tally(*tally);
            match then {
                Then::Next {
                    attempt,
                    not_before,
                    readmit,
                } => {
                    row.attempt = *attempt;
                    row.readmit = *readmit;
                    row.stage = StageRow::BackingOff { until: *not_before };
                }
                Then::Over(outcome) => row.stage = UnitRow::over(outcome),
            }
            put_unit(tx, uid, unit, &row).await
        }
        RowOp::Finish {
            phase,
            code,
            sentence,
            at,
            status,
        } => {
            let Some(mut object) = objects::get_by_uid(tx, uid).await? else {
                return Ok(());
            };
            // A task that was admitted meanwhile is planned for first.
            if object.finished_at.is_some() || control::has_admitted(tx, uid).await? {
                return Ok(());
            }
            control::end_waiting_tasks(tx, uid).await?;
            object.finished_at = Some(*at);
            object.phase.clone_from(phase);
            object.status = merged(
                merged(object.status, status),
                &json!({"phase": phase, "reason": code, "message": sentence, "finishedAt": at}),
            );
            objects::update(tx, &object).await?;
            if phase == "Succeeded" && object.spec["deliver"].is_object() {
                deliveries::add(tx, uid).await?;
            }
            record(tx, &object, phase == "Failed", phase, sentence, *at).await
        }
        RowOp::SubmitSeat {
            unit,
            attempt,
            task,
            now,
            queue,
            priority,
            readmit,
        } => {
            let known: Option<SeatRow> = read_unit(tx, uid, unit).await?;
            let seat = SeatRow::waiting(*attempt, *task, *now, known.map_or(0, |seat| seat.losses));
            put_seat(tx, uid, unit, &seat).await?;
            insert_task(
                tx,
                uid,
                cluster,
                &NewTask {
                    unit,
                    attempt: *attempt,
                    task: *task,
                    queue,
                    priority: *priority,
                    readmit: *readmit,
                },
            )
            .await
        }
        RowOp::PutSeat { unit, seat } => put_seat(tx, uid, unit, seat).await,
        RowOp::RemoveSeat { unit, task } => {
            if let Some(task) = task {
                control::end_task(tx, *task).await?;
            }
            control::remove_unit(tx, uid, unit).await
        }
        RowOp::PutApp { app } => {
            let data = serde_json::to_value(app).expect("a row is JSON");
            let unit = control::Unit {
                owner: uid,
                unit: APP_UNIT.to_owned(),
                attempt: Attempt(0),
                word: String::new(),
                data,
            };
            control::put_unit(tx, &unit).await
        }
        RowOp::RevisionState {
            number,
            state,
            message,
        } => {
            let revisions = versions::get_revisions(tx, uid).await?;
            if let Some(mut revision) = revisions
                .into_iter()
                .find(|revision| revision.number == *number)
            {
                revision.state = (*state).to_owned();
                revision.message.clone_from(message);
                versions::put_revision(tx, &revision).await?;
            }
            Ok(())
        }
        RowOp::RemoveRevision { number } => versions::remove_revision(tx, uid, *number).await,
        RowOp::Retarget { to } => {
            let Some(mut object) = objects::get_by_uid(tx, uid).await? else {
                return Ok(());
            };
            object.desired = merged(
                object.desired,
                &json!({"target": to, "ignoreTraffic": true}),
            );
            objects::update(tx, &object).await.map(|_| ())
        }
        RowOp::Status { phase, status } => objects::set_status(tx, uid, phase, status)
            .await
            .map(|_| ()),
        RowOp::Event {
            warning,
            code,
            sentence,
        } => {
            let Some(object) = objects::get_by_uid(tx, uid).await? else {
                return Ok(());
            };
            record(tx, &object, *warning, code, sentence, at).await
        }
        RowOp::Delete => {
            let Some(object) = objects::get_by_uid(tx, uid).await? else {
                return Ok(());
            };
            objects::remove(tx, &object).await
        }
    }
}

async fn release(
    tx: &mut Tx<'_>,
    key: &ReplicaKey,
    end: &SlotEnd,
    report: Option<&ReplicaReport>,
) -> Result<(), DbError> {
    let Some(mut placement) = placement(tx, key)
        .await?
        .filter(|placement| placement.state != "released")
    else {
        return Ok(());
    };
    placement.state = "released".to_owned();
    placement.ended_at = Some(end.at);
    placement.ending = placement_row::ending(end, report);
    control::update_placement(tx, &placement).await?;
    for output in placement_row::outputs(&placement.ending) {
        blobs::touch(tx, &placement.project, output.digest).await?;
        blobs::hold(tx, &placement.project, output.digest, key.owner, "output").await?;
    }
    Ok(())
}

/// Records an event about an object.
pub async fn record(
    tx: &mut Tx<'_>,
    object: &Object,
    warning: bool,
    code: &str,
    sentence: &str,
    at: Time,
) -> Result<(), DbError> {
    let subject = Subject {
        uid: object.uid,
        kind: &object.kind,
        name: &object.name,
        tenant: &object.tenant,
        project: &object.project,
    };
    events::record(tx, &event(subject, warning, code, sentence, at)).await
}

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its uid.
    pub uid: Uid,
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its tenant.
    pub tenant: &'a str,
    /// Its project.
    pub project: &'a str,
}

/// An event that happened once.
pub fn event(
    subject: Subject<'_>,
    warning: bool,
    code: &str,
    sentence: &str,
    at: Time,
) -> events::Event {
    events::Event {
        uid: new_uid(at),
        object: subject.uid,
        object_kind: subject.kind.to_owned(),
        object_name: subject.name.to_owned(),
        tenant: subject.tenant.to_owned(),
        project: subject.project.to_owned(),
        kind: if warning { "Warning" } else { "Normal" }.to_owned(),
        reason: code.to_owned(),
        message: sentence.to_owned(),
        params: json!({}),
        first_at: at,
        last_at: at,
        count: 1,
        seq: 0,
    }
}

struct NewTask<'a> {
    unit: &'a str,
    attempt: Attempt,
    task: Uid,
    queue: &'a str,
    priority: i32,
    readmit: bool,
}

async fn insert_task(
    tx: &mut Tx<'_>,
    uid: Uid,
    cluster: &str,
    new: &NewTask<'_>,
) -> Result<(), DbError> {
    let Some(object) = objects::get_by_uid(tx, uid).await? else {
        return Ok(());
    };
    let task = control::Task {
        uid: new.task,
        owner: uid,
        owner_kind: object.kind,
        tenant: object.tenant,
        project: object.project,
        cluster: cluster.to_owned(),
        unit: new.unit.to_owned(),
        attempt: new.attempt,
        queue: new.queue.to_owned(),
        priority: new.priority,
        state: "waiting".to_owned(),
        submitted_at: object.created_at,
        readmit: new.readmit,
    };
    control::insert_task(tx, &task).await
}

async fn placement(
    tx: &mut Tx<'_>,
    key: &ReplicaKey,
) -> Result<Option<control::Placement>, DbError> {
    control::get_placement(tx, key.owner, &key.group, key.index, key.attempt).await
}

async fn read_unit<T: serde::de::DeserializeOwned>(
    tx: &mut Tx<'_>,
    uid: Uid,
    unit: &str,
) -> Result<Option<T>, DbError> {
    let row = control::get_unit(tx, uid, unit).await?;
    Ok(row.and_then(|row| serde_json::from_value(row.data).ok()))
}

async fn unit_row(tx: &mut Tx<'_>, uid: Uid, unit: &str) -> Result<Option<UnitRow>, DbError> {
    read_unit(tx, uid, unit).await
}

async fn put_unit(tx: &mut Tx<'_>, uid: Uid, unit: &str, row: &UnitRow) -> Result<(), DbError> {
    let data = serde_json::to_value(row).expect("a row is JSON");
    let unit = control::Unit {
        owner: uid,
        unit: unit.to_owned(),
        attempt: row.attempt,
        word: row.word().to_owned(),
        data,
    };
    control::put_unit(tx, &unit).await
}

async fn put_seat(tx: &mut Tx<'_>, uid: Uid, unit: &str, seat: &SeatRow) -> Result<(), DbError> {
    let data = serde_json::to_value(seat).expect("a row is JSON");
    let unit = control::Unit {
        owner: uid,
        unit: unit.to_owned(),
        attempt: seat.attempt,
        word: "seat".to_owned(),
        data,
    };
    control::put_unit(tx, &unit).await
}

/// `value` with the fields of `patch`.
fn merged(mut value: Value, patch: &Value) -> Value {
    if !value.is_object() {
        value = json!({});
    }
    if let (Some(fields), Some(patch)) = (value.as_object_mut(), patch.as_object()) {
        fields.extend(patch.clone());
    }
    value
}
