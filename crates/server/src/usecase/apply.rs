//! Making objects be as written: create, apply (`PUT`), merge-patch. One path for all three.
//!
//! The same spec is a no-op. A changed field of running work that cannot change is a conflict that names the
//! fields; a finished object with another spec gives way only when the caller says so.

use super::{Caller, audit, digest, pin, recorded_digest, seal, wire};
use crate::auth::{Verb, authorize};
use crate::control::rows;
use crate::elsewhere;
use crate::error::UseError;
use crate::git;
use crate::pinned::Pinned;
use crate::platform::{Platform, new_uid};
use api::answer::ApplyAction;
use api::immutable::Stage;
use api::{Kind, Object as Wire, Purpose, Scope};
use base::{Code, Digest, Generation, Seq, Time};
use db::objects::{self, Object};
use db::versions::{self, EnvironmentVersion};
use db::{Tx, audit as trail, blobs};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How to apply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Check and plan, change nothing.
    pub dry_run: bool,
    /// A finished object with another spec gives way to a new one.
    pub replace: bool,
    /// Fail when the name is taken (`POST`).
    pub create_only: bool,
    /// Only if the object has this generation (`If-Match`).
    pub generation: Option<Generation>,
}

/// What was done, or would be.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The object as it is now.
    pub object: Wire,
    /// What happened.
    pub action: ApplyAction,
    /// What changes, line by line.
    pub diff: Vec<String>,
    /// What the platform would do next.
    pub plan: Vec<String>,
}

/// Applies one object.
pub async fn apply(
    platform: &Platform,
    caller: &Caller,
    mut wanted: Wire,
    options: Options,
) -> Result<Applied, UseError> {
    let kind = Kind::find(&wanted.kind).ok_or_else(|| {
        UseError::field(
            "kind",
            format!("is `{}`, which does not exist", wanted.kind),
        )
    })?;
    let by_the_server = match kind {
        Kind::Event => Some("events are written by the server alone"),
        Kind::PodGroup => Some(
            "pod groups are what is found on the cluster: make pods with `schedulerName: moonshot`",
        ),
        _ => None,
    };
    if let Some(sentence) = by_the_server {
        return Err(UseError::new(Code::Invalid, sentence));
    }
    match kind.scope() {
        Scope::Project if wanted.metadata.project.is_empty() => {
            wanted.metadata.project = "default".to_owned()
        }
        Scope::Project => {}
        Scope::Global | Scope::Tenant => wanted.metadata.project = String::new(),
    }
    let verb = if kind.scope() == Scope::Project {
        Verb::Write
    } else {
        Verb::Administer
    };
    authorize(&caller.actor, verb, &wanted.metadata.project)?;
    let now = platform.clock.now();
    if wanted.metadata.name.is_empty()
        && let Some(prefix) = wanted.metadata.generate_name.take()
    {
        wanted.metadata.name = format!("{prefix}{}", new_uid(now).short());
    }
    check(&mut wanted)?;
    let (wanted, secret) = taken_apart(kind, wanted);
    let (mut git, mut elsewhere) = (git::Pins::new(), None);
    if pins_anew(platform, kind, &wanted, options).await? {
        git = git::pin(platform, &wanted, kind, options.dry_run).await?;
        elsewhere = elsewhere::pin(platform, &wanted, kind, options.dry_run).await?;
    }
    let request = Arc::new(Request {
        caller: caller.clone(),
        kind,
        wanted,
        secret,
        options,
        now,
        key: platform.key.clone(),
        git,
        elsewhere,
    });
    platform
        .db
        .write(None, move |tx| {
            let request = Arc::clone(&request);
            Box::pin(async move { request.run(tx).await })
        })
        .await
        .or_else(|error| match error {
            // A dry run is a write that is undone; its result comes as a refusal.
            ApplyError::DryRun(applied) => Ok(*applied),
            ApplyError::Use(error) => Err(error),
        })
}

/// Whether applying this would pin references anew. Looked at before the write, because a repository is not asked
/// within one; who changes the object in between only makes a fetch needless.
async fn pins_anew(
    platform: &Platform,
    kind: Kind,
    wanted: &Wire,
    options: Options,
) -> Result<bool, UseError> {
    if !matches!(kind, Kind::Job | Kind::App) {
        return Ok(false);
    }
    let metadata = &wanted.metadata;
    let found = objects::read(
        &platform.db,
        kind.as_str(),
        &metadata.project,
        &metadata.name,
    )
    .await?;
    Ok(match found {
        None => true,
        Some(found) if kind == Kind::App => {
            wire::revised(&found.spec) != wire::revised(&wanted.spec)
        }
        Some(found) => options.replace && found.finished_at.is_some() && found.spec != wanted.spec,
    })
}

/// Every invalid field is told; the spec is then in its one canonical form, so that equal specs are equal JSON.
fn check(wanted: &mut Wire) -> Result<(), UseError> {
    match api::check(wanted, Purpose::Create) {
        Ok(typed) => {
            wanted.spec = typed.canonical_spec();
            Ok(())
        }
        Err(errors) => {
            let detail = errors.first().map_or_else(String::new, |first| {
                format!("`{}` {}", first.field, first.message)
            });
            Err(UseError::invalid(detail, errors))
        }
    }
}

/// A Secret's values leave the spec before anything else sees it.
fn taken_apart(kind: Kind, mut wanted: Wire) -> (Wire, Option<BTreeMap<String, Vec<u8>>>) {
    if kind != Kind::Secret {
        return (wanted, None);
    }
    let spec = std::mem::replace(&mut wanted.spec, json!({}));
    let mut entries = BTreeMap::new();
    for (name, value) in spec["data"].as_object().into_iter().flatten() {
        entries.insert(
            name.clone(),
            value.as_str().unwrap_or_default().as_bytes().to_vec(),
        );
    }
    for (name, value) in spec["binaryData"].as_object().into_iter().flatten() {
        use base64::Engine;
        let text = value.as_str().unwrap_or_default();
        if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) {
            entries.insert(name.clone(), bytes);
        }
    }
    (wanted, Some(entries))
}

enum ApplyError {
    DryRun(Box<Applied>),
    Use(UseError),
}

impl From<db::DbError> for ApplyError {
    fn from(error: db::DbError) -> Self {
        ApplyError::Use(error.into())
    }
}
impl From<UseError> for ApplyError {
    fn from(error: UseError) -> Self {
        ApplyError::Use(error)
    }
}
impl db::AsDbError for ApplyError {
    fn as_db_error(&self) -> Option<&db::DbError> {
        match self {
            ApplyError::Use(error) => error.as_db_error(),
            ApplyError::DryRun(_) => None,
        }
    }
}

struct Request {
    caller: Caller,
    kind: Kind,
    wanted: Wire,
    secret: Option<BTreeMap<String, Vec<u8>>>,
    options: Options,
    now: Time,
    key: Vec<u8>,
    git: git::Pins,
    /// The files that an App's model was fetched from elsewhere as.
    elsewhere: Option<Digest>,
}

impl Request {
    async fn run(&self, tx: &mut Tx<'_>) -> Result<Applied, ApplyError> {
        let applied = self.apply(tx).await?;
        if self.options.dry_run {
            Err(ApplyError::DryRun(Box::new(applied)))
        } else {
            Ok(applied)
        }
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Result<Applied, UseError> {
        let wanted = &self.wanted.metadata;
        let found = objects::get(tx, self.kind.as_str(), &wanted.project, &wanted.name).await?;
        let Some(found) = found else {
            if let Some(generation) = self.options.generation {
                let detail = format!(
                    "there is no {} `{}`; `If-Match: {generation}` cannot hold",
                    self.kind.as_str(),
                    wanted.name
                );
                return Err(UseError::new(Code::Conflict, detail));
            }
            return self.create(tx, ApplyAction::Created).await;
        };
        if self.options.create_only {
            let detail = format!(
                "{} `{}` exists; apply it with PUT, or choose another name",
                found.kind, found.name
            );
            return Err(UseError::new(Code::Conflict, detail));
        }
        if let Some(generation) = self.options.generation
            && generation != found.generation
        {
            let detail = format!(
                "{} `{}` has generation {}, not {generation}: read it again",
                found.kind, found.name, found.generation
            );
            return Err(UseError::new(Code::Conflict, detail));
        }
        if found.deleted_at.is_some() {
            let detail = format!(
                "{} `{}` is being deleted; wait until it is gone",
                found.kind, found.name
            );
            return Err(UseError::new(Code::Conflict, detail));
        }
        self.update(tx, found).await
    }

    async fn create(&self, tx: &mut Tx<'_>, action: ApplyAction) -> Result<Applied, UseError> {
        let metadata = &self.wanted.metadata;
        let tenant = self.tenant(tx).await?;
        let mut object = Object {
            uid: new_uid(self.now),
            kind: self.kind.as_str().to_owned(),
            tenant,
            project: metadata.project.clone(),
            cluster: String::new(),
            name: metadata.name.clone(),
            owner: self.caller.actor.name.clone(),
            creator: self.caller.actor.name.clone(),
            generation: Generation(1),
            seq: Seq(0),
            phase: String::new(),
            spec: wire::map_or_empty(self.wanted.spec.clone()),
            desired: json!({}),
            status: json!({}),
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            created_at: self.now,
            updated_at: self.now,
            deleted_at: None,
            finished_at: None,
            is_current: true,
        };
        let plan = self.prepare(tx, &mut object, None).await?;
        object.seq = objects::insert(tx, &object).await?;
        let after = self.digest_of(&object);
        trail::add(tx, &audit(&self.caller, "create", &object, "", &after)).await?;
        let diff = api::diff::lines("spec", &json!({}), &object.spec);
        Ok(Applied {
            object: wire::object(&object),
            action,
            diff,
            plan,
        })
    }

    async fn update(&self, tx: &mut Tx<'_>, found: Object) -> Result<Applied, UseError> {
        let mut spec = wire::map_or_empty(self.wanted.spec.clone());
        if self.kind == Kind::ModelVersion {
            super::model::filled(&mut spec, &found.spec);
        }
        let metadata = &self.wanted.metadata;
        let same_secret = self.secret.is_none()
            || found.desired["keyed"].as_str() == Some(&self.keyed_digest(&found));
        let same_spec = spec == found.spec && same_secret;
        let same_metadata =
            metadata.labels == found.labels && metadata.annotations == found.annotations;
        if same_spec && same_metadata {
            return Ok(Applied {
                object: wire::object(&found),
                action: ApplyAction::Unchanged,
                diff: Vec::new(),
                plan: Vec::new(),
            });
        }
        if !same_spec && found.finished_at.is_some() {
            if !self.options.replace {
                let detail = format!(
                    "{} `{}` is over and its spec differs: apply with `replace`, run it again with `rerun`, or use another name",
                    found.kind.to_lowercase(),
                    found.name
                );
                return Err(UseError::new(Code::Conflict, detail));
            }
            let old = Object {
                is_current: false,
                ..found
            };
            objects::update(tx, &old).await?;
            return self.create(tx, ApplyAction::Replaced).await;
        }
        let stage = if found.status["startedAt"].is_string() {
            Stage::Running
        } else {
            Stage::Waiting
        };
        let immutable = api::immutable::immutable_changes(self.kind, stage, &found.spec, &spec);
        if !immutable.is_empty() {
            let detail = format!(
                "{} `{}` exists and these fields cannot change: {}; use another name, or delete it first",
                found.kind.to_lowercase(),
                found.name,
                immutable.join(", ")
            );
            return Err(UseError::new(Code::Conflict, detail));
        }
        let before = recorded_digest(&found);
        let diff = api::diff::lines("spec", &found.spec, &spec);
        let mut object = Object {
            spec,
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            updated_at: self.now,
            ..found.clone()
        };
        let mut plan = Vec::new();
        if !same_spec {
            object.generation = object.generation.next();
            plan = self.prepare(tx, &mut object, Some(&found)).await?;
        }
        object.seq = objects::update(tx, &object).await?;
        let after = self.digest_of(&object);
        trail::add(tx, &audit(&self.caller, "update", &object, &before, &after)).await?;
        Ok(Applied {
            object: wire::object(&object),
            action: ApplyAction::Configured,
            diff,
            plan,
        })
    }

    /// The digest in the audit trail: keyed for Secrets, so that a guess cannot be checked against it.
    fn digest_of(&self, object: &Object) -> String {
        if self.secret.is_some() {
            self.keyed_digest(object)
        } else {
            digest(&object.spec)
        }
    }

    fn keyed_digest(&self, object: &Object) -> String {
        use hmac::{KeyInit, Mac};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&self.key)
            .expect("HMAC takes keys of any length");
        mac.update(object.uid.to_string().as_bytes());
        mac.update(
            serde_json::to_string(&self.secret)
                .expect("entries are JSON")
                .as_bytes(),
        );
        base::hex(mac.finalize().into_bytes())
    }

    async fn tenant(&self, tx: &mut Tx<'_>) -> Result<String, UseError> {
        if self.kind.scope() != Scope::Project {
            return Ok(String::new());
        }
        let name = &self.wanted.metadata.project;
        let Some(project) = objects::get(tx, "Project", "", name).await? else {
            let detail = format!("there is no project `{name}`; make it with `kind: Project`");
            return Err(UseError::new(Code::NotFound, detail));
        };
        Ok(project.spec["tenant"]
            .as_str()
            .unwrap_or("default")
            .to_owned())
    }

    /// What a kind needs beyond its row, in the same transaction; what the platform will do next, in sentences.
    async fn prepare(
        &self,
        tx: &mut Tx<'_>,
        object: &mut Object,
        old: Option<&Object>,
    ) -> Result<Vec<String>, UseError> {
        match self.kind {
            Kind::Job => self.job(tx, object, old).await,
            Kind::App => self.app(tx, object, old).await,
            Kind::Environment => self.environment(tx, object).await,
            Kind::Secret => self.secret(tx, object).await,
            Kind::ModelVersion => {
                super::model::adopt(tx, &self.caller, object, self.now).await?;
                Ok(Vec::new())
            }
            Kind::Tenant
            | Kind::Project
            | Kind::Queue
            | Kind::Pool
            | Kind::Cluster
            | Kind::Node
            | Kind::Model
            | Kind::PodGroup
            | Kind::Event => Ok(Vec::new()),
        }
    }

    async fn check_queue(&self, tx: &mut Tx<'_>, object: &Object) -> Result<(), UseError> {
        let Some(name) = object.spec["queue"].as_str() else {
            return Ok(());
        };
        let Some(queue) = objects::get(tx, "Queue", "", name).await? else {
            return Err(UseError::field(
                "spec.queue",
                format!("names queue `{name}`, which does not exist"),
            ));
        };
        let projects = queue.spec["projects"].as_array();
        let takes = projects.is_some_and(|projects| {
            projects
                .iter()
                .any(|project| project == object.project.as_str())
        });
        if takes || name == "default" {
            return Ok(());
        }
        let message = format!(
            "names queue `{name}`, which does not take work of project `{}`",
            object.project
        );
        Err(UseError::field("spec.queue", message))
    }

    async fn job(
        &self,
        tx: &mut Tx<'_>,
        object: &mut Object,
        old: Option<&Object>,
    ) -> Result<Vec<String>, UseError> {
        self.check_queue(tx, object).await?;
        if old.is_some() {
            return Ok(vec!["the running Job takes over what changed".to_owned()]);
        }
        let spec = typed(&object.spec)?;
        let pinned = pin::job(tx, &object.project, &spec, &self.git).await?;
        for digest in pin::digests(&pinned) {
            blobs::hold(tx, &object.project, digest, object.uid, "job").await?;
        }
        self.tell_commits(tx, object, &pinned).await?;
        object.desired = json!({"pinned": pinned});
        object.phase = "Queued".to_owned();
        object.status =
            json!({"phase": "Queued", "observedGeneration": 0, "attempts": 0, "failures": 0});
        let n: u32 = crate::program::groups(&spec)
            .iter()
            .map(|group| group.replicas.unwrap_or(1))
            .sum();
        let n = spec.array.map_or(n, |array| array.count);
        Ok(vec![format!(
            "{n} {} would be queued",
            if n == 1 { "replica" } else { "replicas" }
        )])
    }

    async fn app(
        &self,
        tx: &mut Tx<'_>,
        object: &mut Object,
        old: Option<&Object>,
    ) -> Result<Vec<String>, UseError> {
        self.check_queue(tx, object).await?;
        if let Some(old) = old
            && wire::revised(&old.spec) == wire::revised(&object.spec)
        {
            return Ok(vec![
                "no replica is replaced: the template is the same".to_owned(),
            ]);
        }
        let spec = typed(&object.spec)?;
        let mut pinned = pin::app(tx, &object.project, &spec, &self.git, self.elsewhere).await?;
        let revisions = versions::get_revisions(tx, object.uid).await?;
        if let Some(old) = old {
            pin::keep_version(&mut pinned, &spec, old, &revisions);
        }
        let number = revisions.first().map_or(1, |newest| newest.number + 1);
        self.tell_commits(tx, object, &pinned).await?;
        let creator = &self.caller.actor.name;
        super::revision::add(tx, object, number, &pinned, creator, self.now).await?;
        if old.is_none() {
            object.phase = "Progressing".to_owned();
            let status = json!({"phase": "Progressing", "observedGeneration": 0, "replicas": 0, "ready": 0, "updated": 0,
                "revision": number, "stableRevision": 0});
            object.status = status;
        }
        Ok(vec![format!("revision {number} would be rolled out")])
    }

    /// Which commits the code was taken from, as an event: the spec says what was asked for.
    async fn tell_commits(
        &self,
        tx: &mut Tx<'_>,
        object: &Object,
        pinned: &Pinned,
    ) -> Result<(), UseError> {
        let mut told = BTreeSet::new();
        for git in pinned
            .programs
            .values()
            .filter_map(|program| program.git.as_ref())
        {
            if told.insert(&git.commit) {
                let sentence = format!("the code is commit {} of {}", git.commit, git.url);
                rows::record(tx, object, false, "CodePinned", &sentence, self.now).await?;
            }
        }
        Ok(())
    }

    async fn environment(
        &self,
        tx: &mut Tx<'_>,
        object: &mut Object,
    ) -> Result<Vec<String>, UseError> {
        let version = object.status["version"]
            .as_u64()
            .and_then(|v| u32::try_from(v).ok())
            .unwrap_or(0)
            + 1;
        let is_image = object.spec["image"].is_string();
        let phase = if is_image { "Ready" } else { "Building" };
        let row = EnvironmentVersion {
            environment: object.uid,
            version,
            spec: object.spec.clone(),
            phase: phase.to_owned(),
            digest: None,
            packages: Vec::new(),
            message: String::new(),
            created_at: self.now,
        };
        versions::put_environment(tx, &row).await?;
        object.phase = phase.to_owned();
        object.status = json!({"phase": phase, "version": version});
        Ok(vec![if is_image {
            format!("version {version} is the image")
        } else {
            format!("version {version} would be built")
        }])
    }

    async fn secret(&self, tx: &mut Tx<'_>, object: &mut Object) -> Result<Vec<String>, UseError> {
        let empty = BTreeMap::new();
        let entries = self.secret.as_ref().unwrap_or(&empty);
        let version = object.status["version"]
            .as_u64()
            .and_then(|v| u32::try_from(v).ok())
            .unwrap_or(0)
            + 1;
        let sealed = seal::seal(&self.key, object.uid, version, entries)?;
        let keys: Vec<String> = entries.keys().cloned().collect();
        versions::insert_secret(tx, object.uid, version, &sealed, &keys).await?;
        object.status = json!({"version": version, "keys": keys});
        object.desired = json!({"keyed": self.keyed_digest(object)});
        Ok(vec![format!(
            "version {version} with {} entries",
            keys.len()
        )])
    }
}

fn typed<T: serde::de::DeserializeOwned>(spec: &Value) -> Result<T, UseError> {
    serde_json::from_value(spec.clone())
        .map_err(|error| UseError::new(Code::Invalid, format!("the spec cannot be read: {error}")))
}

/// The objects that every installation has, made at its first start.
pub async fn seed(platform: &Platform) -> Result<(), UseError> {
    let caller = Caller {
        actor: system(),
        request: "start".to_owned(),
    };
    let object = |kind: Kind, name: &str, spec: Value| Wire {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: kind.as_str().to_owned(),
        metadata: api::Metadata {
            name: name.to_owned(),
            ..api::Metadata::default()
        },
        spec,
        status: None,
    };
    let seeds = [
        object(Kind::Tenant, "default", json!({})),
        object(Kind::Project, "default", json!({})),
        object(Kind::Pool, "default", json!({})),
        object(Kind::Queue, "default", json!({"projects": ["default"]})),
        // The one Cluster is named after its engine.
        object(
            Kind::Cluster,
            &platform.cluster,
            json!({"engine": platform.cluster}),
        ),
    ];
    for seed in seeds {
        let kind = Kind::find(&seed.kind).expect("seeds are of known kinds");
        if objects::read(&platform.db, kind.as_str(), "", &seed.metadata.name)
            .await?
            .is_none()
        {
            apply(platform, &caller, seed, Options::default()).await?;
        }
    }
    Ok(())
}

/// The platform itself, as a caller.
pub fn system() -> crate::auth::Actor {
    crate::auth::Actor {
        name: "system".to_owned(),
        token: None,
        role: api::answer::Role::Admin,
        project: None,
        app: None,
    }
}
