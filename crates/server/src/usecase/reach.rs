//! Reaching into a running replica: another program beside its own, or a connection to one of its ports. Each is
//! written to the audit trail before it happens; what a command says is kept as a digest, for it may hold secrets.
//!
//! These are the only use cases that ask the engine: what they begin is a stream, not an effect that a loop could
//! repeat.

use super::{Caller, audit, digest, read};
use crate::auth::{Verb, authorize};
use crate::error::UseError;
use crate::platform::Platform;
use api::Kind;
use api::app::AppSpec;
use api::common::PortSpec;
use api::job::JobSpec;
use base::Code;
use db::control::{self, Placement};
use db::objects::Object;
use db::{DbError, audit as trail};
use engine::{EngineError, Exec, ReplicaKey};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;

/// The most bytes of a command, its words' ends counted.
const COMMAND_BYTES_MAX: usize = 128 << 10;
/// A terminal's size until the caller says its own.
const TERMINAL: (u16, u16) = (80, 24);
/// A replica's port is on this machine or near it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which replica of a Job or App is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// The group, or the Revision (`r3`); any if absent.
    pub group: Option<String>,
    /// The rank or seat; the first that runs if absent.
    pub index: Option<u32>,
}

/// Runs a program beside a replica's own.
pub async fn exec(
    platform: &Platform,
    caller: &Caller,
    (kind, project, name): (Kind, &str, &str),
    which: &Which,
    command: &[String],
    terminal: bool,
) -> Result<Exec, UseError> {
    check_command(command)?;
    let (object, placement) = find(platform, caller, (kind, project, name), which).await?;
    record(platform, caller, &object, "exec", digest(&json!(command))).await?;
    start(platform, &placement, command, terminal.then_some(TERMINAL)).await
}

/// Runs a program beside that of another member of the same attempt.
pub async fn rsh(
    platform: &Platform,
    from: &Placement,
    which: &Which,
    command: &[String],
) -> Result<Exec, UseError> {
    check_command(command)?;
    let mut mates = control::placements(&platform.db, from.owner).await?;
    mates.retain(|mate| mate.unit == from.unit && mate.attempt == from.attempt);
    let to = pick(mates, &BTreeMap::new(), which, "this attempt")?;
    start(platform, &to, command, None).await
}

/// Connects to a replica's port, by its name or number.
pub async fn connect(
    platform: &Platform,
    caller: &Caller,
    (kind, project, name): (Kind, &str, &str),
    which: &Which,
    port: &str,
) -> Result<TcpStream, UseError> {
    let (object, placement) = find(platform, caller, (kind, project, name), which).await?;
    let given: BTreeMap<String, u16> =
        serde_json::from_value(placement.ports.clone()).unwrap_or_default();
    let number = number(port, &given, &declared(&object, &placement.group))?;
    record(platform, caller, &object, "portforward", String::new()).await?;
    let host = platform.engine.peer_host(&key(&placement), &placement.node);
    let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, number)));
    let refused = |why: String| {
        let member = member(&placement);
        UseError::new(
            Code::Unavailable,
            format!("port `{port}` of {member} does not answer: {why}"),
        )
    };
    match connect.await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(refused(format!(
            "nothing came within {} s",
            CONNECT_TIMEOUT.as_secs()
        ))),
    }
}

fn check_command(command: &[String]) -> Result<(), UseError> {
    let bytes: usize = command.iter().map(|word| word.len() + 1).sum();
    if command.first().is_none_or(String::is_empty) {
        return Err(UseError::field("command", "is missing: say what to run"));
    }
    if bytes > COMMAND_BYTES_MAX {
        let message = format!("has {bytes} bytes; at most {COMMAND_BYTES_MAX} are taken");
        return Err(UseError::field("command", message));
    }
    Ok(())
}

async fn find(
    platform: &Platform,
    caller: &Caller,
    (kind, project, name): (Kind, &str, &str),
    which: &Which,
) -> Result<(Object, Placement), UseError> {
    let object = read::stored(platform, &caller.actor, kind, project, name).await?;
    authorize(&caller.actor, Verb::Write, project)?;
    let placements = control::placements(&platform.db, object.uid).await?;
    let whose = format!("{} `{name}`", kind.as_str().to_lowercase());
    if placements.iter().all(|placement| !is_held(placement)) {
        let detail = format!(
            "{whose} has no replica that runs: it is {}",
            if object.phase.is_empty() {
                "new"
            } else {
                &object.phase
            }
        );
        return Err(UseError::new(Code::Conflict, detail));
    }
    let placement = pick(placements, &phases(&object), which, &whose)?;
    Ok((object, placement))
}

/// Where the engine has been asked for it and it may run.
fn is_held(placement: &Placement) -> bool {
    matches!(placement.state.as_str(), "bound" | "releasing")
}

fn key(placement: &Placement) -> ReplicaKey {
    ReplicaKey {
        owner: placement.owner,
        group: placement.group.clone(),
        index: placement.index,
        attempt: placement.attempt,
    }
}

fn member(placement: &Placement) -> String {
    format!("{}/{}", placement.group, placement.index)
}

/// What the status says of each member: a replica that runs is better than one that backs off.
fn phases(object: &Object) -> BTreeMap<String, String> {
    let members = ["replicas", "instances"]
        .into_iter()
        .filter_map(|field| object.status[field].as_array())
        .flatten();
    members
        .filter_map(|status| {
            let (group, index) = (status["group"].as_str()?, status["index"].as_u64()?);
            Some((
                format!("{group}/{index}"),
                status["phase"].as_str()?.to_owned(),
            ))
        })
        .collect()
}

/// The first that runs among those asked for; `phases` by member, as far as they are known.
fn pick(
    placements: Vec<Placement>,
    phases: &BTreeMap<String, String>,
    which: &Which,
    whose: &str,
) -> Result<Placement, UseError> {
    let asked = |placement: &Placement| {
        which
            .group
            .as_ref()
            .is_none_or(|group| *group == placement.group)
            && which.index.is_none_or(|index| index == placement.index.0)
    };
    let names: Vec<String> = placements
        .iter()
        .filter(|placement| is_held(placement))
        .map(member)
        .collect();
    let (held, over): (Vec<Placement>, Vec<Placement>) =
        placements.into_iter().filter(asked).partition(is_held);
    let runs = |placement: &Placement| {
        phases
            .get(&member(placement))
            .is_none_or(|phase| phase == "Running")
    };
    let at = held.iter().position(runs).unwrap_or(0);
    if let Some(found) = held.into_iter().nth(at) {
        return Ok(found);
    }
    let wanted = match (&which.group, which.index) {
        (Some(group), Some(index)) => format!("{group}/{index}"),
        (Some(group), None) => group.clone(),
        (None, Some(index)) => index.to_string(),
        (None, None) => "replica".to_owned(),
    };
    let running = names.join(", ");
    Err(if over.is_empty() {
        UseError::new(
            Code::NotFound,
            format!("{whose} has no `{wanted}`; what runs: {running}"),
        )
    } else {
        UseError::new(
            Code::Conflict,
            format!("`{wanted}` of {whose} does not run any more; what runs: {running}"),
        )
    })
}

async fn start(
    platform: &Platform,
    placement: &Placement,
    command: &[String],
    terminal: Option<(u16, u16)>,
) -> Result<Exec, UseError> {
    let key = key(placement);
    let started = platform.engine.exec(&key, command, terminal);
    started.await.map_err(|error| match error {
        EngineError::NotRunning(_) => UseError::new(
            Code::Conflict,
            format!(
                "{} does not run just now: it starts, waits for its restart, or has ended",
                member(placement)
            ),
        ),
        other => other.into(),
    })
}

/// The ports that a group declares.
fn declared(object: &Object, group: &str) -> Vec<PortSpec> {
    if object.kind == "App" {
        let spec = serde_json::from_value::<AppSpec>(object.spec.clone());
        return spec.map_or_else(|_| Vec::new(), |spec| spec.template.program.ports);
    }
    let Ok(spec) = serde_json::from_value::<JobSpec>(object.spec.clone()) else {
        return Vec::new();
    };
    let own = spec.groups.into_iter().find(|own| own.name == group);
    let own = own.map(|own| own.program.ports).unwrap_or_default();
    if own.is_empty() {
        spec.program.ports
    } else {
        own
    }
}

/// The number behind a port's name, or behind its declared or given number. No other port of the machine is
/// reached this way.
fn number(
    port: &str,
    given: &BTreeMap<String, u16>,
    declared: &[PortSpec],
) -> Result<u16, UseError> {
    let asked = port.parse::<u16>().ok();
    let of = |spec: &PortSpec| given.get(&spec.name).copied().unwrap_or(spec.port);
    let by_declaration = declared
        .iter()
        .find(|spec| spec.name == port || Some(spec.port) == asked)
        .map(of);
    let by_gift = || {
        let mut given = given.iter();
        given
            .find(|(name, number)| *name == port || Some(**number) == asked)
            .map(|(_, number)| *number)
    };
    by_declaration.or_else(by_gift).ok_or_else(|| {
        let mut names: Vec<&str> = declared.iter().map(|spec| spec.name.as_str()).collect();
        names.extend(given.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        let has = if names.is_empty() {
            "it declares no ports".to_owned()
        } else {
            format!("it has {}", names.join(", "))
        };
        UseError::field(
            "port",
            format!("`{port}` is no port of this replica: {has}"),
        )
    })
}

async fn record(
    platform: &Platform,
    caller: &Caller,
    object: &Object,
    verb: &'static str,
    command: String,
) -> Result<(), UseError> {
    let mut object = object.clone();
    object.updated_at = platform.clock.now();
    let caller = caller.clone();
    let written: Result<(), DbError> = platform
        .db
        .write(None, move |tx| {
            let entry = audit(&caller, verb, &object, "", &command);
            Box::pin(async move { trail::add(tx, &entry).await })
        })
        .await;
    Ok(written?)
}

#[cfg(test)]
mod tests;
