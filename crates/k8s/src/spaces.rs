//! Projects' namespaces: what was asked of each, what is there, and how the one is brought to the other. A namespace is made with the
//! first work in it; what keeps it apart is written when it changed, and again when somebody else changed it. The Secret by which
//! images are pulled is written too, but never read: it comes back on a period.

use crate::error::{failed, is_conflict, is_gone};
use crate::isolation::{self, Standing};
use crate::names;
use crate::port::Shared;
use crate::registries::{self, Login};
use engine::{EngineError, Project, Registry};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A namespace may be there before the watch has told of it.
const TRIES: u32 = 20;
/// A Secret by which images are pulled is written again after this.
const PULL_SECRET_AGE: Duration = Duration::from_secs(600);
/// Between tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The namespaces of a cluster, by name; bounded by what the cluster and the database hold.
#[derive(Default)]
pub(crate) struct Spaces(Mutex<BTreeMap<String, Space>>);

#[derive(Clone, Default)]
struct Space {
    /// What was asked for, once it was.
    project: Option<Project>,
    /// Whether work came for it.
    is_used: bool,
    /// Whose it is, once that is known: somebody else may take the marks away.
    standing: Option<Standing>,
    /// The namespace as it is.
    seen: Option<Seen>,
    /// The version of the NetworkPolicy that is there.
    policy: Option<String>,
    /// What was written last.
    written: Option<Written>,
}

/// A namespace, cut to what matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    uid: String,
    labels: BTreeMap<String, String>,
    is_adopted: bool,
    has_pull_secret: bool,
    is_ending: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    project: Project,
    standing: Standing,
    /// The NetworkPolicy's version after that: with another, somebody else wrote it.
    policy: String,
    /// When that was.
    at: Instant,
}

impl Space {
    fn standing(&self) -> Standing {
        let unknown = match self.seen {
            Some(_) => Standing::Adopted,
            None => Standing::Ours,
        };
        self.standing.unwrap_or(unknown)
    }

    /// What is to be written now, if anything is.
    fn due(&self) -> Option<(Project, Standing, String)> {
        let (project, seen) = (self.project.as_ref()?, self.seen.as_ref()?);
        let pulls = registries::needs_secret(&project.registries);
        let says_something = project.pod_security.is_some() || project.network.is_some() || pulls;
        let is_kept = self.is_used || says_something || seen.labels.contains_key(names::PROJECT);
        if !is_kept || seen.is_ending {
            return None;
        }
        let standing = self.standing();
        let is_as_written = self.written.as_ref().is_some_and(|written| {
            let of = (&written.project, written.standing, Some(&written.policy));
            let is_fresh = !pulls || written.at.elapsed() < PULL_SECRET_AGE;
            of == (project, standing, self.policy.as_ref()) && is_fresh
        });
        let has_labels = isolation::labels(project, standing)
            .iter()
            .all(|(name, value)| seen.labels.get(name).map(String::as_str) == value.as_str());
        let is_marked = seen.is_adopted || standing == Standing::Ours;
        let is_done = is_as_written && has_labels && is_marked;
        (!is_done).then(|| (project.clone(), standing, seen.uid.clone()))
    }
}

impl Seen {
    fn of(namespace: &Namespace) -> Seen {
        let labels = namespace.labels();
        let ours = [
            names::MANAGED.0,
            names::PROJECT,
            names::TENANT,
            names::POD_SECURITY,
        ];
        let kept = ours.iter().filter_map(|name| labels.get_key_value(*name));
        Seen {
            uid: namespace.uid().unwrap_or_default(),
            labels: kept
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            is_adopted: namespace.annotations().contains_key(names::ADOPTED),
            has_pull_secret: namespace.annotations().contains_key(names::PULLS),
            is_ending: namespace.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whose it is, as its marks say.
    fn standing(&self) -> Option<Standing> {
        if self.is_adopted {
            return Some(Standing::Adopted);
        }
        let is_marked = [names::MANAGED.0, names::PROJECT]
            .iter()
            .any(|name| self.labels.contains_key(*name));
        is_marked.then_some(Standing::Ours)
    }
}

impl Spaces {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Space>> {
        // No code that holds it can leave it half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what the watches tell ----

    pub(crate) fn put_namespace(&self, namespace: &Namespace) {
        let mut all = self.all();
        let space = all.entry(namespace.name_any()).or_default();
        let seen = Seen::of(namespace);
        if space.seen.as_ref().is_some_and(|old| old.uid != seen.uid) {
            space.forget();
        }
        space.standing = space.standing.or(seen.standing());
        space.seen = Some(seen);
    }

    pub(crate) fn remove_namespace(&self, name: &str) {
        if let Some(space) = self.all().get_mut(name) {
            space.forget();
        }
    }

    pub(crate) fn keep_namespaces(&self, there: &HashSet<(String, String)>) {
        for (name, space) in self.all().iter_mut() {
            if !there.contains(&(String::new(), name.clone())) {
                space.forget();
            }
        }
    }

    pub(crate) fn put_policy(&self, namespace: &str, version: Option<String>) {
        let mut all = self.all();
        all.entry(namespace.to_owned()).or_default().policy = version;
    }

    pub(crate) fn keep_policies(&self, there: &HashSet<(String, String)>) {
        let of = |namespace: &String| (namespace.clone(), names::POLICY.to_owned());
        for (name, space) in self.all().iter_mut() {
            if !there.contains(&of(name)) {
                space.policy = None;
            }
        }
    }

    // ---- what is asked for ----

    /// What is asked of a Project from now on.
    pub(crate) fn tell(&self, project: &Project) {
        let mut all = self.all();
        all.entry(project.name.clone()).or_default().project = Some(project.clone());
    }

    /// Work comes for a Project.
    fn use_for(&self, name: &str, tenant: &str) {
        let mut all = self.all();
        let space = all.entry(name.to_owned()).or_default();
        space.is_used = true;
        space
            .project
            .get_or_insert_with(|| Project::plain(name, tenant));
    }

    /// Namespaces that are not as they should be.
    pub(crate) fn due(&self) -> Vec<String> {
        let all = self.all();
        let due = all.iter().filter(|(_, space)| space.due().is_some());
        due.map(|(name, _)| name.clone()).collect()
    }

    fn look(&self, name: &str) -> Option<Space> {
        self.all().get(name).cloned()
    }

    /// Registries of a Project, as far as it was told.
    pub(crate) fn registries(&self, name: &str) -> Vec<Registry> {
        let project = self.look(name).and_then(|space| space.project);
        project
            .map(|project| project.registries)
            .unwrap_or_default()
    }

    fn has_pull_secret(&self, name: &str) -> bool {
        let seen = self.look(name).and_then(|space| space.seen);
        seen.is_some_and(|seen| seen.has_pull_secret)
    }

    fn wrote(&self, name: &str, written: Written) {
        let mut all = self.all();
        let space = all.entry(name.to_owned()).or_default();
        space.standing = Some(written.standing);
        space.policy = Some(written.policy.clone());
        space.written = Some(written);
    }
}

impl Space {
    /// The namespace is gone, and what was in it.
    fn forget(&mut self) {
        *self = Space {
            project: self.project.take(),
            is_used: self.is_used,
            ..Space::default()
        };
    }
}

/// Makes a Project's namespace if there is none, and keeps it apart. Asks the cluster for nothing where all is as it should be.
pub(crate) async fn make(shared: &Shared, name: &str, tenant: &str) -> Result<(), EngineError> {
    let spaces = &shared.cache.spaces;
    spaces.use_for(name, tenant);
    for _ in 0..TRIES {
        match spaces.look(name) {
            Some(space) if space.seen.is_some() => {
                let is_ending = space.seen.is_some_and(|seen| seen.is_ending);
                if is_ending {
                    return Err(EngineError::Failed {
                        operation: format!("making the namespace `{name}`"),
                        source: "the one of this name is being deleted".into(),
                    });
                }
                return keep(shared, name).await;
            }
            Some(space) => {
                let plain = || Project::plain(name, tenant);
                create(shared, &space.project.unwrap_or_else(plain)).await?;
            }
            None => {}
        }
    }
    Err(EngineError::Failed {
        operation: format!("making the namespace `{name}`"),
        source: "it is there, and the watch does not tell of it".into(),
    })
}

async fn create(shared: &Shared, project: &Project) -> Result<(), EngineError> {
    let operation = || format!("creating the namespace `{}`", project.name);
    let space = isolation::namespace(project, Standing::Ours);
    let space: Namespace = serde_json::from_value(space).map_err(|error| EngineError::Failed {
        operation: operation(),
        source: Box::new(error),
    })?;
    let params = PostParams {
        dry_run: false,
        field_manager: Some(names::MANAGER.to_owned()),
    };
    let spaces: Api<Namespace> = Api::all(shared.client.clone());
    match spaces.create(&params, &space).await {
        Ok(made) => shared.cache.spaces.put_namespace(&made),
        // The watch will tell whose it is.
        Err(error) if is_conflict(&error) => tokio::time::sleep(PAUSE).await,
        Err(error) => return Err(failed(operation(), error)),
    }
    Ok(())
}

/// Writes what keeps a Project apart, if its namespace is there and something differs.
pub(crate) async fn keep(shared: &Shared, name: &str) -> Result<(), EngineError> {
    let spaces = &shared.cache.spaces;
    let Some((project, standing, uid)) = spaces.look(name).and_then(|space| space.due()) else {
        return Ok(());
    };
    let failed = |error| failed(format!("keeping the namespace `{name}` apart"), error);
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), name);
    // What somebody else has set of ours is taken back.
    let params = PatchParams::apply(names::MANAGER).force();
    let mut space = isolation::namespace(&project, standing);
    // Not one that is made a moment later.
    space["metadata"]["uid"] = json!(uid);
    // While the annotation still tells of one.
    if !registries::needs_secret(&project.registries) && spaces.has_pull_secret(name) {
        match secrets
            .delete(names::PULL_SECRET, &DeleteParams::default())
            .await
        {
            Err(error) if !is_gone(&error) => return Err(failed(error)),
            Ok(_) | Err(_) => {}
        }
    }
    let all: Api<Namespace> = Api::all(shared.client.clone());
    let there = all.patch(name, &params, &Patch::Apply(space)).await;
    spaces.put_namespace(&there.map_err(failed)?);
    if registries::needs_secret(&project.registries) {
        let logins = logins(shared, &project).await?;
        let secret = Patch::Apply(registries::pull_secret(&project, &logins));
        let written = secrets.patch(names::PULL_SECRET, &params, &secret).await;
        written.map_err(failed)?;
    }
    let policy = Patch::Apply(isolation::policy(&shared.config, &project, standing));
    let policies: Api<NetworkPolicy> = Api::namespaced(shared.client.clone(), name);
    let there = policies.patch(names::POLICY, &params, &policy).await;
    let there = there.map_err(failed)?;
    let policy = there.resource_version().unwrap_or_default();
    tracing::info!(project = name, ?standing, "its namespace is kept apart");
    spaces.wrote(
        name,
        Written {
            project,
            standing,
            policy,
            at: Instant::now(),
        },
    );
    Ok(())
}

/// Opens the Secrets of a Project's registries.
async fn logins(shared: &Shared, project: &Project) -> Result<Vec<Login>, EngineError> {
    let mut logins = Vec::new();
    for registry in &project.registries {
        let Some((secret, version)) = &registry.secret else {
            continue;
        };
        let content = &shared.config.content;
        let entries = content.secret(&project.name, secret, *version).await?;
        let entry = |name: &str| {
            let found = entries.iter().find(|(entry, _)| entry == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        match (entry("username"), entry("password")) {
            (Some(username), Some(password)) => logins.push(Login {
                host: registries::source(registry).to_owned(),
                username,
                password,
            }),
            // Others are still pulled.
            _ => tracing::warn!(
                project = project.name,
                secret,
                "the Secret of registry `{}` needs the entries `username` and `password`: apply it again with both",
                registry.host
            ),
        }
    }
    Ok(logins)
}

#[cfg(test)]
mod tests;
