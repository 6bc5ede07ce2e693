//! What the scheduler is told. Events are facts; their order in the log is the order of time.

use base::{Resources, Span, Time, Uid};
use std::collections::BTreeMap;

use crate::decision::DecisionId;

/// One gang that starts together: an attempt of a Job (or of one index of an array), one replica of
/// an App, or a foreign pod group. A new try is a new task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub Uid);

/// A machine, by a small number that the caller chose and never reuses for another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// One seat of a task: its group's position in [`TaskSpec::groups`] and the index within the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// Position in [`TaskSpec::groups`].
    pub group: u16,
    /// From 0 to the group's count, exclusive.
    pub index: u32,
}

/// Everything that can happen, seen from the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pool appeared or changed.
    Pool(PoolSpec),
    /// A pool is gone; its nodes belong to no pool until they are announced again.
    PoolGone(String),
    /// A node appeared or changed (capacity, labels, taints, devices, health).
    Node(NodeSpec),
    /// A node is gone. Its placements count until each is released.
    NodeGone(NodeId),
    /// A queue appeared or changed.
    Queue(QueueSpec),
    /// A queue is gone; its waiting tasks wait with the reason that the queue is missing.
    QueueGone(String),
    /// A task waits, or a waiting task changed (higher generation).
    Task(TaskSpec),
    /// A task that already holds capacity: at rebuild, or bound by somebody else.
    Running(RunningTask),
    /// A waiting task was withdrawn. Nothing happens to capacity it holds.
    TaskGone(TaskId),
    /// A slot is being stopped; its capacity is expected back by the deadline.
    Releasing {
        /// The task that holds it.
        task: TaskId,
        /// Which seat.
        slot: SlotId,
        /// When the grace ends.
        deadline: Time,
    },
    /// A slot ended and was observed to end (or its node was fenced): the capacity is back.
    Released {
        /// The task that held it.
        task: TaskId,
        /// Which seat.
        slot: SlotId,
    },
    /// The decision is durable.
    Committed(DecisionId),
    /// The decision could not be committed; what it assumed is undone and decided afresh.
    Rejected(DecisionId),
    /// Capacity promised to something else for a window of time.
    Calendar(CalendarEntry),
    /// A calendar entry is withdrawn.
    CalendarGone(String),
}

/// A selector over nodes with its packing policy and device mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name.
    pub name: String,
    /// How nodes of the pool are filled.
    pub packing: Packing,
    /// Whether devices are handed out by identity or by count.
    pub devices: DeviceMode,
    /// Topology levels from widest to narrowest, as node label keys (`block`, `rack`, `host`).
    pub levels: Vec<String>,
    /// What a queue used over its guarantee counts against its turn, and fades to half in each such
    /// span. `None`: only what it uses now counts.
    pub half_life: Option<Span>,
}

/// How nodes are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Fill the fullest node that fits.
    BinPack,
    /// Use the emptiest node that fits.
    Spread,
}

/// Who picks the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMode {
    /// The scheduler names each device (this machine; DRA on Kubernetes).
    Named,
    /// A plugin on the node picks; the scheduler counts. Fractions are not possible.
    Counted,
}

/// A machine as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// The caller's number for it.
    pub id: NodeId,
    /// Its name, for sentences.
    pub name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// What programs may use, without what the system keeps. `gpu_milli` is ignored where `devices` is not empty.
    pub allocatable: Resources,
    /// The most slots at once; 0 means no limit.
    pub slots_max: u32,
    /// Labels, for selectors and topology.
    pub labels: BTreeMap<String, String>,
    /// Marks that keep tasks away.
    pub taints: Vec<Taint>,
    /// Cordoned: nothing new starts here.
    pub unschedulable: bool,
    /// Its GPUs and other named devices.
    pub devices: Vec<DeviceSpec>,
}

/// One device of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Stable identity on its node (a GPU's UUID).
    pub id: String,
    /// `gpu`, `fpga`, `rdma` …
    pub class: String,
    /// Product name, such as `H200`.
    pub model: String,
    /// Its memory; 0 where that means nothing.
    pub memory: base::Bytes,
    /// A sick device takes nothing new.
    pub healthy: bool,
    /// Devices of one node with the same group are joined by fast links.
    pub link_group: u16,
    /// The NUMA node it hangs on.
    pub numa: u16,
    /// Marks of this device alone; they work as those of a node do.
    pub taints: Vec<Taint>,
    /// Extended resources that it carries in parts (`rdma_vf`, `rdma_gbps`): a member takes all that it
    /// asks of them from one device. They need not stand in [`NodeSpec::allocatable`].
    pub lanes: BTreeMap<String, u64>,
    /// How it may be cut (MIG), in the words of its vendor. A device is whole, shared or cut.
    pub partitions: Vec<PartitionSpec>,
}

/// A way to cut a part out of a device. Members ask for it by name as an extended resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSpec {
    /// The resource that stands for it, such as `mig-3g.20gb`.
    pub name: String,
    /// How many of the device's slices it takes, next to each other.
    pub slices: u8,
    /// The slices at which it may begin, from 0; below [`PARTITION_SLICES_MAX`].
    pub starts: Vec<u8>,
    /// The thousandths of the device that it stands for.
    pub milli: u16,
}

/// The most slices of a device.
pub const PARTITION_SLICES_MAX: u8 = 16;

/// A mark that keeps tasks away unless they tolerate it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// What it is about.
    pub key: String,
    /// Optional detail.
    pub value: String,
    /// How strongly it keeps away.
    pub effect: TaintEffect,
}

/// How strongly a taint keeps tasks away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaintEffect {
    /// Nothing new starts here.
    NoSchedule,
    /// Only if nothing else fits.
    PreferNoSchedule,
    /// What runs here is evicted too.
    NoExecute,
}

/// A task's consent to a taint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// The taint's key; empty tolerates every key.
    pub key: String,
    /// The taint's value; `None` tolerates every value.
    pub value: Option<String>,
    /// The taint's effect; `None` tolerates every effect.
    pub effect: Option<TaintEffect>,
}

/// A node of the quota tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name, unique in the cell.
    pub name: String,
    /// The queue above; `None` for a root.
    pub parent: Option<String>,
    /// Order among siblings when shares are equal: higher first.
    pub priority: i32,
    /// Who of its tasks goes first.
    pub order: QueueOrder,
    /// Quotas by pool; the pool name `*` holds for every pool not named.
    pub quotas: BTreeMap<String, Quota>,
}

/// Who goes first within a queue. Replicas that lost their node always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// The highest priority, then the oldest.
    #[default]
    Priority,
    /// The oldest, whatever its priority; nobody is stopped for a priority.
    Fifo,
    /// The highest priority, then the shortest by [`TaskSpec::expected`]; who does not say comes last.
    ShortestExpected,
}

/// What a queue may use of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Always available to this queue, by reclaim if need be. Absent resources guarantee nothing.
    pub guaranteed: Resources,
    /// Never more than this; `None` for a resource without a line. Keys: `cpu` (milli), `memory` (bytes), `gpu` (milli), extended names.
    pub limit: BTreeMap<String, u64>,
    /// Share of what is over, against the siblings'. 0 means no borrowing.
    pub weight: u32,
    /// Whole nodes that are guaranteed on top: their amounts add to `guaranteed`, and others who stand
    /// in the way of one are stopped for it.
    pub shapes: Vec<ShapeQuota>,
}

/// Guaranteed nodes of one shape, such as two nodes of 8 A100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeQuota {
    /// How many nodes.
    pub nodes: u32,
    /// What each of them has at least.
    pub each: Resources,
    /// The model of its GPUs; empty accepts any.
    pub gpu_model: String,
}

/// What kind of work a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Runs to completion.
    Batch,
    /// Serves; it has no known end.
    Service,
    /// Somebody else's pods.
    Foreign,
}

/// A gang that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// Its identity.
    pub id: TaskId,
    /// Grows with each change of a waiting task.
    pub generation: u64,
    /// What people call it, for sentences: `job/flights`.
    pub name: String,
    /// The queue it waits in.
    pub queue: String,
    /// What kind of work.
    pub kind: TaskKind,
    /// Higher goes first within a queue and may preempt lower.
    pub priority: i32,
    /// When its object was submitted: order within a priority, kept across attempts.
    pub submitted: Time,
    /// Its groups; every one of them must fit, or nothing starts.
    pub groups: Vec<GroupSpec>,
    /// Whether a higher claim may stop it while it runs.
    pub preemptible: bool,
    /// It may not be preempted before it ran this long.
    pub min_runtime: Span,
    /// How long its processes get to stop.
    pub grace: Span,
    /// It saves its work when asked to stop, so that a stop costs little.
    pub checkpoints: bool,
    /// The longest it may run, if declared: the bound for backfill.
    pub time_limit: Option<Span>,
    /// The owner's measured or stated run time, if any: for order and estimates only.
    pub expected: Option<Span>,
    /// Tasks with the same key disturb the same App: at most `disruption_max` of them may be evicted at once.
    pub disruption: Option<(Uid, u32)>,
    /// A replica that was admitted before and lost its node: it goes first and is not queued again.
    pub readmit: bool,
}

/// Identical members of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    /// `worker`, `ps`, …
    pub name: String,
    /// How many start at best.
    pub count: u32,
    /// How many must start for the task to start; equal to `count` unless elastic.
    pub min: u32,
    /// What each member asks for.
    pub request: Resources,
    /// GPU models in order of preference; empty accepts any.
    pub gpu_models: Vec<String>,
    /// Least memory of each GPU, for fractions the share of memory needed.
    pub gpu_memory: base::Bytes,
    /// Node labels that must match; pool restriction uses `pools`.
    pub node_selector: BTreeMap<String, String>,
    /// Pools it may run in; empty accepts any.
    pub pools: Vec<String>,
    /// Consents to taints.
    pub tolerations: Vec<Toleration>,
    /// Relations to other tasks by label of their owner.
    pub affinity: Affinity,
    /// Members of the group stay inside one topology domain.
    pub topology: Option<TopologyRequest>,
    /// At most this many members on one node; 0 means no limit.
    pub per_node_max: u32,
}

/// Relations between tasks, over a node label (`host` means the node itself).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Keys of other groups (or of its own) that must share the domain: (key, node label).
    pub with: Vec<(String, String)>,
    /// Keys that must not share the domain.
    pub against: Vec<(String, String)>,
    /// The keys this group itself carries.
    pub keys: Vec<String>,
    /// Keys that had better share the domain; this weighs more than packing.
    pub prefer_with: Vec<(String, String)>,
    /// Keys that had better not share the domain.
    pub prefer_against: Vec<(String, String)>,
    /// Most carriers of a key in one domain: (key, node label, number).
    pub at_most: Vec<(String, String, u32)>,
    /// Keys whose carriers are spread over the domains.
    pub spread: Vec<Spread>,
}

/// Carriers of a key spread over domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The key that is counted.
    pub key: String,
    /// The node label whose values are the domains.
    pub label: String,
    /// How many more carriers a domain may have than the one with the fewest; at least 1.
    pub skew_max: u32,
    /// Whether to wait rather than to exceed it.
    pub required: bool,
}

/// Keep members close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyRequest {
    /// The node label whose value all members share (`rack`).
    pub level: String,
    /// Whether to wait rather than to start apart.
    pub required: bool,
}

/// A task with the capacity it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningTask {
    /// The task.
    pub spec: TaskSpec,
    /// When it was admitted.
    pub started: Time,
    /// What it holds; seats that already ended are absent.
    pub placements: Vec<crate::decision::Placement>,
}

/// What a queue will need of a pool: a reserved window, or a forecast of Apps as a curve of steps. Nobody
/// else is given what he could not be made to leave in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarEntry {
    /// Its name.
    pub name: String,
    /// The pool it is about.
    pub pool: String,
    /// The queue whose tasks, and those of the queues below, may use it.
    pub queue: String,
    /// The curve, in the order of time: each step holds until the next begins.
    pub steps: Vec<CalendarStep>,
    /// When the last step ends.
    pub until: Time,
}

/// One step of a curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarStep {
    /// From when.
    pub from: Time,
    /// How much the queue needs in all, what it uses already included.
    pub amount: Resources,
}
