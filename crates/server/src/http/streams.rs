//! Streams to and from replicas: `exec`, `portforward`, `rsh`, and output that is sent in.

use super::socket::Upgrade;
use super::subresources::read_json;
use super::{Known, Refusal, RequestId, Shared, bearer};
use crate::auth::attempt;
use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::reach::{self, Which};
use crate::usecase::{attempts, ingest, top};
use api::Kind;
use api::answer::{IngestAnswer, Items, JobAttempt, Top};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Query, RawQuery, State};
use axum::http::request::Parts;
use axum::response::Response;
use base::Code;
use db::control::Placement;
use serde::Deserialize;
use std::sync::Arc;

type Named = Path<(String, String)>;

macro_rules! reaching {
    ($($kind:ident: $exec:ident, $forward:ident;)*) => {
        $(pub(crate) async fn $exec(
            State(platform): Shared,
            Known(caller): Known,
            Path((project, name)): Named,
            RawQuery(query): RawQuery,
            upgrade: Upgrade,
        ) -> Result<Response, Refusal> {
            let work = async {
                let asked = ExecQuery::parse(query.as_deref().unwrap_or_default())?;
                let whose = (Kind::$kind, project.as_str(), name.as_str());
                let exec = reach::exec(
                    &platform, &caller, whose, &asked.which, &asked.command, asked.terminal,
                );
                upgrade.exec(&platform, exec.await?, asked.terminal)
            };
            work.await.map_err(|error: UseError| Refusal(error, caller.request.clone()))
        }

        pub(crate) async fn $forward(
            State(platform): Shared,
            Known(caller): Known,
            Path((project, name)): Named,
            query: Query<ForwardQuery>,
            upgrade: Upgrade,
        ) -> Result<Response, Refusal> {
            let work = async {
                let whose = (Kind::$kind, project.as_str(), name.as_str());
                let which = Which { group: query.group.clone(), index: query.index };
                let stream = reach::connect(&platform, &caller, whose, &which, &query.port);
                upgrade.connection(&platform, stream.await?)
            };
            work.await.map_err(|error: UseError| Refusal(error, caller.request.clone()))
        })*
    };
}

reaching! {
    Job: job_exec, job_port_forward;
    App: app_exec, app_port_forward;
}

/// `group=worker&index=1&command=sh&command=-c&tty=true`: the one query in which a name comes again.
#[derive(Debug, Default, PartialEq)]
struct ExecQuery {
    which: Which,
    command: Vec<String>,
    terminal: bool,
}

impl ExecQuery {
    fn parse(query: &str) -> Result<ExecQuery, UseError> {
        let mut asked = ExecQuery::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "group" => asked.which.group = Some(value.into_owned()),
                "index" => {
                    let index = value.parse();
                    let index = index.map_err(|_| {
                        UseError::field("index", format!("is `{value}`; a number is needed"))
                    })?;
                    asked.which.index = Some(index);
                }
                "command" => asked.command.push(value.into_owned()),
                "tty" => {
                    asked.terminal = value.parse().map_err(|_| {
                        UseError::field("tty", format!("is `{value}`; write `true` or `false`"))
                    })?;
                }
                other => {
                    let message = "is not known; there are group, index, command and tty";
                    return Err(UseError::field(other, message));
                }
            }
        }
        Ok(asked)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ForwardQuery {
    group: Option<String>,
    index: Option<u32>,
    port: String,
}

/// A replica that shows its attempt's token.
pub(crate) struct KnownAttempt(Placement, String);

impl FromRequestParts<Arc<Platform>> for KnownAttempt {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        platform: &Arc<Platform>,
    ) -> Result<Self, Refusal> {
        let request = parts.extensions.get::<RequestId>();
        let request = request.map_or_else(String::new, |id| id.0.clone());
        let Some(token) = bearer(&parts.headers) else {
            let detail = "send `Authorization: Bearer $MOONSHOT_ATTEMPT_TOKEN`";
            let error = UseError::new(Code::Unauthenticated, detail);
            return Err(Refusal(error, request));
        };
        match attempt::authenticate(platform, token).await {
            Ok(placement) => Ok(KnownAttempt(placement, request)),
            Err(error) => Err(Refusal(error, request)),
        }
    }
}

pub(crate) async fn rsh(
    State(platform): Shared,
    KnownAttempt(from, request): KnownAttempt,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let work = async {
        let asked = ExecQuery::parse(query.as_deref().unwrap_or_default())?;
        let exec = reach::rsh(&platform, &from, &asked.which, &asked.command).await?;
        upgrade.exec(&platform, exec, false)
    };
    work.await
        .map_err(|error: UseError| Refusal(error, request))
}

pub(crate) async fn take_output(
    State(platform): Shared,
    KnownAttempt(from, request): KnownAttempt,
    body: Bytes,
) -> Result<Json<IngestAnswer>, Refusal> {
    let work = async { ingest::ingest(&platform, &from, read_json(&body)?).await };
    work.await
        .map(|kept| Json(IngestAnswer { kept: kept.0 }))
        .map_err(|error: UseError| Refusal(error, request))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct AttemptsQuery {
    index: Option<u32>,
}

pub(crate) async fn job_attempts(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Named,
    query: Query<AttemptsQuery>,
) -> Result<Json<Items<JobAttempt>>, Refusal> {
    attempts::attempts(&platform, &caller.actor, &project, &name, query.index)
        .await
        .map(|items| Json(Items { items }))
        .map_err(|error| Refusal(error, caller.request))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct TopQuery {
    project: Option<String>,
}

pub(crate) async fn usage(
    State(platform): Shared,
    Known(caller): Known,
    query: Query<TopQuery>,
) -> Result<Json<Top>, Refusal> {
    top::top(&platform, &caller.actor, query.project.as_deref())
        .await
        .map(Json)
        .map_err(|error| Refusal(error, caller.request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_queries() {
        let check = |query: &str, expect: Result<&[&str], &str>| {
            let found = ExecQuery::parse(query).map(|asked| asked.command);
            let found = found.map_err(|error| error.to_string());
            let expect = expect.map(|words| words.iter().map(|&word| word.to_owned()).collect());
            assert_eq!(found, expect.map_err(str::to_owned), "{query}");
        };
        check(
            "command=sh&command=-c&command=a+%26+b&tty=true",
            Ok(&["sh", "-c", "a & b"]),
        );
        check("", Ok(&[]));
        check("index=x", Err("`index` is `x`; a number is needed"));
        check("tty=yes", Err("`tty` is `yes`; write `true` or `false`"));
        check(
            "cmd=ls",
            Err("`cmd` is not known; there are group, index, command and tty"),
        );
        let which = ExecQuery::parse("group=worker&index=3").unwrap().which;
        assert_eq!(
            (which.group.as_deref(), which.index),
            (Some("worker"), Some(3))
        );
    }
}
