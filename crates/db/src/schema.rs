//! Migrations: forward only, one file a version, kept as text that both databases read.

use crate::conn::Conn;
use crate::{DbError, Row, Value};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// All versions, oldest first.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../migrations/0001.sql"))];

/// The version that this program makes.
pub(crate) fn known() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, _)| *version)
}

/// The version that the database has; 0 where it is new.
pub(crate) async fn version(conn: &mut Conn) -> Result<i64, DbError> {
    let tables = tables(conn).await?;
    if tables.iter().all(|table| table.name != "schema_version") {
        return Ok(0);
    }
    let sql = "SELECT COALESCE(MAX(version), 0) FROM schema_version";
    let rows = conn.fetch(sql, &[]).await?;
    rows.first().map_or(Ok(0), |row| row.int(0))
}

/// The version, where it is this program's: reading does not bring a schema forward.
pub(crate) async fn must_be_known(conn: &mut Conn) -> Result<i64, DbError> {
    let (found, known) = (version(conn).await?, known());
    match found.cmp(&known) {
        Ordering::Equal => Ok(found),
        Ordering::Greater => Err(DbError::TooNew { found, known }),
        Ordering::Less => Err(DbError::TooOld { found, known }),
    }
}

/// Brings the schema to the newest version.
pub(crate) async fn migrate(conn: &mut Conn) -> Result<(), DbError> {
    migrate_to(conn, known()).await
}

/// Brings the schema to this version, or leaves it at a later one that is known. Each step is one transaction.
pub(crate) async fn migrate_to(conn: &mut Conn, wanted: i64) -> Result<(), DbError> {
    let (found, known) = (version(conn).await?, known());
    if found > known {
        return Err(DbError::TooNew { found, known });
    }
    let open = |(version, _): &&(i64, &str)| (found + 1..=wanted).contains(version);
    for (version, text) in MIGRATIONS.iter().filter(open) {
        let failed = |source| DbError::Migrate {
            version: *version,
            source: Box::new(source),
        };
        step(conn, *version, text).await.map_err(failed)?;
    }
    Ok(())
}

/// What servers that start together wait for on PostgreSQL, where even `CREATE TABLE IF NOT EXISTS` fails in all but
/// one of them. Any number that nothing else locks; this one spells "moonshot".
const TURN: i64 = i64::from_be_bytes(*b"moonshot");

async fn step(conn: &mut Conn, version: i64, text: &str) -> Result<(), DbError> {
    let begin = if conn.is_postgres() {
        // Each statement sees what was committed before it, so also what was done while this one waited.
        format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({TURN})")
    } else {
        "BEGIN IMMEDIATE".to_owned()
    };
    conn.script(&begin).await?;
    conn.script("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)")
        .await?;
    // Another server may have been faster.
    let sql = "SELECT COALESCE(MAX(version), 0) FROM schema_version";
    let rows = conn.fetch(sql, &[]).await?;
    if rows.first().map_or(Ok(0), |row| row.int(0))? < version {
        conn.script(&dialect(text, conn.is_postgres())).await?;
        let sql = "INSERT INTO schema_version (version) VALUES ($1)";
        conn.execute(sql, &[version.into()]).await?;
    }
    conn.script("COMMIT").await
}

/// A table as the database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// By name.
    pub(crate) columns: Vec<String>,
    /// The primary key's columns in its order.
    pub(crate) key: Vec<String>,
}

impl Table {
    /// The key's values in a row of all columns.
    pub(crate) fn key_of(&self, row: &Row) -> Vec<Value> {
        let place = |column: &String| self.columns.iter().position(|name| name == column);
        self.key
            .iter()
            .filter_map(|column| row.0.get(place(column)?).cloned())
            .collect()
    }
}

/// All tables, by name.
pub(crate) async fn tables(conn: &mut Conn) -> Result<Vec<Table>, DbError> {
    // A row a column: table, column, and its place in the primary key (0 where it is not part of it).
    let sql = if conn.is_postgres() {
        "SELECT CAST(c.table_name AS TEXT), CAST(c.column_name AS TEXT), COALESCE((SELECT CAST(k.ordinal_position AS BIGINT) \
         FROM information_schema.table_constraints t JOIN information_schema.key_column_usage k \
         ON k.constraint_name = t.constraint_name AND k.table_schema = t.table_schema AND k.table_name = t.table_name \
         WHERE t.constraint_type = 'PRIMARY KEY' AND t.table_schema = c.table_schema AND t.table_name = c.table_name \
         AND k.column_name = c.column_name), 0) \
         FROM information_schema.columns c WHERE c.table_schema = current_schema()"
    } else {
        "SELECT t.name, c.name, c.pk FROM sqlite_master t JOIN pragma_table_info(t.name) c \
         WHERE t.type = 'table' AND substr(t.name, 1, 7) <> 'sqlite_'"
    };
    let mut columns: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    for row in conn.fetch(sql, &[]).await? {
        let column = (row.text(1)?, row.int(2)?);
        columns.entry(row.text(0)?).or_default().push(column);
    }
    let table = |(name, mut columns): (String, Vec<(String, i64)>)| {
        columns.sort();
        let mut key: Vec<(i64, String)> = columns
            .iter()
            .filter(|(_, place)| *place > 0)
            .map(|(column, place)| (*place, column.clone()))
            .collect();
        key.sort();
        Table {
            name,
            columns: columns.into_iter().map(|(column, _)| column).collect(),
            key: key.into_iter().map(|(_, column)| column).collect(),
        }
    };
    Ok(columns.into_iter().map(table).collect())
}

fn dialect(text: &str, postgres: bool) -> String {
    // Byte order on both, whatever the database's locale.
    let key = if postgres {
        "TEXT COLLATE \"C\""
    } else {
        "TEXT"
    };
    let blob = if postgres { "BYTEA" } else { "BLOB" };
    text.replace("TEXTKEY", key).replace("BLOBTYPE", blob)
}
