//! Immutable versions: Revisions of Apps, versions of Environments and Secrets.

use crate::{Db, DbError, Row, Tx, Value};
use base::{Digest, Time, Uid};
use serde_json::Value as Json;

/// A Revision of an App.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// The App.
    pub app: Uid,
    /// From 1.
    pub number: u32,
    /// The template as the user wrote it.
    pub template: Json,
    /// What its references meant.
    pub pinned: Json,
    /// `Target`, `Stable`, `Old` or `RolledBack`.
    pub state: String,
    /// Why it was rolled back.
    pub message: String,
    /// By whom.
    pub creator: String,
    /// When.
    pub created_at: Time,
}

/// A version of an Environment.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentVersion {
    /// The Environment.
    pub environment: Uid,
    /// From 1.
    pub version: u32,
    /// As the user wrote it.
    pub spec: Json,
    /// `Building`, `Ready` or `Failed`.
    pub phase: String,
    /// What it is built under.
    pub digest: Option<Digest>,
    /// As resolved.
    pub packages: Vec<String>,
    /// Why it failed.
    pub message: String,
    /// When.
    pub created_at: Time,
}

/// Inserts a Revision or replaces its state.
pub async fn put_revision(tx: &mut Tx<'_>, revision: &Revision) -> Result<(), DbError> {
    let sql = "INSERT INTO revisions (app, number, template, pinned, state, message, creator, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (app, number) \
         DO UPDATE SET state = excluded.state, message = excluded.message";
    let args: [Value; 8] = [
        revision.app.into(),
        revision.number.into(),
        (&revision.template).into(),
        (&revision.pinned).into(),
        revision.state.as_str().into(),
        revision.message.as_str().into(),
        revision.creator.as_str().into(),
        revision.created_at.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

const REVISION: &str = "app, number, template, pinned, state, message, creator, created_at";

/// All Revisions of an App, newest first.
pub async fn revisions(db: &Db, app: Uid) -> Result<Vec<Revision>, DbError> {
    let sql = format!("SELECT {REVISION} FROM revisions WHERE app = $1 ORDER BY number DESC");
    db.fetch(&sql, &[app.into()])
        .await?
        .iter()
        .map(revision)
        .collect()
}

/// [`revisions`] inside a write.
pub async fn get_revisions(tx: &mut Tx<'_>, app: Uid) -> Result<Vec<Revision>, DbError> {
    let sql = format!("SELECT {REVISION} FROM revisions WHERE app = $1 ORDER BY number DESC");
    tx.fetch(&sql, &[app.into()])
        .await?
        .iter()
        .map(revision)
        .collect()
}

/// Removes a Revision.
pub async fn remove_revision(tx: &mut Tx<'_>, app: Uid, number: u32) -> Result<(), DbError> {
    tx.execute(
        "DELETE FROM revisions WHERE app = $1 AND number = $2",
        &[app.into(), number.into()],
    )
    .await
    .map(|_| ())
}

/// Inserts a version of an Environment or replaces how it stands.
pub async fn put_environment(tx: &mut Tx<'_>, version: &EnvironmentVersion) -> Result<(), DbError> {
    let sql = "INSERT INTO environment_versions (environment, version, spec, phase, digest, packages, message, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (environment, version) DO UPDATE SET phase = excluded.phase, \
         digest = excluded.digest, packages = excluded.packages, message = excluded.message";
    let packages = serde_json::to_string(&version.packages).expect("strings are JSON");
    let args: [Value; 8] = [
        version.environment.into(),
        version.version.into(),
        (&version.spec).into(),
        version.phase.as_str().into(),
        version
            .digest
            .map(|digest| digest.to_string())
            .unwrap_or_default()
            .into(),
        packages.into(),
        version.message.as_str().into(),
        version.created_at.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

const ENVIRONMENT: &str =
    "environment, version, spec, phase, digest, packages, message, created_at";

/// One version of an Environment.
pub async fn environment(
    db: &Db,
    environment: Uid,
    version: u32,
) -> Result<Option<EnvironmentVersion>, DbError> {
    let sql = format!(
        "SELECT {ENVIRONMENT} FROM environment_versions WHERE environment = $1 AND version = $2"
    );
    let rows = db
        .fetch(&sql, &[environment.into(), version.into()])
        .await?;
    rows.first().map(environment_of).transpose()
}

/// Versions that shall be built.
pub async fn building(db: &Db) -> Result<Vec<EnvironmentVersion>, DbError> {
    let sql = format!(
        "SELECT {ENVIRONMENT} FROM environment_versions WHERE phase = 'Building' ORDER BY created_at"
    );
    db.fetch(&sql, &[])
        .await?
        .iter()
        .map(environment_of)
        .collect()
}

/// Versions of Environments that were deleted.
pub async fn orphans(db: &Db) -> Result<Vec<(Uid, u32)>, DbError> {
    let sql = "SELECT v.environment, v.version FROM environment_versions v WHERE NOT EXISTS (\
         SELECT 1 FROM objects o WHERE o.uid = v.environment) ORDER BY v.environment, v.version";
    let rows = db.fetch(sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.uid(0)?, row.small(1)?)))
        .collect()
}

/// Forgets a version of a deleted Environment.
pub async fn remove_environment(
    tx: &mut Tx<'_>,
    environment: Uid,
    version: u32,
) -> Result<(), DbError> {
    let sql = "DELETE FROM environment_versions WHERE environment = $1 AND version = $2";
    tx.execute(sql, &[environment.into(), version.into()])
        .await
        .map(|_| ())
}

/// Digests of everything that was built for any version.
pub async fn bundles(db: &Db) -> Result<Vec<Digest>, DbError> {
    let sql = "SELECT DISTINCT digest FROM environment_versions WHERE digest <> ''";
    let rows = db.fetch(sql, &[]).await?;
    rows.iter()
        .map(|row| Ok(row.text(0)?.parse().ok()))
        .filter_map(Result::transpose)
        .collect()
}

/// Inserts a version of a Secret.
pub async fn insert_secret(
    tx: &mut Tx<'_>,
    secret: Uid,
    version: u32,
    sealed: &[u8],
    keys: &[String],
) -> Result<(), DbError> {
    let now = tx.now();
    let keys = serde_json::to_string(keys).expect("strings are JSON");
    let sql = "INSERT INTO secret_versions (secret, version, sealed, keys, created_at) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(
        sql,
        &[
            secret.into(),
            version.into(),
            sealed.to_vec().into(),
            keys.into(),
            now.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// A version's sealed entries.
pub async fn secret(db: &Db, secret: Uid, version: u32) -> Result<Option<Vec<u8>>, DbError> {
    let sql = "SELECT sealed FROM secret_versions WHERE secret = $1 AND version = $2";
    let rows = db.fetch(sql, &[secret.into(), version.into()]).await?;
    rows.first().map(|row| row.blob(0)).transpose()
}

/// Every version of every Secret.
pub async fn secrets(db: &Db) -> Result<Vec<(Uid, u32)>, DbError> {
    let sql = "SELECT secret, version FROM secret_versions ORDER BY secret, version";
    db.fetch(sql, &[])
        .await?
        .iter()
        .map(|row| Ok((row.uid(0)?, row.small(1)?)))
        .collect()
}

fn revision(row: &Row) -> Result<Revision, DbError> {
    Ok(Revision {
        app: row.uid(0)?,
        number: row.small(1)?,
        template: row.json(2)?,
        pinned: row.json(3)?,
        state: row.text(4)?,
        message: row.text(5)?,
        creator: row.text(6)?,
        created_at: row.time(7)?,
    })
}

fn environment_of(row: &Row) -> Result<EnvironmentVersion, DbError> {
    Ok(EnvironmentVersion {
        environment: row.uid(0)?,
        version: row.small(1)?,
        spec: row.json(2)?,
        phase: row.text(3)?,
        digest: row.text(4)?.parse().ok(),
        packages: serde_json::from_value(row.json(5)?).unwrap_or_default(),
        message: row.text(6)?,
        created_at: row.time(7)?,
    })
}

/// [`environment`] inside a write.
pub async fn get_environment(
    tx: &mut Tx<'_>,
    environment: Uid,
    version: u32,
) -> Result<Option<EnvironmentVersion>, DbError> {
    let sql = format!(
        "SELECT {ENVIRONMENT} FROM environment_versions WHERE environment = $1 AND version = $2"
    );
    let row = tx
        .fetch_one(&sql, &[environment.into(), version.into()])
        .await?;
    row.as_ref().map(environment_of).transpose()
}
