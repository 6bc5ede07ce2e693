//! What a succeeded Job delivers: its output becomes the next version of a Model, and an App that names the Model without
//! a version gets a Revision that pins it. Each step is one transaction, and a step that was done is not done again.

use super::{Caller, audit, digest, model, revision};
use crate::control::rows;
use crate::error::UseError;
use crate::pinned::{Pinned, TEMPLATE};
use crate::shares::Canary;
use api::app::{AppSpec, AppStatus};
use api::deliver::{CANARY_PERCENT, DeliverSpec, DeliveryPhase, DeliveryStatus};
use api::served::ModelSource;
use base::{Digest, Time, Uid};
use db::objects::{self, Object};
use db::{DbError, Tx, audit as trail, deliveries, versions};
use serde_json::json;
use std::collections::BTreeMap;

/// How far a Job's delivery is.
pub fn status(job: &Object) -> DeliveryStatus {
    serde_json::from_value(job.desired["delivery"].clone()).unwrap_or_default()
}

/// Writes how far it is. What is over is not looked at again, and is told to the Job and, if it failed, to the App.
pub async fn put(
    tx: &mut Tx<'_>,
    job: &mut Object,
    deliver: &DeliverSpec,
    delivery: &DeliveryStatus,
    now: Time,
) -> Result<(), DbError> {
    let before = status(job);
    if !job.desired.is_object() {
        job.desired = json!({});
    }
    job.desired["delivery"] = serde_json::to_value(delivery).expect("a status is JSON");
    job.updated_at = now;
    job.seq = objects::update(tx, job).await?;
    if before.phase == delivery.phase {
        return Ok(());
    }
    let is_bad = delivery.phase.is_over() && delivery.phase != DeliveryPhase::Delivered;
    let code = format!("{:?}", delivery.phase);
    rows::record(tx, job, is_bad, &code, &delivery.message, now).await?;
    if !delivery.phase.is_over() {
        return Ok(());
    }
    deliveries::remove(tx, job.uid).await?;
    let Some(name) = &deliver.app else {
        return Ok(());
    };
    let Some(mut app) = objects::get(tx, "App", &job.project, name).await? else {
        return Ok(());
    };
    // The last one that failed is what `why` tells; one that came through ends that.
    let failed = if is_bad {
        json!({"job": job.name, "message": delivery.message})
    } else {
        json!(null)
    };
    if app.desired["notDelivered"] != failed {
        app.desired["notDelivered"] = failed;
        app.seq = objects::update(tx, &app).await?;
    }
    if is_bad {
        let sentence = format!("job/{} was not delivered: {}", job.name, delivery.message);
        rows::record(tx, &app, true, "NotDelivered", &sentence, now).await?;
    }
    Ok(())
}

/// The Job of this uid, if its delivery is still where the caller saw it.
pub async fn still(
    tx: &mut Tx<'_>,
    job: Uid,
    seen: DeliveryPhase,
) -> Result<Option<Object>, DbError> {
    let job = objects::get_by_uid(tx, job).await?;
    Ok(job.filter(|job| status(job).phase == seen))
}

/// Makes the version and the Revision.
pub async fn take(
    tx: &mut Tx<'_>,
    caller: &Caller,
    job: &mut Object,
    deliver: &DeliverSpec,
    output: &str,
    metrics: BTreeMap<String, f64>,
    now: Time,
) -> Result<(), UseError> {
    let (version, digest) =
        model::push_output(tx, caller, job, &deliver.model, output, &metrics, now).await?;
    let delivery = DeliveryStatus {
        version,
        metrics,
        ..DeliveryStatus::default()
    };
    let what = format!("version {version} of model `{}`", deliver.model);
    let Some(name) = &deliver.app else {
        let delivered = DeliveryStatus {
            phase: DeliveryPhase::Delivered,
            message: format!("it made {what}"),
            ..delivery
        };
        return Ok(put(tx, job, deliver, &delivered, now).await?);
    };
    let revised = revise(tx, caller, job, deliver, name, (version, digest), now).await?;
    let delivery = match revised {
        Taking::Made(revision) => DeliveryStatus {
            phase: DeliveryPhase::RollingOut,
            message: format!("revision {revision} of app `{name}` is being made ready with {what}"),
            revision,
            ..delivery
        },
        Taking::Same => DeliveryStatus {
            phase: DeliveryPhase::Delivered,
            message: format!("app `{name}` serves {what} already"),
            ..delivery
        },
        // The first Job of an App comes before it, as often as not.
        Taking::Nobody => DeliveryStatus {
            phase: DeliveryPhase::Delivered,
            message: format!("it made {what}; there is no app `{name}` yet to take it"),
            ..delivery
        },
        Taking::Cannot(why) => DeliveryStatus {
            phase: DeliveryPhase::NotTaken,
            message: format!("it made {what}, but {why}"),
            ..delivery
        },
    };
    Ok(put(tx, job, deliver, &delivery, now).await?)
}

enum Taking {
    Made(u32),
    /// The App serves the version.
    Same,
    /// There is no App.
    Nobody,
    /// Why it cannot take it, as the rest of a sentence.
    Cannot(String),
}

/// Gives the App a Revision like the one that it shall have now, with another version of its model.
async fn revise(
    tx: &mut Tx<'_>,
    caller: &Caller,
    job: &Object,
    deliver: &DeliverSpec,
    name: &str,
    (version, content): (u32, Digest),
    now: Time,
) -> Result<Taking, UseError> {
    let app = objects::get(tx, "App", &job.project, name).await?;
    let Some(mut app) = app.filter(|app| app.deleted_at.is_none()) else {
        return Ok(Taking::Nobody);
    };
    let spec: AppSpec = serde_json::from_value(app.spec.clone()).unwrap_or_default();
    let status: AppStatus = serde_json::from_value(app.status.clone()).unwrap_or_default();
    let wanted = ModelSource::Model {
        name: &deliver.model,
        version: None,
    };
    let served = spec.model.as_ref();
    if served.and_then(|model| model.source().ok()) != Some(wanted) {
        return Ok(Taking::Cannot(format!(
            "app `{name}` does not take it: its `spec.model.uri` must be `model://{}`",
            deliver.model
        )));
    }
    if !spec.traffic.is_empty() {
        return Ok(Taking::Cannot(format!(
            "app `{name}` does not take it: `spec.traffic` shares its requests out by hand"
        )));
    }
    let revisions = versions::get_revisions(tx, app.uid).await?;
    let target = revision::target(&app);
    let target = revisions
        .iter()
        .find(|revision| Some(revision.number) == target);
    let Some(target) = target.or(revisions.first()) else {
        return Ok(Taking::Cannot(format!("app `{name}` has no revision")));
    };
    let mut pinned: Pinned = serde_json::from_value(target.pinned.clone()).unwrap_or_default();
    let program = pinned.programs.entry(TEMPLATE.to_owned()).or_default();
    let others = &served
        .map(|model| model.versions.clone())
        .unwrap_or_default();
    let mut models = program.model.clone();
    models.retain(|number, _| others.contains(number));
    models.insert(version, content);
    if models == program.model {
        return Ok(Taking::Same);
    }
    program.model = models;
    let number = revisions.first().map_or(1, |newest| newest.number + 1);
    revision::add(tx, &mut app, number, &pinned, &caller.actor.name, now).await?;
    let stable = revisions
        .iter()
        .find(|revision| revision.number == status.stable_revision);
    let percent = deliver.canary.unwrap_or_default().percent;
    let percent = percent.unwrap_or(CANARY_PERCENT);
    let check = deliver.check.as_ref();
    let is_closed = check.is_some_and(|check| check.samples.is_some());
    let canary = stable
        .filter(|_| percent < 100 || is_closed)
        .map(|stable| Canary {
            from: stable.number,
            to: number,
            // Samples want one replica.
            percent: if percent < 100 { percent } else { 1 },
            is_closed,
        });
    Canary::put(&mut app.desired, canary);
    app.updated_at = now;
    app.seq = objects::update(tx, &app).await?;
    let sentence = format!(
        "revision {number} serves version {version} of model `{}`, which job/{} made",
        deliver.model, job.name
    );
    rows::record(tx, &app, false, "Delivering", &sentence, now).await?;
    let (before, after) = (digest(&target.pinned), digest(&json!(pinned)));
    trail::add(tx, &audit(caller, "deliver", &app, &before, &after)).await?;
    Ok(Taking::Made(number))
}

/// The App's new Revision answered its sample requests: callers come to it.
pub async fn open(
    tx: &mut Tx<'_>,
    job: &Object,
    deliver: &DeliverSpec,
    app: &str,
    revision: u32,
) -> Result<(), DbError> {
    let percent = deliver.canary.unwrap_or_default().percent;
    if percent.unwrap_or(CANARY_PERCENT) >= 100 {
        return give_all(tx, job, app, revision).await;
    }
    change_canary(tx, job, app, revision, |canary| {
        Some(Canary {
            is_closed: false,
            ..canary
        })
    })
    .await
}

/// The App's new Revision did not answer as it should: the one before is what the App shall have.
pub async fn go_back(
    tx: &mut Tx<'_>,
    job: &Object,
    app: &str,
    revision: u32,
    why: &str,
    now: Time,
) -> Result<(), DbError> {
    let Some(mut app) = objects::get(tx, "App", &job.project, app).await? else {
        return Ok(());
    };
    let Some(canary) = Canary::of(&app).filter(|canary| canary.to == revision) else {
        return Ok(());
    };
    app.desired["target"] = json!(canary.from);
    app.desired["left"] = json!({"revision": revision, "reason": why, "shut": true});
    Canary::put(&mut app.desired, None);
    app.updated_at = now;
    app.seq = objects::update(tx, &app).await?;
    let sentence = format!("revision {revision} gets no requests: {why}");
    rows::record(tx, &app, true, "SteppedBack", &sentence, now).await
}

/// The canary ends well: its Revision gets all requests.
pub async fn give_all(
    tx: &mut Tx<'_>,
    job: &Object,
    app: &str,
    revision: u32,
) -> Result<(), DbError> {
    change_canary(tx, job, app, revision, |_| None).await
}

async fn change_canary(
    tx: &mut Tx<'_>,
    job: &Object,
    app: &str,
    revision: u32,
    change: impl FnOnce(Canary) -> Option<Canary>,
) -> Result<(), DbError> {
    let Some(mut app) = objects::get(tx, "App", &job.project, app).await? else {
        return Ok(());
    };
    if let Some(canary) = Canary::of(&app).filter(|canary| canary.to == revision) {
        Canary::put(&mut app.desired, change(canary));
        app.seq = objects::update(tx, &app).await?;
    }
    Ok(())
}
