//! Model files from elsewhere: fetched when an App first names them, and kept like an upload, so that a Revision serves the
//! same bytes for ever. An App that goes on naming the same URI keeps what it has; another URI is fetched.
//!
//! `https` and Amazon's S3 are open to everybody who may write Apps. Any other place is one that this server can reach and the
//! caller perhaps cannot (its own disk, services of its network), so the server's settings must name it.
//!
//! [`pin()`] is the use case, `source` what a URI and a Secret mean together, and is pure.

mod source;

use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::{content, pin, secret};
use api::app::AppSpec;
use api::served::ModelSource;
use api::{Kind, Object as Wire};
use base::{Code, Digest};
use db::objects::Object;
use db::{objects, versions};
use source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::elsewhere::{self, FetchError};

/// The most bytes of one model.
const BYTES_MAX: u64 = 16 << 30;
/// The longest fetch: the client that waits for the answer gives up soon after.
const TIME_MAX: Duration = Duration::from_secs(50);
const URI: &str = "spec.model.uri";

/// What an App's URI means: nothing where it names no files from elsewhere, or in a dry run.
pub(crate) async fn pin(
    platform: &Platform,
    wanted: &Wire,
    kind: Kind,
    is_dry_run: bool,
) -> Result<Option<Digest>, UseError> {
    if kind != Kind::App {
        return Ok(None);
    }
    let spec: AppSpec = serde_json::from_value(wanted.spec.clone()).unwrap_or_default();
    let Some(model) = spec.model else {
        return Ok(None);
    };
    let Ok(ModelSource::Elsewhere { url }) = model.source() else {
        return Ok(None);
    };
    let project = &wanted.metadata.project;
    let found = objects::read(&platform.db, "App", project, &wanted.metadata.name).await?;
    if let Some(kept) = kept(platform, found, url).await? {
        return Ok(Some(kept));
    }
    let entries = match &model.secret {
        Some(name) => secret::entries(platform, project, name, "spec.model.secret").await?,
        None => BTreeMap::new(),
    };
    let source = source::read(url, entries, &platform.model_sources)
        .map_err(|(field, why)| UseError::field(format!("spec.model.{field}"), why))?;
    if is_dry_run {
        return Ok(None);
    }
    let scratch = platform.store.scratch().map_err(content::from_store)?;
    let fetched = fetch(platform, &source, scratch.path());
    let dir = tokio::time::timeout(TIME_MAX, fetched).await;
    let dir = dir.unwrap_or_else(|_| {
        let time = TIME_MAX.as_secs();
        Err(UseError::field(
            URI,
            format!("could not be fetched in {time} s; copy it to this machine and use `moonshot model push NAME PATH`, then `model://NAME`"),
        ))
    })?;
    let (db, store) = (&platform.db, &platform.store);
    let kept = content::put_files(db, store, project, &dir, BYTES_MAX).await?;
    Ok(Some(kept.0.digest))
}

/// What an App that names the same URI already has.
async fn kept(
    platform: &Platform,
    app: Option<Object>,
    url: &str,
) -> Result<Option<Digest>, UseError> {
    let Some(app) = app.filter(|app| app.spec["model"]["uri"] == url) else {
        return Ok(None);
    };
    let revisions = versions::revisions(&platform.db, app.uid).await?;
    let served = pin::served_by(&app, &revisions);
    Ok(served.and_then(|versions| versions.into_values().next_back()))
}

/// Fetches into a directory; where below it the model is.
async fn fetch(platform: &Platform, source: &Source, scratch: &Path) -> Result<PathBuf, UseError> {
    let files = scratch.join("files");
    let made = std::fs::create_dir(&files);
    made.map_err(|error| UseError::internal("no directory can be made", error))?;
    let refuse = |error: FetchError| match error {
        FetchError::Here(error) => content::from_store(error),
        error => UseError::field(URI, format!("cannot be fetched: {error}")),
    };
    match source {
        Source::Objects(objects) => {
            let fetched = elsewhere::objects(objects, &files, BYTES_MAX).await;
            fetched.map_err(refuse)?;
        }
        Source::Http { url, login } => {
            let allowed = platform.model_sources.clone();
            let may = move |url: &str| source::is_allowed(url, &allowed);
            let name = source::file_name(url);
            let fetched = elsewhere::http(url, login, may, (&files, name), BYTES_MAX).await;
            fetched.map_err(refuse)?;
        }
        // It is read where it is.
        Source::File(path) => {
            let real = path.canonicalize();
            let real = real.map_err(|error| {
                UseError::field(URI, format!("cannot be read by the server: {error}"))
            })?;
            let url = format!("file://{}", real.display());
            if !source::is_allowed(&url, &platform.model_sources) {
                return Err(UseError::field(
                    URI,
                    "leads by a link to where the server does not read from",
                ));
            }
            return unpacked(real, scratch).await;
        }
    }
    unpacked(files, scratch).await
}

/// What is to be kept: an archive's content, or the files; a lone file under the name that the model server looks for.
async fn unpacked(found: PathBuf, scratch: &Path) -> Result<PathBuf, UseError> {
    let own = scratch.join("model");
    let work = tokio::task::spawn_blocking(move || elsewhere::unpacked(&found, &own, BYTES_MAX));
    let done = work
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    done.map_err(|error| {
        let full = error.is_full();
        let text = format!("cannot be unpacked: {error}");
        if full {
            UseError::new(Code::Exhausted, text)
        } else {
            UseError::field(URI, text)
        }
    })
}
