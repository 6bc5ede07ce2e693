//! What can be set about the scheduler. Every bound of the core stands here.

use base::Span;

/// The settings, passed whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How free nodes are compared.
    pub scoring: Scoring,
    /// What a task's list of GPU models means for the choice between nodes.
    pub models: ModelOrder,
    /// The most memory that cached scores may use; the least recently used class goes first.
    pub score_bytes_max: usize,
    /// Whether tasks may go past a task that waits for capacity, and on what condition.
    pub backfill: Backfill,
    /// The most tasks that may be told to stop at once, over all reasons but guarantees and drains.
    pub evictions_max: u32,
    /// The most tasks that are told to stop in a minute, for the same reasons.
    pub evictions_per_minute: u32,
    /// Nobody is stopped for a priority or a fair share where as much comes free by itself within this
    /// time, going by what ended lately. Zero: claims never wait.
    pub patience: Span,
    /// Whether the caller can stop single seats: elastic tasks are then shrunk before others are stopped.
    pub shrinks: bool,
    /// Priorities at which a band begins, in rising order. Across queues a higher band goes first; within
    /// a band shares decide.
    pub bands: Vec<i32>,
    /// Moves that join scattered GPUs, in steps that nothing else needs; `None`: none are made.
    pub defrag: Option<Defrag>,
    /// How long capacity that is being freed is kept for the task it is freed for, after the last deadline.
    pub nomination_ttl: Span,
}

/// When a running task is moved so that free GPUs are joined. Only tasks that consent to being stopped
/// and save their work are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defrag {
    /// The most tasks that are being moved at once.
    pub moves_max: u32,
    /// A move is made where it gives at least this many GPU seconds for each that it costs.
    pub gain_by_cost_min: u32,
    /// How long what a move gives is expected to last.
    pub horizon: Span,
}

/// How free nodes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// The node with the least left over.
    BestFit,
    /// The node whose GPUs lose the least for the tasks seen so far (FGD, ATC'23, coarse), then best fit.
    Fragmentation,
}

/// What a list of GPU models means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelOrder {
    /// The earlier model is taken while a node with it is free.
    Strict,
    /// Fragmentation decides first, the order only between equals.
    AfterFragmentation,
}

/// Whether tasks may go past one that waits for capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backfill {
    /// Nobody passes within a queue.
    Never,
    /// Whoever leaves the nodes that are kept for the waiting task alone, or ends before it could start.
    Easy,
}

impl Config {
    /// The settings of a platform that nobody has tuned.
    pub const fn standard() -> Self {
        Self {
            scoring: Scoring::Fragmentation,
            models: ModelOrder::Strict,
            score_bytes_max: 64 << 20,
            backfill: Backfill::Easy,
            evictions_max: 4_096,
            evictions_per_minute: 10_000,
            // What a member that is stopped loses at the least.
            patience: Span::from_secs(10),
            shrinks: false,
            bands: Vec::new(),
            defrag: None,
            nomination_ttl: Span::from_secs(60),
        }
    }
}
