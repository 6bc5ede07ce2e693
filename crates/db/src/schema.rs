//! Migrations: forward only, one file a version, kept as text that both databases read.

use crate::DbError;
use crate::conn::Conn;

/// All versions, oldest first.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../migrations/0001.sql"))];

/// Brings the schema to the newest version. Each step is one transaction.
pub(crate) async fn migrate(conn: &mut Conn) -> Result<(), DbError> {
    conn.script("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .await?;
    let rows = conn
        .fetch("SELECT COALESCE(MAX(version), 0) FROM schema_version", &[])
        .await?;
    let found = rows.first().map_or(Ok(0), |row| row.int(0))?;
    let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    if found > known {
        return Err(DbError::TooNew { found, known });
    }
    for (version, text) in MIGRATIONS.iter().filter(|(version, _)| *version > found) {
        let failed = |source| DbError::Migrate {
            version: *version,
            source: Box::new(source),
        };
        let begin = if conn.is_postgres() {
            "BEGIN; LOCK TABLE schema_version IN EXCLUSIVE MODE"
        } else {
            "BEGIN IMMEDIATE"
        };
        conn.script(begin).await.map_err(failed)?;
        // Another server may have been faster.
        let rows = conn
            .fetch("SELECT COALESCE(MAX(version), 0) FROM schema_version", &[])
            .await
            .map_err(failed)?;
        if rows.first().map_or(Ok(0), |row| row.int(0))? < *version {
            conn.script(&dialect(text, conn.is_postgres()))
                .await
                .map_err(failed)?;
            conn.execute(
                "INSERT INTO schema_version (version) VALUES ($1)",
                &[(*version).into()],
            )
            .await
            .map_err(failed)?;
        }
        conn.script("COMMIT").await.map_err(failed)?;
    }
    Ok(())
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
