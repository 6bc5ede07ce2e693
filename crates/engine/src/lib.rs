//! The port between the platform and what really runs programs: this machine, or a Kubernetes.
//!
//! Types are neutral: an engine knows Groups, Slots and replicas, never Jobs, Apps or quotas. The
//! port is level-triggered: [`Engine::ensure`] may be repeated, effects carry the leader's
//! [`base::Epoch`], and [`Engine::observe`] is the only source of truth about what runs.
//!
//! Read [`group`] (what is asked for), [`observation`] (what is seen), [`project`] (what keeps Projects
//! apart), [`foreign`] (pods of others), then [`port`]. [`suite`] is
//! the contract that every implementation passes; [`fake`] is an engine in memory that can be told
//! to lose, delay, duplicate and reorder.

pub mod fake;
pub mod foreign;
pub mod group;
pub mod journal;
pub mod observation;
pub mod port;
pub mod project;
pub mod suite;

pub use foreign::{
    ForeignPod, Gang, Note, PodName, Prepared, Relation, RelationKind, Taint, TaintEffect,
    Toleration,
};
pub use group::{
    DeviceGrant, EnvValue, EnvVar, Group, Isolation, Keeps, Life, Mount, MountSource, OutputSpec,
    PortSpec, Probe, ProbeAction, Probes, ReplicaKey, Runtime, Slot, Template,
};
pub use observation::{
    Cause, Cursor, End, Endpoint, NodeDevice, NodeReport, Observation, Output, Phase,
    ReplicaReport, Usage,
};
pub use port::{
    BoxFuture, Content, Engine, EngineError, Exec, ExecInput, ExecOutput, Frame, OutputSink,
    SecretEntries, StopReason, Stream,
};
pub use project::{Network, Peer, PeerEnd, PodSecurity, Project, Registry};
