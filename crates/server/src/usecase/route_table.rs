//! The gateway's table: which requests go to which ready replicas. Built from the Apps' specs and what their
//! status says is ready; it holds hashes of tokens, never tokens.

use crate::error::UseError;
use crate::platform::Platform;
use crate::shares;
use api::app::{AppSpec, AppStatus, RouteAuth};
use canary::Limits;
use db::access;
use db::objects::{self, Filter, Object};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Apps read at once.
const PAGE: u32 = 1_000;

/// The table as it is now.
pub async fn snapshot(platform: &Platform) -> Result<Value, UseError> {
    let now = platform.clock.now();
    let tokens: Vec<access::Token> = access::tokens(&platform.db)
        .await?
        .into_iter()
        .filter(|token| token.expires_at.is_none_or(|at| at > now))
        .collect();
    let mut routes = Vec::new();
    let mut after = None;
    loop {
        let filter = Filter {
            after,
            limit: PAGE,
            ..Filter::default()
        };
        let (apps, has_more) = objects::list(&platform.db, "App", &filter).await?;
        for app in &apps {
            routes.extend(route(app, &tokens));
        }
        after = apps.last().map(|app| (app.created_at, app.uid));
        if !has_more {
            break;
        }
    }
    Ok(json!({"version": 1, "routes": routes}))
}

/// An App's route; `None` where a newer server wrote it in words that this one does not know.
fn route(app: &Object, tokens: &[access::Token]) -> Option<Value> {
    let spec: AppSpec = serde_json::from_value(app.spec.clone()).ok()?;
    let status: AppStatus = serde_json::from_value(app.status.clone()).ok()?;
    let route = spec.route.clone().unwrap_or_default();
    let port = match &route.port {
        Some(port) => port.clone(),
        None => spec
            .template
            .program
            .ports
            .first()
            .map_or_else(|| "http".to_owned(), |port| port.name.clone()),
    };
    let protocol = spec
        .template
        .program
        .ports
        .iter()
        .find(|own| own.name == port)
        .map_or("http", |port| &port.protocol);
    let mut by_revision: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    for instance in status.instances.iter().filter(|instance| instance.ready) {
        let Some(address) = instance.addresses.get(&port) else {
            continue;
        };
        let Some(number) = instance
            .group
            .strip_prefix('r')
            .and_then(|number| number.parse().ok())
        else {
            continue;
        };
        let id = format!(
            "{}/{}/{}/{}",
            app.uid, instance.group, instance.index, instance.attempt
        );
        by_revision
            .entry(number)
            .or_default()
            .push(json!({"id": id, "address": address, "weight": 1}));
    }
    let percents = percents(app, &spec, &by_revision);
    let targets: Vec<Value> = by_revision
        .into_iter()
        .map(|(revision, endpoints)| {
            let percent = percents.get(&revision).copied().unwrap_or(0);
            json!({"revision": revision, "percent": percent, "endpoints": endpoints})
        })
        .collect();
    let auth = match route.auth.unwrap_or_default() {
        RouteAuth::Token => "token",
        RouteAuth::None => "none",
    };
    let accepted: Vec<&str> = tokens
        .iter()
        .filter(|token| may_call(token, &app.project, &app.name))
        .map(|token| token.hash.as_str())
        .collect();
    Some(json!({
        "app": app.name,
        "project": app.project,
        "uid": app.uid,
        "host": route.host,
        "path": route.path.clone().unwrap_or_else(|| format!("/{}/{}", app.project, app.name)),
        "stripPrefix": route.strip_prefix.unwrap_or(true),
        "protocol": protocol,
        "auth": auth,
        "tokens": accepted,
        "timeoutMs": route.timeout.map_or(60_000, base::Span::as_ms),
        "targets": targets,
        "stepBack": step_back(app, &spec),
    }))
}

/// When the newer of two Revisions is given up; only while requests are shared out.
fn step_back(app: &Object, spec: &AppSpec) -> Option<Value> {
    let rule = spec.rollout.step_back.clone().unwrap_or_default();
    let shares = shares::open(app, spec);
    (!shares.is_empty()).then(|| {
        json!({
            "errors": rule.errors.unwrap_or(Limits::USUAL.errors),
            "latency": rule.latency.unwrap_or(Limits::USUAL.latency),
            // Our own model server calls most faults of a model the caller's.
            "refusals": spec.model.is_some(),
        })
    })
}

/// Shares by Revision: as was said, else everything to all that is ready, in proportion, but to one that was given up.
fn percents(app: &Object, spec: &AppSpec, ready: &BTreeMap<u32, Vec<Value>>) -> BTreeMap<u32, u32> {
    let shares = shares::open(app, spec);
    if !shares.is_empty() {
        return shares
            .iter()
            .map(|share| (share.revision, u32::from(share.percent)))
            .collect();
    }
    // Weights, not percents: each ready replica takes the same share while Revisions follow each other.
    let shut = shares::shut(app);
    ready
        .iter()
        .filter(|(revision, _)| Some(**revision) != shut)
        .map(|(revision, endpoints)| {
            (
                *revision,
                u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
            )
        })
        .collect()
}

fn may_call(token: &access::Token, project: &str, app: &str) -> bool {
    let scope = |name: &str| token.scope[name].as_str();
    let here = scope("project").is_none_or(|only| only == project);
    match scope("role") {
        Some("admin" | "editor") => here,
        Some("route") => here && scope("app") == Some(app),
        _ => false,
    }
}
