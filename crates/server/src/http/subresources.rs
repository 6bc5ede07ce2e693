//! What is done to one object beyond its spec: cancel, suspend, scale, roll back, why, events.

use super::{Known, Refusal, Shared};
use crate::error::UseError;
use crate::usecase::{intent, read, why as asking};
use api::answer::{Items, RollbackRequest, ScaleRequest, Why};
use api::{Kind, Object};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use base::Code;

type Named = Path<(String, String)>;
type Answer<T> = Result<Json<T>, Refusal>;

macro_rules! job_verbs {
    ($($name:ident => |$platform:ident, $caller:ident, $project:ident, $job:ident| $work:expr;)*) => {
        $(pub(crate) async fn $name(
            State($platform): Shared,
            Known($caller): Known,
            Path(($project, $job)): Named,
        ) -> Answer<Object> {
            let request = $caller.request.clone();
            $work.await.map(Json).map_err(|error| Refusal(error, request))
        })*
    };
}

job_verbs! {
    cancel => |platform, caller, project, name| intent::cancel(&platform, &caller, &project, &name);
    suspend => |platform, caller, project, name| intent::suspend(&platform, &caller, &project, &name, true);
    resume => |platform, caller, project, name| intent::suspend(&platform, &caller, &project, &name, false);
    rerun => |platform, caller, project, name| intent::rerun(&platform, &caller, &project, &name);
    restart => |platform, caller, project, name| intent::restart(&platform, &caller, &project, &name);
}

pub(crate) async fn rollback(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Named,
    body: Bytes,
) -> Answer<Object> {
    let request = caller.request.clone();
    let work = async {
        let asked: RollbackRequest = if body.is_empty() {
            RollbackRequest::default()
        } else {
            read_json(&body)?
        };
        intent::rollback(&platform, &caller, &project, &name, asked).await
    };
    work.await
        .map(Json)
        .map_err(|error| Refusal(error, request))
}

pub(crate) async fn scale(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Named,
    body: Bytes,
) -> Answer<Object> {
    let request = caller.request.clone();
    let work = async {
        let asked: ScaleRequest = read_json(&body)?;
        intent::scale(&platform, &caller, &project, &name, asked.replicas).await
    };
    work.await
        .map(Json)
        .map_err(|error| Refusal(error, request))
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, UseError> {
    serde_json::from_slice(body)
        .map_err(|error| UseError::new(Code::Invalid, format!("the body cannot be read: {error}")))
}

pub(crate) async fn revisions(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Named,
) -> Answer<Items<api::app::Revision>> {
    let revisions = read::revisions(&platform, &caller.actor, &project, &name).await;
    revisions
        .map(|items| Json(Items { items }))
        .map_err(|error| Refusal(error, caller.request))
}

fn in_project(plural: &str) -> Result<Kind, UseError> {
    let found = Kind::ALL
        .iter()
        .copied()
        .find(|kind| kind.plural() == plural && kind.scope() == api::Scope::Project);
    found.ok_or_else(|| {
        UseError::new(
            Code::NotFound,
            format!("there is no kind `{plural}` in projects"),
        )
    })
}

pub(crate) async fn events(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, plural, name)): Path<(String, String, String)>,
) -> Answer<Items<Object>> {
    let request = caller.request.clone();
    let work = async {
        read::events_of(
            &platform,
            &caller.actor,
            in_project(&plural)?,
            &project,
            &name,
        )
        .await
    };
    work.await
        .map(|items| Json(Items { items }))
        .map_err(|error| Refusal(error, request))
}

pub(crate) async fn why(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, plural, name)): Path<(String, String, String)>,
) -> Answer<Why> {
    let request = caller.request.clone();
    let work = async {
        asking::why(
            &platform,
            &caller.actor,
            in_project(&plural)?,
            &project,
            &name,
        )
        .await
    };
    work.await
        .map(Json)
        .map_err(|error| Refusal(error, request))
}

macro_rules! node_verbs {
    ($($name:ident => |$platform:ident, $caller:ident, $node:ident| $work:expr;)*) => {
        $(pub(crate) async fn $name(
            State($platform): Shared,
            Known($caller): Known,
            Path($node): Path<String>,
        ) -> Answer<Object> {
            let request = $caller.request.clone();
            $work.await.map(Json).map_err(|error| Refusal(error, request))
        })*
    };
}

node_verbs! {
    cordon => |platform, caller, name| intent::cordon(&platform, &caller, &name, true);
    uncordon => |platform, caller, name| intent::cordon(&platform, &caller, &name, false);
    drain => |platform, caller, name| intent::drain(&platform, &caller, &name);
}
