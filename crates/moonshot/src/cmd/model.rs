//! `model`: push and list models.

use crate::age;
use crate::code;
use crate::exit::Failure;
use crate::session::Session;
use crate::view::{self, Options};
use api::answer::PushRequest;
use api::{Kind, Object};
use client::ListQuery;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Add a version: a directory of this machine, or an output of a Job.
    Push {
        /// The model; it is made when it is new.
        name: String,
        /// A file or directory.
        #[arg(required_unless_present = "job", conflicts_with = "job")]
        from: Option<PathBuf>,
        /// The Job it comes from.
        #[arg(long)]
        job: Option<String>,
        /// The Job's output. Default: `model`.
        #[arg(
            long,
            requires = "job",
            default_value_if("job", clap::builder::ArgPredicate::IsPresent, "model")
        )]
        output: Option<String>,
        /// `xgboost`, `lightgbm`, `onnx`, `savedmodel` or another word.
        #[arg(long, default_value = "")]
        format: String,
        /// What was measured: `rmse=12.5`. May be repeated.
        #[arg(long, value_name = "NAME=NUMBER", value_parser = metric)]
        metric: Vec<(String, f64)>,
    },
    /// The models of the project.
    List,
    /// The versions of a model, newest first.
    Versions {
        /// Which.
        name: String,
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
    let options = Options {
        wide: false,
        projects: false,
        labels: false,
        now: age::now(),
    };
    match verb {
        Verb::Push {
            name,
            from,
            job,
            output,
            format,
            metric,
        } => {
            let digest = match from {
                Some(path) => {
                    let packed = code::pack_any(&path)?;
                    code::upload(session, &packed, "uploading the model").await?;
                    Some(packed.digest)
                }
                None => None,
            };
            let metrics: BTreeMap<String, f64> = metric.into_iter().collect();
            let push = PushRequest {
                digest,
                job,
                output,
                format,
                metrics,
            };
            let version = session
                .client
                .push_model(&session.project, &name, &push)
                .await?;
            session
                .out
                .line(format!("model/{name} has version {}", version.spec.version))
        }
        Verb::List => {
            let query = ListQuery {
                project: Some(session.project.clone()),
                ..ListQuery::default()
            };
            let models = session
                .client
                .list::<Object>(Kind::Model, &query, 10_000)
                .await?;
            session
                .out
                .table(&view::objects(Kind::Model, &models.items, options))
        }
        Verb::Versions { name } => {
            let versions = session
                .client
                .model_versions(&session.project, &name)
                .await?;
            let value = serde_json::to_value(versions)
                .map_err(|error| Failure::Failed(error.to_string()))?;
            let versions: Vec<Object> = serde_json::from_value(value)
                .map_err(|error| Failure::Failed(error.to_string()))?;
            session
                .out
                .table(&view::objects(Kind::ModelVersion, &versions, options))
        }
    }
}
