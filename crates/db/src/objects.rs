//! Everything that has a name and a spec. Names are unique among current objects; finished and replaced ones
//! stay and are found by uid.

use crate::{Db, DbError, Op, Row, Tx, Value, batch};
use base::{Generation, Seq, Time, Uid};
use serde_json::Value as Json;
use std::collections::BTreeMap;

pub use crate::pages::{Filter, LIMIT_MAX, LabelMatch, list};

pub(crate) const COLUMNS: &str = "uid, kind, tenant, project, cluster, name, owner, creator, generation, seq, phase, spec, desired, status, \
     labels, annotations, created_at, updated_at, deleted_at, finished_at, is_current";

/// An object as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its identity.
    pub uid: Uid,
    /// Its kind.
    pub kind: String,
    /// Its tenant; empty for wider scopes.
    pub tenant: String,
    /// Its project; empty for wider scopes.
    pub project: String,
    /// Its cluster, for nodes.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// Who made it.
    pub creator: String,
    /// Counts changes of the spec.
    pub generation: Generation,
    /// The feed position of its last change.
    pub seq: Seq,
    /// Its phase, for filters.
    pub phase: String,
    /// What is wanted, as the user wrote it.
    pub spec: Json,
    /// What subresources own, and pins.
    pub desired: Json,
    /// What is.
    pub status: Json,
    /// For selection.
    pub labels: BTreeMap<String, String>,
    /// For tools.
    pub annotations: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
    /// When its deletion was asked for.
    pub deleted_at: Option<Time>,
    /// When it was over.
    pub finished_at: Option<Time>,
    /// Whether its name means it.
    pub is_current: bool,
}

/// Inserts an object and puts it into the feed. A taken name is [`DbError::is_duplicate`].
pub async fn insert(tx: &mut Tx<'_>, object: &Object) -> Result<Seq, DbError> {
    let seq = tx.change(
        &object.kind,
        object.uid,
        &object.project,
        &object.name,
        Op::Put,
    );
    let sql = "INSERT INTO objects (uid, kind, tenant, project, cluster, name, owner, creator, generation, seq, phase, spec, \
         desired, status, labels, annotations, created_at, updated_at, deleted_at, finished_at, is_current) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";
    let args: [Value; 21] = [
        object.uid.into(),
        object.kind.as_str().into(),
        object.tenant.as_str().into(),
        object.project.as_str().into(),
        object.cluster.as_str().into(),
        object.name.as_str().into(),
        object.owner.as_str().into(),
        object.creator.as_str().into(),
        object.generation.into(),
        seq.into(),
        object.phase.as_str().into(),
        (&object.spec).into(),
        (&object.desired).into(),
        (&object.status).into(),
        text_of(&object.labels).into(),
        text_of(&object.annotations).into(),
        object.created_at.into(),
        object.updated_at.into(),
        object.deleted_at.into(),
        object.finished_at.into(),
        object.is_current.into(),
    ];
    tx.execute(sql, &args).await?;
    insert_labels(tx, object).await?;
    Ok(seq)
}

/// Writes everything of an object that may change, and puts it into the feed. Callers compare first.
pub async fn update(tx: &mut Tx<'_>, object: &Object) -> Result<Seq, DbError> {
    let seq = tx.change(
        &object.kind,
        object.uid,
        &object.project,
        &object.name,
        Op::Put,
    );
    let sql = "UPDATE objects SET owner = $2, generation = $3, seq = $4, phase = $5, spec = $6, desired = $7, status = $8, \
         labels = $9, annotations = $10, updated_at = $11, deleted_at = $12, finished_at = $13, is_current = $14 WHERE uid = $1";
    let now = tx.now();
    let args: [Value; 14] = [
        object.uid.into(),
        object.owner.as_str().into(),
        object.generation.into(),
        seq.into(),
        object.phase.as_str().into(),
        (&object.spec).into(),
        (&object.desired).into(),
        (&object.status).into(),
        text_of(&object.labels).into(),
        text_of(&object.annotations).into(),
        now.into(),
        object.deleted_at.into(),
        object.finished_at.into(),
        object.is_current.into(),
    ];
    tx.execute(sql, &args).await?;
    tx.execute(
        "DELETE FROM object_labels WHERE uid = $1",
        &[object.uid.into()],
    )
    .await?;
    insert_labels(tx, object).await?;
    Ok(seq)
}

/// Writes the status if it differs from what is stored; whether it did.
pub async fn set_status(
    tx: &mut Tx<'_>,
    uid: Uid,
    phase: &str,
    status: &Json,
) -> Result<bool, DbError> {
    let sql =
        "SELECT kind, project, name FROM objects WHERE uid = $1 AND (status <> $2 OR phase <> $3)";
    let Some(row) = tx
        .fetch_one(sql, &[uid.into(), status.into(), phase.into()])
        .await?
    else {
        return Ok(false);
    };
    let seq = tx.change(&row.text(0)?, uid, &row.text(1)?, &row.text(2)?, Op::Put);
    let now = tx.now();
    let sql =
        "UPDATE objects SET status = $2, phase = $3, seq = $4, updated_at = $5 WHERE uid = $1";
    tx.execute(
        sql,
        &[
            uid.into(),
            status.into(),
            phase.into(),
            seq.into(),
            now.into(),
        ],
    )
    .await?;
    Ok(true)
}

/// Removes an object and everything that hangs on it; but versions of an Environment stay as long as somebody has
/// pinned them: see [`crate::versions::orphans`].
pub async fn remove(tx: &mut Tx<'_>, object: &Object) -> Result<(), DbError> {
    tx.change(
        &object.kind,
        object.uid,
        &object.project,
        &object.name,
        Op::Delete,
    );
    let uid: [Value; 1] = [object.uid.into()];
    for sql in [
        "DELETE FROM objects WHERE uid = $1",
        "DELETE FROM object_labels WHERE uid = $1",
        "DELETE FROM units WHERE owner = $1",
        "DELETE FROM tasks WHERE owner = $1",
        "DELETE FROM placements WHERE owner = $1",
        "DELETE FROM placement_ports WHERE owner = $1",
        "DELETE FROM events WHERE object = $1",
        "DELETE FROM revisions WHERE app = $1",
        "DELETE FROM secret_versions WHERE secret = $1",
        "DELETE FROM blob_refs WHERE holder = $1",
    ] {
        tx.execute(sql, &uid).await?;
    }
    Ok(())
}

/// The current object of this name.
pub async fn get(
    tx: &mut Tx<'_>,
    kind: &str,
    project: &str,
    name: &str,
) -> Result<Option<Object>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM objects WHERE kind = $1 AND project = $2 AND name = $3 AND is_current = 1"
    );
    let row = tx
        .fetch_one(&sql, &[kind.into(), project.into(), name.into()])
        .await?;
    row.as_ref().map(object).transpose()
}

/// Current objects of a kind that belongs to no project, by their names; those that are not there are left out.
pub async fn get_named(
    tx: &mut Tx<'_>,
    kind: &str,
    names: &[&str],
) -> Result<Vec<Object>, DbError> {
    let mut found = Vec::with_capacity(names.len());
    for names in batch::batches(names) {
        let sql = format!(
            "SELECT {COLUMNS} FROM ({}) AS v CROSS JOIN objects o \
             WHERE o.kind = v.column1 AND o.project = '' AND o.name = v.column2 AND o.is_current = 1",
            batch::values(tx, names.len(), 2)
        );
        let args: Vec<Value> = names
            .iter()
            .flat_map(|name| [kind.into(), (*name).into()])
            .collect();
        for row in tx.fetch(&sql, &args).await? {
            found.push(object(&row)?);
        }
    }
    Ok(found)
}

/// The object of this uid, current or not.
pub async fn get_by_uid(tx: &mut Tx<'_>, uid: Uid) -> Result<Option<Object>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM objects WHERE uid = $1");
    let row = tx.fetch_one(&sql, &[uid.into()]).await?;
    row.as_ref().map(object).transpose()
}

/// [`get`] outside a write.
pub async fn read(
    db: &Db,
    kind: &str,
    project: &str,
    name: &str,
) -> Result<Option<Object>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM objects WHERE kind = $1 AND project = $2 AND name = $3 AND is_current = 1"
    );
    let rows = db
        .fetch(&sql, &[kind.into(), project.into(), name.into()])
        .await?;
    rows.first().map(object).transpose()
}

/// [`get_by_uid`] outside a write.
pub async fn read_by_uid(db: &Db, uid: Uid) -> Result<Option<Object>, DbError> {
    let rows = db
        .fetch(
            &format!("SELECT {COLUMNS} FROM objects WHERE uid = $1"),
            &[uid.into()],
        )
        .await?;
    rows.first().map(object).transpose()
}

/// Those of these uids that are there, current or not.
pub async fn read_by_uids(db: &Db, uids: &[Uid]) -> Result<Vec<Object>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM objects WHERE uid");
    let rows = batch::fetch_of(db, &sql, uids).await?;
    rows.iter().map(object).collect()
}

/// All current objects of a kind that operators write: few.
pub async fn all(db: &Db, kind: &str) -> Result<Vec<Object>, DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM objects WHERE kind = $1 AND is_current = 1 ORDER BY name");
    db.fetch(&sql, &[kind.into()])
        .await?
        .iter()
        .map(object)
        .collect()
}

/// Uids of objects of a kind that are not over.
pub async fn active(db: &Db, kind: &str) -> Result<Vec<Uid>, DbError> {
    let rows = db
        .fetch(
            "SELECT uid FROM objects WHERE kind = $1 AND finished_at IS NULL",
            &[kind.into()],
        )
        .await?;
    rows.iter().map(|row| row.uid(0)).collect()
}

/// How many objects of a kind are in each phase.
pub async fn phases(db: &Db, kind: &str) -> Result<BTreeMap<String, u64>, DbError> {
    let sql = "SELECT phase, COUNT(*) FROM objects WHERE kind = $1 AND finished_at IS NULL GROUP BY phase";
    let rows = db.fetch(sql, &[kind.into()]).await?;
    rows.iter()
        .map(|row| Ok((row.text(0)?, row.count(1)?)))
        .collect()
}

async fn insert_labels(tx: &mut Tx<'_>, object: &Object) -> Result<(), DbError> {
    let row = |(key, value): (&String, &String)| -> [Value; 6] {
        [
            object.kind.as_str().into(),
            key.as_str().into(),
            value.as_str().into(),
            object.project.as_str().into(),
            object.created_at.into(),
            object.uid.into(),
        ]
    };
    let rows: Vec<[Value; 6]> = object.labels.iter().map(row).collect();
    let table = "object_labels (kind, key, value, project, created_at, uid)";
    batch::insert(tx, table, &rows, "").await
}

fn text_of(map: &BTreeMap<String, String>) -> String {
    serde_json::to_string(map).expect("a map of strings is JSON")
}

fn map_of(json: Json) -> BTreeMap<String, String> {
    serde_json::from_value(json).unwrap_or_default()
}

pub(crate) fn object(row: &Row) -> Result<Object, DbError> {
    Ok(Object {
        uid: row.uid(0)?,
        kind: row.text(1)?,
        tenant: row.text(2)?,
        project: row.text(3)?,
        cluster: row.text(4)?,
        name: row.text(5)?,
        owner: row.text(6)?,
        creator: row.text(7)?,
        generation: Generation(row.count(8)?),
        seq: Seq(row.count(9)?),
        phase: row.text(10)?,
        spec: row.json(11)?,
        desired: row.json(12)?,
        status: row.json(13)?,
        labels: map_of(row.json(14)?),
        annotations: map_of(row.json(15)?),
        created_at: row.time(16)?,
        updated_at: row.time(17)?,
        deleted_at: row.time_or_null(18)?,
        finished_at: row.time_or_null(19)?,
        is_current: row.truth(20)?,
    })
}

/// Names of current objects of a kind in a project, at most a thousand: for "did you mean".
pub async fn names(tx: &mut Tx<'_>, kind: &str, project: &str) -> Result<Vec<String>, DbError> {
    let sql =
        "SELECT name FROM objects WHERE kind = $1 AND project = $2 AND is_current = 1 LIMIT 1000";
    tx.fetch(sql, &[kind.into(), project.into()])
        .await?
        .iter()
        .map(|row| row.text(0))
        .collect()
}
