//! Bodies that hold objects: one, or many documents.

use super::{Known, Refusal, Shared};
use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::{Caller, apply as applying};
use api::answer::{ApplyAnswer, ApplyResult};
use api::manifest::{Format, parse};
use api::{Kind, Object};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use base::Code;
use serde::Deserialize;

fn format_of(headers: &HeaderMap) -> Format {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if media.contains("json") {
        Format::Json
    } else {
        Format::Yaml
    }
}

/// The one object of a body, of this kind.
pub(crate) fn body_of(kind: Kind, headers: &HeaderMap, body: &[u8]) -> Result<Object, UseError> {
    let documents = parse(body, format_of(headers)).map_err(UseError::Refused)?;
    let [document] = <[_; 1]>::try_from(documents).map_err(|documents| {
        let detail = format!(
            "the body holds {} objects; send one here, or all of them to /v1/apply",
            documents.len()
        );
        UseError::new(Code::Invalid, detail)
    })?;
    if document.object.kind != kind.as_str() {
        let message = format!(
            "is `{}` and the path says `{}`",
            document.object.kind,
            kind.as_str()
        );
        return Err(UseError::field("kind", message));
    }
    Ok(document.object)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ApplyQuery {
    dry_run: bool,
    replace: bool,
    project: Option<String>,
}

/// Applies one or many documents, in order; stops at the first that is refused.
pub(crate) async fn apply(
    State(platform): Shared,
    Known(caller): Known,
    query: Query<ApplyQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ApplyAnswer>, Refusal> {
    let request = caller.request.clone();
    apply_all(&platform, &caller, &query, &headers, &body)
        .await
        .map(Json)
        .map_err(|error| Refusal(error, request))
}

async fn apply_all(
    platform: &Platform,
    caller: &Caller,
    query: &ApplyQuery,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<ApplyAnswer, UseError> {
    let documents = parse(body, format_of(headers)).map_err(UseError::Refused)?;
    if documents.is_empty() {
        return Err(UseError::new(
            Code::Invalid,
            "the manifest holds no document",
        ));
    }
    // All are checked before any is applied: a mistake in the last one leaves nothing half done.
    let mut errors = Vec::new();
    for document in &documents {
        if let Err(mut found) = api::check(&document.object, api::Purpose::Create) {
            document.locate(&mut found);
            let subject = format!(
                "{}/{}: ",
                document.object.kind, document.object.metadata.name
            );
            if documents.len() > 1 {
                found
                    .iter_mut()
                    .for_each(|error| error.message.insert_str(0, &subject));
            }
            errors.extend(found);
        }
    }
    if !errors.is_empty() {
        let first = &errors[0];
        let place = first
            .line
            .map_or_else(String::new, |line| format!("line {line}: "));
        return Err(UseError::invalid(
            format!("{place}`{}` {}", first.field, first.message),
            errors,
        ));
    }
    let mut results = Vec::new();
    for document in documents {
        let mut object = document.object;
        if object.metadata.project.is_empty()
            && let Some(project) = &query.project
        {
            object.metadata.project.clone_from(project);
        }
        let kind = object.kind.clone();
        let options = applying::Options {
            dry_run: query.dry_run,
            replace: query.replace,
            ..applying::Options::default()
        };
        let applied = applying::apply(platform, caller, object, options).await?;
        results.push(ApplyResult {
            kind,
            project: applied.object.metadata.project.clone(),
            name: applied.object.metadata.name.clone(),
            action: applied.action,
            diff: applied.diff,
            plan: if query.dry_run {
                applied.plan
            } else {
                Vec::new()
            },
        });
    }
    Ok(ApplyAnswer { results })
}
