//! One seat as the rows know it ([`Placement`]) and as the engine sees it ([`Sight`]).
//!
//! ```text
//!   reserved ──Bind──► bound ──Stop──► releasing ──Release──► released
//!      └───────────────── Release (never asked for) ────────────►
//! ```
//! `Bind` is committed before the engine is asked, so that a reserved seat is known to the rows
//! alone and can be given back at once, while a bound one is given back only when the engine (or a
//! fence around its node) says that nothing of it runs.

use base::Time;
use engine::{Cause, DeviceGrant, End, Group, Phase, ReplicaKey, ReplicaReport, StopReason};
use std::collections::BTreeMap;
use std::fmt;

/// A seat that was given: where, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// The name by which the other members reach it ([`engine::Engine::peer_host`]).
    pub host: String,
    /// The devices it was given; empty in `counted` pools.
    pub devices: Vec<DeviceGrant>,
    /// Numbers by port name where replicas share an address; empty where each has its own.
    pub ports: BTreeMap<String, u16>,
    /// The attempt's token.
    pub token: String,
    /// Where it stands.
    pub stage: Stage,
}

/// Where a placement stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Committed; no engine was asked for it.
    Reserved,
    /// An engine was asked for it, or is about to be.
    Bound,
    /// It shall stop: the scheduler evicts it, or a `Stop` was begun.
    Releasing {
        /// When the grace ends.
        deadline: Time,
        /// Why.
        reason: StopReason,
    },
    /// Its end was observed; the capacity is back.
    Released(SlotEnd),
}

/// How a seat ended, kept with the placement: it outlives the engine's own record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotEnd {
    /// Why it ended.
    pub cause: Cause,
    /// Why it had been asked to stop, if it had.
    pub stopped: Option<StopReason>,
    /// Its exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// When its program first started, if it did.
    pub started: Option<Time>,
    /// When it ended.
    pub at: Time,
    /// One sentence for people.
    pub message: String,
}

/// What is known of a replica from outside the rows. A key that is in no map is *unseen*: the engine
/// has never reported it.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every sight is `Seen`; the others are rare and short-lived"
)]
pub enum Sight {
    /// The engine's last report.
    Seen(Seen),
    /// The engine says that nothing of it runs and nothing is kept: it was reported gone (which also
    /// answers a `Stop` of a key that the engine never had), or it was seen before and a complete
    /// observation does not list it.
    Gone,
    /// Its node is fenced: unheard for too long, tokens revoked.
    Fenced,
}

/// The part of an engine's report that plans need.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Where it stands.
    pub phase: Phase,
    /// When its program first started.
    pub started: Option<Time>,
    /// Since when it is ready for traffic, if it is.
    pub ready_since: Option<Time>,
    /// Times it was restarted in place.
    pub restarts: u32,
    /// How it last ended before a restart in place.
    pub last_failure: Option<End>,
    /// What its readiness probe last said, while it runs and is not ready; what it waits for, while it is being prepared.
    pub unready: Option<String>,
}

impl From<&ReplicaReport> for Seen {
    fn from(report: &ReplicaReport) -> Self {
        Seen {
            phase: report.phase.clone(),
            started: report.started,
            ready_since: report.endpoint.as_ref().map(|endpoint| endpoint.since),
            restarts: report.restarts,
            last_failure: report.last_failure.clone(),
            unready: report.unready.clone(),
        }
    }
}

impl fmt::Display for SlotEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(code) = self.exit_code {
            write!(f, " with exit code {code}")?;
        }
        if let Some(signal) = self.signal {
            write!(f, " by signal {signal}")?;
        }
        if let Some(reason) = self.stopped {
            write!(f, ", asked to stop: {reason:?}")?;
        }
        Ok(())
    }
}

/// `worker/0/1`: a key within its owner.
pub(crate) fn member(key: &ReplicaKey) -> String {
    format!("{}/{}/{}", key.group, key.index, key.attempt)
}

/// The line of an `Ensure`: who, where, with what. The token stays out.
pub(crate) fn show_ensure(f: &mut fmt::Formatter<'_>, group: &Group) -> fmt::Result {
    write!(f, "ensure {} of {}", group.name, group.title)?;
    for slot in &group.slots {
        write!(f, "\n  {}/{} on {}", slot.index, slot.attempt, slot.node)?;
        for device in &slot.devices {
            write!(f, ", {} {}", device.class, device.id)?;
        }
        for (name, number) in &slot.ports {
            write!(f, ", port {name} {number}")?;
        }
    }
    Ok(())
}

/// What rows and engine together say about a seat.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// No engine was asked for it.
    Unasked,
    /// An engine was, or is about to be; it has not answered.
    Unseen {
        /// Why it shall stop, if it shall.
        releasing: Option<StopReason>,
    },
    /// It is there.
    Live {
        /// Why it shall stop, if it shall.
        releasing: Option<StopReason>,
        /// The engine has been told so.
        stopping: bool,
        /// Its program runs (or stops).
        running: bool,
    },
    /// It ended; its capacity is still counted.
    Ended(SlotEnd),
    /// It ended and its capacity is back.
    Released(SlotEnd),
}

impl Standing {
    pub(crate) fn of(placement: &Placement, sight: Option<&Sight>, now: Time) -> Standing {
        let releasing = match &placement.stage {
            Stage::Released(end) => return Standing::Released(end.clone()),
            Stage::Reserved | Stage::Bound => None,
            Stage::Releasing { reason, .. } => Some(*reason),
        };
        let lost = |cause, message: &str| {
            Standing::Ended(SlotEnd {
                cause,
                stopped: releasing,
                exit_code: None,
                signal: None,
                started: None,
                at: now,
                message: message.to_owned(),
            })
        };
        match (sight, releasing) {
            (Some(Sight::Fenced), _) => lost(
                Cause::NodeLost,
                &format!("node `{}` was not heard of for too long", placement.node),
            ),
            (Some(Sight::Gone) | None, None) if placement.stage == Stage::Reserved => {
                Standing::Unasked
            }
            (Some(Sight::Gone), None) => {
                lost(Cause::Evicted, "the engine no longer holds the replica")
            }
            (Some(Sight::Gone), Some(_)) => lost(Cause::Stopped, "it stopped when asked"),
            (None, releasing) => Standing::Unseen { releasing },
            (Some(Sight::Seen(seen)), releasing) => match &seen.phase {
                Phase::Ended(end) => Standing::Ended(SlotEnd {
                    cause: end.cause,
                    stopped: releasing,
                    exit_code: end.exit_code,
                    signal: end.signal,
                    started: seen.started,
                    at: end.at,
                    message: end.message.clone(),
                }),
                Phase::Stopping(_) => Standing::Live {
                    releasing,
                    stopping: true,
                    running: true,
                },
                Phase::Running => Standing::Live {
                    releasing,
                    stopping: false,
                    running: true,
                },
                Phase::Preparing | Phase::BackingOff(_) => Standing::Live {
                    releasing,
                    stopping: false,
                    running: false,
                },
            },
        }
    }

    /// How it ended, if it did.
    pub(crate) fn end(&self) -> Option<&SlotEnd> {
        match self {
            Standing::Ended(end) | Standing::Released(end) => Some(end),
            Standing::Unasked | Standing::Unseen { .. } | Standing::Live { .. } => None,
        }
    }

    /// Why it shall stop or had been asked to.
    pub(crate) fn releasing(&self) -> Option<StopReason> {
        match self {
            Standing::Unasked => None,
            Standing::Unseen { releasing } | Standing::Live { releasing, .. } => *releasing,
            Standing::Ended(end) | Standing::Released(end) => end.stopped,
        }
    }
}

impl SlotEnd {
    /// The end of a seat that no engine was asked for.
    pub(crate) fn unused(reason: StopReason, now: Time) -> SlotEnd {
        SlotEnd {
            cause: Cause::Stopped,
            stopped: Some(reason),
            exit_code: None,
            signal: None,
            started: None,
            at: now,
            message: "it was stopped before it started".to_owned(),
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.cause == Cause::Succeeded
    }

    /// The program's own failure: charged to the retry limit.
    pub fn is_own_failure(&self) -> bool {
        matches!(
            self.cause,
            Cause::Failed | Cause::OutOfMemory | Cause::StartFailed | Cause::Unhealthy
        )
    }
}

/// Which of an attempt's ends broke it. A loss by the platform comes first, since the others often fail for it;
/// then the earliest end that nobody asked for. `None` where all succeeded or were asked to stop.
pub fn decisive<T>(ends: impl IntoIterator<Item = T>, end: impl Fn(&T) -> &SlotEnd) -> Option<T> {
    let lost = |end: &SlotEnd| {
        matches!(
            end.cause,
            Cause::NodeLost | Cause::ShimLost | Cause::PortTaken | Cause::Misplaced
        )
    };
    ends.into_iter()
        .filter(|found| !end(found).succeeded())
        .filter(|found| lost(end(found)) || end(found).stopped.is_none())
        .min_by_key(|found| (!lost(end(found)), end(found).at))
}
