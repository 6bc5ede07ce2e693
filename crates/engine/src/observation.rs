//! What an engine sees: nodes, replicas, endpoints.

use crate::foreign::{ForeignPod, Taint};
use crate::group::{DeviceGrant, ReplicaKey};
use base::{Bytes, Digest, Epoch, MilliCpu, Resources, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A position in what an engine has reported. Opaque to callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// What changed since a cursor, or everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Ask from here next time.
    pub cursor: Cursor,
    /// Whether this is the whole truth: a replica that is not listed does not exist.
    pub complete: bool,
    /// Nodes that changed (all of them when `complete`).
    pub nodes: Vec<NodeReport>,
    /// Nodes that are gone.
    pub nodes_gone: Vec<String>,
    /// Replicas that changed (all of them when `complete`).
    pub replicas: Vec<ReplicaReport>,
    /// Replicas that are gone after `remove`, or were never there: nothing of them runs and nothing is kept.
    pub replicas_gone: Vec<ReplicaKey>,
    /// Pods of others that changed (all of them when `complete`).
    pub foreign: Vec<ForeignPod>,
    /// Uids of pods of others that are gone.
    pub foreign_gone: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeReport {
    /// Its name, unique in the engine.
    pub name: String,
    /// Whether it answers.
    pub ready: bool,
    /// Where its replicas are reached, if they share its address.
    pub address: String,
    /// Ports that may be given to replicas here; `None` where each replica has its own address.
    pub ports: Option<(u16, u16)>,
    /// What programs may use, less what others use.
    pub allocatable: Resources,
    /// The most replicas at once, less what others have there; 0 for no bound.
    pub slots_max: u32,
    /// Marks that keep work away.
    pub taints: Vec<Taint>,
    /// Observed labels (architecture, GPU model, zone).
    pub labels: BTreeMap<String, String>,
    /// Its devices.
    pub devices: Vec<NodeDevice>,
    /// What is weaker here than it should be (`no cgroup limits: not root`), for people.
    pub warnings: Vec<String>,
}

/// A device of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDevice {
    /// Stable identity.
    pub id: String,
    /// `gpu`, `fpga`, `rdma` …
    pub class: String,
    /// Product name.
    pub model: String,
    /// Its memory.
    pub memory: Bytes,
    /// `None` when well, else what ails it.
    pub sick: Option<String>,
    /// Devices with the same group have fast links.
    pub link_group: u16,
    /// NUMA node.
    pub numa: u16,
}

/// One replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaReport {
    /// Which.
    pub key: ReplicaKey,
    /// The highest epoch that acted on it.
    pub epoch: Epoch,
    /// Where it runs.
    pub node: String,
    /// The devices it holds.
    pub devices: Vec<DeviceGrant>,
    /// The ports it holds, by name.
    pub ports: BTreeMap<String, u16>,
    /// Where it stands.
    pub phase: Phase,
    /// When its program first started.
    pub started: Option<Time>,
    /// Times it was restarted in place.
    pub restarts: u32,
    /// How it last ended before a restart in place.
    pub last_failure: Option<End>,
    /// What its readiness probe last said, while it runs and is not ready; what it waits for, while it is being prepared. An engine that
    /// is not told leaves it out.
    pub unready: Option<String>,
    /// Ready for traffic (`Life::Service`).
    pub endpoint: Option<Endpoint>,
    /// What it uses.
    pub usage: Usage,
    /// Bytes of output that could not be kept (disk full, rotation), for people.
    pub output_lost: Bytes,
}

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Code, environment and mounts are being put in place.
    Preparing,
    /// Its program runs.
    Running,
    /// It failed and is restarted at this time (`Life::Service`).
    BackingOff(Time),
    /// It was asked to stop and has until this time.
    Stopping(Time),
    /// It is over. Kept until `remove`.
    Ended(End),
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// Its exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// When.
    pub at: Time,
    /// One sentence for people: the last failure's reason, such as `python: command not found`.
    pub message: String,
    /// The most memory it used.
    pub memory_peak: Bytes,
    /// What it left, already kept in `store`.
    pub outputs: Vec<Output>,
}

/// Why a program ended. Retry rules and sentences hang on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Exit code 0.
    Succeeded,
    /// Another exit code, or a signal nobody here sent.
    Failed,
    /// The kernel killed it for memory.
    OutOfMemory,
    /// It was asked to stop, and did.
    Stopped,
    /// Its program could not be started (command not found, a mount that failed).
    StartFailed,
    /// A port it was given is used by somebody else: place it again.
    PortTaken,
    /// Its node cannot hold it (a volume that is not reached from there): place it again.
    Misplaced,
    /// A startup or liveness probe failed.
    Unhealthy,
    /// The machine restarted or is fenced.
    NodeLost,
    /// The shim was killed; its children died with it.
    ShimLost,
    /// Somebody else removed it (eviction of a pod).
    Evicted,
}

impl Cause {
    /// All causes, for tables and tests.
    pub const ALL: [Cause; 11] = [
        Cause::Succeeded,
        Cause::Failed,
        Cause::OutOfMemory,
        Cause::Stopped,
        Cause::StartFailed,
        Cause::PortTaken,
        Cause::Misplaced,
        Cause::Unhealthy,
        Cause::NodeLost,
        Cause::ShimLost,
        Cause::Evicted,
    ];

    /// The stable word for API, database and disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Succeeded => "Succeeded",
            Cause::Failed => "Failed",
            Cause::OutOfMemory => "OutOfMemory",
            Cause::Stopped => "Stopped",
            Cause::StartFailed => "StartFailed",
            Cause::PortTaken => "PortTaken",
            Cause::Misplaced => "Misplaced",
            Cause::Unhealthy => "Unhealthy",
            Cause::NodeLost => "NodeLost",
            Cause::ShimLost => "ShimLost",
            Cause::Evicted => "Evicted",
        }
    }

    /// The cause with this word.
    pub fn from_word(word: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kept output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The digest of its tar in `store`.
    pub digest: Digest,
    /// Bytes of the files.
    pub size: Bytes,
}

/// Where a ready replica is reached. Also the gateway's feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `ip:port` by port name.
    pub addresses: BTreeMap<String, String>,
    /// Since when it is ready.
    pub since: Time,
}

/// What a replica uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor milliseconds since its start.
    pub cpu_ms: u64,
    /// Processor time in use, over the last few seconds.
    pub cpu: MilliCpu,
    /// Memory now.
    pub memory: Bytes,
    /// The most memory so far.
    pub memory_peak: Bytes,
}
