//! One connection to either database, and statements that are the same text for both: `$1` placeholders,
//! `ON CONFLICT`, `RETURNING`.

use crate::{DbError, Row, Value};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Postgres, Row as _, Sqlite, TypeInfo, ValueRef};

/// A connection.
pub(crate) enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Conn {
    /// Runs a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, DbError> {
        let sql = AssertSqlSafe(sql);
        match self {
            Conn::Sqlite(conn) => {
                let query = bind_sqlite(sqlx::query(sql), args);
                Ok(query
                    .execute(conn)
                    .await
                    .map_err(DbError::Query)?
                    .rows_affected())
            }
            Conn::Postgres(conn) => {
                let query = bind_postgres(sqlx::query(sql), args);
                Ok(query
                    .execute(conn)
                    .await
                    .map_err(DbError::Query)?
                    .rows_affected())
            }
        }
    }

    /// Runs a statement and reads all its rows.
    pub(crate) async fn fetch(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        let sql = AssertSqlSafe(sql);
        match self {
            Conn::Sqlite(conn) => {
                let rows = bind_sqlite(sqlx::query(sql), args)
                    .fetch_all(conn)
                    .await
                    .map_err(DbError::Query)?;
                rows.iter().map(sqlite_row).collect()
            }
            Conn::Postgres(conn) => {
                let rows = bind_postgres(sqlx::query(sql), args)
                    .fetch_all(conn)
                    .await
                    .map_err(DbError::Query)?;
                rows.iter().map(postgres_row).collect()
            }
        }
    }

    /// Runs several statements without arguments.
    pub(crate) async fn script(&mut self, sql: &str) -> Result<(), DbError> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Conn::Sqlite(conn) => script
                .execute(conn)
                .await
                .map(|_| ())
                .map_err(DbError::Query),
            Conn::Postgres(conn) => script
                .execute(conn)
                .await
                .map(|_| ())
                .map_err(DbError::Query),
        }
    }

    /// Ends the connection in good order.
    pub(crate) async fn close(self) {
        let closed = match self {
            Conn::Sqlite(conn) => conn.close().await,
            Conn::Postgres(conn) => conn.close().await,
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a database connection did not close cleanly");
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Conn::Postgres(_))
    }
}

fn bind_sqlite<'q>(
    mut query: Query<'q, Sqlite, SqliteArguments>,
    args: &[Value],
) -> Query<'q, Sqlite, SqliteArguments> {
    for arg in args {
        query = match arg {
            Value::Null => query.bind(None::<String>),
            Value::Int(value) => query.bind(*value),
            Value::Text(value) => query.bind(value.clone()),
            Value::Blob(value) => query.bind(value.clone()),
        };
    }
    query
}

fn bind_postgres<'q>(
    mut query: Query<'q, Postgres, PgArguments>,
    args: &[Value],
) -> Query<'q, Postgres, PgArguments> {
    for arg in args {
        query = match arg {
            Value::Null => query.bind(None::<i64>),
            Value::Int(value) => query.bind(*value),
            Value::Text(value) => query.bind(value.clone()),
            Value::Blob(value) => query.bind(value.clone()),
        };
    }
    query
}

fn sqlite_row(row: &SqliteRow) -> Result<Row, DbError> {
    let mut values = Vec::with_capacity(row.len());
    for at in 0..row.len() {
        let raw = row.try_get_raw(at).map_err(DbError::Query)?;
        let kind = if raw.is_null() {
            "NULL".to_owned()
        } else {
            raw.type_info().name().to_owned()
        };
        values.push(match kind.as_str() {
            "NULL" => Value::Null,
            "INTEGER" | "BOOLEAN" => Value::Int(row.try_get(at).map_err(DbError::Query)?),
            "BLOB" => Value::Blob(row.try_get(at).map_err(DbError::Query)?),
            _ => Value::Text(row.try_get(at).map_err(DbError::Query)?),
        });
    }
    Ok(Row(values))
}

fn postgres_row(row: &PgRow) -> Result<Row, DbError> {
    let mut values = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        let is_null = row.try_get_raw(at).map_err(DbError::Query)?.is_null();
        values.push(match column.type_info().name() {
            _ if is_null => Value::Null,
            "INT8" => Value::Int(row.try_get(at).map_err(DbError::Query)?),
            "INT4" => Value::Int(i64::from(
                row.try_get::<i32, _>(at).map_err(DbError::Query)?,
            )),
            "BYTEA" => Value::Blob(row.try_get(at).map_err(DbError::Query)?),
            _ => Value::Text(row.try_get(at).map_err(DbError::Query)?),
        });
    }
    Ok(Row(values))
}
