//! Keeping content: bytes go to the store, and the database says who keeps how much of them. A project that would
//! keep more than its `spec.storage` is refused with both numbers, before the bytes come where their number is
//! known, and at the latest when they are written down.

use crate::error::UseError;
use api::platform::STORAGE_DEFAULT;
use base::{Bytes, Code, Digest};
use db::blobs::{self, Blob, State};
use db::{Db, Tx, objects};
use std::path::Path;
use store::{Kept, Store, StoreError, TenantPath};
use tokio::io::AsyncRead;

/// The largest upload.
pub const UPLOAD_MAX: u64 = 8 << 30;
/// The most bytes of one output's files.
pub const OUTPUT_MAX: u64 = 64 << 30;

/// How much a project may still keep.
#[derive(Clone, Copy, Debug)]
struct Room {
    limit: u64,
    used: u64,
}

impl Room {
    fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    fn refusal(self, project: &str, more: Option<u64>) -> UseError {
        let more = more.map_or_else(
            || "more does not fit".to_owned(),
            |more| format!("{} more do not fit", Bytes(more)),
        );
        let detail = format!(
            "project `{project}` keeps {} of the {} that `spec.storage` allows; {more}: delete Jobs or ModelVersions whose content is not needed, or ask for more",
            Bytes(self.used),
            Bytes(self.limit)
        );
        UseError::new(Code::Exhausted, detail)
    }
}

async fn room(tx: &mut Tx<'_>, project: &str) -> Result<Room, UseError> {
    let object = objects::get(tx, "Project", "", project).await?;
    let object = object.ok_or_else(|| UseError::not_found("Project", "", project))?;
    let limit: Option<Bytes> = serde_json::from_value(object.spec["storage"].clone()).ok();
    Ok(Room {
        limit: limit.unwrap_or(STORAGE_DEFAULT).0,
        used: blobs::total(tx, project).await?,
    })
}

/// Keeps what a reader gives. `size` is what the sender announces, `wanted` the digest that it must have.
pub async fn put(
    db: &Db,
    store: &Store,
    project: &str,
    reader: impl AsyncRead + Unpin,
    size: Option<u64>,
    wanted: Option<Digest>,
) -> Result<Kept, UseError> {
    let tenant = TenantPath::new(project).map_err(from_store)?;
    let room = before(db, project, size, wanted).await?;
    let limit = UPLOAD_MAX.min(room.left());
    let kept = store.put(&tenant, reader, limit, wanted).await;
    let kept = kept.map_err(|error| match error {
        StoreError::TooLarge { limit } if limit < UPLOAD_MAX => room.refusal(project, size),
        error => from_store(error),
    })?;
    written(db, project, kept).await?;
    Ok(kept)
}

/// Packs a file or directory of this machine, of at most `limit` bytes, and keeps it; what is kept, and the bytes of
/// its files.
pub async fn put_files(
    db: &Db,
    store: &Store,
    project: &str,
    path: &Path,
    limit: u64,
) -> Result<(Kept, u64), UseError> {
    let tenant = TenantPath::new(project).map_err(from_store)?;
    let room = before(db, project, None, None).await?;
    let kept = store.keep(&tenant, path, limit, room.left()).await;
    let (kept, of_files) = kept.map_err(|error| match error {
        StoreError::TooLarge { .. } => room.refusal(project, None),
        error => from_store(error),
    })?;
    written(db, project, kept).await?;
    Ok((kept, of_files))
}

/// Whether content can be had; it stays for a while from now on, so that somebody can begin to need it.
pub async fn touch(db: &Db, project: &str, digest: Digest) -> Result<bool, UseError> {
    let project = project.to_owned();
    db.write(None, move |tx| {
        let project = project.clone();
        Box::pin(async move { Ok(blobs::touch(tx, &project, digest).await?) })
    })
    .await
}

/// The room that there is, unless it is known already that the content does not fit.
async fn before(
    db: &Db,
    project: &str,
    size: Option<u64>,
    wanted: Option<Digest>,
) -> Result<Room, UseError> {
    let project = project.to_owned();
    db.write(None, move |tx| {
        let project = project.clone();
        Box::pin(async move {
            let mut room = room(tx, &project).await?;
            if let Some(wanted) = wanted
                && blobs::touch(tx, &project, wanted).await?
            {
                // It is there: it takes no more room.
                room.used = room
                    .used
                    .min(room.limit.saturating_sub(size.unwrap_or(UPLOAD_MAX)));
                return Ok(room);
            }
            if room.left() < size.unwrap_or(1) {
                return Err(room.refusal(&project, size));
            }
            Ok(room)
        })
    })
    .await
}

/// Writes down what is kept. Bytes that are refused here are nobody's: they are collected.
async fn written(db: &Db, project: &str, kept: Kept) -> Result<(), UseError> {
    let blob = Blob {
        project: project.to_owned(),
        digest: kept.digest,
        size: kept.size,
    };
    db.write(None, move |tx| {
        let blob = blob.clone();
        Box::pin(async move {
            match blobs::state(tx, &blob.project, blob.digest).await? {
                State::Kept => {}
                State::Absent => {
                    let room = room(tx, &blob.project).await?;
                    if room.left() < blob.size {
                        return Err(room.refusal(&blob.project, Some(blob.size)));
                    }
                }
                State::Doomed => {
                    let detail = format!(
                        "content {} was not needed by anybody and is just being removed; send it again",
                        blob.digest
                    );
                    return Err(UseError::new(Code::Unavailable, detail));
                }
            }
            Ok(blobs::put(tx, &blob).await?)
        })
    })
    .await
}

/// A failure of the store, for clients.
pub fn from_store(error: StoreError) -> UseError {
    match error.code() {
        Code::Unavailable | Code::Internal => UseError::internal("the store failed", error),
        code => UseError::new(code, error.to_string()),
    }
}
