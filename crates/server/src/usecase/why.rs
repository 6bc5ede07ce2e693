//! Why something waits, in one sentence: from the scheduler while it waits for capacity, else from its status.

use super::read;
use crate::auth::Actor;
use crate::error::UseError;
use crate::platform::Platform;
use api::Kind;
use api::answer::Why;
use db::control;
use sched::{Explanation, Standing, TaskId};
use std::time::Duration;

/// Tasks of one owner that are asked about: an array's first ones tell for all.
const TASKS_MAX: usize = 8;

/// Right after `apply` the controllers have not looked at an object yet; asked then, the answer waits this long for them.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked again meanwhile.
const PERIOD: Duration = Duration::from_millis(100);

/// Why an object is as it is.
pub async fn why(
    platform: &Platform,
    actor: &Actor,
    kind: Kind,
    project: &str,
    name: &str,
) -> Result<Why, UseError> {
    let deadline = tokio::time::Instant::now() + LOOK;
    loop {
        let why = as_it_is(platform, actor, kind, project, name).await?;
        let is_known = !why.reason.is_empty() || kind != Kind::Job && kind != Kind::App;
        if is_known || tokio::time::Instant::now() >= deadline {
            return Ok(why);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn as_it_is(
    platform: &Platform,
    actor: &Actor,
    kind: Kind,
    project: &str,
    name: &str,
) -> Result<Why, UseError> {
    let object = read::stored(platform, actor, kind, project, name).await?;
    let status = |field: &str| object.status[field].as_str().unwrap_or_default().to_owned();
    let told = Why {
        sentence: sentence(&object.phase, &status("message"), name),
        reason: status("reason"),
        details: Vec::new(),
    };
    let told = with_delivery(told, &object);
    if object.finished_at.is_some() || !matches!(kind, Kind::Job | Kind::App | Kind::PodGroup) {
        return Ok(told);
    }
    let tasks: Vec<TaskId> = control::waiting_tasks_of(&platform.db, object.uid)
        .await?
        .into_iter()
        .take(TASKS_MAX)
        .map(TaskId)
        .collect();
    if tasks.is_empty() {
        return Ok(told);
    }
    let Some(sched) = platform.sched() else {
        let leader = crate::control::leader::leader_address(platform).await?;
        let detail = match leader {
            Some(address) => format!(
                "the scheduler's reasons are known by the server that leads, at {address}; ask it with MOONSHOT_SERVER=http://{address}"
            ),
            None => "no server leads at the moment; ask again in a few seconds".to_owned(),
        };
        return Ok(Why {
            details: vec![detail],
            ..told
        });
    };
    let explanations = sched.explain(tasks).await;
    Ok(explanations.iter().find_map(explained).unwrap_or(told))
}

/// What became of what a Job made, and for an App what did not reach it.
fn with_delivery(mut told: Why, object: &db::objects::Object) -> Why {
    let delivery = &object.desired["delivery"];
    if let (Some(phase), Some(message)) = (delivery["phase"].as_str(), delivery["message"].as_str())
    {
        told.details.push(format!("delivery: {phase}: {message}"));
    }
    let failed = &object.desired["notDelivered"];
    if let (Some(job), Some(message)) = (failed["job"].as_str(), failed["message"].as_str()) {
        told.details
            .push(format!("job/{job} was not delivered: {message}"));
    }
    told
}

fn sentence(phase: &str, message: &str, name: &str) -> String {
    match (phase, message) {
        ("", "") => format!("`{name}` has no state yet"),
        (phase, "") => format!("it is {phase}"),
        (_, message) => message.to_owned(),
    }
}

pub(crate) fn explained(explanation: &Explanation) -> Option<Why> {
    let position = match &explanation.standing {
        Standing::Waiting { position } => *position,
        Standing::Starting => {
            return Some(Why {
                sentence: "it is being started".to_owned(),
                reason: "Starting".to_owned(),
                details: Vec::new(),
            });
        }
        Standing::Unknown | Standing::Running { .. } | Standing::Evicting { .. } => return None,
    };
    let (pool, first) = explanation.blockers.first()?;
    let mut details: Vec<String> = explanation
        .blockers
        .iter()
        .map(|(pool, blocker)| format!("pool `{pool}`: {blocker}"))
        .collect();
    details.push(format!("position {position} in its queue"));
    if let Some(change) = &explanation.change {
        details.push(format!("it would start now with: {change}"));
    }
    if let Some(at) = explanation.expected_start {
        details.push(format!("expected to start about {at}"));
    }
    let sentence = if explanation.blockers.len() > 1 {
        format!("in pool `{pool}`: {first}")
    } else {
        first.to_string()
    };
    Some(Why {
        sentence,
        reason: code(first).to_owned(),
        details,
    })
}

fn code(blocker: &sched::Blocker) -> &'static str {
    use sched::Blocker;
    match blocker {
        Blocker::QueueMissing { .. } => "QueueMissing",
        Blocker::NoNodes => "NoNodes",
        Blocker::NeverFits { .. } => "NeverFits",
        Blocker::Quota { .. } => "QuotaExhausted",
        Blocker::Excluded { .. } => "NodesExcluded",
        Blocker::Full { .. } => "CapacityFull",
        Blocker::Topology { .. } => "Topology",
        Blocker::Reserved { .. } => "Reserved",
        Blocker::Scattered { .. } => "Scattered",
        Blocker::Promised { .. } => "Promised",
        Blocker::Together => "Together",
        Blocker::Behind { .. } => "Behind",
        Blocker::Budget { .. } => "DisruptionBudget",
        Blocker::WaitingForRelease { .. } => "WaitingForRelease",
        Blocker::NotYetDecided => "NotYetDecided",
    }
}
