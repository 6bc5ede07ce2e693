//! How each type of the core is written. The names here are the format: they change with the version,
//! never with the core.

use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::{DecisionId, NodeId, TaskId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A written form of `T`.
pub(crate) trait Wire<T>: Sized {
    fn of(value: &T) -> Self;
    fn back(self) -> T;
}

/// Types that are written as they are.
macro_rules! same {
    ($($name:ty),*) => {$(
        impl Wire<$name> for $name {
            fn of(value: &$name) -> Self {
                value.clone()
            }
            fn back(self) -> $name {
                self
            }
        }
    )*};
}
same!(bool, u8, u16, u32, u64, i32, String);

/// Newtypes that are written as their number.
macro_rules! number {
    ($($name:ty as $raw:ty: $to:expr, $from:expr;)*) => {$(
        impl Wire<$name> for $raw {
            fn of(value: &$name) -> Self {
                let to: fn(&$name) -> $raw = $to;
                to(value)
            }
            fn back(self) -> $name {
                let from: fn($raw) -> $name = $from;
                from(self)
            }
        }
    )*};
}
number! {
    Bytes as u64: |v| v.0, Bytes;
    MilliCpu as u64: |v| v.0, MilliCpu;
    Time as i64: |v| v.as_ms(), Time::from_ms;
    Span as u64: |v| v.as_ms(), Span::from_ms;
    NodeId as u32: |v| v.0, NodeId;
    DecisionId as u64: |v| v.0, DecisionId;
}

/// A uid as its text, so that a person can search for it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Id(Uid);
impl Wire<Uid> for Id {
    fn of(value: &Uid) -> Self {
        Id(*value)
    }
    fn back(self) -> Uid {
        self.0
    }
}
impl Wire<TaskId> for Id {
    fn of(value: &TaskId) -> Self {
        Id(value.0)
    }
    fn back(self) -> TaskId {
        TaskId(self.0)
    }
}

impl<A, B: Wire<A>> Wire<Vec<A>> for Vec<B> {
    fn of(value: &Vec<A>) -> Self {
        value.iter().map(B::of).collect()
    }
    fn back(self) -> Vec<A> {
        self.into_iter().map(B::back).collect()
    }
}
impl<A, B: Wire<A>> Wire<Option<A>> for Option<B> {
    fn of(value: &Option<A>) -> Self {
        value.as_ref().map(B::of)
    }
    fn back(self) -> Option<A> {
        self.map(B::back)
    }
}
impl<A, B: Wire<A>> Wire<BTreeMap<String, A>> for BTreeMap<String, B> {
    fn of(value: &BTreeMap<String, A>) -> Self {
        let pairs = value.iter();
        pairs.map(|(key, v)| (key.clone(), B::of(v))).collect()
    }
    fn back(self) -> BTreeMap<String, A> {
        let pairs = self.into_iter();
        pairs.map(|(key, v)| (key, v.back())).collect()
    }
}
impl<A, B, C: Wire<A>, D: Wire<B>> Wire<(A, B)> for (C, D) {
    fn of(value: &(A, B)) -> Self {
        (C::of(&value.0), D::of(&value.1))
    }
    fn back(self) -> (A, B) {
        (self.0.back(), self.1.back())
    }
}

impl<A, B, C, D, E, F> Wire<(A, B, C)> for (D, E, F)
where
    D: Wire<A>,
    E: Wire<B>,
    F: Wire<C>,
{
    fn of(value: &(A, B, C)) -> Self {
        (D::of(&value.0), E::of(&value.1), F::of(&value.2))
    }
    fn back(self) -> (A, B, C) {
        (self.0.back(), self.1.back(), self.2.back())
    }
}

/// Structs with the same field names.
macro_rules! record {
    ($($name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $(pub(crate) $field: $kind),*
        }
        impl Wire<sched::$name> for $name {
            fn of(value: &sched::$name) -> Self {
                Self { $($field: Wire::of(&value.$field)),* }
            }
            fn back(self) -> sched::$name {
                sched::$name { $($field: self.$field.back()),* }
            }
        }
    )*};
}

/// Enums without data.
macro_rules! tag {
    ($($name:ident { $($variant:ident),* $(,)? })*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($variant),* }
        impl Wire<sched::$name> for $name {
            fn of(value: &sched::$name) -> Self {
                match value { $(sched::$name::$variant => Self::$variant),* }
            }
            fn back(self) -> sched::$name {
                match self { $(Self::$variant => sched::$name::$variant),* }
            }
        }
    )*};
}

/// Enums whose variants have named fields or one part.
macro_rules! choice {
    ($name:ident { $($variant:ident { $($field:ident: $kind:ty),* $(,)? }),* $(,)? }
        { $($single:ident($part:ty)),* $(,)? }) => {
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub(crate) enum $name {
            $($variant { $($field: $kind),* },)*
            $($single($part),)*
        }
        impl Wire<sched::$name> for $name {
            fn of(value: &sched::$name) -> Self {
                match value {
                    $(sched::$name::$variant { $($field),* } => Self::$variant { $($field: Wire::of($field)),* },)*
                    $(sched::$name::$single(part) => Self::$single(Wire::of(part)),)*
                }
            }
            fn back(self) -> sched::$name {
                match self {
                    $(Self::$variant { $($field),* } => sched::$name::$variant { $($field: $field.back()),* },)*
                    $(Self::$single(part) => sched::$name::$single(part.back()),)*
                }
            }
        }
    };
}

tag! {
    Packing { BinPack, Spread }
    DeviceMode { Named, Counted }
    TaintEffect { NoSchedule, PreferNoSchedule, NoExecute }
    TaskKind { Batch, Service, Foreign }
    EvictReason { Preempted, Reclaimed, FairShare, Drained, Calendar, Defragmented }
    Scoring { BestFit, Fragmentation }
    ModelOrder { Strict, AfterFragmentation }
    Backfill { Never, Easy }
    QueueOrder { Priority, Fifo, ShortestExpected }
}

/// Amounts; what is nothing is left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amounts {
    #[serde(default, skip_serializing_if = "is_zero")]
    cpu: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    memory: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    gpu_milli: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    extended: BTreeMap<String, u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Wire<Resources> for Amounts {
    fn of(value: &Resources) -> Self {
        Self {
            cpu: value.cpu.0,
            memory: value.memory.0,
            gpu_milli: value.gpu_milli,
            extended: value.extended.clone(),
        }
    }
    fn back(self) -> Resources {
        Resources {
            cpu: MilliCpu(self.cpu),
            memory: Bytes(self.memory),
            gpu_milli: self.gpu_milli,
            extended: self.extended,
        }
    }
}

record! {
    PoolSpec {
        name: String, packing: Packing, devices: DeviceMode, levels: Vec<String>,
        half_life: Option<u64>,
    }
    NodeSpec {
        id: u32, name: String, pool: String, allocatable: Amounts, slots_max: u32,
        labels: BTreeMap<String, String>, taints: Vec<Taint>, unschedulable: bool,
        devices: Vec<DeviceSpec>,
    }
    DeviceSpec {
        id: String, class: String, model: String, memory: u64, healthy: bool, link_group: u16,
        numa: u16, taints: Vec<Taint>, lanes: BTreeMap<String, u64>, partitions: Vec<PartitionSpec>,
    }
    PartitionSpec { name: String, slices: u8, starts: Vec<u8>, milli: u16 }
    Taint { key: String, value: String, effect: TaintEffect }
    Toleration { key: String, value: Option<String>, effect: Option<TaintEffect> }
    QueueSpec {
        name: String, parent: Option<String>, priority: i32, order: QueueOrder,
        quotas: BTreeMap<String, Quota>,
    }
    Quota { guaranteed: Amounts, limit: BTreeMap<String, u64>, weight: u32, shapes: Vec<ShapeQuota> }
    ShapeQuota { nodes: u32, each: Amounts, gpu_model: String }
    TaskSpec {
        id: Id, generation: u64, name: String, queue: String, kind: TaskKind, priority: i32,
        submitted: i64, groups: Vec<GroupSpec>, preemptible: bool, min_runtime: u64, grace: u64,
        checkpoints: bool, time_limit: Option<u64>, expected: Option<u64>,
        disruption: Option<(Id, u32)>, readmit: bool,
    }
    GroupSpec {
        name: String, count: u32, min: u32, request: Amounts, gpu_models: Vec<String>,
        gpu_memory: u64, node_selector: BTreeMap<String, String>, pools: Vec<String>,
        tolerations: Vec<Toleration>, affinity: Affinity, topology: Option<TopologyRequest>,
        per_node_max: u32,
    }
    Affinity {
        with: Vec<(String, String)>, against: Vec<(String, String)>, keys: Vec<String>,
        prefer_with: Vec<(String, String)>, prefer_against: Vec<(String, String)>,
        at_most: Vec<(String, String, u32)>, spread: Vec<Spread>,
    }
    Spread { key: String, label: String, skew_max: u32, required: bool }
    TopologyRequest { level: String, required: bool }
    RunningTask { spec: TaskSpec, started: i64, placements: Vec<Placement> }
    CalendarEntry { name: String, pool: String, queue: String, steps: Vec<CalendarStep>, until: i64 }
    CalendarStep { from: i64, amount: Amounts }
    SlotId { group: u16, index: u32 }
    Placement { slot: SlotId, node: u32, devices: Vec<DeviceShare> }
    DeviceShare { device: u16, milli: u16, memory: u64, partition: Option<Partition> }
    Partition { first: u8, slices: u8 }
    Defrag { moves_max: u32, gain_by_cost_min: u32, horizon: u64 }
    Decision { id: u64, kind: DecisionKind }
}

choice! {
    DecisionKind {
        Start { task: Id, generation: u64, placements: Vec<Placement> },
        Grow { task: Id, placements: Vec<Placement> },
        Evict {
            task: Id, slots: Vec<SlotId>, reason: EvictReason, on_behalf_of: Option<Id>,
            deadline: i64,
        },
        Nominate { task: Id, nodes: Vec<u32>, until: i64 },
    } {}
}

choice! {
    Event {
        Releasing { task: Id, slot: SlotId, deadline: i64 },
        Released { task: Id, slot: SlotId },
    } {
        Pool(PoolSpec), PoolGone(String), Node(NodeSpec), NodeGone(u32), Queue(QueueSpec),
        QueueGone(String), Task(TaskSpec), Running(RunningTask), TaskGone(Id), Committed(u64),
        Rejected(u64), Calendar(CalendarEntry), CalendarGone(String),
    }
}

/// The scheduler's settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    scoring: Scoring,
    models: ModelOrder,
    score_bytes_max: u64,
    backfill: Backfill,
    evictions_max: u32,
    evictions_per_minute: u32,
    /// Logs that were written before it say nothing of it.
    #[serde(default)]
    patience: u64,
    shrinks: bool,
    bands: Vec<i32>,
    defrag: Option<Defrag>,
    nomination_ttl: u64,
}

impl Wire<sched::Config> for Settings {
    fn of(value: &sched::Config) -> Self {
        Self {
            scoring: Wire::of(&value.scoring),
            models: Wire::of(&value.models),
            score_bytes_max: value.score_bytes_max as u64,
            backfill: Wire::of(&value.backfill),
            evictions_max: value.evictions_max,
            evictions_per_minute: value.evictions_per_minute,
            patience: Wire::of(&value.patience),
            shrinks: value.shrinks,
            bands: Wire::of(&value.bands),
            defrag: Wire::of(&value.defrag),
            nomination_ttl: Wire::of(&value.nomination_ttl),
        }
    }
    fn back(self) -> sched::Config {
        sched::Config {
            scoring: self.scoring.back(),
            models: self.models.back(),
            score_bytes_max: self.score_bytes_max as usize,
            backfill: self.backfill.back(),
            evictions_max: self.evictions_max,
            evictions_per_minute: self.evictions_per_minute,
            patience: self.patience.back(),
            shrinks: self.shrinks,
            bands: self.bands.back(),
            defrag: self.defrag.back(),
            nomination_ttl: self.nomination_ttl.back(),
        }
    }
}

/// One line of a log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Entry {
    Header { version: u32, settings: Settings },
    Event(Box<Event>),
    Decide { now: i64, steps: u32 },
    Decided(Vec<Decision>),
}
