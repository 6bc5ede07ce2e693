//! Garbage: content that nobody needs, bytes that nobody wrote down, checkpoints of what is gone, Environments that
//! were built and are deleted. Also says how much each project keeps.
//!
//! Content stays while a row says that somebody needs it (a Job its code, inputs and outputs; a Revision; a
//! ModelVersion) and for a grace after its last use. [`db::blobs`] tells in which steps it goes, and why a crash
//! between them does no harm.

use super::leader::LEASE;
use super::{Control, ControlError};
use crate::pinned::Pinned;
use api::platform::ProjectStatus;
use base::{Bytes, Digest, Span, Uid};
use db::blobs::{self, Blob};
use db::{DbError, objects, versions};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use store::{StoreError, TenantPath};
use tokio_util::sync::CancellationToken;

/// The longest between two rounds; shorter where the grace is.
const PERIOD_MAX: Duration = Duration::from_secs(600);
const PERIOD_MIN: Duration = Duration::from_secs(1);
/// Steps of [`blobs::STEP`] that one round takes.
const STEPS_MAX: u32 = 20;
/// Parts of each project that one round looks through for bytes without a row: all of them in 32 rounds.
const SHARDS_A_ROUND: u8 = 8;
/// Removing goes on for this long after it was made sure that this term leads: a process that was stopped for longer
/// than its lease must not remove what others keep by now.
const SURE: Duration = Duration::from_secs(2);
const _: () = assert!(SURE.as_millis() * 2 < LEASE.as_ms() as u128);

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Contents removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes without a row that were found.
    pub unknown: u64,
    /// Owners whose checkpoints were removed.
    pub checkpoints: u64,
    /// Built Environments removed.
    pub environments: u64,
}

/// The loop. The first round comes after a period: what ended while nobody led is written down by then.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let period = control.content_grace.as_std() / 2;
    let period = period.clamp(PERIOD_MIN, PERIOD_MAX);
    let mut shard = 0_u8;
    loop {
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = stop.cancelled() => break,
        }
        let shards = (0..SHARDS_A_ROUND)
            .map(|step| shard.wrapping_add(step))
            .collect::<Vec<_>>();
        shard = shard.wrapping_add(SHARDS_A_ROUND);
        match round(&control, control.content_grace, &shards).await {
            Ok(done) if done != Round::default() => tracing::info!(
                removed = done.removed,
                bytes = done.bytes,
                unknown = done.unknown,
                checkpoints = done.checkpoints,
                environments = done.environments,
                "removed what nobody needs"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot remove what nobody needs now"
            ),
        }
    }
}

/// One round; bytes without a row are looked for in these parts of every project.
pub async fn round(control: &Control, grace: Span, shards: &[u8]) -> Result<Round, ControlError> {
    let mut done = Round::default();
    let before = control.now() - grace;
    for _ in 0..STEPS_MAX {
        let doomed: Result<u64, DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                Box::pin(async move { blobs::doom(tx, before).await })
            })
            .await;
        if doomed? < u64::from(blobs::STEP) {
            break;
        }
    }
    let oldest = SystemTime::now() - grace.as_std();
    for project in control.store.projects().await? {
        for shard in shards {
            done.unknown += unknown(control, &project, *shard, oldest).await?;
        }
    }
    for _ in 0..STEPS_MAX {
        let (n, bytes) = remove(control).await?;
        done.removed += n;
        done.bytes += bytes;
        if n == 0 {
            break;
        }
    }
    done.checkpoints = checkpoints(control).await?;
    done.environments = environments(control, oldest).await?;
    tell(control).await?;
    Ok(done)
}

/// Dooms bytes that no row tells of.
async fn unknown(
    control: &Control,
    project: &TenantPath,
    shard: u8,
    oldest: SystemTime,
) -> Result<u64, ControlError> {
    let mut found = control.store.list(project, shard).await?;
    found.retain(|entry| entry.kept_at < oldest);
    if found.is_empty() {
        return Ok(0);
    }
    let known: HashSet<Digest> = blobs::known(&control.db, project.project(), shard)
        .await?
        .into_iter()
        .collect();
    let fresh: Vec<Blob> = found
        .into_iter()
        .filter(|entry| !known.contains(&entry.digest))
        .map(|entry| Blob {
            project: project.project().to_owned(),
            digest: entry.digest,
            size: entry.size,
        })
        .collect();
    let mut n = 0;
    for some in fresh.chunks(blobs::STEP as usize) {
        let some = some.to_vec();
        let doomed: Result<u64, DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                let some = some.clone();
                Box::pin(async move {
                    let mut n = 0;
                    for blob in &some {
                        n += u64::from(blobs::doom_unknown(tx, blob).await?);
                    }
                    Ok(n)
                })
            })
            .await;
        n += doomed?;
    }
    Ok(n)
}

/// Removes one step of what is doomed; how many contents, and their bytes.
async fn remove(control: &Control) -> Result<(u64, u64), ControlError> {
    // In a write, so that a term that is over does not come past it.
    let doomed: Result<Vec<Blob>, DbError> = control
        .db
        .write(Some(control.epoch), |tx| {
            Box::pin(async move { blobs::doomed(tx).await })
        })
        .await;
    let doomed = doomed?;
    let sure = tokio::time::Instant::now();
    let mut gone = Vec::new();
    for blob in doomed {
        if sure.elapsed() > SURE {
            break;
        }
        let project = TenantPath::new(&blob.project)?;
        control.store.remove(&project, &blob.digest).await?;
        gone.push(blob);
    }
    let n = gone.len() as u64;
    let bytes = gone.iter().map(|blob| blob.size).sum();
    let forgotten: Result<(), DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let gone = gone.clone();
            Box::pin(async move {
                for blob in &gone {
                    blobs::forget(tx, &blob.project, blob.digest).await?;
                }
                Ok(())
            })
        })
        .await;
    forgotten?;
    Ok((n, bytes))
}

/// Removes checkpoints of owners that are no more.
async fn checkpoints(control: &Control) -> Result<u64, ControlError> {
    let mut n = 0;
    for owner in control.engine.checkpoints().await? {
        if objects::read_by_uid(&control.db, owner).await?.is_none() {
            control
                .engine
                .drop_checkpoints(control.epoch, owner)
                .await?;
            n += 1;
        }
    }
    Ok(n)
}

/// Removes versions of deleted Environments that nobody has pinned, and then what was built for no version any more.
async fn environments(control: &Control, oldest: SystemTime) -> Result<u64, ControlError> {
    let orphans = versions::orphans(&control.db).await?;
    if !orphans.is_empty() {
        let pinned = pinned(control).await?;
        let free: Vec<(Uid, u32)> = orphans
            .into_iter()
            .filter(|version| !pinned.contains(version))
            .collect();
        let forgotten: Result<(), DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                let free = free.clone();
                Box::pin(async move {
                    for (environment, version) in free {
                        versions::remove_environment(tx, environment, version).await?;
                    }
                    Ok(())
                })
            })
            .await;
        forgotten?;
    }
    let held: HashSet<Digest> = versions::bundles(&control.db).await?.into_iter().collect();
    let venvs = control.venvs.clone();
    let removed = tokio::task::spawn_blocking(move || venvs.collect(&held, oldest)).await;
    let removed = removed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    Ok(removed.map_err(ControlError::Environments)? as u64)
}

/// Versions of Environments that Jobs which are not over and Revisions have pinned.
async fn pinned(control: &Control) -> Result<HashSet<(Uid, u32)>, ControlError> {
    let mut found = HashSet::new();
    let mut add = |pinned: serde_json::Value| {
        let pinned: Pinned = serde_json::from_value(pinned).unwrap_or_default();
        let pins = pinned
            .programs
            .into_values()
            .filter_map(|program| program.environment);
        found.extend(pins.map(|pin| (pin.uid, pin.version)));
    };
    for uid in objects::active(&control.db, "Job").await? {
        if let Some(job) = objects::read_by_uid(&control.db, uid).await? {
            add(job.desired["pinned"].clone());
        }
    }
    for uid in objects::active(&control.db, "App").await? {
        for revision in versions::revisions(&control.db, uid).await? {
            add(revision.pinned);
        }
    }
    Ok(found)
}

/// Writes what each project keeps into its status.
async fn tell(control: &Control) -> Result<(), ControlError> {
    let totals = blobs::totals(&control.db).await?;
    for project in objects::all(&control.db, "Project").await? {
        let stored = Bytes(totals.get(&project.name).copied().unwrap_or(0));
        let status = serde_json::to_value(ProjectStatus { stored }).expect("a status is JSON");
        if status == project.status {
            continue;
        }
        let (uid, phase) = (project.uid, project.phase.clone());
        let written: Result<bool, DbError> = control
            .db
            .write(Some(control.epoch), move |tx| {
                let (phase, status) = (phase.clone(), status.clone());
                Box::pin(async move { objects::set_status(tx, uid, &phase, &status).await })
            })
            .await;
        written?;
    }
    Ok(())
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        ControlError::Store(error)
    }
}
