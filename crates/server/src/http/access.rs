//! The platform as a whole: health, metrics, sessions, tokens, audit, the overview, and the console.

use super::subresources::read_json;
use super::{Known, Refusal, RequestId, SESSION, Shared, nothing};
use crate::auth::{self, Verb, authorize};
use crate::error::UseError;
use crate::platform::{Platform, new_uid};
use crate::usecase::{Caller, read, token_audit};
use api::answer::{AuditRecord, Items, LoginRequest, Overview, Role, Token, TokenRequest, WhoAmI};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base::{Code, Span, Uid};
use db::{DbError, access};
use serde::Deserialize;

/// How long a token is good that does not say.
const TOKEN_SPAN: Span = Span::from_secs(90 * 24 * 3_600);

/// Ready once somebody leads.
pub(crate) async fn ready(State(platform): Shared) -> Response {
    let leads = platform.sched().is_some() || platform.db.is_shared();
    if leads {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
    }
}

pub(crate) async fn metrics(State(platform): Shared) -> Response {
    let mut text = platform.requests.text();
    if let Some(sched) = platform.sched()
        && let Some((waiting, unanswered)) = sched
            .read(|sched| (sched.waiting(), sched.unanswered()))
            .await
    {
        text.push_str("# TYPE moonshot_tasks_waiting gauge\n");
        text.push_str(&format!("moonshot_tasks_waiting {waiting}\n"));
        text.push_str("# TYPE moonshot_decisions_uncommitted gauge\n");
        text.push_str(&format!("moonshot_decisions_uncommitted {unanswered}\n"));
    }
    text.push_str(&crate::metrics::output(
        &platform.logs.stats(),
        platform.dropped.total(),
    ));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

pub(crate) async fn openapi() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        api::openapi::text(),
    )
        .into_response()
}

pub(crate) async fn login(
    State(platform): Shared,
    Extension(RequestId(request)): Extension<RequestId>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let work = async {
        let asked: LoginRequest = read_json(&body)?;
        auth::authenticate(&platform, &asked.token).await?;
        let secure = if platform.tls { "; Secure" } else { "" };
        let cookie = format!(
            "{SESSION}={}; Path=/; HttpOnly; SameSite=Strict{secure}",
            asked.token
        );
        let value = HeaderValue::from_str(&cookie)
            .map_err(|_| UseError::field("token", "is not a token"))?;
        let mut response = nothing();
        response.headers_mut().insert(header::SET_COOKIE, value);
        Ok(response)
    };
    work.await.map_err(|error| Refusal(error, request))
}

pub(crate) async fn logout() -> Response {
    let mut response = nothing();
    let gone =
        HeaderValue::from_static("moonshot_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    response.headers_mut().insert(header::SET_COOKIE, gone);
    response
}

pub(crate) async fn whoami(Known(caller): Known) -> Json<WhoAmI> {
    let Caller { actor, .. } = caller;
    Json(WhoAmI {
        name: actor.name,
        kind: "token".to_owned(),
        role: actor.role,
        project: actor.project,
    })
}

pub(crate) async fn status(
    State(platform): Shared,
    Known(caller): Known,
) -> Result<Json<Overview>, Refusal> {
    read::overview(&platform, &caller.actor)
        .await
        .map(Json)
        .map_err(|error| Refusal(error, caller.request))
}

pub(crate) async fn tokens(
    State(platform): Shared,
    Known(caller): Known,
) -> Result<Json<Items<Token>>, Refusal> {
    let work = async {
        authorize(&caller.actor, Verb::Administer, "")?;
        let stored = access::tokens(&platform.db).await?;
        Ok(Items {
            items: stored.iter().map(|token| shown(token, None)).collect(),
        })
    };
    work.await
        .map(Json)
        .map_err(|error| Refusal(error, caller.request))
}

fn shown(token: &access::Token, text: Option<String>) -> Token {
    let actor = auth::actor(token);
    Token {
        id: token.id.to_string(),
        name: token.name.clone(),
        role: actor.role,
        project: actor.project,
        app: actor.app,
        created_at: token.created_at,
        expires_at: token.expires_at,
        token: text,
    }
}

pub(crate) async fn create_token(
    State(platform): Shared,
    Known(caller): Known,
    body: Bytes,
) -> Result<(StatusCode, Json<Token>), Refusal> {
    let work = async { made_token(&platform, &caller, &body).await };
    work.await
        .map(|token| (StatusCode::CREATED, Json(token)))
        .map_err(|error| Refusal(error, caller.request.clone()))
}

async fn made_token(platform: &Platform, caller: &Caller, body: &[u8]) -> Result<Token, UseError> {
    let asked: TokenRequest = read_json(body)?;
    let role = asked.role.unwrap_or(Role::Editor);
    // Who may change a project may hand out calls of its Apps; everything else is the administrator's.
    match (role, &asked.project) {
        (Role::Route, Some(project)) => authorize(&caller.actor, Verb::Write, project)?,
        _ => authorize(&caller.actor, Verb::Administer, "")?,
    }
    if role == Role::Route && (asked.project.is_none() || asked.app.is_none()) {
        return Err(UseError::field(
            "app",
            "and `project` are needed for a token that calls an App",
        ));
    }
    let now = platform.clock.now();
    let text = auth::fresh();
    let token = access::Token {
        id: new_uid(now),
        principal: asked.name.clone(),
        name: asked.name,
        hash: auth::hash(&text),
        scope: auth::scope(role, asked.project.as_deref(), asked.app.as_deref()),
        created_at: now,
        expires_at: Some(now + asked.expires_in.unwrap_or(TOKEN_SPAN)),
        last_used_at: None,
        revoked_at: None,
    };
    let (row, entry) = (token.clone(), token_audit(caller, "create", &token, now));
    let written: Result<(), DbError> = platform
        .db
        .write(None, move |tx| {
            let (row, entry) = (row.clone(), entry.clone());
            Box::pin(async move {
                access::principal(tx, "token", &row.name, "token", row.id).await?;
                access::insert_token(tx, &row).await?;
                db::audit::add(tx, &entry).await
            })
        })
        .await;
    written?;
    platform.routes.send_modify(|count| *count += 1);
    Ok(shown(&token, Some(text)))
}

pub(crate) async fn revoke_token(
    State(platform): Shared,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let work = async {
        authorize(&caller.actor, Verb::Administer, "")?;
        let id: Uid = id
            .parse()
            .map_err(|_| UseError::not_found("Token", "", &id))?;
        let by = caller.clone();
        let revoked: Result<bool, DbError> = platform
            .db
            .write(None, move |tx| {
                let by = by.clone();
                Box::pin(async move {
                    let Some(token) = access::token_by_id(tx, id).await? else {
                        return Ok(false);
                    };
                    let now = tx.now();
                    db::audit::add(tx, &token_audit(&by, "revoke", &token, now)).await?;
                    access::revoke(tx, id).await
                })
            })
            .await;
        if !revoked? {
            return Err(UseError::not_found("Token", "", &id.to_string()));
        }
        platform.routes.send_modify(|count| *count += 1);
        Ok(nothing())
    };
    work.await.map_err(|error| Refusal(error, caller.request))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuditQuery {
    limit: Option<u32>,
    kind: Option<String>,
    project: Option<String>,
    name: Option<String>,
}

pub(crate) async fn audit(
    State(platform): Shared,
    Known(caller): Known,
    query: Query<AuditQuery>,
) -> Result<Json<Items<AuditRecord>>, Refusal> {
    let work = async {
        authorize(&caller.actor, Verb::Administer, "")?;
        let filter = db::audit::Filter {
            kind: query.kind.clone(),
            project: query.project.clone(),
            name: query.name.clone(),
            limit: query.limit.unwrap_or(100).clamp(1, 1_000),
        };
        let entries = db::audit::newest(&platform.db, &filter).await?;
        let items = entries.into_iter().map(|entry| AuditRecord {
            time: entry.at,
            actor: entry.actor,
            verb: entry.verb,
            kind: entry.kind,
            project: entry.project,
            name: entry.name,
            uid: entry.uid.map(|uid| uid.to_string()).unwrap_or_default(),
            before: entry.before,
            after: entry.after,
            request_id: entry.request,
        });
        Ok(Items {
            items: items.collect(),
        })
    };
    work.await
        .map(Json)
        .map_err(|error| Refusal(error, caller.request))
}

/// The console's files; every other path is a page of it. Unknown API paths are told so.
pub(crate) async fn console(
    State(platform): Shared,
    Extension(RequestId(request)): Extension<RequestId>,
    uri: Uri,
) -> Response {
    let path = uri.path();
    if path.starts_with("/v1/") {
        return Refusal(
            UseError::new(Code::NotFound, format!("there is no route `{path}`")),
            request,
        )
        .into_response();
    }
    let Some(files) = platform.console else {
        let text = "The console is not built in. Build it with `cargo xtask up` where Node 20.19 or newer is installed.\n\
                    The API is at /v1, its description at /v1/openapi.json.\n";
        return text.into_response();
    };
    let found = files(path.trim_start_matches('/')).or_else(|| files("index.html"));
    let Some((media, bytes)) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";
    // Names of built files change with their content, those beside them do not.
    let kept = if path.starts_with("/assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (header::CONTENT_TYPE, media.as_str()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, kept),
    ];
    (headers, bytes).into_response()
}
