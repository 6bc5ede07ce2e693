//! Delivers what succeeded Jobs have made. Reads what a Job measured, asks [`next`] what follows, and has
//! [`crate::usecase::deliver`] do it. How far a delivery is stands in its Job.

mod asking;
mod looks;
mod samples;

use super::{Control, ControlError};
use crate::error::UseError;
use crate::shares::Canary;
use crate::usecase::{Caller, apply, deliver, revision};
use api::app::AppStatus;
use api::deliver::{
    CANARY_FOR, DeliverSpec, DeliveryPhase, DeliveryStatus, METRICS_FILE, broken_bounds,
};
use api::job::{JobSpec, JobStatus, OutputStatus};
use base::{Code, Time, Uid};
use db::objects::{self, Object};
use db::{deliveries, versions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::TenantPath;
use tokio_util::sync::CancellationToken;

/// Between looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Bytes of a file with metrics.
const METRICS_BYTES_MAX: u64 = 1 << 20;

/// The loop. Ends with `stop`. A model that takes long to answer its sample requests holds up no other delivery.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let open = || async {
        match deliveries::open(&control.db).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read deliveries now"
                );
                Vec::new()
            }
        }
    };
    let look = |job: Uid| {
        let control = Arc::clone(&control);
        async move {
            if let Err(error) = look(&control, job).await {
                tracing::warn!(%job, error = &error as &dyn std::error::Error, "cannot deliver what a Job made; it is looked at again");
            }
        }
    };
    looks::each(PERIOD, open, look, stop).await;
}

async fn look(control: &Control, uid: Uid) -> Result<(), ControlError> {
    let Some(job) = objects::read_by_uid(&control.db, uid).await? else {
        return forget(control, uid).await;
    };
    let spec: JobSpec = serde_json::from_value(job.spec.clone())
        .map_err(|source| ControlError::Spec { uid, source })?;
    let Some(wanted) = spec.deliver else {
        return forget(control, uid).await;
    };
    let delivery = deliver::status(&job);
    match delivery.phase {
        DeliveryPhase::Checking => check(control, &job, &wanted).await,
        DeliveryPhase::RollingOut | DeliveryPhase::Canary => {
            watch(control, &job, &wanted, &delivery).await
        }
        DeliveryPhase::Delivered | DeliveryPhase::Refused | DeliveryPhase::NotTaken => {
            forget(control, uid).await
        }
    }
}

async fn forget(control: &Control, uid: Uid) -> Result<(), ControlError> {
    let removed: Result<(), db::DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            Box::pin(async move { deliveries::remove(tx, uid).await })
        })
        .await;
    Ok(removed?)
}

// ---- the check ----

async fn check(control: &Control, job: &Object, wanted: &DeliverSpec) -> Result<(), ControlError> {
    let status: JobStatus = serde_json::from_value(job.status.clone()).unwrap_or_default();
    let checked = match output(&status, wanted) {
        Ok(output) => metrics(control, job, wanted, output)
            .await?
            .map(|metrics| (output.name.clone(), metrics)),
        Err(why) => Err(why),
    };
    let (output, metrics) = match checked {
        Ok((output, metrics)) => {
            let check = wanted.check.as_ref();
            let broken = check.and_then(|check| broken_bounds(&metrics, &check.metrics));
            if let Some(broken) = broken {
                let refused = refused(broken, metrics);
                return put(control, job, wanted, DeliveryPhase::Checking, refused).await;
            }
            // Samples that nobody can read are found before a Revision is made for them.
            let has_samples = check.is_some_and(|check| check.samples.is_some());
            if has_samples && let Err(why) = asking::samples(control, job, &status, wanted).await? {
                let refused = refused(why, metrics);
                return put(control, job, wanted, DeliveryPhase::Checking, refused).await;
            }
            (output, metrics)
        }
        Err(why) => {
            let refused = refused(why, BTreeMap::new());
            return put(control, job, wanted, DeliveryPhase::Checking, refused).await;
        }
    };
    let (uid, now) = (job.uid, control.now());
    let request = Arc::new((wanted.clone(), output, metrics.clone()));
    let taken: Result<(), UseError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move {
                let (wanted, output, metrics) = request.as_ref();
                let Some(mut job) = deliver::still(tx, uid, DeliveryPhase::Checking).await? else {
                    return Ok(());
                };
                let caller = Caller {
                    actor: apply::system(),
                    request: format!("delivery of {}", job.name),
                };
                deliver::take(tx, &caller, &mut job, wanted, output, metrics.clone(), now).await
            })
        })
        .await;
    match taken {
        // A name that is too long, content that is gone: it will be so the next time, too.
        Err(UseError::Refused(problem)) => {
            let refused = refused(problem.detail, metrics);
            put(control, job, wanted, DeliveryPhase::Checking, refused).await
        }
        taken => taken.map_err(ControlError::Deliver),
    }
}

fn refused(message: String, metrics: BTreeMap<String, f64>) -> DeliveryStatus {
    DeliveryStatus {
        phase: DeliveryPhase::Refused,
        message,
        metrics,
        ..DeliveryStatus::default()
    }
}

/// The output that is delivered: the one that is named, else the only one, else `model`.
fn output<'a>(status: &'a JobStatus, wanted: &DeliverSpec) -> Result<&'a OutputStatus, String> {
    let name = wanted.output.as_deref().unwrap_or("model");
    let found = match (&wanted.output, status.outputs.as_slice()) {
        (None, [only]) => Some(only),
        (_, outputs) => outputs.iter().find(|output| output.name == name),
    };
    found.ok_or_else(|| format!("the Job left no output `{name}`"))
}

/// What the program measured; else why that cannot be known. Where nothing is checked, metrics are told if they are there.
async fn metrics(
    control: &Control,
    job: &Object,
    wanted: &DeliverSpec,
    output: &OutputStatus,
) -> Result<Result<BTreeMap<String, f64>, String>, ControlError> {
    let check = wanted.check.as_ref();
    let file = check.and_then(|check| check.file.clone());
    let file = file.unwrap_or_else(|| METRICS_FILE.to_owned());
    let read = read_file(control, job, output, &file, METRICS_BYTES_MAX).await?;
    let found = read.and_then(|text| numbers(&text).map_err(|why| format!("`{file}` {why}")));
    // Where only samples are checked, metrics need not be there.
    let is_wanted = check.is_some_and(|check| !check.metrics.is_empty());
    Ok(match found {
        Err(_) if !is_wanted => Ok(BTreeMap::new()),
        found => found,
    })
}

/// The numbers of a JSON object; what else is in it is the program's own.
fn numbers(text: &[u8]) -> Result<BTreeMap<String, f64>, String> {
    let value: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
    let object = value.as_object().ok_or("is not a JSON object")?;
    let numbers = object.iter();
    Ok(numbers
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
        .collect())
}

// ---- the rollout ----

/// An App as a delivery sees it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// The Revision that it shall have.
    target: u32,
    /// The last one that was wholly ready and had all requests.
    stable: u32,
    /// Replicas of the target that are ready.
    ready: u32,
    /// Whether the delivery's Revision has only a part of the requests.
    shares: bool,
    /// Where a replica of it answers that must answer sample requests first.
    closed: Option<String>,
    /// Why the delivery's Revision was given up, if it was.
    given_up: Option<String>,
}

/// What follows for a delivery whose App is seen so; `None` while it waits.
fn next(
    name: &str,
    seen: Option<&Seen>,
    wanted: &DeliverSpec,
    delivery: &DeliveryStatus,
    now: Time,
) -> Option<DeliveryStatus> {
    let revision = delivery.revision;
    let become_ = |phase, message: String| {
        Some(DeliveryStatus {
            phase,
            message,
            ..delivery.clone()
        })
    };
    let Some(seen) = seen else {
        return become_(DeliveryPhase::NotTaken, format!("app `{name}` was deleted"));
    };
    if seen.target != revision {
        let message = match &seen.given_up {
            Some(why) => format!(
                "app `{name}` went back from revision {revision} to {}: {why}",
                seen.target
            ),
            None => format!(
                "revision {} of app `{name}` came after revision {revision}",
                seen.target
            ),
        };
        return become_(DeliveryPhase::NotTaken, message);
    }
    let canary = wanted.canary.unwrap_or_default();
    let span = canary.span.unwrap_or(CANARY_FOR);
    match (delivery.phase, delivery.canary_since) {
        (DeliveryPhase::RollingOut, None) if seen.shares && seen.ready > 0 => {
            let message = format!(
                "revision {revision} of app `{name}` has a part of the requests for {span}"
            );
            become_(DeliveryPhase::Canary, message).map(|delivery| DeliveryStatus {
                canary_since: Some(now),
                ..delivery
            })
        }
        (DeliveryPhase::Canary, Some(since)) if now >= since + span => become_(
            DeliveryPhase::RollingOut,
            format!("revision {revision} of app `{name}` gets all requests"),
        ),
        (DeliveryPhase::RollingOut, _) if !seen.shares && seen.stable == revision => become_(
            DeliveryPhase::Delivered,
            format!(
                "app `{name}` serves version {} of model `{}` in revision {revision}",
                delivery.version, wanted.model
            ),
        ),
        _ => None,
    }
}

async fn watch(
    control: &Control,
    job: &Object,
    wanted: &DeliverSpec,
    delivery: &DeliveryStatus,
) -> Result<(), ControlError> {
    let name = wanted.app.as_deref().unwrap_or_default();
    let app = objects::read(&control.db, "App", &job.project, name).await?;
    let seen = match app.filter(|app| app.deleted_at.is_none()) {
        Some(app) => Some(seen(control, &app, delivery.revision).await?),
        None => None,
    };
    let closed = seen.as_ref().and_then(|seen| seen.closed.as_ref());
    if let Some(address) = closed {
        return asking::ask(control, job, wanted, delivery, address).await;
    }
    match next(name, seen.as_ref(), wanted, delivery, control.now()) {
        Some(next) => put(control, job, wanted, delivery.phase, next).await,
        None => Ok(()),
    }
}

async fn seen(control: &Control, app: &Object, number: u32) -> Result<Seen, ControlError> {
    let status: AppStatus = serde_json::from_value(app.status.clone()).unwrap_or_default();
    let canary = Canary::of(app).filter(|canary| canary.to == number);
    let target = revision::target(app).unwrap_or(0);
    let mut given_up = None;
    let left = &app.desired["left"];
    if target != number && left["revision"] == number {
        given_up = left["reason"].as_str().map(str::to_owned);
    } else if target != number {
        let revisions = versions::revisions(&control.db, app.uid).await?;
        let own = revisions.into_iter().find(|own| own.number == number);
        given_up = own
            .filter(|own| own.state == "RolledBack")
            .map(|own| own.message);
    }
    Ok(Seen {
        target,
        stable: status.stable_revision,
        ready: if status.revision == number {
            status.updated
        } else {
            0
        },
        shares: canary.is_some(),
        closed: canary
            .filter(|canary| canary.is_closed)
            .and_then(|_| asking::address(&status, number)),
        given_up,
    })
}

/// A file of an output; else why it cannot be read.
async fn read_file(
    control: &Control,
    job: &Object,
    output: &OutputStatus,
    file: &str,
    limit: u64,
) -> Result<Result<Vec<u8>, String>, ControlError> {
    let tenant = TenantPath::new(&job.project).map_err(ControlError::Store)?;
    let read = control
        .store
        .file_of(&tenant, &output.digest, Path::new(file), limit);
    match read.await {
        Ok(Some(text)) => Ok(Ok(text)),
        Ok(None) => Ok(Err(format!(
            "output `{}` has no file `{file}`",
            output.name
        ))),
        // It comes back, or never; then somebody must look.
        Err(error) if error.code() == Code::Unavailable => Err(ControlError::Store(error)),
        Err(error) => Ok(Err(format!("`{file}` cannot be read: {error}"))),
    }
}

/// Writes how far a delivery is, if it is still where it was seen.
async fn put(
    control: &Control,
    job: &Object,
    wanted: &DeliverSpec,
    seen: DeliveryPhase,
    next: DeliveryStatus,
) -> Result<(), ControlError> {
    let (uid, now) = (job.uid, control.now());
    let request = Arc::new((wanted.clone(), next));
    let written: Result<(), db::DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move {
                let (wanted, next) = request.as_ref();
                let Some(mut job) = deliver::still(tx, uid, seen).await? else {
                    return Ok(());
                };
                let ends_canary =
                    seen == DeliveryPhase::Canary && next.phase == DeliveryPhase::RollingOut;
                if let Some(app) = wanted.app.as_ref().filter(|_| ends_canary) {
                    deliver::give_all(tx, &job, app, next.revision).await?;
                }
                deliver::put(tx, &mut job, wanted, next, now).await
            })
        })
        .await;
    Ok(written?)
}

#[cfg(test)]
mod tests;
