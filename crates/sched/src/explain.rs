//! What the scheduler says about a task: typed, with one English sentence.

use crate::event::TaskId;
use base::resources::show_gpus;
use base::{Span, Time};
use std::fmt;

/// The answer to `moonshot why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The task asked about.
    pub task: TaskId,
    /// Where it stands.
    pub standing: Standing,
    /// What holds it, one entry a pool that was tried; empty when nothing does.
    pub blockers: Vec<(String, Blocker)>,
    /// The smallest change that would start it now, where one was found.
    pub change: Option<Change>,
    /// When it is expected to start by the known ends of others.
    pub expected_start: Option<Time>,
}

/// One wish that was checked to be enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A higher line of one queue.
    RaiseLimit {
        /// Whose line.
        queue: String,
        /// The resource.
        lane: String,
        /// By how much: thousandths of cores and GPUs, bytes, else units.
        by: u64,
        /// The same as people write it.
        shown: String,
    },
    /// Fewer GPUs for each member, in thousandths.
    FewerGpus {
        /// Enough now.
        ask: u64,
        /// Asked for.
        instead: u64,
    },
    /// Fewer members.
    FewerMembers {
        /// Enough now.
        ask: u32,
        /// Asked for.
        instead: u32,
    },
    /// One more GPU model.
    AllowModel(String),
    /// The topology level as a wish.
    PreferLevel(String),
    /// Consent to a taint by its key.
    Tolerate(String),
    /// An end that is declared, so that it may run until somebody else's turn.
    TimeLimit(Span),
    /// Consent to being stopped.
    BePreemptible,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The scheduler has never heard of it, or it is gone.
    Unknown,
    /// It waits at this position of its queue, from 1.
    Waiting {
        /// 1 is next.
        position: usize,
    },
    /// A decision to start it was made and is not yet durable.
    Starting,
    /// It runs; the sentence says why there.
    Running {
        /// For example `node-1 was the fullest node that fits`.
        because: String,
    },
    /// It was told to stop.
    Evicting {
        /// For whom and why.
        because: String,
    },
}

/// The exact obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The queue it names does not exist.
    QueueMissing {
        /// The name it gave.
        queue: String,
    },
    /// No pool it may use exists, or none has nodes.
    NoNodes,
    /// It asks for more than any node has, even empty: it can never start.
    NeverFits {
        /// The resource that is too large, such as `cpu`.
        lane: String,
        /// What one member asks for, as written.
        asked: String,
        /// The most any eligible node has.
        largest: String,
    },
    /// A quota line of the queue or one above it.
    Quota {
        /// The queue whose line it is.
        queue: String,
        /// The resource.
        lane: String,
        /// Used now.
        used: String,
        /// What the task asks for on top.
        asked: String,
        /// The line.
        limit: String,
    },
    /// Selectors, taints or affinity leave no node.
    Excluded {
        /// How many nodes the pool has.
        nodes: usize,
        /// How many each rule excluded, by rule.
        by: Vec<(String, usize)>,
    },
    /// Eligible nodes exist and are full.
    Full {
        /// The scarcest resource.
        lane: String,
        /// Members that fit now.
        fits: u32,
        /// Members that must fit together.
        needs: u32,
        /// Free in total, as written.
        free: String,
    },
    /// No topology domain holds the whole group.
    Topology {
        /// The level that was required.
        level: String,
        /// The most members that any domain holds now.
        best: u32,
        /// Members that must fit.
        needs: u32,
    },
    /// It would fit now, but would delay the task that holds a reservation.
    Reserved {
        /// Who holds it.
        holder: String,
        /// Until when.
        until: Option<Time>,
    },
    /// Enough is free in all, but not together on one node.
    Scattered {
        /// The resource.
        lane: String,
        /// What one member asks for.
        asked: String,
        /// The most that is free on one node.
        best: String,
        /// Free in total.
        free: String,
    },
    /// It could not be made to leave before the capacity is needed by a queue that it is promised to.
    Promised {
        /// Whose promise.
        queue: String,
        /// From when.
        from: Time,
    },
    /// Each member fits by itself, but not all of them: groups or relations are in each other's way.
    Together,
    /// Others of its queue go first.
    Behind {
        /// The name of the first of them.
        first: String,
        /// How many.
        count: usize,
    },
    /// What it is entitled to is held by replicas of an App of which as many are stopping as its budget allows.
    Budget {
        /// One of the replicas.
        holder: String,
        /// How many of the App may be stopped at once.
        most: u32,
    },
    /// Capacity is being freed for it.
    WaitingForRelease {
        /// How many tasks are stopping.
        victims: usize,
        /// By when.
        deadline: Time,
    },
    /// It has not been looked at yet.
    NotYetDecided,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::RaiseLimit {
                queue, lane, shown, ..
            } => write!(f, "raise the {lane} limit of queue `{queue}` by {shown}"),
            Change::FewerGpus { ask, instead } => write!(
                f,
                "ask {} GPUs instead of {}",
                show_gpus(*ask),
                show_gpus(*instead)
            ),
            Change::FewerMembers { ask, instead } => {
                write!(f, "ask {ask} members instead of {instead}")
            }
            Change::AllowModel(model) => write!(f, "allow GPU model `{model}`"),
            Change::PreferLevel(level) => {
                write!(f, "prefer one {level} instead of requiring it")
            }
            Change::Tolerate(key) => write!(f, "tolerate the taint `{key}`"),
            Change::TimeLimit(limit) => write!(f, "declare a time limit of at most {limit}"),
            Change::BePreemptible => f.write_str("allow it to be preempted"),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocker::QueueMissing { queue } => write!(f, "queue `{queue}` does not exist"),
            Blocker::NoNodes => f.write_str("there are no nodes it may use"),
            Blocker::NeverFits {
                lane,
                asked,
                largest,
            } => {
                write!(
                    f,
                    "it can never start: one member asks for {lane} {asked}, the largest node has {largest}"
                )
            }
            Blocker::Quota {
                queue,
                lane,
                used,
                asked,
                limit,
            } => {
                write!(
                    f,
                    "queue `{queue}` uses {used} of its {lane} limit {limit}; this asks for {asked} more"
                )
            }
            Blocker::Excluded { nodes, by } => {
                let by: Vec<String> = by
                    .iter()
                    .map(|(rule, count)| format!("{count} by {rule}"))
                    .collect();
                write!(f, "all {nodes} nodes are excluded: {}", by.join(", "))
            }
            Blocker::Full {
                lane,
                fits,
                needs,
                free,
            } => {
                write!(
                    f,
                    "{fits} of {needs} members fit now; {lane} is short ({free} free)"
                )
            }
            Blocker::Topology { level, best, needs } => {
                write!(
                    f,
                    "no {level} holds all {needs} members now; the best holds {best}"
                )
            }
            Blocker::Reserved { holder, until } => {
                write!(f, "the free capacity is reserved for `{holder}`")?;
                until.map_or(Ok(()), |until| write!(f, " until {until}"))
            }
            Blocker::Scattered {
                lane,
                asked,
                best,
                free,
            } => {
                write!(
                    f,
                    "no node has {lane} {asked} free together; the best has {best} ({free} free in all)"
                )
            }
            Blocker::Promised { queue, from } => {
                write!(f, "the capacity is promised to queue `{queue}` from {from}")
            }
            Blocker::Together => f.write_str(
                "each member fits alone, but not all of them together with their relations",
            ),
            Blocker::Behind { first, count } => match count {
                1 => write!(f, "`{first}` is before it in the queue"),
                _ => write!(
                    f,
                    "`{first}` and {} others are before it in the queue",
                    count - 1
                ),
            },
            Blocker::Budget { holder, most } => {
                write!(
                    f,
                    "its guarantee is held by `{holder}`, whose App lets {most} replicas stop at once"
                )
            }
            Blocker::WaitingForRelease { victims, deadline } => {
                write!(
                    f,
                    "{victims} tasks are stopping to make room, by {deadline}"
                )
            }
            Blocker::NotYetDecided => f.write_str("it has not been considered yet"),
        }
    }
}
