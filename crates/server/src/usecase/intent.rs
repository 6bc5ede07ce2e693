//! What subresources want: cancel, suspend, scale, roll back, cordon, delete. Each writes what is wanted; the
//! controllers make it so.

use super::{Caller, audit, digest, read, recorded_digest, revision, wire};
use crate::auth::{Verb, authorize};
use crate::control::rows;
use crate::error::UseError;
use crate::platform::Platform;
use crate::shares;
use api::answer::RollbackRequest;
use api::{Kind, Object as Wire};
use base::Code;
use db::objects::{self, Object};
use db::{audit as trail, versions};
use serde_json::{Value, json};
use std::sync::Arc;

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 500;

/// Changes one object in a transaction, with its entry in the audit trail.
async fn change(
    platform: &Platform,
    caller: &Caller,
    verb: &'static str,
    kind: Kind,
    project: &str,
    name: &str,
    edit: impl Fn(&mut Object) -> Result<(), UseError> + Send + Sync + 'static,
) -> Result<Wire, UseError> {
    change_and_tell(platform, caller, verb, kind, project, name, None, edit).await
}

/// The same, with an event that warns where something changed: its code and its sentence.
#[expect(
    clippy::too_many_arguments,
    reason = "one for each column of the audit trail"
)]
async fn change_and_tell(
    platform: &Platform,
    caller: &Caller,
    verb: &'static str,
    kind: Kind,
    project: &str,
    name: &str,
    told: Option<(&'static str, String)>,
    edit: impl Fn(&mut Object) -> Result<(), UseError> + Send + Sync + 'static,
) -> Result<Wire, UseError> {
    let needed = if kind.scope() == api::Scope::Project {
        Verb::Write
    } else {
        Verb::Administer
    };
    authorize(&caller.actor, needed, project)?;
    let edit = Arc::new(edit);
    let (caller, project, name) = (caller.clone(), project.to_owned(), name.to_owned());
    let now = platform.clock.now();
    platform
        .db
        .write(None, move |tx| {
            let (edit, caller, project, name, told) = (
                Arc::clone(&edit),
                caller.clone(),
                project.clone(),
                name.clone(),
                told.clone(),
            );
            Box::pin(async move {
                let found = objects::get(tx, kind.as_str(), &project, &name).await?;
                let found =
                    found.ok_or_else(|| UseError::not_found(kind.as_str(), &project, &name))?;
                let mut object = found.clone();
                edit(&mut object)?;
                if object == found {
                    return Ok(wire::object(&found));
                }
                object.updated_at = now;
                if object.spec != found.spec {
                    object.generation = object.generation.next();
                }
                object.seq = objects::update(tx, &object).await?;
                if let Some((code, sentence)) = &told {
                    rows::record(tx, &object, true, code, sentence, now).await?;
                }
                let (before, after) = (digest(&found.spec), digest(&object.spec));
                trail::add(tx, &audit(&caller, verb, &object, &before, &after)).await?;
                Ok(wire::object(&object))
            })
        })
        .await
}

fn refuse_if_over(object: &Object, verb: &str) -> Result<(), UseError> {
    if object.finished_at.is_none() {
        return Ok(());
    }
    let detail = format!(
        "job `{}` is over ({}); there is nothing to {verb}",
        object.name, object.phase
    );
    Err(UseError::new(Code::Conflict, detail))
}

/// Stops a Job for good. A Job that is over is left as it is.
pub async fn cancel(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<Wire, UseError> {
    change(
        platform,
        caller,
        "cancel",
        Kind::Job,
        project,
        name,
        |object| {
            if object.finished_at.is_none() {
                object.desired["cancel"] = json!(true);
            }
            Ok(())
        },
    )
    .await
}

/// Stops a Job until it is resumed, or lets it go on.
pub async fn suspend(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    name: &str,
    on: bool,
) -> Result<Wire, UseError> {
    let verb = if on { "suspend" } else { "resume" };
    change(
        platform,
        caller,
        verb,
        Kind::Job,
        project,
        name,
        move |object| {
            refuse_if_over(object, verb)?;
            object.spec["suspend"] = json!(on);
            Ok(())
        },
    )
    .await
}

/// Wants another number of replicas. The number belongs to whoever sets it: not possible while the spec has one.
pub async fn scale(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    name: &str,
    replicas: u32,
) -> Result<Wire, UseError> {
    if replicas > 1_000 {
        return Err(UseError::field(
            "replicas",
            format!("is {replicas}; an App has at most 1000"),
        ));
    }
    change(
        platform,
        caller,
        "scale",
        Kind::App,
        project,
        name,
        move |object| {
            // A number in the spec follows, as `kubectl scale` does; the next apply sets it again.
            if object.spec["replicas"].is_number() {
                object.spec["replicas"] = json!(replicas);
            }
            object.desired["replicas"] = json!(replicas);
            Ok(())
        },
    )
    .await
}

/// Replaces every replica, as a rollout: a new Revision whose template says when it was restarted.
pub async fn restart(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<Wire, UseError> {
    let now = platform.clock.now();
    let object = read::stored(platform, &caller.actor, Kind::App, project, name).await?;
    let mut wanted = wire::object(&object);
    let env = &mut wanted.spec["template"]["env"];
    if !env.is_array() {
        *env = json!([]);
    }
    if let Some(env) = env.as_array_mut() {
        env.retain(|variable| variable["name"] != "MOONSHOT_RESTARTED_AT");
        env.push(json!({"name": "MOONSHOT_RESTARTED_AT", "value": now.to_string()}));
    }
    let applied =
        super::apply::apply(platform, caller, wanted, super::apply::Options::default()).await?;
    Ok(applied.object)
}

/// Goes back to a Revision: it is the target again, its number stays.
pub async fn rollback(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    name: &str,
    asked: RollbackRequest,
) -> Result<Wire, UseError> {
    let object = read::stored(platform, &caller.actor, Kind::App, project, name).await?;
    let revisions = versions::revisions(&platform.db, object.uid).await?;
    let current = revision::target(&object).unwrap_or(0);
    let known: Vec<String> = revisions
        .iter()
        .rev()
        .map(|revision| revision.number.to_string())
        .collect();
    let to = match asked.revision {
        Some(to) => to,
        None => {
            let before = revisions
                .iter()
                .find(|revision| revision.number != current && revision.state != "RolledBack");
            before.map(|revision| revision.number).ok_or_else(|| {
                UseError::new(
                    Code::Conflict,
                    format!("app `{name}` has no other revision to go back to"),
                )
            })?
        }
    };
    let Some(revision) = revisions.iter().find(|revision| revision.number == to) else {
        let message = format!("is {to}; app `{name}` has revisions {}", known.join(", "));
        return Err(UseError::field("revision", message));
    };
    let (template, model) = wire::unrevised(&revision.template);
    let because = asked
        .reason
        .clone()
        .unwrap_or_else(|| format!("{} asked for it", caller.actor.name));
    let told = asked.reason.map(|reason| {
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        (
            "SteppedBack",
            format!("all requests go to revision {to} again: {reason}"),
        )
    });
    change_and_tell(
        platform,
        caller,
        "rollback",
        Kind::App,
        project,
        name,
        told,
        move |object| {
            // Where requests were shared, the other one has replicas for them.
            let is_shared = shares::has(object, to);
            object.desired["target"] = json!(to);
            object.desired["ignoreTraffic"] = json!(true);
            object.desired["left"] =
                json!({"revision": current, "reason": because, "shut": is_shared});
            // The spec says what is wanted: the old template and model again.
            object.spec["template"] = template.clone();
            if let Some(spec) = object.spec.as_object_mut() {
                spec.remove("model");
                spec.extend(model.clone().map(|model| ("model".to_owned(), model)));
            }
            Ok(())
        },
    )
    .await
}

/// Nothing new starts on a node, or may again.
pub async fn cordon(
    platform: &Platform,
    caller: &Caller,
    name: &str,
    on: bool,
) -> Result<Wire, UseError> {
    let verb = if on { "cordon" } else { "uncordon" };
    change(
        platform,
        caller,
        verb,
        Kind::Node,
        "",
        name,
        move |object| {
            object.spec["unschedulable"] = json!(on);
            // Indexing for change would write a `null` where there are no taints.
            let taints = object.spec.get_mut("taints").and_then(Value::as_array_mut);
            if !on && let Some(taints) = taints {
                taints.retain(|taint| taint["key"] != DRAIN);
            }
            Ok(())
        },
    )
    .await
}

/// The taint that moves work away.
const DRAIN: &str = "moonshot/drain";

/// Cordons a node and moves its work away with grace.
pub async fn drain(platform: &Platform, caller: &Caller, name: &str) -> Result<Wire, UseError> {
    change(platform, caller, "drain", Kind::Node, "", name, |object| {
        object.spec["unschedulable"] = json!(true);
        let taint = json!({"key": DRAIN, "effect": "NoExecute"});
        match object.spec["taints"].as_array_mut() {
            Some(taints) if taints.contains(&taint) => {}
            Some(taints) => taints.push(taint),
            None => object.spec["taints"] = json!([taint]),
        }
        Ok(())
    })
    .await
}

/// Runs a Job again: a new one from the same spec, under a fresh name.
pub async fn rerun(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<Wire, UseError> {
    let object = read::stored(platform, &caller.actor, Kind::Job, project, name).await?;
    let mut wanted = wire::object(&object);
    wanted.metadata = api::Metadata {
        name: fresh_name(
            name,
            &crate::platform::new_uid(platform.clock.now()).short(),
        ),
        project: project.to_owned(),
        labels: object.labels.clone(),
        annotations: object.annotations.clone(),
        ..api::Metadata::default()
    };
    wanted.status = None;
    wanted.spec["suspend"] = json!(false);
    let options = super::apply::Options {
        create_only: true,
        ..super::apply::Options::default()
    };
    Ok(super::apply::apply(platform, caller, wanted, options)
        .await?
        .object)
}

/// `name-1a2b3c4d`, cut so that it stays a name.
fn fresh_name(name: &str, suffix: &str) -> String {
    let room = base::name::NAME_LEN_MAX - suffix.len() - 1;
    let stem: String = name.chars().take(room).collect();
    format!("{}-{suffix}", stem.trim_end_matches('-'))
}

/// Deletes an object. A Job or App that runs is stopped first and goes when nothing of it is left.
pub async fn delete(
    platform: &Platform,
    caller: &Caller,
    kind: Kind,
    project: &str,
    name: &str,
    dry_run: bool,
) -> Result<Wire, UseError> {
    let needed = if kind.scope() == api::Scope::Project {
        Verb::Write
    } else {
        Verb::Administer
    };
    authorize(&caller.actor, needed, project)?;
    let object = read::stored(platform, &caller.actor, kind, project, name).await?;
    if kind == Kind::PodGroup {
        let detail = "a PodGroup is what is found on the cluster: delete its pods there";
        return Err(UseError::new(Code::Conflict, detail));
    }
    if dry_run {
        return Ok(wire::object(&object));
    }
    if project.is_empty() && name == "default" {
        let detail = format!(
            "{} `default` cannot be deleted: everything that names none uses it",
            kind.as_str().to_lowercase()
        );
        return Err(UseError::new(Code::Conflict, detail));
    }
    if kind == Kind::Project {
        refuse_if_used(platform, name).await?;
    }
    let runs = kind == Kind::App || (kind == Kind::Job && object.finished_at.is_none());
    let now = platform.clock.now();
    if runs {
        return change(
            platform,
            caller,
            "delete",
            kind,
            project,
            name,
            move |object| {
                object.deleted_at = object.deleted_at.or(Some(now));
                Ok(())
            },
        )
        .await;
    }
    let caller = caller.clone();
    platform
        .db
        .write(None, move |tx| {
            let (object, caller) = (object.clone(), caller.clone());
            Box::pin(async move {
                if kind == Kind::Model {
                    super::model::remove_versions(tx, &caller, &object).await?;
                }
                objects::remove(tx, &object).await?;
                trail::add(
                    tx,
                    &audit(&caller, "delete", &object, &recorded_digest(&object), ""),
                )
                .await?;
                Ok(wire::object(&object))
            })
        })
        .await
}

async fn refuse_if_used(platform: &Platform, project: &str) -> Result<(), UseError> {
    for kind in Kind::ALL
        .iter()
        .filter(|kind| kind.scope() == api::Scope::Project && **kind != Kind::Event)
    {
        let filter = objects::Filter {
            project: Some(project.to_owned()),
            limit: 1,
            ..objects::Filter::default()
        };
        let (found, _) = objects::list(&platform.db, kind.as_str(), &filter).await?;
        if !found.is_empty() {
            let detail = format!(
                "project `{project}` still has {}; delete them first",
                kind.plural()
            );
            return Err(UseError::new(Code::Conflict, detail));
        }
    }
    Ok(())
}
