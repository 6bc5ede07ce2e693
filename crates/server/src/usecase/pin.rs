//! What the references of a spec mean now: Environment, Secret and model versions, outputs of Jobs, code. Every
//! one that does not exist is told, by its path, with the nearest name.

use crate::error::UseError;
use crate::git;
use crate::pinned::{Pinned, PinnedEnvironment, PinnedProgram, TEMPLATE};
use crate::program;
use api::FieldError;
use api::app::AppSpec;
use api::common::{Input, ProgramSpec};
use api::environment::EnvironmentSpec;
use api::job::{JobSpec, JobStatus};
use api::served::{ModelSource, ServedModel};
use base::Digest;
use db::objects::Object;
use db::versions::Revision;
use db::{DbError, Tx, blobs, objects};
use std::collections::BTreeMap;

/// Pins of a Job, and the digests it holds.
pub async fn job(
    tx: &mut Tx<'_>,
    project: &str,
    spec: &JobSpec,
    git: &git::Pins,
) -> Result<Pinned, UseError> {
    let mut pins = Pins {
        project,
        git,
        errors: Vec::new(),
    };
    let mut pinned = Pinned::default();
    for (at, group) in program::groups(spec).iter().enumerate() {
        let path = if spec.groups.is_empty() {
            "spec".to_owned()
        } else {
            format!("spec.groups[{at}]")
        };
        let program = pins.program(tx, &path, &group.program).await?;
        if program
            .environment
            .as_ref()
            .is_some_and(|environment| environment.image.is_some())
            && group.program.command.is_empty()
        {
            let message = "is needed with an image: the image's ENTRYPOINT is not read";
            pins.error(format!("{path}.command"), message);
        }
        pinned.programs.insert(group.name.clone(), program);
    }
    pins.done(pinned)
}

/// Pins of an App's template.
pub async fn app(
    tx: &mut Tx<'_>,
    project: &str,
    spec: &AppSpec,
    git: &git::Pins,
    elsewhere: Option<Digest>,
) -> Result<Pinned, UseError> {
    let mut pins = Pins {
        project,
        git,
        errors: Vec::new(),
    };
    let mut program = pins
        .program(tx, "spec.template", &spec.template.program)
        .await?;
    if let Some(model) = &spec.model {
        program.model = pins.served(tx, model).await?;
        // Files from elsewhere are no Model's version; they are served as version 1.
        program.model.extend(elsewhere.map(|digest| (1, digest)));
    }
    let mut pinned = Pinned::default();
    pinned.programs.insert(TEMPLATE.to_owned(), program);
    pins.done(pinned)
}

/// An App that goes on naming its Model without a version keeps the one that it serves: which version comes next is
/// for whoever names one, and for deliveries.
pub fn keep_version(pinned: &mut Pinned, spec: &AppSpec, old: &Object, revisions: &[Revision]) {
    let unversioned = |model: &ServedModel| {
        matches!(model.source(), Ok(ModelSource::Model { version: None, .. }))
    };
    let before: Option<ServedModel> = serde_json::from_value(old.spec["model"].clone()).ok();
    let (Some(now), Some(before)) = (&spec.model, before) else {
        return;
    };
    if now.uri != before.uri || !unversioned(now) {
        return;
    }
    let served = served_by(old, revisions).and_then(|versions| {
        let own = versions
            .iter()
            .find(|(number, _)| !before.versions.contains(number));
        own.or(versions.last_key_value())
            .map(|(number, digest)| (*number, *digest))
    });
    let program = pinned.programs.get_mut(TEMPLATE);
    if let (Some((number, digest)), Some(program)) = (served, program) {
        program
            .model
            .retain(|number, _| now.versions.contains(number));
        program.model.insert(number, digest);
    }
}

/// The model that an App's target Revision serves, by version.
pub fn served_by(app: &Object, revisions: &[Revision]) -> Option<BTreeMap<u32, Digest>> {
    let target = super::revision::target(app);
    let target = revisions.iter().find(|one| target == Some(one.number))?;
    let mut pinned: Pinned = serde_json::from_value(target.pinned.clone()).ok()?;
    Some(pinned.programs.remove(TEMPLATE)?.model)
}

struct Pins<'a> {
    project: &'a str,
    git: &'a git::Pins,
    errors: Vec<FieldError>,
}

impl Pins<'_> {
    fn error(&mut self, field: String, message: impl Into<String>) {
        self.errors.push(FieldError {
            field,
            message: message.into(),
            line: None,
            column: None,
        });
    }

    fn done(self, pinned: Pinned) -> Result<Pinned, UseError> {
        if self.errors.is_empty() {
            return Ok(pinned);
        }
        let first = &self.errors[0];
        let detail = format!("`{}` {}", first.field, first.message);
        Err(UseError::invalid(detail, self.errors))
    }

    async fn program(
        &mut self,
        tx: &mut Tx<'_>,
        path: &str,
        program: &ProgramSpec,
    ) -> Result<PinnedProgram, UseError> {
        let mut pinned = PinnedProgram::default();
        if let Some(name) = &program.environment {
            pinned.environment = self
                .environment(tx, &format!("{path}.environment"), name)
                .await?;
        }
        if let Some(code) = &program.code {
            pinned.code = code.digest;
            if let Some(digest) = code.digest {
                self.check_kept(tx, &format!("{path}.code.digest"), digest)
                    .await?;
            }
            if let Some((digest, git)) = code
                .git
                .as_ref()
                .and_then(|git| self.git.get(&git::key(git)))
            {
                pinned.code = Some(*digest);
                pinned.git = Some(git.clone());
            }
            if code.dir.is_some() {
                self.error(
                    format!("{path}.code.dir"),
                    "is uploaded by the command line, which then sends `digest`",
                );
            }
        }
        let variables = program.env.iter().enumerate();
        let in_env = variables.filter_map(|(at, variable)| {
            Some((
                format!("{path}.env[{at}].secret"),
                variable.secret.as_ref()?,
            ))
        });
        let mut named: Vec<(String, String, Option<String>)> = in_env
            .map(|(path, secret)| (path, secret.name.clone(), Some(secret.key.clone())))
            .collect();
        let mounts = program.secrets.iter().enumerate();
        named.extend(mounts.map(|(at, mount)| {
            (
                format!("{path}.secrets[{at}].name"),
                mount.name.clone(),
                None,
            )
        }));
        for (path, name, key) in named {
            if let Some(version) = self.secret(tx, &path, &name, key.as_deref()).await? {
                pinned.secrets.insert(name, version);
            }
        }
        for (at, input) in program.inputs.iter().enumerate() {
            if let Some(digest) = self
                .input(tx, &format!("{path}.inputs[{at}]"), input)
                .await?
            {
                pinned.inputs.insert(input.name.clone(), digest);
            }
        }
        Ok(pinned)
    }

    async fn check_kept(
        &mut self,
        tx: &mut Tx<'_>,
        path: &str,
        digest: Digest,
    ) -> Result<(), DbError> {
        if kept(tx, self.project, digest).await?.is_none() {
            self.error(path.to_owned(), not_kept(digest));
        }
        Ok(())
    }

    async fn environment(
        &mut self,
        tx: &mut Tx<'_>,
        path: &str,
        reference: &str,
    ) -> Result<Option<PinnedEnvironment>, UseError> {
        let (name, version) = split(reference);
        let Some(object) = objects::get(tx, "Environment", self.project, name).await? else {
            let message = self.missing(tx, "Environment", name).await?;
            self.error(path.to_owned(), message);
            return Ok(None);
        };
        let newest = object.status["version"]
            .as_u64()
            .and_then(|v| u32::try_from(v).ok())
            .unwrap_or(1);
        let version = match version {
            None => newest,
            Some(text) => match text.parse::<u32>() {
                Ok(version) if (1..=newest).contains(&version) => version,
                _ => {
                    self.error(path.to_owned(), format!("names version `{text}`; environment `{name}` has versions 1 to {newest}"));
                    return Ok(None);
                }
            },
        };
        let row = db::versions::get_environment(tx, object.uid, version).await?;
        let spec = row.map_or_else(|| object.spec.clone(), |row| row.spec);
        let spec: EnvironmentSpec = serde_json::from_value(spec).unwrap_or_default();
        Ok(Some(PinnedEnvironment {
            uid: object.uid,
            name: name.to_owned(),
            version,
            image: spec.image,
            env: spec.env,
        }))
    }

    async fn secret(
        &mut self,
        tx: &mut Tx<'_>,
        path: &str,
        name: &str,
        key: Option<&str>,
    ) -> Result<Option<u32>, UseError> {
        let Some(object) = objects::get(tx, "Secret", self.project, name).await? else {
            let message = self.missing(tx, "Secret", name).await?;
            self.error(path.to_owned(), message);
            return Ok(None);
        };
        let keys = object.status["keys"].as_array();
        let has = |key: &str| keys.is_some_and(|keys| keys.iter().any(|known| known == key));
        if let Some(key) = key.filter(|key| !has(key)) {
            self.error(
                path.to_owned(),
                format!("names entry `{key}`, which secret `{name}` does not have"),
            );
            return Ok(None);
        }
        Ok(object.status["version"]
            .as_u64()
            .and_then(|version| u32::try_from(version).ok()))
    }

    async fn input(
        &mut self,
        tx: &mut Tx<'_>,
        path: &str,
        input: &Input,
    ) -> Result<Option<Digest>, UseError> {
        if let Some(digest) = input.digest {
            self.check_kept(tx, &format!("{path}.digest"), digest)
                .await?;
            return Ok(Some(digest));
        }
        if let Some(model) = &input.model {
            return self.model(tx, path, model).await;
        }
        match &input.job {
            Some(from) => {
                let [at_name, at_output] =
                    ["name", "output"].map(|field| format!("{path}.job.{field}"));
                self.output(tx, [&at_name, &at_output], &from.name, &from.output)
                    .await
            }
            None => Ok(None),
        }
    }

    /// The model of an App, by version; what a Job left is version 1.
    async fn served(
        &mut self,
        tx: &mut Tx<'_>,
        model: &ServedModel,
    ) -> Result<BTreeMap<u32, Digest>, UseError> {
        let at = "spec.model.uri";
        let mut found = BTreeMap::new();
        match model.source() {
            // It was checked before; files from elsewhere were fetched before.
            Err(_) | Ok(ModelSource::Elsewhere { .. }) => {}
            Ok(ModelSource::Job { name, output }) => {
                let digest = self.output(tx, [at, at], name, output).await?;
                found.extend(digest.map(|digest| (1, digest)));
            }
            Ok(ModelSource::Model { name, version }) => {
                found.extend(self.version(tx, at, name, version).await?);
                for (n, further) in model.versions.iter().enumerate() {
                    let at = format!("spec.model.versions[{n}]");
                    found.extend(self.version(tx, &at, name, Some(*further)).await?);
                }
            }
        }
        Ok(found)
    }

    /// What a Job left; the paths are of the Job's name and the output's.
    async fn output(
        &mut self,
        tx: &mut Tx<'_>,
        [at_job, at_output]: [&str; 2],
        job: &str,
        output: &str,
    ) -> Result<Option<Digest>, UseError> {
        let Some(object) = objects::get(tx, "Job", self.project, job).await? else {
            let message = self.missing(tx, "Job", job).await?;
            self.error(at_job.to_owned(), message);
            return Ok(None);
        };
        let status: JobStatus = serde_json::from_value(object.status).unwrap_or_default();
        let left = status.outputs.iter().find(|left| left.name == output);
        if let Some(left) = left {
            return Ok(Some(left.digest));
        }
        let message = if status.phase.is_over() {
            let known: Vec<&str> = status
                .outputs
                .iter()
                .map(|output| output.name.as_str())
                .collect();
            let known = known.join(", ");
            format!("names output `{output}`; job `{job}` left: {known}")
        } else {
            format!(
                "is not there yet: job `{job}` is {}; wait for it with `moonshot wait`",
                status.phase.as_str()
            )
        };
        self.error(at_output.to_owned(), message);
        Ok(None)
    }

    async fn model(
        &mut self,
        tx: &mut Tx<'_>,
        path: &str,
        reference: &str,
    ) -> Result<Option<Digest>, UseError> {
        let (name, version) = split(reference);
        // Validation has seen that it is a number.
        let version = version.and_then(|version| version.parse().ok());
        let found = self
            .version(tx, &format!("{path}.model"), name, version)
            .await?;
        Ok(found.map(|(_, digest)| digest))
    }

    /// A version of a Model, or its newest, with its number.
    async fn version(
        &mut self,
        tx: &mut Tx<'_>,
        at: &str,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<(u32, Digest)>, UseError> {
        let Some(model) = objects::get(tx, "Model", self.project, name).await? else {
            let message = self.missing(tx, "Model", name).await?;
            self.error(at.to_owned(), message);
            return Ok(None);
        };
        let latest = model.status["latest"].as_u64().unwrap_or(0);
        let latest = u32::try_from(latest).unwrap_or(u32::MAX);
        let version = version.unwrap_or(latest);
        let key = format!("{name}-v{version}");
        let object = objects::get(tx, "ModelVersion", self.project, &key).await?;
        let digest = object.and_then(|object| {
            object.spec["digest"]
                .as_str()
                .and_then(|text| text.parse().ok())
        });
        if digest.is_none() {
            let message =
                format!("names version `{version}`; model `{name}` has versions 1 to {latest}");
            self.error(at.to_owned(), message);
        }
        Ok(digest.map(|digest| (version, digest)))
    }

    /// `names "x", which does not exist; did you mean "y"?`
    async fn missing(&self, tx: &mut Tx<'_>, kind: &str, name: &str) -> Result<String, DbError> {
        let names = objects::names(tx, kind, self.project).await?;
        let nearest = api::nearest::nearest(name, names.iter().map(String::as_str));
        let hint = nearest.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Ok(format!(
            "names {} `{name}`, which does not exist in project `{}`{hint}",
            kind.to_lowercase(),
            self.project
        ))
    }
}

/// `name@3` into its parts.
fn split(reference: &str) -> (&str, Option<&str>) {
    match reference.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (reference, None),
    }
}

/// Bytes of content that can be had; it is young again.
pub async fn kept(tx: &mut Tx<'_>, project: &str, digest: Digest) -> Result<Option<u64>, DbError> {
    blobs::touch(tx, project, digest).await?;
    blobs::size(tx, project, digest).await
}

/// What to say of content that cannot be had.
pub fn not_kept(digest: Digest) -> String {
    format!("names content {digest}, which is not kept in this project; upload it first")
}

/// Every digest that pins name: somebody holds them from now on.
pub fn digests(pinned: &Pinned) -> Vec<Digest> {
    let of = |program: &PinnedProgram| {
        program
            .code
            .into_iter()
            .chain(
                program
                    .inputs
                    .values()
                    .chain(program.model.values())
                    .copied(),
            )
            .collect::<Vec<_>>()
    };
    pinned.programs.values().flat_map(of).collect()
}
