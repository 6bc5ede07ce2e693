//! Has a Revision that nobody else reaches yet answer the sample requests of a delivery.

use super::{output, read_file, samples};
use crate::control::{Control, ControlError};
use crate::usecase::deliver;
use api::app::AppStatus;
use api::deliver::{DeliverSpec, DeliveryPhase, DeliveryStatus};
use api::job::JobStatus;
use db::objects::Object;
use std::sync::Arc;

/// Where a ready replica of a Revision answers.
pub(super) fn address(status: &AppStatus, revision: u32) -> Option<String> {
    let group = format!("r{revision}");
    let mut instances = status.instances.iter();
    let ready = instances.find(|instance| instance.ready && instance.group == group)?;
    let address = ready.addresses.get("http");
    address.or(ready.addresses.values().next()).cloned()
}

/// Sends the sample requests to a replica that nobody else reaches yet, and lets callers come or goes back.
pub(super) async fn ask(
    control: &Control,
    job: &Object,
    wanted: &DeliverSpec,
    delivery: &DeliveryStatus,
    address: &str,
) -> Result<(), ControlError> {
    let check = wanted.check.clone().unwrap_or_default();
    let status: JobStatus = serde_json::from_value(job.status.clone()).unwrap_or_default();
    let answered = match samples(control, job, &status, wanted).await? {
        Ok(samples) => samples::ask(address, &wanted.model, &samples, check.tolerance)
            .await
            .map(|()| u32::try_from(samples.len()).unwrap_or(u32::MAX)),
        Err(why) => Err(why),
    };
    let name = wanted.app.clone().unwrap_or_default();
    let revision = delivery.revision;
    let next = match &answered {
        Ok(n) => DeliveryStatus {
            message: format!("revision {revision} of app `{name}` answered {n} sample requests"),
            samples: *n,
            ..delivery.clone()
        },
        Err(why) => DeliveryStatus {
            phase: DeliveryPhase::NotTaken,
            message: format!("app `{name}` keeps its revision: {why}"),
            ..delivery.clone()
        },
    };
    let (uid, seen, now) = (job.uid, delivery.phase, control.now());
    let request = Arc::new((wanted.clone(), name, next, answered.err()));
    let written: Result<(), db::DbError> = control
        .db
        .write(Some(control.epoch), move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move {
                let (wanted, name, next, why) = request.as_ref();
                let Some(mut job) = deliver::still(tx, uid, seen).await? else {
                    return Ok(());
                };
                match why {
                    None => deliver::open(tx, &job, wanted, name, revision).await?,
                    Some(why) => deliver::go_back(tx, &job, name, revision, why, now).await?,
                }
                deliver::put(tx, &mut job, wanted, next, now).await
            })
        })
        .await;
    Ok(written?)
}

/// The samples of the output; else what is wrong with them.
pub(super) async fn samples(
    control: &Control,
    job: &Object,
    status: &JobStatus,
    wanted: &DeliverSpec,
) -> Result<Result<Vec<samples::Sample>, String>, ControlError> {
    let output = match output(status, wanted) {
        Ok(output) => output,
        Err(why) => return Ok(Err(why)),
    };
    let check = wanted.check.as_ref();
    let file = check.and_then(|check| check.samples.as_deref());
    let file = file.unwrap_or_default();
    let read = read_file(control, job, output, file, samples::BYTES_MAX);
    Ok(read
        .await?
        .and_then(|text| samples::read(&text).map_err(|why| format!("`{file}` {why}"))))
}
