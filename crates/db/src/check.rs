//! What contradicts itself in the database. Each rule is a query for the rows that break it; all of them run in one
//! snapshot, beside servers that write.

use crate::conn::Conn;
use crate::{Config, DbError, Value, schema};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that are told of one rule.
pub const TOLD_MAX: usize = 50;
/// Objects read at once.
const PAGE: usize = 500;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which: a stable word.
    pub rule: &'static str,
    /// What is wrong, in a sentence.
    pub sentence: &'static str,
    /// What breaks it, at most [`TOLD_MAX`].
    pub rows: Vec<String>,
}

/// A rule: its word, what is wrong where it is broken, and the rows that break it.
type Rule = (&'static str, &'static str, &'static str);

const RULES: &[Rule] = &[
    (
        "feed-head",
        "the feed's counter is not its last entry",
        "SELECT 'counter ' || CAST((SELECT seq FROM feed_head) AS TEXT) || ', last entry ' || CAST(MAX(seq) AS TEXT) \
         FROM changes HAVING MAX(seq) <> (SELECT seq FROM feed_head)",
    ),
    (
        "feed-dense",
        "the feed has gaps",
        "SELECT CAST(COUNT(*) AS TEXT) || ' entries from ' || CAST(MIN(seq) AS TEXT) || ' to ' || CAST(MAX(seq) AS TEXT) \
         FROM changes HAVING COUNT(*) <> MAX(seq) - MIN(seq) + 1",
    ),
    (
        "audit-dense",
        "the audit trail has gaps",
        "SELECT CAST(COUNT(*) AS TEXT) || ' entries from ' || CAST(MIN(seq) AS TEXT) || ' to ' || CAST(MAX(seq) AS TEXT) \
         FROM audit HAVING COUNT(*) <> MAX(seq) - MIN(seq) + 1",
    ),
    (
        "object-position",
        "objects lie beyond the feed's counter",
        "SELECT kind || ' ' || name || ' (' || uid || ')' FROM objects WHERE seq > (SELECT seq FROM feed_head)",
    ),
    (
        "unit-owner",
        "restart units belong to nobody",
        "SELECT u.owner || ' ' || u.unit FROM units u WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = u.owner)",
    ),
    (
        "task-owner",
        "scheduler tasks belong to nobody",
        "SELECT t.uid || ' of ' || t.owner FROM tasks t WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = t.owner)",
    ),
    (
        "task-waits-placed",
        "tasks wait and hold capacity",
        "SELECT t.uid || ' of ' || t.owner FROM tasks t WHERE t.state = 'waiting' \
         AND EXISTS (SELECT 1 FROM placements p WHERE p.task = t.uid AND p.state <> 'released')",
    ),
    (
        "placement-owner",
        "placements belong to nobody",
        "SELECT p.owner || ' ' || p.grp || '/' || CAST(p.idx AS TEXT) FROM placements p \
         WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = p.owner)",
    ),
    (
        "placement-task",
        "placements were admitted for no task",
        "SELECT p.owner || ' ' || p.grp || '/' || CAST(p.idx AS TEXT) FROM placements p \
         WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.uid = p.task)",
    ),
    (
        "slot-twice",
        "slots hold capacity twice",
        "SELECT owner || ' ' || grp || '/' || CAST(idx AS TEXT) FROM placements WHERE state <> 'released' \
         GROUP BY owner, grp, idx HAVING COUNT(*) > 1",
    ),
    (
        "placement-node",
        "placements hold capacity of nodes that do not exist",
        "SELECT p.owner || ' ' || p.grp || '/' || CAST(p.idx AS TEXT) || ' on ' || p.node FROM placements p \
         WHERE p.state <> 'released' AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.kind = 'Node' AND o.project = '' \
         AND o.name = p.node AND o.cluster = p.cluster AND o.is_current = 1)",
    ),
    (
        "placement-finished",
        "what is over holds capacity",
        "SELECT o.kind || ' ' || o.name || ' ' || p.grp || '/' || CAST(p.idx AS TEXT) FROM placements p \
         JOIN objects o ON o.uid = p.owner WHERE p.state <> 'released' AND o.finished_at IS NOT NULL",
    ),
    (
        "port-placement",
        "ports are held by no placement",
        "SELECT r.node || ':' || CAST(r.port AS TEXT) FROM placement_ports r WHERE NOT EXISTS (SELECT 1 FROM placements p \
         WHERE p.owner = r.owner AND p.grp = r.grp AND p.idx = r.idx AND p.attempt = r.attempt AND p.state <> 'released')",
    ),
    (
        "revision-app",
        "Revisions belong to no App",
        "SELECT r.app || ' ' || CAST(r.number AS TEXT) FROM revisions r \
         WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = r.app AND o.kind = 'App')",
    ),
    (
        "environment-version",
        "versions belong to no Environment",
        "SELECT v.environment || ' ' || CAST(v.version AS TEXT) FROM environment_versions v \
         WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = v.environment AND o.kind = 'Environment')",
    ),
    (
        "secret-version",
        "versions belong to no Secret",
        "SELECT v.secret || ' ' || CAST(v.version AS TEXT) FROM secret_versions v \
         WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = v.secret AND o.kind = 'Secret')",
    ),
    (
        "blob-holder",
        "content is held by nobody",
        "SELECT b.digest || ' for ' || b.holder FROM blob_refs b WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = b.holder)",
    ),
    (
        "label-object",
        "labels belong to nobody",
        "SELECT l.uid || ' ' || l.key FROM object_labels l WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = l.uid)",
    ),
];

/// Every broken rule of one moment.
pub async fn run(config: &Config) -> Result<Vec<Finding>, DbError> {
    let mut conn = crate::open_reader(config).await?;
    let begin = if conn.is_postgres() {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    } else {
        "BEGIN"
    };
    conn.script(begin).await?;
    schema::must_be_known(&mut conn).await?;
    let mut findings = Vec::new();
    for (rule, sentence, sql) in RULES {
        let sql = format!("{sql} LIMIT {TOLD_MAX}");
        let rows = conn.fetch(&sql, &[]).await?;
        let rows = rows.iter().map(|row| row.text(0));
        told(
            &mut findings,
            rule,
            sentence,
            rows.collect::<Result<_, _>>()?,
        );
    }
    let (unreadable, labels) = objects(&mut conn).await?;
    told(
        &mut findings,
        "object-json",
        "objects hold what is not JSON",
        unreadable,
    );
    told(
        &mut findings,
        "label-index",
        "the label index differs from the objects' labels",
        labels,
    );
    told(
        &mut findings,
        "device-overcommitted",
        "devices are given away more than once",
        devices(&mut conn).await?,
    );
    conn.script("COMMIT").await?;
    conn.close().await;
    Ok(findings)
}

/// Adds a finding where rows break the rule.
pub fn told(
    findings: &mut Vec<Finding>,
    rule: &'static str,
    sentence: &'static str,
    rows: Vec<String>,
) {
    if !rows.is_empty() {
        let rows = rows.into_iter().take(TOLD_MAX).collect();
        findings.push(Finding {
            rule,
            sentence,
            rows,
        });
    }
}

/// Objects whose columns are not JSON, and those whose labels are not those of the index.
async fn objects(conn: &mut Conn) -> Result<(Vec<String>, Vec<String>), DbError> {
    let (mut unreadable, mut differing) = (Vec::new(), Vec::new());
    let mut after = String::new();
    loop {
        let sql = format!(
            "SELECT uid, kind, name, labels, annotations, spec, desired, status FROM objects WHERE uid > $1 ORDER BY uid LIMIT {PAGE}"
        );
        let rows = conn.fetch(&sql, &[Value::from(&after)]).await?;
        let Some(last) = rows.last() else {
            return Ok((unreadable, differing));
        };
        let upto = last.text(0)?;
        let sql = "SELECT uid, key, value FROM object_labels WHERE uid > $1 AND uid <= $2";
        let mut index: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
        for row in conn
            .fetch(sql, &[Value::from(&after), Value::from(&upto)])
            .await?
        {
            let label = (row.text(1)?, row.text(2)?);
            index.entry(row.text(0)?).or_default().insert(label);
        }
        for row in &rows {
            let (uid, kind, name) = (row.text(0)?, row.text(1)?, row.text(2)?);
            let subject = format!("{kind} {name} ({uid})");
            if (3..8).any(|at| row.json(at).is_err()) {
                unreadable.push(subject);
                continue;
            }
            let labels = row.json(3)?;
            let labels: BTreeSet<(String, String)> = labels
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect();
            if labels != index.remove(&uid).unwrap_or_default() {
                differing.push(subject);
            }
        }
        after = upto;
    }
}

/// Devices of which more than the whole is given away.
async fn devices(conn: &mut Conn) -> Result<Vec<String>, DbError> {
    let sql = "SELECT cluster, node, devices FROM placements WHERE state <> 'released'";
    let mut given: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for row in conn.fetch(sql, &[]).await? {
        let (cluster, node, devices) = (row.text(0)?, row.text(1)?, row.json(2)?);
        for device in devices.as_array().into_iter().flatten() {
            let id = device["id"].as_str().unwrap_or_default().to_owned();
            let key = (cluster.clone(), node.clone(), id);
            *given.entry(key).or_default() += device["milli"].as_u64().unwrap_or(0);
        }
    }
    let over = given.into_iter().filter(|(_, milli)| *milli > 1_000);
    Ok(over
        .map(|((_, node, id), milli)| format!("{id} on {node}: {milli} thousandths"))
        .collect())
}
