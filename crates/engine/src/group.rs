//! What an engine is asked to hold: a [`Group`] of identical replicas, one [`Slot`] each.
//!
//! The types have a serde form because an engine keeps what it was asked for beside the program, so
//! that it can go on after a restart. It is not a wire format.

use base::{Attempt, Bytes, Digest, Index, Resources, Span, Uid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Names every effect: whose, which group, which member, which try.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The Job or App.
    pub owner: Uid,
    /// `worker` for a Job; `r3` (its Revision) for an App.
    pub group: String,
    /// The member's rank or seat.
    pub index: Index,
    /// The incarnation, from 1; a new Placement is a new attempt.
    pub attempt: Attempt,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.owner, self.group, self.index, self.attempt
        )
    }
}

/// A directory for checkpoints that replicas are going to keep ([`MountSource::Checkpoint`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// The Job.
    pub owner: Uid,
    /// The project's name.
    pub project: String,
    /// Which of the owner's directories.
    pub claim: String,
    /// So many replicas keep it together.
    pub n_replicas: u32,
}

impl Template {
    /// The claims of its directories for checkpoints.
    pub fn checkpoints(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Checkpoint(claim) => Some(claim.as_str()),
            _ => None,
        })
    }
}

/// How long the replicas live and who restarts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Runs to completion. The engine never restarts it; `plan` owns attempts.
    Batch,
    /// Serves. The engine probes it and restarts it in place with backoff.
    Service,
    /// One replica with identity and a volume.
    Session,
}

/// Identical replicas of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The Job or App.
    pub owner: Uid,
    /// See [`ReplicaKey::group`].
    pub name: String,
    /// `job/flights`, for labels, directories and messages; never an identity.
    pub title: String,
    /// The tenant's name.
    pub tenant: String,
    /// The project's name.
    pub project: String,
    /// Who restarts.
    pub life: Life,
    /// What each replica is.
    pub template: Template,
    /// The replicas that shall exist. A replica that is not listed is left alone: only `remove` ends one.
    pub slots: Vec<Slot>,
}

/// One seat, with the Placement that was committed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Rank or seat.
    pub index: Index,
    /// Incarnation.
    pub attempt: Attempt,
    /// The node it was placed on.
    pub node: String,
    /// The devices it was given; empty in `counted` pools.
    pub devices: Vec<DeviceGrant>,
    /// Numbers by port name, where replicas share an address; empty where each has its own.
    pub ports: BTreeMap<String, u16>,
    /// Variables of this member alone (rank, world size, peers), after the template's.
    pub env: Vec<(String, String)>,
    /// Opaque proof for output and rsh calls of this attempt. Never logged.
    pub token: String,
}

impl Group {
    /// The key of one of its slots.
    pub fn key(&self, slot: &Slot) -> ReplicaKey {
        ReplicaKey {
            owner: self.owner,
            group: self.name.clone(),
            index: slot.index,
            attempt: slot.attempt,
        }
    }
}

/// A device, or a part of one, that a slot may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceGrant {
    /// Its identity on the node (a GPU's UUID).
    pub id: String,
    /// `gpu`, `fpga`, `rdma` …
    pub class: String,
    /// Thousandths; 1000 is the whole device.
    pub milli: u16,
    /// Memory it may use; 0 for all.
    pub memory: Bytes,
}

/// What each replica of a group is. Equal for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Program and arguments. `$(NAME)` in them is replaced by the variable's value, as Kubernetes does.
    pub command: Vec<String>,
    /// Variables, in order; later wins.
    pub env: Vec<EnvVar>,
    /// Where it starts, relative to the code; `None` for the code itself.
    pub workdir: Option<String>,
    /// What code runs in.
    pub runtime: Runtime,
    /// What it finds in its file system.
    pub mounts: Vec<Mount>,
    /// Ports it listens on.
    pub ports: Vec<PortSpec>,
    /// What it may use. Without `cpu` it has its share of what is idle, and no bound.
    #[serde(with = "resources")]
    pub resources: Resources,
    /// The user it runs as; `None` for the engine's choice.
    pub user: Option<u32>,
    /// How far it is kept from others.
    pub isolation: Isolation,
    /// How its health is asked, for `Life::Service`.
    pub probes: Probes,
    /// From SIGTERM to SIGKILL.
    pub grace: Span,
    /// What is kept of the files it leaves, for `Life::Batch`.
    pub outputs: Vec<OutputSpec>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value or where it comes from.
    pub value: EnvValue,
}

/// A value, or where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvValue {
    /// As written.
    Plain(String),
    /// A key of a Secret's pinned version; read when the replica starts, never stored with the template.
    Secret {
        /// The Secret's name in the project.
        name: String,
        /// Its pinned version.
        version: u32,
        /// Which entry.
        key: String,
    },
}

/// What code runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// The machine's own programs.
    Host,
    /// A Python environment that was built once, by the digest of what it was built from.
    Bundle(Digest),
    /// A container image.
    Image(String),
    /// This platform's own program; the template's `command` is its arguments.
    Platform,
}

/// Something in the replica's file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Where: absolute in a sandbox; for plain processes relative to the replica's own root (`$MOONSHOT_ROOT`).
    pub path: String,
    /// Whether writing is refused (sandboxes) or not expected (plain processes).
    pub read_only: bool,
}

/// What a mount holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory that was uploaded, by the digest of its tar.
    Code(Digest),
    /// Where files that shall be kept are written.
    Outputs,
    /// A directory that survives attempts: named by owner and this claim (`""` for the whole gang, an index for arrays).
    Checkpoint(String),
    /// Files of a Secret's pinned version.
    Secret {
        /// The Secret's name in the project.
        name: String,
        /// Its pinned version.
        version: u32,
    },
    /// An output of another Job, or a ModelVersion, by the digest of its tar.
    Input(Digest),
    /// Empty at the start of each attempt.
    Scratch,
    /// A volume. Later.
    Volume(String),
    /// A data set. Later.
    Dataset(String),
}

/// A port the program listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// Its name; the program reads `$PORT` (first port) or `$PORT_<name>`.
    pub name: String,
    /// The declared number, used where the replica has its own address.
    pub number: u16,
    /// `http`, `grpc`, `tcp`: for the gateway.
    pub protocol: String,
}

/// How far a replica is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// A process like any other.
    None,
    /// Own mounts, processes and limits.
    Sandbox,
    /// A user-space kernel.
    Gvisor,
    /// A virtual machine.
    Kata,
}

/// How health is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    /// Until it succeeds the others wait; its failure restarts.
    pub startup: Option<Probe>,
    /// Its failure takes the replica out of rotation.
    pub readiness: Option<Probe>,
    /// Its failure restarts the replica.
    pub liveness: Option<Probe>,
}

/// One question, asked again and again. Defaults are Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub action: ProbeAction,
    /// Before the first question.
    pub initial_delay: Span,
    /// Between questions.
    pub period: Span,
    /// For each answer.
    pub timeout: Span,
    /// Good answers in a row that make it good.
    pub successes: u32,
    /// Bad answers in a row that make it bad.
    pub failures: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAction {
    /// A GET that answers 200–399.
    Http {
        /// Port by name.
        port: String,
        /// Path, beginning with `/`.
        path: String,
    },
    /// A connection that is accepted.
    Tcp {
        /// Port by name.
        port: String,
    },
    /// A program that exits with 0.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// A file or directory under the outputs directory that is kept under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Its name.
    pub name: String,
    /// Relative to the outputs directory.
    pub path: String,
}

/// [`Resources`] on disk: `base` itself has no derived forms.
mod resources {
    use base::{Bytes, MilliCpu, Resources};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize)]
    struct Form {
        cpu: MilliCpu,
        memory: Bytes,
        gpu_milli: u64,
        extended: BTreeMap<String, u64>,
    }

    pub(super) fn serialize<S: Serializer>(
        resources: &Resources,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = Form {
            cpu: resources.cpu,
            memory: resources.memory,
            gpu_milli: resources.gpu_milli,
            extended: resources.extended.clone(),
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Resources, D::Error> {
        Form::deserialize(deserializer).map(|form| Resources {
            cpu: form.cpu,
            memory: form.memory,
            gpu_milli: form.gpu_milli,
            extended: form.extended,
        })
    }
}
