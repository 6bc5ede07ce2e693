//! Objects of every kind: list, create, get, apply, merge-patch, delete; alone or in a project.

use super::manifest::body_of;
use super::{Known, Refusal, Shared, watch};
use crate::error::UseError;
use crate::usecase::{Caller, apply as applying, intent, read};
use api::{Kind, Object, Scope};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base::{Code, Generation};
use serde::Deserialize;

/// What a list is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListQuery {
    limit: Option<u32>,
    #[serde(rename = "continue")]
    after: Option<String>,
    label_selector: Option<String>,
    phase: Option<String>,
    watch: bool,
    resource_version: Option<u64>,
}

/// How a change is asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ChangeQuery {
    dry_run: bool,
    replace: bool,
}

fn kind_of(plural: &str) -> Result<Kind, UseError> {
    let found = Kind::ALL
        .iter()
        .copied()
        .find(|kind| kind.plural() == plural);
    found.ok_or_else(|| {
        let near = api::nearest::nearest(plural, Kind::ALL.iter().map(|kind| kind.plural()));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        UseError::new(Code::NotFound, format!("there is no kind `{plural}`{hint}"))
    })
}

/// The kind of a path, if it lives there.
fn scoped(plural: &str, in_project: bool) -> Result<Kind, UseError> {
    let kind = kind_of(plural)?;
    if (kind.scope() == Scope::Project) == in_project {
        Ok(kind)
    } else {
        Err(read::wrong_scope(kind))
    }
}

type Answer = Result<Response, Refusal>;

/// Runs a use case; its failure carries the request's id.
macro_rules! answer {
    ($caller:ident, $work:expr) => {{
        let request = $caller.request.clone();
        let work: Result<Response, UseError> = async { $work }.await;
        work.map_err(|error| Refusal(error, request))
    }};
}

pub(crate) async fn list(
    state: Shared,
    Known(caller): Known,
    Path(plural): Path<String>,
    query: Query<ListQuery>,
) -> Answer {
    answer!(
        caller,
        listed(&state, &caller, kind_of(&plural)?, None, query.0).await
    )
}

pub(crate) async fn list_in(
    state: Shared,
    Known(caller): Known,
    Path((project, plural)): Path<(String, String)>,
    query: Query<ListQuery>,
) -> Answer {
    answer!(
        caller,
        listed(
            &state,
            &caller,
            scoped(&plural, true)?,
            Some(project),
            query.0
        )
        .await
    )
}

async fn listed(
    State(platform): &Shared,
    caller: &Caller,
    kind: Kind,
    project: Option<String>,
    query: ListQuery,
) -> Result<Response, UseError> {
    if query.watch {
        let filter = watch::Filter {
            kinds: vec![kind],
            project,
        };
        return watch::stream(platform, &caller.actor, filter, query.resource_version).await;
    }
    let page = read::Page {
        project,
        phase: query.phase,
        selector: query.label_selector,
        limit: query.limit,
        after: query.after,
    };
    Ok(Json(read::list(platform, &caller.actor, kind, page).await?).into_response())
}

pub(crate) async fn get(
    State(platform): Shared,
    Known(caller): Known,
    Path((plural, name)): Path<(String, String)>,
) -> Answer {
    answer!(caller, {
        let object =
            read::get(&platform, &caller.actor, scoped(&plural, false)?, "", &name).await?;
        Ok(tagged(StatusCode::OK, object))
    })
}

pub(crate) async fn get_in(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, plural, name)): Path<(String, String, String)>,
) -> Answer {
    answer!(caller, {
        let object = read::get(
            &platform,
            &caller.actor,
            scoped(&plural, true)?,
            &project,
            &name,
        )
        .await?;
        Ok(tagged(StatusCode::OK, object))
    })
}

pub(crate) async fn create(
    state: Shared,
    Known(caller): Known,
    Path(plural): Path<String>,
    query: Query<ChangeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer!(caller, {
        let object = body_of(kind_of(&plural)?, &headers, &body)?;
        created(&state, &caller, object, query.0).await
    })
}

pub(crate) async fn create_in(
    state: Shared,
    Known(caller): Known,
    Path((project, plural)): Path<(String, String)>,
    query: Query<ChangeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer!(caller, {
        let mut object = body_of(scoped(&plural, true)?, &headers, &body)?;
        place(&mut object, &project, None)?;
        created(&state, &caller, object, query.0).await
    })
}

async fn created(
    State(platform): &Shared,
    caller: &Caller,
    object: Object,
    query: ChangeQuery,
) -> Result<Response, UseError> {
    let options = applying::Options {
        dry_run: query.dry_run,
        create_only: true,
        ..applying::Options::default()
    };
    let applied = applying::apply(platform, caller, object, options).await?;
    Ok(tagged(StatusCode::CREATED, applied.object))
}

pub(crate) async fn apply(
    state: Shared,
    Known(caller): Known,
    Path((plural, name)): Path<(String, String)>,
    query: Query<ChangeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer!(caller, {
        let mut object = body_of(scoped(&plural, false)?, &headers, &body)?;
        place(&mut object, "", Some(&name))?;
        applied(&state, &caller, object, query.0, &headers).await
    })
}

pub(crate) async fn apply_in(
    state: Shared,
    Known(caller): Known,
    Path((project, plural, name)): Path<(String, String, String)>,
    query: Query<ChangeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer!(caller, {
        let mut object = body_of(scoped(&plural, true)?, &headers, &body)?;
        place(&mut object, &project, Some(&name))?;
        applied(&state, &caller, object, query.0, &headers).await
    })
}

async fn applied(
    State(platform): &Shared,
    caller: &Caller,
    object: Object,
    query: ChangeQuery,
    headers: &HeaderMap,
) -> Result<Response, UseError> {
    let options = applying::Options {
        dry_run: query.dry_run,
        replace: query.replace,
        generation: if_match(headers)?,
        ..applying::Options::default()
    };
    let applied = applying::apply(platform, caller, object, options).await?;
    let is_new = applied.action == api::answer::ApplyAction::Created && !query.dry_run;
    Ok(tagged(
        if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        applied.object,
    ))
}

pub(crate) async fn patch(
    state: Shared,
    Known(caller): Known,
    Path((plural, name)): Path<(String, String)>,
    query: Query<ChangeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer!(
        caller,
        patched(
            &state,
            &caller,
            scoped(&plural, false)?,
            "",
            &name,
            query.0,
            &headers,
            &body
        )
        .await
    )
}

pub(crate) async fn patch_in(
    state: Shared,
    Known(caller): Known,
    Path((project, plural, name)): Path<(String, String, String)>,
    query: Query<ChangeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer!(
        caller,
        patched(
            &state,
            &caller,
            scoped(&plural, true)?,
            &project,
            &name,
            query.0,
            &headers,
            &body
        )
        .await
    )
}

#[expect(clippy::too_many_arguments, reason = "the parts of one request")]
async fn patched(
    state: &Shared,
    caller: &Caller,
    kind: Kind,
    project: &str,
    name: &str,
    query: ChangeQuery,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, UseError> {
    let patch: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| UseError::new(Code::Invalid, format!("the patch is not JSON: {error}")))?;
    let present = read::get(&state.0, &caller.actor, kind, project, name).await?;
    let generation = present.metadata.generation;
    let mut value = serde_json::to_value(&present).expect("an object is JSON");
    api::patch::merge(&mut value, &patch);
    let mut object: Object = serde_json::from_value(value).map_err(|error| {
        UseError::new(
            Code::Invalid,
            format!("the patched object cannot be read: {error}"),
        )
    })?;
    place(&mut object, project, Some(name))?;
    object.status = None;
    let options = applying::Options {
        dry_run: query.dry_run,
        // Somebody else's change in between is not overwritten.
        generation: if_match(headers)?.or(generation),
        ..applying::Options::default()
    };
    Ok(tagged(
        StatusCode::OK,
        applying::apply(&state.0, caller, object, options)
            .await?
            .object,
    ))
}

pub(crate) async fn delete(
    State(platform): Shared,
    Known(caller): Known,
    Path((plural, name)): Path<(String, String)>,
    query: Query<ChangeQuery>,
) -> Answer {
    answer!(caller, {
        let kind = scoped(&plural, false)?;
        let object = intent::delete(&platform, &caller, kind, "", &name, query.dry_run).await?;
        Ok(tagged(StatusCode::OK, object))
    })
}

pub(crate) async fn delete_in(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, plural, name)): Path<(String, String, String)>,
    query: Query<ChangeQuery>,
) -> Answer {
    answer!(caller, {
        let kind = scoped(&plural, true)?;
        let object =
            intent::delete(&platform, &caller, kind, &project, &name, query.dry_run).await?;
        Ok(tagged(StatusCode::OK, object))
    })
}

/// The object with its generation as entity tag.
fn tagged(status: StatusCode, object: Object) -> Response {
    let tag = object
        .metadata
        .generation
        .map(|generation| format!("\"{generation}\""));
    let mut response = (status, Json(object)).into_response();
    if let Some(tag) = tag.and_then(|tag| tag.parse().ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn if_match(headers: &HeaderMap) -> Result<Option<Generation>, UseError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    match text.parse() {
        Ok(generation) => Ok(Some(generation)),
        Err(_) => Err(UseError::field(
            "If-Match",
            "is not a generation; send the number of `metadata.generation`",
        )),
    }
}

/// The path and the body must name the same object.
fn place(object: &mut Object, project: &str, name: Option<&str>) -> Result<(), UseError> {
    let metadata = &mut object.metadata;
    let differs = |field: &str, own: &str, path: &str| {
        UseError::field(
            format!("metadata.{field}"),
            format!("is `{own}` and the path says `{path}`"),
        )
    };
    if !metadata.project.is_empty() && metadata.project != project {
        return Err(differs("project", &metadata.project, project));
    }
    project.clone_into(&mut metadata.project);
    if let Some(name) = name {
        if !metadata.name.is_empty() && metadata.name != name {
            return Err(differs("name", &metadata.name, name));
        }
        name.clone_into(&mut metadata.name);
    }
    Ok(())
}
