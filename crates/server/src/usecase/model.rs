//! Models: a push adds an immutable version with its lineage; versions are listed; a Model goes with all of them.

use super::{Caller, audit, digest, wire};
use crate::auth::{Verb, authorize};
use crate::control::rows;
use crate::error::UseError;
use crate::pinned::Pinned;
use crate::platform::{Platform, new_uid};
use api::answer::PushRequest;
use api::job::{JobSpec, JobStatus};
use api::model::{Lineage, ModelStatus, ModelVersionSpec};
use api::{Kind, Object as Wire};
use base::{Bytes, Code, Digest, Generation, Seq, Time};
use db::objects::{self, Filter, LabelMatch, Object};
use db::{Tx, audit as trail, blobs};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The label of every version: which Model it is of.
pub const LABEL: &str = "model";
/// The most versions that one list answers, newest first.
const VERSIONS_MAX: u32 = 1_000;

/// Adds a version; the Model is made when it is new. What was pushed last is not added again.
pub async fn push(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    model: &str,
    request: PushRequest,
) -> Result<Wire, UseError> {
    authorize(&caller.actor, Verb::Write, project)?;
    if let Err(reason) = base::name::check(model) {
        return Err(UseError::field("name", reason.to_string()));
    }
    if request.digest.is_some() == request.job.is_some() {
        let message = "is needed, or `job`: exactly one of both says what the model is";
        return Err(UseError::field("digest", message));
    }
    if request.output.is_some() && request.job.is_none() {
        return Err(UseError::field("output", "is of a Job: name it in `job`"));
    }
    let push = Arc::new(Push {
        caller: caller.clone(),
        project: project.to_owned(),
        model: model.to_owned(),
        request,
        now: platform.clock.now(),
    });
    platform
        .db
        .write(None, move |tx| {
            let push = Arc::clone(&push);
            Box::pin(async move { push.run(tx).await })
        })
        .await
}

/// Adds what a Job left as a version, inside a write; its number and its content.
pub async fn push_output(
    tx: &mut Tx<'_>,
    caller: &Caller,
    job: &Object,
    model: &str,
    output: &str,
    metrics: &BTreeMap<String, f64>,
    now: Time,
) -> Result<(u32, Digest), UseError> {
    if !job.is_current {
        let detail = "another Job has its name by now";
        return Err(UseError::new(Code::Conflict, detail));
    }
    let push = Push {
        caller: caller.clone(),
        project: job.project.clone(),
        model: model.to_owned(),
        request: PushRequest {
            digest: None,
            job: Some(job.name.clone()),
            output: Some(output.to_owned()),
            format: String::new(),
            metrics: metrics.clone(),
        },
        now,
    };
    let made = push.run(tx).await?;
    let spec: ModelVersionSpec = serde_json::from_value(made.spec).unwrap_or_default();
    let digest = spec.digest;
    let digest = digest.ok_or_else(|| UseError::new(Code::Internal, "a version has no content"))?;
    Ok((spec.version, digest))
}

/// Versions of a Model, newest first.
pub async fn versions(
    platform: &Platform,
    caller: &Caller,
    project: &str,
    model: &str,
) -> Result<Vec<Wire>, UseError> {
    super::read::stored(platform, &caller.actor, Kind::Model, project, model).await?;
    let filter = Filter {
        project: Some(project.to_owned()),
        labels: vec![of(model)],
        limit: VERSIONS_MAX,
        ..Filter::default()
    };
    let kind = Kind::ModelVersion.as_str();
    let (found, _) = objects::list(&platform.db, kind, &filter).await?;
    Ok(found.iter().map(wire::object).collect())
}

/// A Model's versions are removed with it; whoever pinned their content keeps it. How many there were.
pub async fn remove_versions(
    tx: &mut Tx<'_>,
    caller: &Caller,
    model: &Object,
) -> Result<u32, UseError> {
    let status: ModelStatus = serde_json::from_value(model.status.clone()).unwrap_or_default();
    let mut n = 0;
    for version in 1..=status.latest {
        let name = version_name(&model.name, version);
        let kind = Kind::ModelVersion.as_str();
        let Some(object) = objects::get(tx, kind, &model.project, &name).await? else {
            continue;
        };
        objects::remove(tx, &object).await?;
        let entry = audit(caller, "delete", &object, &digest(&object.spec), "");
        trail::add(tx, &entry).await?;
        n += 1;
    }
    Ok(n)
}

/// What a new version needs beyond its row, however it is made: its name and number are the next of its Model, its
/// content is kept and now needed by it.
pub async fn adopt(
    tx: &mut Tx<'_>,
    caller: &Caller,
    object: &mut Object,
    now: Time,
) -> Result<(), UseError> {
    let mut spec: ModelVersionSpec =
        serde_json::from_value(object.spec.clone()).map_err(|error| {
            UseError::new(Code::Invalid, format!("the spec cannot be read: {error}"))
        })?;
    let mut model = model_of(tx, caller, object, &spec.model, now).await?;
    let mut status: ModelStatus = serde_json::from_value(model.status.clone()).unwrap_or_default();
    let next = status.latest + 1;
    if spec.version == 0 {
        spec.version = next;
    }
    if spec.version != next {
        let message = format!(
            "is {}; the next version of model `{}` is {next} (leave it out)",
            spec.version, spec.model
        );
        return Err(UseError::field("spec.version", message));
    }
    let name = version_name(&spec.model, next);
    if object.name != name {
        let message = format!("is `{}`; this version's name is `{name}`", object.name);
        return Err(UseError::field("metadata.name", message));
    }
    let Some(content) = spec.digest else {
        return Err(UseError::field("spec.digest", "is missing"));
    };
    let size = super::pin::kept(tx, &object.project, content).await?;
    let size = size.ok_or_else(|| UseError::field("spec.digest", super::pin::not_kept(content)))?;
    spec.size = Some(Bytes(size));
    blobs::hold(tx, &object.project, content, object.uid, "model").await?;
    object.spec = serde_json::to_value(&spec).expect("a spec is JSON");
    object.labels.insert(LABEL.to_owned(), spec.model.clone());
    status.latest = next;
    model.status = serde_json::to_value(&status).expect("a status is JSON");
    objects::set_status(tx, model.uid, &model.phase, &model.status).await?;
    let sentence = format!("version {next} was pushed");
    rows::record(tx, &model, false, "Pushed", &sentence, now).await?;
    Ok(())
}

/// What the server wrote into a version's spec, where the same file is applied again.
pub fn filled(spec: &mut Value, found: &Value) {
    if spec["version"] == 0 {
        spec["version"] = found["version"].clone();
    }
    if spec["size"].is_null() && !found["size"].is_null() {
        spec["size"] = found["size"].clone();
    }
}

/// The Model of a version, made when it is new.
async fn model_of(
    tx: &mut Tx<'_>,
    caller: &Caller,
    version: &Object,
    name: &str,
    now: Time,
) -> Result<Object, UseError> {
    let kind = Kind::Model.as_str();
    if let Some(found) = objects::get(tx, kind, &version.project, name).await? {
        return Ok(found);
    }
    let mut model = Object {
        uid: new_uid(now),
        kind: kind.to_owned(),
        name: name.to_owned(),
        spec: json!({}),
        desired: json!({}),
        status: json!({"latest": 0}),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ..version.clone()
    };
    model.seq = objects::insert(tx, &model).await?;
    let entry = audit(caller, "create", &model, "", &digest(&model.spec));
    trail::add(tx, &entry).await?;
    Ok(model)
}

/// `flights-v3`.
pub fn version_name(model: &str, version: u32) -> String {
    format!("{model}-v{version}")
}

fn of(model: &str) -> LabelMatch {
    LabelMatch::In(LABEL.to_owned(), vec![model.to_owned()])
}

struct Push {
    caller: Caller,
    project: String,
    model: String,
    request: PushRequest,
    now: Time,
}

impl Push {
    async fn run(&self, tx: &mut Tx<'_>) -> Result<Wire, UseError> {
        let (content, lineage) = match &self.request.job {
            Some(job) => self.of_job(tx, job).await?,
            None => {
                let lineage = Lineage {
                    metrics: self.request.metrics.clone(),
                    ..Lineage::default()
                };
                (self.request.digest, lineage)
            }
        };
        let kind = Kind::Model.as_str();
        let model = objects::get(tx, kind, &self.project, &self.model).await?;
        let status = model.map(|model| model.status).unwrap_or_default();
        let status: ModelStatus = serde_json::from_value(status).unwrap_or_default();
        let spec = ModelVersionSpec {
            model: self.model.clone(),
            version: status.latest + 1,
            format: self.request.format.clone(),
            digest: content,
            size: None,
            lineage,
        };
        let name = version_name(&self.model, spec.version);
        if let Err(reason) = base::name::check(&name) {
            let message = format!("makes the version's name `{name}`, which {reason}");
            return Err(UseError::field("name", message));
        }
        if let Some(last) = self.last(tx, status.latest, &spec).await? {
            return Ok(wire::object(&last));
        }
        self.insert(tx, name, &spec).await
    }

    /// The newest version, if it is the same as what is pushed.
    async fn last(
        &self,
        tx: &mut Tx<'_>,
        latest: u32,
        spec: &ModelVersionSpec,
    ) -> Result<Option<Object>, UseError> {
        let name = version_name(&self.model, latest);
        let kind = Kind::ModelVersion.as_str();
        let last = objects::get(tx, kind, &self.project, &name).await?;
        let is_same = |last: &Object| {
            let old: Result<ModelVersionSpec, _> = serde_json::from_value(last.spec.clone());
            old.is_ok_and(|old| {
                let wanted = ModelVersionSpec {
                    version: old.version,
                    size: old.size,
                    ..spec.clone()
                };
                old == wanted
            })
        };
        Ok(last.filter(is_same))
    }

    async fn insert(
        &self,
        tx: &mut Tx<'_>,
        name: String,
        spec: &ModelVersionSpec,
    ) -> Result<Wire, UseError> {
        let project = objects::get(tx, "Project", "", &self.project).await?;
        let project = project.ok_or_else(|| UseError::not_found("Project", "", &self.project))?;
        let actor = &self.caller.actor.name;
        let mut object = Object {
            uid: new_uid(self.now),
            kind: Kind::ModelVersion.as_str().to_owned(),
            tenant: project.spec["tenant"]
                .as_str()
                .unwrap_or("default")
                .to_owned(),
            project: self.project.clone(),
            cluster: String::new(),
            name,
            owner: actor.clone(),
            creator: actor.clone(),
            generation: Generation(1),
            seq: Seq(0),
            phase: String::new(),
            spec: serde_json::to_value(spec).expect("a spec is JSON"),
            desired: json!({}),
            status: json!({}),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created_at: self.now,
            updated_at: self.now,
            deleted_at: None,
            finished_at: None,
            is_current: true,
        };
        adopt(tx, &self.caller, &mut object, self.now).await?;
        object.seq = objects::insert(tx, &object).await?;
        let entry = audit(&self.caller, "push", &object, "", &digest(&object.spec));
        trail::add(tx, &entry).await?;
        Ok(wire::object(&object))
    }

    /// The content of a Job's output, and where it comes from.
    async fn of_job(
        &self,
        tx: &mut Tx<'_>,
        name: &str,
    ) -> Result<(Option<Digest>, Lineage), UseError> {
        let job = objects::get(tx, Kind::Job.as_str(), &self.project, name).await?;
        let job = job.ok_or_else(|| UseError::not_found("Job", &self.project, name))?;
        let status: JobStatus = serde_json::from_value(job.status.clone()).unwrap_or_default();
        let wanted = self.request.output.as_deref();
        let known: Vec<&str> = status
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let found = match (wanted, status.outputs.as_slice()) {
            (Some(wanted), outputs) => outputs.iter().find(|output| output.name == wanted),
            (None, [only]) => Some(only),
            (None, outputs) => outputs.iter().find(|output| output.name == "model"),
        };
        let Some(output) = found else {
            let message = if known.is_empty() {
                format!("is needed, and job `{name}` ({}) left no output", job.phase)
            } else {
                format!(
                    "names no output of job `{name}`, which left: {}",
                    known.join(", ")
                )
            };
            return Err(UseError::field("output", message));
        };
        let spec: JobSpec = serde_json::from_value(job.spec.clone()).unwrap_or_default();
        let pinned: Pinned =
            serde_json::from_value(job.desired["pinned"].clone()).unwrap_or_default();
        let group = output.replica.split('/').next().unwrap_or_default();
        let program = pinned.programs.get(group);
        let environment = program.and_then(|program| program.environment.as_ref());
        let lineage = Lineage {
            job: Some(job.name.clone()),
            job_uid: Some(job.uid.to_string()),
            output: Some(output.name.clone()),
            code: program.and_then(|program| program.code),
            commit: program
                .and_then(|program| program.git.as_ref())
                .map(|git| git.commit.clone()),
            environment: environment.map(|pin| format!("{}@{}", pin.name, pin.version)),
            params: spec.params.into_iter().collect::<BTreeMap<String, Value>>(),
            metrics: self.request.metrics.clone(),
        };
        Ok((Some(output.digest), lineage))
    }
}
