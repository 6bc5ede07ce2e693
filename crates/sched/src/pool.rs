//! One pool: its nodes by position, its lanes, and the log of what changed.

use crate::amount::{Amount, CPU, EXTENDED, GPU, LANES, MEMORY, SLOTS};
use crate::cluster::NodeIdx;
use crate::event::{Packing, PoolSpec};
use crate::names::{Name, Names};
use crate::patience::Stream;

/// Position of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolIdx(pub(crate) u32);

/// The pool of nodes that belong to none. It has no spec, so nothing starts there.
pub(crate) const NO_POOL: PoolIdx = PoolIdx(0);

/// A hole in a pool's list of members.
pub(crate) const HOLE: NodeIdx = NodeIdx(u32::MAX);

/// One pool with its members and the log of their changes.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// `None` where the pool is gone or was only mentioned.
    pub(crate) spec: Option<PoolSpec>,
    /// The extended resources of this pool; position + `EXTENDED` is the lane.
    pub(crate) extended: Vec<Name>,
    /// Nodes by position; holes are reused.
    pub(crate) members: Vec<NodeIdx>,
    pub(crate) holes: Vec<u32>,
    /// How many members there are.
    pub(crate) count: usize,
    /// The largest amount that any member has, for normalising; right after `refresh_largest`.
    pub(crate) largest: Amount,
    pub(crate) largest_stale: bool,
    /// All that the present members have.
    pub(crate) capacity: Amount,
    /// Changes with `largest`, the lanes or the spec: cached scores are then void.
    pub(crate) layout: u32,
    /// Positions that changed, oldest first; the first entry has sequence `log_start`.
    pub(crate) log: Vec<u32>,
    pub(crate) log_start: u64,
    /// Grows whenever something may fit that did not fit before.
    pub(crate) gains: u64,
    /// Grows whenever a node changes in what it is.
    pub(crate) specs: u64,
    /// What comes free by itself.
    pub(crate) stream: Stream,
}

impl Pool {
    pub(crate) fn new(name: String) -> Self {
        Pool {
            name,
            spec: None,
            extended: Vec::new(),
            members: Vec::new(),
            holes: Vec::new(),
            count: 0,
            largest: Amount::ZERO,
            largest_stale: false,
            capacity: Amount::ZERO,
            layout: 0,
            log: Vec::new(),
            log_start: 1,
            gains: 0,
            specs: 0,
            stream: Stream::NONE,
        }
    }

    /// The sequence that the next change gets.
    pub(crate) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    pub(crate) fn lane(&self, resource: Name) -> Option<usize> {
        let at = self.extended.iter().position(|name| *name == resource)?;
        Some(EXTENDED + at)
    }

    pub(crate) fn lane_or_new(&mut self, resource: Name) -> Option<usize> {
        if let Some(lane) = self.lane(resource) {
            return Some(lane);
        }
        if self.extended.len() == LANES - EXTENDED {
            return None;
        }
        self.extended.push(resource);
        self.layout += 1;
        Some(EXTENDED + self.extended.len() - 1)
    }

    pub(crate) fn lane_name<'a>(&self, lane: usize, names: &'a Names) -> &'a str {
        match lane {
            CPU => "cpu",
            MEMORY => "memory",
            GPU => "gpu",
            SLOTS => "slots",
            _ => names.text(self.extended[lane - EXTENDED]),
        }
    }

    pub(crate) fn is_spread(&self) -> bool {
        self.spec
            .as_ref()
            .is_some_and(|spec| spec.packing == Packing::Spread)
    }
}
