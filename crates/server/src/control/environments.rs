//! The builder of Environments: every version that shall be built is built once, one at a time.

use super::venv::BuildError;
use super::{Control, ControlError};
use crate::pinned::Pinned;
use api::environment::{EnvironmentSpec, EnvironmentStatus};
use base::{Digest, Uid};
use db::versions::{self, EnvironmentVersion};
use db::{Db, DbError, objects};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Without a poke, the builder looks this often.
const PERIOD: Duration = Duration::from_secs(10);

/// Whether the Environments that something needs are there.
#[derive(Debug, PartialEq)]
pub enum Bundles {
    /// All of them, by (uid, version).
    Ready(BTreeMap<(Uid, u32), Digest>),
    /// One is being built: a sentence.
    Building(String),
    /// One cannot be built: a sentence.
    Failed(String),
}

/// The digests of all Environments that are pinned.
pub async fn bundles(db: &Db, pinned: &Pinned) -> Result<Bundles, DbError> {
    let mut bundles = BTreeMap::new();
    let mut building = None;
    for environment in pinned
        .programs
        .values()
        .filter_map(|program| program.environment.as_ref())
    {
        if environment.image.is_some() {
            continue;
        }
        let name = format!(
            "environment `{}` (version {})",
            environment.name, environment.version
        );
        let version = versions::environment(db, environment.uid, environment.version).await?;
        match version {
            None => return Ok(Bundles::Failed(format!("{name} was deleted"))),
            Some(EnvironmentVersion { phase, message, .. }) if phase == "Failed" => {
                return Ok(Bundles::Failed(format!(
                    "{name} could not be built: {message}"
                )));
            }
            Some(EnvironmentVersion {
                digest: Some(digest),
                ..
            }) => {
                bundles.insert((environment.uid, environment.version), digest);
            }
            Some(_) => building = Some(format!("{name} is being built")),
        }
    }
    Ok(building.map_or(Bundles::Ready(bundles), Bundles::Building))
}

/// The loop.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    loop {
        let is_done = match build_all(&control, &stop).await {
            Ok(is_done) => is_done,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot build Environments now"
                );
                false
            }
        };
        tokio::select! {
            // What failed by the machine's fault waits for the period, whatever else happens.
            () = control.builds.poked(), if is_done => {}
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => break,
        }
    }
}

/// False where something is left to be built by the machine's fault.
async fn build_all(control: &Control, stop: &CancellationToken) -> Result<bool, ControlError> {
    let mut is_done = true;
    for version in versions::building(&control.db).await? {
        tokio::select! {
            done = build(control, version) => is_done &= done?,
            () = stop.cancelled() => return Ok(true),
        }
    }
    Ok(is_done)
}

/// Builds a version, or finds that it cannot be built; false where the machine is to blame and it is tried again.
async fn build(control: &Control, mut version: EnvironmentVersion) -> Result<bool, ControlError> {
    let uid = version.environment;
    let spec: EnvironmentSpec = serde_json::from_value(version.spec.clone())
        .map_err(|source| ControlError::Spec { uid, source })?;
    tracing::info!(environment = %uid, version = version.version, "building");
    match control.venvs.build(&spec).await {
        Ok(built) => {
            version.phase = "Ready".to_owned();
            version.digest = Some(built.digest);
            version.packages = built.packages;
        }
        Err(error @ (BuildError::Refused(_) | BuildError::Timeout(_))) => {
            version.phase = "Failed".to_owned();
            version.message = error.to_string();
        }
        Err(error @ BuildError::Full) => {
            version.message = format!("{error}; it is tried again");
            record(control, version).await?;
            return Ok(false);
        }
        // The machine's fault: the version stays to be built and is tried again on the next period.
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an Environment could not be built now"
            );
            return Ok(false);
        }
    }
    record(control, version).await?;
    // Whoever waits for it looks again.
    control
        .jobs
        .add_all(objects::active(&control.db, "Job").await?);
    control
        .apps
        .add_all(objects::active(&control.db, "App").await?);
    Ok(true)
}

async fn record(control: &Control, version: EnvironmentVersion) -> Result<(), DbError> {
    let now = control.now();
    control
        .db
        .write(Some(control.epoch), move |tx| {
            let version = version.clone();
            Box::pin(async move {
                versions::put_environment(tx, &version).await?;
                let Some(object) = objects::get_by_uid(tx, version.environment).await? else {
                    return Ok(());
                };
                let mut status: EnvironmentStatus =
                    serde_json::from_value(object.status.clone()).unwrap_or_default();
                let is_told = status.phase == version.phase && status.message == version.message;
                if status.version > version.version || is_told {
                    return Ok(());
                }
                status.phase.clone_from(&version.phase);
                status.message.clone_from(&version.message);
                status.version = version.version;
                status.digest = version.digest;
                status.packages.clone_from(&version.packages);
                status.built_at = (version.phase == "Ready").then_some(now);
                let value = serde_json::to_value(&status).expect("a status is JSON");
                objects::set_status(tx, object.uid, &version.phase, &value).await?;
                let (reason, sentence) = match version.phase.as_str() {
                    "Ready" => ("Ready", format!("version {} is built", version.version)),
                    "Failed" => ("Failed", version.message.clone()),
                    _ => ("DiskFull", version.message.clone()),
                };
                let warning = reason != "Ready";
                super::rows::record(tx, &object, warning, reason, &sentence, now).await
            })
        })
        .await
}
