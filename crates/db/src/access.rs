//! Principals, tokens and answered requests.

use crate::{Db, DbError, Row, Tx, Value};
use base::{Span, Time, Uid};
use serde_json::Value as Json;

/// Answers of requests with an `Idempotency-Key` are kept this long.
pub const IDEMPOTENCY_KEPT: Span = Span::from_secs(24 * 3_600);

/// A token as stored: its hash, never itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its identity.
    pub id: Uid,
    /// The principal's name.
    pub principal: String,
    /// What it is for.
    pub name: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub hash: String,
    /// What it may do.
    pub scope: Json,
    /// When it was made.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
}

/// Makes sure that a principal is known; its id.
pub async fn principal(
    tx: &mut Tx<'_>,
    issuer: &str,
    subject: &str,
    kind: &str,
    fresh: Uid,
) -> Result<Uid, DbError> {
    let sql = "SELECT id FROM principals WHERE issuer = $1 AND subject = $2";
    if let Some(row) = tx.fetch_one(sql, &[issuer.into(), subject.into()]).await? {
        return row.uid(0);
    }
    let now = tx.now();
    let sql = "INSERT INTO principals (id, issuer, subject, kind, name, created_at) VALUES ($1, $2, $3, $4, $3, $5)";
    tx.execute(
        sql,
        &[
            fresh.into(),
            issuer.into(),
            subject.into(),
            kind.into(),
            now.into(),
        ],
    )
    .await?;
    Ok(fresh)
}

/// Inserts a token; one with the same hash is left as it is.
pub async fn insert_token(tx: &mut Tx<'_>, token: &Token) -> Result<(), DbError> {
    let sql = "INSERT INTO tokens (id, principal, name, hash, scope, created_at, expires_at, last_used_at, revoked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hash) DO NOTHING";
    let args: [Value; 9] = [
        token.id.into(),
        token.principal.as_str().into(),
        token.name.as_str().into(),
        token.hash.as_str().into(),
        (&token.scope).into(),
        token.created_at.into(),
        token.expires_at.into(),
        token.last_used_at.into(),
        token.revoked_at.into(),
    ];
    tx.execute(sql, &args).await.map(|_| ())
}

const TOKEN: &str =
    "id, principal, name, hash, scope, created_at, expires_at, last_used_at, revoked_at";

/// The token with this hash.
pub async fn token(db: &Db, hash: &str) -> Result<Option<Token>, DbError> {
    let rows = db
        .fetch(
            &format!("SELECT {TOKEN} FROM tokens WHERE hash = $1"),
            &[hash.into()],
        )
        .await?;
    rows.first().map(token_of).transpose()
}

/// The token of this id that is not revoked.
pub async fn token_by_id(tx: &mut Tx<'_>, id: Uid) -> Result<Option<Token>, DbError> {
    let sql = format!("SELECT {TOKEN} FROM tokens WHERE id = $1 AND revoked_at IS NULL");
    let row = tx.fetch_one(&sql, &[id.into()]).await?;
    row.as_ref().map(token_of).transpose()
}

/// All tokens that are not revoked.
pub async fn tokens(db: &Db) -> Result<Vec<Token>, DbError> {
    let sql =
        format!("SELECT {TOKEN} FROM tokens WHERE revoked_at IS NULL ORDER BY created_at, id");
    db.fetch(&sql, &[]).await?.iter().map(token_of).collect()
}

/// Revokes a token; whether there was one.
pub async fn revoke(tx: &mut Tx<'_>, id: Uid) -> Result<bool, DbError> {
    let now = tx.now();
    let sql = "UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    Ok(tx.execute(sql, &[id.into(), now.into()]).await? == 1)
}

/// Notes when tokens were last used.
pub async fn used(tx: &mut Tx<'_>, ids: &[(Uid, Time)]) -> Result<(), DbError> {
    for (id, at) in ids {
        tx.execute(
            "UPDATE tokens SET last_used_at = $2 WHERE id = $1",
            &[(*id).into(), (*at).into()],
        )
        .await?;
    }
    Ok(())
}

/// What is known of a request under a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// Nothing: it is begun now.
    Fresh,
    /// It is being done.
    Pending,
    /// The key was used for another request.
    Other,
    /// It was done; the answer.
    Answered(Json),
}

/// Begins a request under a key. One that was begun and not answered for `abandoned` is begun again.
pub async fn begin(
    tx: &mut Tx<'_>,
    principal: &str,
    key: &str,
    request: &str,
    abandoned: Span,
) -> Result<Begun, DbError> {
    let now = tx.now();
    let sql =
        "SELECT request, response, created_at FROM idempotency WHERE principal = $1 AND key = $2";
    if let Some(row) = tx.fetch_one(sql, &[principal.into(), key.into()]).await? {
        let (response, since) = (row.text(1)?, row.time(2)?);
        let is_pending = response.is_empty();
        let kept = if is_pending {
            abandoned
        } else {
            IDEMPOTENCY_KEPT
        };
        if since > now - kept {
            return Ok(match (row.text(0)? == request, is_pending) {
                (false, _) => Begun::Other,
                (true, true) => Begun::Pending,
                (true, false) => Begun::Answered(row.json(1)?),
            });
        }
    }
    let sql = "INSERT INTO idempotency (principal, key, request, response, created_at) VALUES ($1, $2, $3, '', $4) \
         ON CONFLICT (principal, key) DO UPDATE SET request = excluded.request, response = excluded.response, \
         created_at = excluded.created_at";
    let args: [Value; 4] = [principal.into(), key.into(), request.into(), now.into()];
    tx.execute(sql, &args).await?;
    Ok(Begun::Fresh)
}

/// Keeps the answer of a request that was begun; without one it may be begun again.
pub async fn finish(
    tx: &mut Tx<'_>,
    principal: &str,
    key: &str,
    answer: Option<&Json>,
) -> Result<(), DbError> {
    let done = match answer {
        Some(answer) => {
            let sql = "UPDATE idempotency SET response = $3 WHERE principal = $1 AND key = $2";
            tx.execute(sql, &[principal.into(), key.into(), answer.into()])
                .await
        }
        None => {
            let sql = "DELETE FROM idempotency WHERE principal = $1 AND key = $2";
            tx.execute(sql, &[principal.into(), key.into()]).await
        }
    };
    done.map(|_| ())
}

/// Forgets old answers, at most `limit`; how many.
pub async fn forget(tx: &mut Tx<'_>, limit: u32) -> Result<u64, DbError> {
    let too_old = tx.now() - IDEMPOTENCY_KEPT;
    let sql = "DELETE FROM idempotency WHERE (principal, key) IN (SELECT principal, key FROM idempotency WHERE created_at < $1 LIMIT $2)";
    tx.execute(sql, &[too_old.into(), limit.into()]).await
}

/// A setting.
pub async fn setting(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>, DbError> {
    let row = tx
        .fetch_one("SELECT value FROM settings WHERE name = $1", &[name.into()])
        .await?;
    row.map(|row| row.text(0)).transpose()
}

/// Writes a setting.
pub async fn set(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<(), DbError> {
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    tx.execute(sql, &[name.into(), value.into()])
        .await
        .map(|_| ())
}

fn token_of(row: &Row) -> Result<Token, DbError> {
    Ok(Token {
        id: row.uid(0)?,
        principal: row.text(1)?,
        name: row.text(2)?,
        hash: row.text(3)?,
        scope: row.json(4)?,
        created_at: row.time(5)?,
        expires_at: row.time_or_null(6)?,
        last_used_at: row.time_or_null(7)?,
        revoked_at: row.time_or_null(8)?,
    })
}
