//! `model`: push, list, compare and remove models.

use crate::age;
use crate::cmd::cp;
use crate::code;
use crate::exit::Failure;
use crate::session::Session;
use crate::view::{self, Options};
use api::answer::PushRequest;
use api::kind::ModelVersion;
use api::{Kind, Object};
use client::ListQuery;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Add a version: a file or directory of this machine, or an output of a Job.
    Push {
        /// The model; it is made when it is new.
        name: String,
        /// A file, a directory, or `job/NAME:OUTPUT`.
        from: String,
        /// `xgboost`, `lightgbm`, `onnx`, `savedmodel` or another word.
        #[arg(long, default_value = "")]
        format: String,
        /// What was measured: `rmse=12.5`. May be repeated.
        #[arg(long, value_name = "NAME=NUMBER", value_parser = metric)]
        metric: Vec<(String, f64)>,
    },
    /// The models of the project, or the versions of one, newest first.
    #[command(visible_alias = "list")]
    Ls {
        /// Which.
        name: Option<String>,
    },
    /// Remove a version (`NAME@3`), or a model with all its versions. What Jobs and Revisions have pinned stays theirs.
    Rm {
        /// `NAME` or `NAME@VERSION`. May be repeated.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// What differs between two versions: content, lineage, parameters, metrics.
    Diff {
        /// `NAME@VERSION`; `NAME` is its newest.
        from: String,
        /// The other. Default: the newest of the same model.
        to: Option<String>,
    },
}

fn metric(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("write `name=number`")?;
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a number"))?;
    Ok((name.to_owned(), number))
}

pub(crate) async fn run(session: &Session, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Push {
            name,
            from,
            format,
            metric,
        } => {
            let push = PushRequest {
                format,
                metrics: metric.into_iter().collect::<BTreeMap<String, f64>>(),
                ..content(session, &from).await?
            };
            let client = &session.client;
            let version = client.push_model(&session.project, &name, &push).await?;
            session
                .out
                .line(format!("model/{name} has version {}", version.spec.version))
        }
        Verb::Ls { name } => list(session, name.as_deref()).await,
        Verb::Rm { names } => {
            for name in &names {
                remove(session, name).await?;
            }
            Ok(())
        }
        Verb::Diff { from, to } => diff(session, &from, to.as_deref()).await,
    }
}

/// What is pushed: an output by its name, or files after their upload.
async fn content(session: &Session, from: &str) -> Result<PushRequest, Failure> {
    if let Some((job, output)) = cp::job_output(from) {
        return Ok(PushRequest {
            job: Some(job.to_owned()),
            output: Some(output.to_owned()),
            ..PushRequest::default()
        });
    }
    let path = Path::new(from);
    if !path.exists() {
        return Err(Failure::Usage(format!(
            "there is no `{from}`; write a file, a directory, or `job/NAME:OUTPUT`"
        )));
    }
    let packed = code::pack_any(path)?;
    code::upload(session, &packed, "uploading the model").await?;
    Ok(PushRequest {
        digest: Some(packed.digest),
        ..PushRequest::default()
    })
}

async fn list(session: &Session, name: Option<&str>) -> Result<(), Failure> {
    let options = Options {
        wide: false,
        projects: false,
        labels: false,
        now: age::now(),
    };
    let Some(name) = name else {
        let query = ListQuery {
            project: Some(session.project.clone()),
            ..ListQuery::default()
        };
        let models = session.client.list::<Object>(Kind::Model, &query, 10_000);
        let models = models.await?.items;
        return session
            .out
            .table(&view::objects(Kind::Model, &models, options));
    };
    let versions = session
        .client
        .model_versions(&session.project, name)
        .await?;
    let value =
        serde_json::to_value(versions).map_err(|error| Failure::Failed(error.to_string()))?;
    let versions: Vec<Object> =
        serde_json::from_value(value).map_err(|error| Failure::Failed(error.to_string()))?;
    session
        .out
        .table(&view::objects(Kind::ModelVersion, &versions, options))
}

async fn remove(session: &Session, name: &str) -> Result<(), Failure> {
    let (kind, object) = match versioned(name)? {
        (model, Some(version)) => (Kind::ModelVersion, format!("{model}-v{version}")),
        (model, None) => (Kind::Model, model.to_owned()),
    };
    let client = &session.client;
    client
        .delete(kind, &session.project, &object, false)
        .await?;
    session.out.line(format!("model/{name} deleted"))
}

async fn diff(session: &Session, from: &str, to: Option<&str>) -> Result<(), Failure> {
    let (model, _) = versioned(from)?;
    let before = version(session, from).await?;
    let after = version(session, to.unwrap_or(model)).await?;
    let spec = |version: &ModelVersion| {
        serde_json::to_value(&version.spec).map_err(|error| Failure::Failed(error.to_string()))
    };
    for line in api::diff::lines("spec", &spec(&before)?, &spec(&after)?) {
        session.out.line(line)?;
    }
    Ok(())
}

async fn version(session: &Session, name: &str) -> Result<ModelVersion, Failure> {
    let (model, number) = versioned(name)?;
    let versions = session
        .client
        .model_versions(&session.project, model)
        .await?;
    let known: Vec<String> = versions
        .iter()
        .map(|version| version.spec.version.to_string())
        .collect();
    let found = versions
        .into_iter()
        .find(|version| number.is_none_or(|number| version.spec.version == number));
    found.ok_or_else(|| {
        Failure::Failed(format!(
            "model `{model}` has no such version; it has: {}",
            known.join(", ")
        ))
    })
}

/// `flights@3` or `flights`.
fn versioned(text: &str) -> Result<(&str, Option<u32>), Failure> {
    let Some((name, version)) = text.split_once('@') else {
        return Ok((text, None));
    };
    let number = version.parse().map_err(|_| {
        Failure::Usage(format!("`{version}` in `{text}` is not a version's number"))
    })?;
    Ok((name, Some(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_by_numbers() {
        assert_eq!(versioned("a@3").unwrap(), ("a", Some(3)));
        assert_eq!(versioned("a").unwrap(), ("a", None));
        assert!(versioned("a@new").is_err());
    }
}
