//! A backup as text: every row of one moment, one JSON line each, the same from either database. So a backup of
//! SQLite can be restored into PostgreSQL and back, and a person can read it.
//!
//! ```text
//! {"moonshot":"backup","version":1,"schema":1,"at":…,"seq":…,"epoch":…,"key":"…"}
//! {"table":"audit","columns":["actor",…]}   tables without rows are not named
//! ["ada",…]                             a row; bytes are {"hex":"…"}
//! {"end":{"rows":…,"sha256":"…"}}       of all bytes before
//! ```
//!
//! Left out: the change feed's entries (clients list again), answered requests (an answer may hold a token's text),
//! and who leads. Secrets are in it as they are stored: sealed under a key that is not in it; `key` names that key.

use crate::conn::Conn;
use crate::{Config, DbError, Row, Value, schema};
use base::{Time, hex};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Write};

/// The format that is written. Older ones are read.
pub const VERSION: i64 = 1;
/// Rows read or inserted at once.
const ROWS: usize = 200;
/// The longest line that is read: a row holds an object, which is bounded by what a manifest may have.
const LINE_MAX: u64 = 64 << 20;
/// Tables that are not in a backup.
const LEFT_OUT: [&str; 5] = [
    "changes",
    "feed_head",
    "idempotency",
    "leases",
    "schema_version",
];

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// When it was made.
    pub at: Time,
    /// The schema that its rows are of.
    pub schema: i64,
    /// The change feed's position.
    pub seq: u64,
    /// Names the key under which its Secrets are sealed.
    pub key: String,
    /// Rows in all.
    pub rows: u64,
}

/// Why a backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The file could not be written.
    #[error("cannot write the backup")]
    Write(#[source] io::Error),
    /// The file could not be read.
    #[error("cannot read the backup")]
    Read(#[source] io::Error),
    /// The file is no whole backup.
    #[error("line {line} of the backup {what}")]
    Damaged {
        /// Where, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
    /// There is something in the database.
    #[error("the database is not empty: `{0}` has rows; restore into a new one")]
    NotEmpty(String),
}

/// Writes everything of one moment. `key` names the key under which Secrets are sealed.
pub async fn write(
    config: &Config,
    key: &str,
    out: &mut (impl Write + Send),
) -> Result<Summary, BackupError> {
    let mut conn = crate::open_reader(config).await?;
    let begin = if conn.is_postgres() {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    } else {
        "BEGIN"
    };
    // One snapshot for all tables, beside whatever servers write meanwhile.
    conn.script(begin).await?;
    let found = schema::must_be_known(&mut conn).await?;
    let sql = "SELECT (SELECT seq FROM feed_head), (SELECT COALESCE(MAX(epoch), 0) FROM leases WHERE name = 'leader')";
    let rows = conn.fetch(sql, &[]).await?;
    let (seq, epoch) = match rows.first() {
        Some(row) => (row.count(0)?, row.count(1)?),
        None => (0, 0),
    };
    let at = (config.clock)();
    let mut out = Digesting {
        out,
        hash: Sha256::new(),
    };
    out.line(&json!({
        "moonshot": "backup", "version": VERSION, "schema": found, "at": at.as_ms(), "seq": seq, "epoch": epoch, "key": key,
    }))?;
    let mut n_rows = 0;
    for table in schema::tables(&mut conn).await? {
        if LEFT_OUT.contains(&table.name.as_str()) {
            continue;
        }
        let mut after: Option<Vec<Value>> = None;
        loop {
            let rows = page(&mut conn, &table, after.as_deref()).await?;
            if after.is_none() && !rows.is_empty() {
                out.line(&json!({"table": table.name, "columns": table.columns}))?;
            }
            for row in &rows {
                out.line(&row_to_json(row))?;
            }
            n_rows += rows.len() as u64;
            match rows.last() {
                Some(last) if rows.len() == ROWS => after = Some(table.key_of(last)),
                Some(_) | None => break,
            }
        }
    }
    let digest = out.hex();
    out.line(&json!({"end": {"rows": n_rows, "sha256": digest}}))?;
    out.out.flush().map_err(BackupError::Write)?;
    conn.script("COMMIT").await?;
    conn.close().await;
    Ok(Summary {
        at,
        schema: found,
        seq,
        key: key.to_owned(),
        rows: n_rows,
    })
}

/// Fills an empty database: all of the backup or nothing. A schema that is older than this program's is brought
/// forward afterwards.
pub async fn restore(
    config: &Config,
    input: &mut (impl BufRead + Send),
) -> Result<Summary, BackupError> {
    let mut lines = Lines::new(input);
    let header = lines.json()?;
    let number = |name: &str| header[name].as_i64();
    if header["moonshot"] != "backup" {
        return Err(lines.damaged("is not that of a backup of Moonshot"));
    }
    let (Some(version), Some(found)) = (number("version"), number("schema")) else {
        return Err(lines.damaged("names no version"));
    };
    let known = schema::known();
    if version > VERSION || found > known {
        return Err(DbError::TooNew { found, known }.into());
    }
    let mut conn = crate::open_conn(config).await?;
    schema::migrate_to(&mut conn, found).await?;
    let has = schema::version(&mut conn).await?;
    if has != found {
        // An empty database of a newer schema: its columns are not those of the backup.
        return Err(BackupError::NotEmpty("schema_version".to_owned()));
    }
    let begin = if conn.is_postgres() {
        "BEGIN"
    } else {
        "BEGIN IMMEDIATE"
    };
    conn.script(begin).await?;
    let filled = fill(&mut conn, &header, &mut lines).await;
    let rows = match filled {
        Ok(rows) => rows,
        Err(error) => {
            conn.script("ROLLBACK").await?;
            return Err(error);
        }
    };
    conn.script("COMMIT").await?;
    schema::migrate_to(&mut conn, known).await?;
    conn.close().await;
    Ok(Summary {
        at: Time::from_ms(number("at").unwrap_or(0)),
        schema: found,
        seq: header["seq"].as_u64().unwrap_or(0),
        key: header["key"].as_str().unwrap_or_default().to_owned(),
        rows,
    })
}

async fn fill<R: BufRead>(
    conn: &mut Conn,
    header: &Json,
    lines: &mut Lines<'_, R>,
) -> Result<u64, BackupError> {
    let tables = schema::tables(conn).await?;
    for table in &tables {
        if table.name == "schema_version" || table.name == "feed_head" {
            continue;
        }
        let sql = format!("SELECT 1 FROM {} LIMIT 1", table.name);
        if !conn.fetch(&sql, &[]).await?.is_empty() {
            return Err(BackupError::NotEmpty(table.name.clone()));
        }
    }
    let seq = header["seq"].as_i64().unwrap_or(0);
    conn.execute("UPDATE feed_head SET seq = $1", &[seq.into()])
        .await?;
    // Terms go on counting: engines remember the highest.
    let epoch = header["epoch"].as_i64().unwrap_or(0);
    let sql = "INSERT INTO leases (name, holder, epoch, until) VALUES ('leader', '', $1, 0)";
    conn.execute(sql, &[epoch.into()]).await?;
    let (mut n_rows, mut inserting): (u64, Option<Inserting>) = (0, None);
    loop {
        match lines.json()? {
            Json::Array(row) => {
                let Some(inserting) = &mut inserting else {
                    return Err(lines.damaged("is a row of no table"));
                };
                if row.len() != inserting.columns.len() {
                    return Err(lines.damaged("has another number of columns than its table"));
                }
                for cell in row {
                    let value = value_of(cell).ok_or_else(|| lines.damaged("holds no cell"))?;
                    inserting.cells.push(value);
                }
                n_rows += 1;
                if inserting.cells.len() >= ROWS * inserting.columns.len() {
                    inserting.flush(conn).await?;
                }
            }
            line if line["end"].is_object() => {
                if let Some(inserting) = &mut inserting {
                    inserting.flush(conn).await?;
                }
                let end = &line["end"];
                if end["rows"] != n_rows || end["sha256"] != lines.hex_before() {
                    let what = "does not agree with the rows before: the file was changed";
                    return Err(lines.damaged(what));
                }
                return Ok(n_rows);
            }
            line => {
                if let Some(inserting) = &mut inserting {
                    inserting.flush(conn).await?;
                }
                let begun = Inserting::begin(&line, &tables);
                inserting = Some(begun.map_err(|what| lines.damaged(what))?);
            }
        }
    }
}

/// Rows of one table on their way in.
struct Inserting {
    table: String,
    columns: Vec<String>,
    cells: Vec<Value>,
}

impl Inserting {
    /// Names are taken from the schema, never from the file.
    fn begin(line: &Json, tables: &[schema::Table]) -> Result<Inserting, String> {
        let name = line["table"].as_str().ok_or("is of no known kind")?;
        let known = tables
            .iter()
            .find(|table| table.name == name && !LEFT_OUT.contains(&name))
            .ok_or_else(|| format!("names the table `{name}`, which does not exist"))?;
        let columns = line["columns"].as_array().ok_or("names no columns")?;
        let columns: Vec<String> = columns
            .iter()
            .filter_map(|column| column.as_str().map(str::to_owned))
            .collect();
        if columns != known.columns {
            return Err(format!("has other columns of `{name}` than the schema"));
        }
        Ok(Inserting {
            table: known.name.clone(),
            columns,
            cells: Vec::new(),
        })
    }

    async fn flush(&mut self, conn: &mut Conn) -> Result<(), DbError> {
        let width = self.columns.len();
        if self.cells.is_empty() || width == 0 {
            return Ok(());
        }
        let rows: Vec<String> = (0..self.cells.len() / width)
            .map(|row| {
                let places: Vec<String> = (1..=width)
                    .map(|n| format!("${}", row * width + n))
                    .collect();
                format!("({})", places.join(", "))
            })
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {}",
            self.table,
            self.columns.join(", "),
            rows.join(", ")
        );
        conn.execute(&sql, &self.cells).await?;
        self.cells.clear();
        Ok(())
    }
}

async fn page(
    conn: &mut Conn,
    table: &schema::Table,
    after: Option<&[Value]>,
) -> Result<Vec<Row>, DbError> {
    let (columns, key) = (table.columns.join(", "), table.key.join(", "));
    let places: Vec<String> = (1..=table.key.len()).map(|n| format!("${n}")).collect();
    let condition = match after {
        Some(_) => format!("WHERE ({key}) > ({})", places.join(", ")),
        None => String::new(),
    };
    let sql = format!(
        "SELECT {columns} FROM {} {condition} ORDER BY {key} LIMIT {ROWS}",
        table.name
    );
    conn.fetch(&sql, after.unwrap_or_default()).await
}

fn row_to_json(row: &Row) -> Json {
    let cell = |value: &Value| match value {
        Value::Null => Json::Null,
        Value::Int(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!({"hex": hex(bytes)}),
    };
    Json::Array(row.0.iter().map(cell).collect())
}

fn value_of(cell: Json) -> Option<Value> {
    match cell {
        Json::Null => Some(Value::Null),
        Json::Number(number) => number.as_i64().map(Value::Int),
        Json::String(text) => Some(Value::Text(text)),
        Json::Object(object) => unhex(object.get("hex")?.as_str()?).map(Value::Blob),
        Json::Bool(_) | Json::Array(_) => None,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// Lines out, with the digest of all of them.
struct Digesting<'o, W> {
    out: &'o mut W,
    hash: Sha256,
}

impl<W: Write> Digesting<'_, W> {
    fn line(&mut self, line: &Json) -> Result<(), BackupError> {
        let mut text = line.to_string();
        text.push('\n');
        self.hash.update(text.as_bytes());
        self.out
            .write_all(text.as_bytes())
            .map_err(BackupError::Write)
    }

    fn hex(&self) -> String {
        hex(self.hash.clone().finalize())
    }
}

/// Lines in, with the digest of all before the last.
struct Lines<'i, R> {
    input: &'i mut R,
    hash: Sha256,
    before: Sha256,
    n: u64,
}

impl<'i, R: BufRead> Lines<'i, R> {
    fn new(input: &'i mut R) -> Self {
        Lines {
            input,
            hash: Sha256::new(),
            before: Sha256::new(),
            n: 0,
        }
    }

    fn json(&mut self) -> Result<Json, BackupError> {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut *self.input, LINE_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(BackupError::Read)?;
        self.n += 1;
        if line.is_empty() {
            return Err(self.damaged("is missing: the file was cut"));
        }
        self.before = self.hash.clone();
        self.hash.update(&line);
        serde_json::from_slice(&line).map_err(|_| self.damaged("is not JSON"))
    }

    fn hex_before(&self) -> String {
        hex(self.before.clone().finalize())
    }

    fn damaged(&self, what: impl Into<String>) -> BackupError {
        BackupError::Damaged {
            line: self.n,
            what: what.into(),
        }
    }
}
