//! Pages of objects, newest first.
//!
//! A page is read from an index in its own order and stops when it is full, so its time does not grow with what
//! there is. Which index depends on the labels that are asked for: where few objects have one of them, its own
//! entries are read and the objects looked up; where many have them, the objects are read and those without are left
//! out. How many have a label is counted, but never beyond [`COUNTED_MAX`]. What no index can help is two
//! conditions that many objects meet and hardly any object meets both.

use crate::objects::{COLUMNS, Object, object};
use crate::{Db, DbError, Value};
use base::{Time, Uid};
use std::fmt::Write as _;

/// The most objects of one page.
pub const LIMIT_MAX: u32 = 1_000;
/// A label that more objects have than this is frequent. The square root of a million objects times a page of a
/// hundred: there both ways take the same time.
const COUNTED_MAX: u32 = 10_000;

/// Which objects, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this project.
    pub project: Option<String>,
    /// Only this phase.
    pub phase: Option<String>,
    /// Only with these labels.
    pub labels: Vec<LabelMatch>,
    /// After this object of the page before.
    pub after: Option<(Time, Uid)>,
    /// At most this many.
    pub limit: u32,
}

/// One condition on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelMatch {
    /// The key has one of the values.
    In(String, Vec<String>),
    /// The key has none of the values, or is absent.
    NotIn(String, Vec<String>),
    /// The key is there.
    Exists(String),
    /// The key is absent.
    Absent(String),
}

/// One page, newest first, and whether another follows.
pub async fn list(db: &Db, kind: &str, filter: &Filter) -> Result<(Vec<Object>, bool), DbError> {
    let driver = driver(db, kind, filter).await?;
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let statement = page(kind, filter, driver, limit);
    let rows = db.fetch(&statement.sql, &statement.args).await?;
    let has_more = rows.len() > limit as usize;
    let objects = rows
        .iter()
        .take(limit as usize)
        .map(object)
        .collect::<Result<_, _>>()?;
    Ok((objects, has_more))
}

/// SQL that is being put together, with its arguments.
struct Statement {
    sql: String,
    args: Vec<Value>,
}

impl Statement {
    fn new(sql: String) -> Statement {
        Statement {
            sql,
            args: Vec::new(),
        }
    }

    /// Adds ` AND `, and the condition with each `?` for one of the values.
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        let mut pieces = condition.split('?');
        self.sql.push_str(pieces.next().unwrap_or_default());
        for (piece, value) in pieces.zip(values) {
            self.args.push(value);
            let _ = write!(self.sql, "${}{piece}", self.args.len());
        }
    }
}

/// The label whose own entries are read, by its place in the filter; `None` where the objects are read.
async fn driver(db: &Db, kind: &str, filter: &Filter) -> Result<Option<usize>, DbError> {
    let mut best: Option<(u64, usize)> = None;
    for (at, label) in filter.labels.iter().enumerate() {
        let Some((condition, values)) = present(label) else {
            continue;
        };
        let mut count = Statement::new(
            "SELECT COUNT(*) FROM (SELECT 1 FROM object_labels d WHERE 1 = 1".to_owned(),
        );
        entries(&mut count, kind, filter, &condition, values);
        let _ = write!(count.sql, " LIMIT {COUNTED_MAX}) counted");
        let rows = db.fetch(&count.sql, &count.args).await?;
        let n = rows.first().map_or(Ok(0), |row| row.count(0))?;
        // The entries of one value lie in the page's order; those of several must be sorted, all of them.
        let is_ordered = matches!(label, LabelMatch::In(_, values) if values.len() == 1);
        let may_drive = is_ordered || n < u64::from(COUNTED_MAX);
        if may_drive && best.is_none_or(|(least, _)| n < least) {
            best = Some((n, at));
        }
    }
    Ok(best.map(|(_, at)| at))
}

/// What a label's entries `d` are like; `None` for one that asks for objects without.
fn present(label: &LabelMatch) -> Option<(String, Vec<Value>)> {
    match label {
        LabelMatch::In(key, values) => {
            let places = vec!["?"; values.len()].join(", ");
            let words = std::iter::once(key).chain(values);
            let condition = if values.len() == 1 {
                "d.key = ? AND d.value = ?".to_owned()
            } else {
                format!("d.key = ? AND d.value IN ({places})")
            };
            Some((condition, words.map(Value::from).collect()))
        }
        LabelMatch::Exists(key) => Some(("d.key = ?".to_owned(), vec![key.into()])),
        LabelMatch::NotIn(..) | LabelMatch::Absent(_) => None,
    }
}

/// The conditions on entries of a label.
fn entries(
    statement: &mut Statement,
    kind: &str,
    filter: &Filter,
    condition: &str,
    values: Vec<Value>,
) {
    statement.and("d.kind = ?", [kind.into()]);
    if let Some(project) = &filter.project {
        statement.and("d.project = ?", [project.into()]);
    }
    statement.and(condition, values);
}

fn page(kind: &str, filter: &Filter, driver: Option<usize>, limit: u32) -> Statement {
    let columns = COLUMNS.replace(", ", ", o.");
    let label = driver.and_then(|at| present(&filter.labels[at]));
    // Whose order it is: an entry has its object's time and uid.
    let (mut statement, ordered) = match label {
        Some((condition, values)) => {
            let from = "object_labels d CROSS JOIN objects o";
            let mut statement = Statement::new(format!(
                "SELECT o.{columns} FROM {from} WHERE o.uid = d.uid AND o.is_current = 1"
            ));
            entries(&mut statement, kind, filter, &condition, values);
            (statement, "d")
        }
        None => {
            let mut statement = Statement::new(format!(
                "SELECT o.{columns} FROM objects o WHERE o.is_current = 1"
            ));
            statement.and("o.kind = ?", [kind.into()]);
            if let Some(project) = &filter.project {
                statement.and("o.project = ?", [project.into()]);
            }
            (statement, "o")
        }
    };
    if let Some(phase) = &filter.phase {
        statement.and("o.phase = ?", [phase.into()]);
    }
    for (at, label) in filter.labels.iter().enumerate() {
        if Some(at) != driver {
            condition(&mut statement, label);
        }
    }
    if let Some((created_at, uid)) = filter.after {
        let condition = format!("({ordered}.created_at, {ordered}.uid) < (?, ?)");
        statement.and(&condition, [created_at.into(), uid.into()]);
    }
    let _ = write!(
        statement.sql,
        " ORDER BY {ordered}.created_at DESC, {ordered}.uid DESC LIMIT {}",
        limit + 1
    );
    statement
}

/// A condition on an object `o` that is looked up for each.
fn condition(statement: &mut Statement, label: &LabelMatch) {
    let (exists, key, values) = match label {
        LabelMatch::In(key, values) => ("EXISTS", key, values.as_slice()),
        LabelMatch::NotIn(key, values) => ("NOT EXISTS", key, values.as_slice()),
        LabelMatch::Exists(key) => ("EXISTS", key, &[][..]),
        LabelMatch::Absent(key) => ("NOT EXISTS", key, &[][..]),
    };
    let of_values = if values.is_empty() {
        String::new()
    } else {
        format!(" AND l.value IN ({})", vec!["?"; values.len()].join(", "))
    };
    let condition = format!(
        "{exists} (SELECT 1 FROM object_labels l WHERE l.uid = o.uid AND l.key = ?{of_values})"
    );
    let words = std::iter::once(key).chain(values);
    statement.and(&condition, words.map(Value::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_from_the_labels_or_from_the_objects() {
        let label = |key: &str, value: &str| LabelMatch::In(key.to_owned(), vec![value.to_owned()]);
        let filter = Filter {
            project: Some("p".to_owned()),
            phase: Some("Failed".to_owned()),
            labels: vec![label("team", "a"), LabelMatch::Absent("old".to_owned())],
            after: Some((Time::from_ms(5), Uid(7))),
            limit: 10,
        };
        let tail = |driver| {
            let statement = page("Job", &filter, driver, 10);
            let (_, tail) = statement.sql.split_once(" FROM ").unwrap();
            (tail.to_owned(), statement.args.len())
        };
        let absent = "NOT EXISTS (SELECT 1 FROM object_labels l WHERE l.uid = o.uid AND l.key = ";
        assert_eq!(
            tail(Some(0)),
            (
                format!(
                    "object_labels d CROSS JOIN objects o WHERE o.uid = d.uid AND o.is_current = 1 AND d.kind = $1 AND \
                     d.project = $2 AND d.key = $3 AND d.value = $4 AND o.phase = $5 AND {absent}$6) AND \
                     (d.created_at, d.uid) < ($7, $8) ORDER BY d.created_at DESC, d.uid DESC LIMIT 11"
                ),
                8
            )
        );
        assert_eq!(
            tail(None),
            (
                format!(
                    "objects o WHERE o.is_current = 1 AND o.kind = $1 AND o.project = $2 AND o.phase = $3 AND EXISTS \
                     (SELECT 1 FROM object_labels l WHERE l.uid = o.uid AND l.key = $4 AND l.value IN ($5)) AND \
                     {absent}$6) AND (o.created_at, o.uid) < ($7, $8) ORDER BY o.created_at DESC, o.uid DESC LIMIT 11"
                ),
                8
            )
        );
    }
}
