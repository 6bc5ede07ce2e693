//! Code from git repositories: a reference is resolved to a commit when an object is created, the commit's files
//! are packed and kept like an upload. Nothing looks at the repository again.
//!
//! The `git` program does it, away from this machine's configuration: no user's or system's settings, no hooks, no
//! helpers, no submodules, and only `https`, `http` and `ssh`. Its time and its bytes are bounded.
//!
//! [`pin`] is the use case, `fetch` what is done with one repository, `run` how `git` is run.

mod credentials;
mod fetch;
mod run;

#[cfg(test)]
mod tests;

use crate::error::UseError;
use crate::pinned::PinnedGit;
use crate::platform::Platform;
use crate::program;
use crate::usecase::content;
use api::app::AppSpec;
use api::common::{GitSource, ProgramSpec};
use api::job::JobSpec;
use api::{Kind, Object as Wire};
use base::Digest;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most bytes of code, as of an upload.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// The most repositories of one object.
const SOURCES_MAX: usize = 8;
/// The longest for all of them: the client that waits for the answer gives up soon after.
pub const TIME_MAX: Duration = Duration::from_secs(50);

/// What sources of an object mean, by [`key`].
pub type Pins = BTreeMap<String, (Digest, PinnedGit)>;

/// Names a source in [`Pins`].
pub fn key(source: &GitSource) -> String {
    serde_json::to_string(source).expect("a source is JSON")
}

/// Fetches and keeps what an object's programs name. In a dry run it is only looked whether the references are there.
pub async fn pin(
    platform: &Platform,
    wanted: &Wire,
    kind: Kind,
    is_dry_run: bool,
) -> Result<Pins, UseError> {
    let mut pins = Pins::new();
    let sources = sources(wanted, kind);
    if sources.is_empty() {
        return Ok(pins);
    }
    if sources.len() > SOURCES_MAX {
        let message = format!(
            "names {} repositories; at most {SOURCES_MAX}",
            sources.len()
        );
        return Err(UseError::field("spec", message));
    }
    let deadline = tokio::time::Instant::now() + TIME_MAX;
    for (path, source) in sources {
        let refuse = |error: run::GitError| error.refusal(&path, &source);
        let project = &wanted.metadata.project;
        let credentials = credentials::open(platform, project, &path, &source).await?;
        let scratch = platform.store.scratch().map_err(content::from_store)?;
        let run = run::Run::new(scratch.path(), &source.url, credentials.as_ref(), deadline)
            .map_err(refuse)?;
        if is_dry_run {
            fetch::look(&run, &source).await.map_err(refuse)?;
            continue;
        }
        let commit = fetch::fetch(&run, &source).await.map_err(refuse)?;
        let (db, store) = (&platform.db, &platform.store);
        let files = run.files();
        let kept = content::put_files(db, store, project, &files, CODE_BYTES_MAX).await?;
        let git = PinnedGit {
            url: source.url.clone(),
            commit,
        };
        pins.insert(key(&source), (kept.0.digest, git));
    }
    Ok(pins)
}

/// Distinct sources of an object's programs, each with the path of the first field that names it.
fn sources(wanted: &Wire, kind: Kind) -> Vec<(String, GitSource)> {
    let mut found: Vec<(String, GitSource)> = Vec::new();
    let mut add = |path: String, program: &ProgramSpec| {
        let source = program.code.as_ref().and_then(|code| code.git.as_ref());
        if let Some(source) = source
            && !found.iter().any(|(_, other)| other == source)
        {
            found.push((format!("{path}.code.git"), source.clone()));
        }
    };
    match kind {
        Kind::Job => {
            let spec: JobSpec = serde_json::from_value(wanted.spec.clone()).unwrap_or_default();
            for (at, group) in program::groups(&spec).iter().enumerate() {
                let own = spec
                    .groups
                    .get(at)
                    .is_some_and(|group| group.program.code.is_some());
                let path = if own {
                    format!("spec.groups[{at}]")
                } else {
                    "spec".to_owned()
                };
                add(path, &group.program);
            }
        }
        Kind::App => {
            let spec: AppSpec = serde_json::from_value(wanted.spec.clone()).unwrap_or_default();
            add("spec.template".to_owned(), &spec.template.program);
        }
        _ => {}
    }
    found
}
