//! Reading: one object, pages of a kind, events, the overview.

use super::wire;
use crate::auth::{Actor, Verb, authorize};
use crate::error::UseError;
use crate::platform::Platform;
use api::answer::{Overview, QueueCount};
use api::platform::{NodeStatus, QueueStatus};
use api::{Kind, List, Object as Wire};
use base::{Code, Resources, Time, Uid};
use db::objects::{self, Filter, Object};
use db::{events, feed};
use std::collections::BTreeMap;

/// The most objects of one page, and the default.
pub const LIMIT_MAX: u32 = 1_000;
const LIMIT: u32 = 100;

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Only this project.
    pub project: Option<String>,
    /// Only this phase.
    pub phase: Option<String>,
    /// Only with these labels.
    pub selector: Option<String>,
    /// At most this many.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub after: Option<String>,
}

/// The stored object of this name, if the caller may see it.
pub async fn stored(
    platform: &Platform,
    actor: &Actor,
    kind: Kind,
    project: &str,
    name: &str,
) -> Result<Object, UseError> {
    authorize(actor, Verb::Read, project)?;
    let found = objects::read(&platform.db, kind.as_str(), project, name).await?;
    found.ok_or_else(|| UseError::not_found(kind.as_str(), project, name))
}

/// The object of this name.
pub async fn get(
    platform: &Platform,
    actor: &Actor,
    kind: Kind,
    project: &str,
    name: &str,
) -> Result<Wire, UseError> {
    if kind == Kind::Event {
        authorize(actor, Verb::Read, project)?;
        let uid: Uid = name
            .parse()
            .map_err(|_| UseError::not_found("Event", project, name))?;
        let found = events::read(&platform.db, uid).await?;
        return found
            .map(|event| wire::event(&event))
            .ok_or_else(|| UseError::not_found("Event", project, name));
    }
    Ok(wire::object(
        &stored(platform, actor, kind, project, name).await?,
    ))
}

/// One page of a kind, newest first.
pub async fn list(
    platform: &Platform,
    actor: &Actor,
    kind: Kind,
    page: Page,
) -> Result<List<Wire>, UseError> {
    let project = page.project.clone().or_else(|| {
        actor
            .project
            .clone()
            .filter(|_| kind.scope() == api::Scope::Project)
    });
    authorize(actor, Verb::Read, project.as_deref().unwrap_or(""))?;
    let limit = page.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(UseError::field(
            "limit",
            format!("is {limit}; choose 1 to {LIMIT_MAX}"),
        ));
    }
    let after = page.after.as_deref().map(parse_continue).transpose()?;
    // The position is read first: a watch from there misses nothing that the page does not show.
    let seq = feed::head(&platform.db).await?;
    let (items, has_more, last) = if kind == Kind::Event {
        let (events, has_more) =
            events::list(&platform.db, project.as_deref(), after, limit).await?;
        let last = events.last().map(|event| (event.last_at, event.uid));
        (
            events.iter().map(wire::event).collect::<Vec<_>>(),
            has_more,
            last,
        )
    } else {
        let labels = match &page.selector {
            Some(text) => selector(text)?,
            None => Vec::new(),
        };
        let filter = Filter {
            project,
            phase: page.phase,
            labels,
            after,
            limit,
        };
        let (objects, has_more) = objects::list(&platform.db, kind.as_str(), &filter).await?;
        let last = objects.last().map(|object| (object.created_at, object.uid));
        (objects.iter().map(wire::object).collect(), has_more, last)
    };
    Ok(List {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: format!("{}List", kind.as_str()),
        continue_: last
            .filter(|_| has_more)
            .map(|(at, uid)| format!("{}.{uid}", at.as_ms())),
        items,
        has_more,
        resource_version: seq.0,
    })
}

fn parse_continue(text: &str) -> Result<(Time, Uid), UseError> {
    let parsed = text
        .split_once('.')
        .and_then(|(at, uid)| Some((Time::from_ms(at.parse().ok()?), uid.parse().ok()?)));
    parsed.ok_or_else(|| {
        UseError::field(
            "continue",
            "is not what a page before answered; begin again without it",
        )
    })
}

fn selector(text: &str) -> Result<Vec<objects::LabelMatch>, UseError> {
    use api::selector::Requirement;
    let parsed: api::selector::Selector =
        text.parse().map_err(|error: api::selector::BadSelector| {
            UseError::new(Code::Invalid, error.to_string())
        })?;
    let one = |requirement: &Requirement| match requirement.clone() {
        Requirement::In(key, values) => objects::LabelMatch::In(key, values),
        Requirement::NotIn(key, values) => objects::LabelMatch::NotIn(key, values),
        Requirement::Exists(key) => objects::LabelMatch::Exists(key),
        Requirement::Absent(key) => objects::LabelMatch::Absent(key),
    };
    Ok(parsed.requirements().iter().map(one).collect())
}

/// What happened to an object, newest last.
pub async fn events_of(
    platform: &Platform,
    actor: &Actor,
    kind: Kind,
    project: &str,
    name: &str,
) -> Result<Vec<Wire>, UseError> {
    let object = stored(platform, actor, kind, project, name).await?;
    let mut events = events::of_object(&platform.db, object.uid, events::KEPT_MAX).await?;
    events.reverse();
    Ok(events.iter().map(wire::event).collect())
}

/// The state of the platform on one page.
pub async fn overview(platform: &Platform, actor: &Actor) -> Result<Overview, UseError> {
    authorize(actor, Verb::Read, "")?;
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let phases = |counts: BTreeMap<String, u64>| {
        counts
            .into_iter()
            .map(|(phase, n)| (phase, small(n)))
            .collect()
    };
    let nodes = objects::all(&platform.db, "Node").await?;
    let statuses: Vec<NodeStatus> = nodes
        .iter()
        .filter_map(|node| serde_json::from_value(node.status.clone()).ok())
        .collect();
    let (mut allocatable, mut used) = (Resources::default(), Resources::default());
    let mut warnings = Vec::new();
    for status in statuses.iter().filter(|status| status.ready) {
        allocatable.add(&amount(&status.allocatable));
        used.add(&amount(&status.used));
        for warning in &status.warnings {
            if !warnings.contains(warning) {
                warnings.push(warning.clone());
            }
        }
    }
    let queues = objects::all(&platform.db, "Queue").await?;
    let queues = queues.iter().map(|queue| {
        let status: QueueStatus = serde_json::from_value(queue.status.clone()).unwrap_or_default();
        QueueCount {
            name: queue.name.clone(),
            waiting: status.waiting,
            running: status.running,
        }
    });
    Ok(Overview {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes_ready: small(statuses.iter().filter(|status| status.ready).count() as u64),
        nodes: small(nodes.len() as u64),
        allocatable: crate::control::convert::shown(&allocatable),
        used: crate::control::convert::shown(&used),
        jobs: phases(objects::phases(&platform.db, "Job").await?),
        apps: phases(objects::phases(&platform.db, "App").await?),
        queues: queues.collect(),
        warnings,
        gateway_url: Some(platform.gateway_url.clone()),
        console_url: platform.console_url.clone(),
    })
}

fn amount(spec: &api::platform::AmountSpec) -> Resources {
    Resources {
        cpu: spec.cpu.unwrap_or_default(),
        memory: spec.memory.unwrap_or_default(),
        gpu_milli: crate::control::convert::gpu_milli(spec.gpu.unwrap_or(0.0)),
        extended: spec.extended.clone(),
    }
}

/// An App's Revisions, newest first.
pub async fn revisions(
    platform: &Platform,
    actor: &Actor,
    project: &str,
    name: &str,
) -> Result<Vec<api::app::Revision>, UseError> {
    let object = stored(platform, actor, Kind::App, project, name).await?;
    let target = super::revision::target(&object);
    let rows = db::versions::revisions(&platform.db, object.uid).await?;
    rows.into_iter()
        .map(|row| {
            let state = if Some(row.number) == target && row.state != "Stable" {
                "Target".to_owned()
            } else {
                row.state
            };
            let template = serde_json::from_value(row.template).map_err(|source| {
                UseError::internal("a Revision's template cannot be read", source)
            })?;
            Ok(api::app::Revision {
                number: row.number,
                template,
                created_at: row.created_at,
                creator: row.creator,
                state,
                message: row.message,
            })
        })
        .collect()
}

/// Refuses a kind that does not live where the path says.
pub fn wrong_scope(kind: Kind) -> UseError {
    let place = match kind.scope() {
        api::Scope::Project => "in a project: /v1/projects/{project}/",
        api::Scope::Global | api::Scope::Tenant => "outside projects: /v1/",
    };
    UseError::new(
        Code::NotFound,
        format!("{} live {place}{}", kind.plural(), kind.plural()),
    )
}
