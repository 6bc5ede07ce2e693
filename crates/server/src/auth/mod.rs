//! Who calls, and what they may do. Tokens are 256 random bits; only their SHA-256 is stored. The first
//! token is made at the first start and written to a file that only its owner can read.

pub mod attempt;
pub mod keys;

use crate::error::UseError;
use crate::platform::{Platform, new_uid};
use api::answer::Role;
use base::{Code, Time, Uid};
use db::access::{self, Token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Tokens kept at hand, so that a request need not ask the database.
const CACHE_MAX: usize = 4_096;
/// A revoked token is noticed after this at the latest.
const CACHE_MS: i64 = 5_000;

/// The caller of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// The principal's name.
    pub name: String,
    /// The token it came with.
    pub token: Option<Uid>,
    /// What it may do.
    pub role: Role,
    /// The only project it may touch.
    pub project: Option<String>,
    /// The only App it may call.
    pub app: Option<String>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Look at it.
    Read,
    /// Make, change, stop, delete it.
    Write,
    /// Change what operators own: nodes, queues, tokens, projects.
    Administer,
}

/// The one place that says who may do what. `project` is empty for objects of a wider scope.
pub fn authorize(actor: &Actor, verb: Verb, project: &str) -> Result<(), UseError> {
    if let Some(only) = &actor.project
        && !project.is_empty()
        && only != project
    {
        let detail = format!("`{}` may only touch project `{only}`", actor.name);
        return Err(UseError::new(Code::Denied, detail));
    }
    let may = match (actor.role, verb) {
        (Role::Admin, _) | (Role::Editor | Role::Viewer, Verb::Read) => true,
        (Role::Editor, Verb::Write) => !project.is_empty(),
        (Role::Editor, Verb::Administer)
        | (Role::Viewer, Verb::Write | Verb::Administer)
        | (Role::Route, _) => false,
    };
    if may {
        return Ok(());
    }
    let needed = match verb {
        Verb::Read => "viewer",
        Verb::Write if !project.is_empty() => "editor",
        Verb::Write | Verb::Administer => "admin",
    };
    Err(UseError::new(
        Code::Denied,
        format!(
            "`{}` may not do this; it needs a token with the role `{needed}`",
            actor.name
        ),
    ))
}

/// Tokens that were looked up a moment ago, by hash.
#[derive(Debug, Default)]
pub struct TokenCache(Mutex<HashMap<String, (Time, Option<Token>)>>);

/// SHA-256 in hexadecimal digits.
pub fn hash(token: &str) -> String {
    base::hex(Sha256::digest(token.as_bytes()))
}

/// A fresh token's text.
pub fn fresh() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    format!("moon_{}", base::hex(bytes))
}

/// The caller that a token stands for.
pub async fn authenticate(platform: &Platform, text: &str) -> Result<Actor, UseError> {
    let now = platform.clock.now();
    let hash = hash(text);
    let refuse = || {
        UseError::new(
            Code::Unauthenticated,
            "the token is not known, or it has ended; on the server's machine `moonshot token show` prints a good one, and \
             whoever administrates it makes others by `moonshot token create`",
        )
    };
    let cached = {
        let cache = platform
            .tokens
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cache
            .get(&hash)
            .filter(|(at, _)| now.as_ms() - at.as_ms() < CACHE_MS)
            .map(|(_, token)| token.clone())
    };
    let token = match cached {
        Some(token) => token,
        None => {
            let token = access::token(&platform.db, &hash).await?;
            let mut cache = platform
                .tokens
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= CACHE_MAX {
                cache.clear();
            }
            cache.insert(hash, (now, token.clone()));
            token
        }
    };
    let token = token.ok_or_else(refuse)?;
    let ended = token.revoked_at.is_some() || token.expires_at.is_some_and(|at| at <= now);
    if ended {
        return Err(refuse());
    }
    Ok(actor(&token))
}

/// The caller that a stored token stands for.
pub fn actor(token: &Token) -> Actor {
    let text = |name: &str| token.scope[name].as_str().map(str::to_owned);
    let role = match token.scope["role"].as_str() {
        Some("admin") => Role::Admin,
        Some("editor") => Role::Editor,
        Some("route") => Role::Route,
        _ => Role::Viewer,
    };
    Actor {
        name: token.principal.clone(),
        token: Some(token.id),
        role,
        project: text("project"),
        app: text("app"),
    }
}

/// What a token may do, as stored.
pub fn scope(role: Role, project: Option<&str>, app: Option<&str>) -> Value {
    json!({"role": role, "project": project, "app": app})
}

/// Makes sure that the administrator's token is known, and returns its text.
pub async fn bootstrap(platform: &Platform, file: &std::path::Path) -> Result<String, UseError> {
    let text = keys::read_or_make(file, || fresh().into_bytes()).map_err(|source| {
        UseError::internal(
            format!(
                "cannot keep the administrator's token in `{}`",
                file.display()
            ),
            source,
        )
    })?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let now = platform.clock.now();
    let token = Token {
        id: new_uid(now),
        principal: "admin".to_owned(),
        name: "bootstrap".to_owned(),
        hash: hash(&text),
        scope: scope(Role::Admin, None, None),
        created_at: now,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    };
    let written: Result<(), db::DbError> = platform
        .db
        .write(None, move |tx| {
            let token = token.clone();
            Box::pin(async move {
                access::principal(tx, "local", "admin", "user", token.id).await?;
                access::insert_token(tx, &token).await
            })
        })
        .await;
    written?;
    Ok(text)
}
