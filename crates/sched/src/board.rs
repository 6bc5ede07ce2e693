//! Cached scores: for each class and pool one integer a node, refreshed only where a node changed.
//!
//! A score packs, from the most significant bit: fits at all · no soft taint against it · keeps work
//! without GPUs off GPU nodes, and everybody off nodes that are guaranteed whole · soft affinity ·
//! earlier model · coarse loss by fragmentation · best fit (or spread) · lower node number. The best node is the largest score; zero does not fit.

use crate::amount::{Amount, CPU, GPU, MEMORY};
use crate::ask::Ask;
use crate::class::{Class, ClassIdx};
use crate::cluster::{Cluster, NodeIdx};
use crate::devices::cut_fit;
use crate::domains::Domains;
use crate::fragmentation::{LOSS_MAX, Typical};
use crate::hash::Map;
use crate::pool::{HOLE, PoolIdx};

/// Nodes of one block share a maximum, so that finding the best reads n/64 + 64 numbers.
const BLOCK: usize = 64;

/// The worst fit; it takes twelve bits of a score.
const FIT_MAX: u64 = 4_095;

/// The least and the most remembered losses by the state of a node, a power of two: many nodes are alike.
const MEMO_MIN: usize = 512;
const MEMO_MAX: usize = 4_096;

/// How scores are made; part of the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighing {
    pub(crate) fragmentation: bool,
    pub(crate) models_first: bool,
}

/// The scores of one class in one pool.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) ask: Ask,
    scores: Vec<u64>,
    maxima: Vec<u64>,
    /// How many members the node would hold if it were empty; zero where it is out of the question.
    rooms: Vec<u16>,
    /// Sum of `rooms`.
    pub(crate) room: u64,
    /// Positions that were left out by hand and are scored again at the next use.
    skipped: Vec<u32>,
    stale: Vec<u32>,
    /// Every change below this sequence is in the scores.
    seen: u64,
    layout: u32,
    typical: u32,
    memo: Vec<(u64, u64)>,
    /// The fewest carriers in any domain, for each spread of the class.
    floors: Vec<u32>,
    /// The domains of each spread, and the state of the pool that they were found in.
    homes: Vec<Vec<u32>>,
    homes_of: (u32, u64),
    last_used: u64,
}

/// What a score is made from.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) domains: &'a Domains,
    pub(crate) typical: &'a Typical,
    pub(crate) weighing: Weighing,
}

/// All boards, bounded by bytes; the least recently used goes first.
#[derive(Debug, Default)]
pub(crate) struct Boards {
    boards: Map<(ClassIdx, PoolIdx), Board>,
    bytes: usize,
    clock: u64,
}

impl Boards {
    /// Takes the up-to-date board out for use; [`Boards::put`] brings it back.
    pub(crate) fn take(
        &mut self,
        class_idx: ClassIdx,
        pool: PoolIdx,
        class: &Class,
        view: View<'_>,
    ) -> Board {
        let board = self.boards.remove(&(class_idx, pool));
        let mut board = match board {
            Some(board) => {
                self.bytes -= board.bytes();
                board
            }
            None => Board {
                ask: view.cluster.ask(class, pool),
                scores: Vec::new(),
                maxima: Vec::new(),
                rooms: Vec::new(),
                room: 0,
                skipped: Vec::new(),
                stale: Vec::new(),
                seen: 0,
                layout: u32::MAX,
                typical: 0,
                memo: Vec::new(),
                floors: Vec::new(),
                homes: Vec::new(),
                homes_of: (u32::MAX, 0),
                last_used: 0,
            },
        };
        for position in std::mem::take(&mut board.skipped) {
            board.stale.push(position);
        }
        board.catch_up(pool, class, view);
        board
    }

    pub(crate) fn put(&mut self, class: ClassIdx, pool: PoolIdx, mut board: Board, max: usize) {
        self.clock += 1;
        board.last_used = self.clock;
        self.bytes += board.bytes();
        self.boards.insert((class, pool), board);
        while self.bytes > max && self.boards.len() > 1 {
            // The clock is unique, so the oldest does not depend on the map's order.
            let oldest = self.boards.iter().min_by_key(|(_, board)| board.last_used);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                break;
            };
            if let Some(board) = self.boards.remove(&key) {
                self.bytes -= board.bytes();
            }
        }
    }

    /// Forgets a class that nobody needs.
    pub(crate) fn forget(&mut self, class: ClassIdx, pools: usize) {
        for pool in 0..pools as u32 {
            if let Some(board) = self.boards.remove(&(class, PoolIdx(pool))) {
                self.bytes -= board.bytes();
            }
        }
    }
}

impl Board {
    fn bytes(&self) -> usize {
        self.scores.capacity() * 10 + self.maxima.capacity() * 8 + self.memo.capacity() * 16
    }

    fn catch_up(&mut self, pool_idx: PoolIdx, class: &Class, view: View<'_>) {
        let pool = view.cluster.pool(pool_idx);
        let floors = self.floors_now(pool_idx, class, view);
        let behind = pool.log_end() - self.seen;
        let is_new = self.layout != pool.layout
            || self.seen < pool.log_start
            || behind as usize > 2 * pool.members.len();
        let typical = view.typical.version(pool_idx);
        let other_scores = is_new || self.typical != typical || floors != self.floors;
        self.floors = floors;
        if is_new {
            self.ask = view.cluster.ask(class, pool_idx);
            self.layout = pool.layout;
            self.scores.clear();
            self.rooms.clear();
            self.room = 0;
        }
        self.resize(pool.members.len());
        if other_scores {
            self.typical = typical;
            self.memo.clear();
            if pool.largest.0[GPU] > 0 {
                let nodes = pool.members.len().next_power_of_two();
                self.memo.resize(nodes.clamp(MEMO_MIN, MEMO_MAX), (0, 0));
            }
        }
        if is_new {
            for position in 0..pool.members.len() {
                self.set_room(position, pool.members[position], class, view);
            }
        } else {
            let from = (self.seen - pool.log_start) as usize;
            for (at, position) in pool.log[from..].iter().enumerate() {
                let position = *position as usize;
                let node = pool.members[position];
                let sequence = self.seen + at as u64;
                // Only the latest entry of a node counts; a hole's is taken as it is.
                if node != HOLE && view.cluster.nodes.changed[node.0 as usize] != sequence {
                    continue;
                }
                let respecified =
                    node == HOLE || view.cluster.nodes.respecified[node.0 as usize] >= self.seen;
                if respecified {
                    self.set_room(position, node, class, view);
                }
                if !other_scores {
                    self.rescore(position, pool_idx, class, view);
                }
            }
        }
        let stale = std::mem::take(&mut self.stale);
        if other_scores {
            for position in 0..pool.members.len() {
                self.scores[position] = self.score(position, pool_idx, class, view);
            }
            for block in 0..self.maxima.len() {
                self.refresh_block(block);
            }
        } else {
            for position in stale {
                self.rescore(position as usize, pool_idx, class, view);
            }
        }
        self.seen = pool.log_end();
    }

    /// What the floors of the class's spreads are, over nodes that are not out of the question.
    fn floors_now(&mut self, pool_idx: PoolIdx, class: &Class, view: View<'_>) -> Vec<u32> {
        if class.spread.is_empty() {
            return Vec::new();
        }
        let pool = view.cluster.pool(pool_idx);
        if self.homes_of != (pool.layout, pool.specs) {
            self.homes_of = (pool.layout, pool.specs);
            let members = pool.members.iter().copied();
            let open = members
                .filter(|node| *node != HOLE)
                .filter(|node| view.cluster.excluded(*node, class, &self.ask).is_none());
            self.homes = view.domains.homes(class, open);
        }
        view.domains.floors(class, &self.homes)
    }

    /// Follows every change since the board was taken; needed where one seat decides over other nodes.
    pub(crate) fn follow(&mut self, pool: PoolIdx, class: &Class, view: View<'_>) {
        self.catch_up(pool, class, view);
        for at in 0..self.skipped.len() {
            self.set(self.skipped[at] as usize, 0);
        }
    }

    fn resize(&mut self, members: usize) {
        self.scores.resize(members, 0);
        self.rooms.resize(members, 0);
        self.maxima.resize(members.div_ceil(BLOCK), 0);
    }

    fn set_room(&mut self, position: usize, node: NodeIdx, class: &Class, view: View<'_>) {
        let out = node == HOLE
            || self.ask.unknown.is_some()
            || view.cluster.excluded(node, class, &self.ask).is_some();
        let room = if out {
            0
        } else {
            view.cluster.count_empty(node, &self.ask)
        };
        self.room = self.room - u64::from(self.rooms[position]) + u64::from(room);
        self.rooms[position] = room;
    }

    /// The best position, or `None` where no node fits.
    pub(crate) fn best(&self) -> Option<usize> {
        let (mut block, mut best) = (0, 0);
        for (at, maximum) in self.maxima.iter().enumerate() {
            if *maximum > best {
                (block, best) = (at, *maximum);
            }
        }
        if best == 0 {
            return None;
        }
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.scores.len());
        let within = self.scores[start..end]
            .iter()
            .position(|score| *score == best)?;
        Some(start + within)
    }

    /// The best position among some, or `None` where none fits.
    pub(crate) fn best_of(&self, positions: &[u32]) -> Option<usize> {
        positions
            .iter()
            .map(|position| (self.scores[*position as usize], *position as usize))
            .max()
            .filter(|(score, _)| *score > 0)
            .map(|(_, position)| position)
    }

    /// How many members the node at a position would hold if it were empty.
    pub(crate) fn room_at(&self, position: usize) -> u16 {
        self.rooms[position]
    }

    /// Whether at least one member fits at a position now.
    pub(crate) fn has_score(&self, position: usize) -> bool {
        self.scores[position] > 0
    }

    /// Leaves a position out until it changes again.
    pub(crate) fn skip(&mut self, position: usize) {
        self.set(position, 0);
        self.skipped.push(position as u32);
    }

    /// Computes one score afresh.
    pub(crate) fn rescore(
        &mut self,
        position: usize,
        pool: PoolIdx,
        class: &Class,
        view: View<'_>,
    ) {
        let score = self.score(position, pool, class, view);
        self.set(position, score);
    }

    /// States that every change so far is in the scores.
    pub(crate) fn mark_seen(&mut self, sequence: u64) {
        self.seen = sequence;
    }

    fn set(&mut self, position: usize, score: u64) {
        let old = std::mem::replace(&mut self.scores[position], score);
        let block = position / BLOCK;
        if score >= self.maxima[block] {
            self.maxima[block] = score;
        } else if old == self.maxima[block] {
            self.refresh_block(block);
        }
    }

    fn refresh_block(&mut self, block: usize) {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.scores.len());
        self.maxima[block] = self.scores[start..end].iter().copied().max().unwrap_or(0);
    }

    fn score(&mut self, position: usize, pool: PoolIdx, class: &Class, view: View<'_>) -> u64 {
        if self.rooms[position] == 0 {
            return 0;
        }
        let node = view.cluster.pool(pool).members[position];
        if !view.cluster.fits(node, &self.ask) {
            return 0;
        }
        let related = class.has_affinity();
        if related && !view.domains.allows(class, node, &self.floors) {
            return 0;
        }
        let affinity = if related {
            view.domains.liking(class, node, &self.floors)
        } else {
            8
        };
        let at = node.0 as usize;
        let devices = &view.cluster.nodes.devices[at];
        let gpu_node = view.cluster.nodes.capacity[at].0[GPU] > 0;
        let wants_gpu = self.ask.amount.0[GPU] > 0;
        let liked = u64::from(!view.cluster.disliked(node, class));
        let keeps_off = u64::from((wants_gpu || !gpu_node) && !view.cluster.nodes.bound[at]);
        let preference = 15 - preference(&self.ask, node, view.cluster).min(15) as u64;
        let weighed = view.weighing.fragmentation && !self.memo.is_empty();
        let loss = if weighed && gpu_node && !devices.is_empty() {
            let state = view.cluster.nodes.state[at];
            let slot = (state as usize) & (self.memo.len() - 1);
            if self.memo[slot].0 != state {
                let loss = view
                    .typical
                    .coarse_loss(node, &self.ask, pool, view.cluster);
                self.memo[slot] = (state, loss);
            }
            self.memo[slot].1
        } else {
            0
        };
        let cut = if self.ask.others.is_empty() {
            None
        } else {
            cut_fit(devices, &self.ask)
        };
        let (loss, tight) = match cut {
            // Parts of devices: the fewest places spoilt, then the fullest device, then the fullest node.
            Some((spoilt, used, all)) => {
                let tight = (u64::from(used) << 7 | u64::from(all).min(127)).min(FIT_MAX);
                (spoilt as u64, tight)
            }
            None => {
                let left = residual(node, &self.ask.amount, pool, view.cluster);
                (loss, FIT_MAX - left)
            }
        };
        let gentle = LOSS_MAX - loss.min(LOSS_MAX);
        let fit = if view.cluster.pool(pool).is_spread() {
            FIT_MAX - tight
        } else {
            tight
        };
        let number = u64::from(u32::MAX - view.cluster.nodes.id[at].0);
        let weighed = if view.weighing.models_first {
            preference << 21 | gentle << 12 | fit
        } else {
            gentle << 16 | fit << 4 | preference
        };
        1 << 63 | liked << 62 | keeps_off << 61 | affinity << 57 | weighed << 32 | number
    }
}

/// How much is left over, in 1/4096 of the pool's largest node: by GPU on nodes that have them, else half by CPU
/// and half by memory. CPU says nothing beside GPUs: packing it tightly strands them (decision 15).
fn residual(node: NodeIdx, ask: &Amount, pool: PoolIdx, cluster: &Cluster) -> u64 {
    let largest = &cluster.pool(pool).largest;
    let free = &cluster.nodes.free[node.0 as usize];
    let part = |lane: usize| {
        let left = (free.0[lane] - ask.0[lane]).clamp(0, largest.0[lane]);
        // Amounts of memory are large: divide first where the product would not fit.
        let scale = (largest.0[lane] >> 40) + 1;
        if scale == 1 {
            return (left * (FIT_MAX as i64 / 2) / largest.0[lane].max(1)) as u64;
        }
        ((left / scale) * (FIT_MAX as i64 / 2) / (largest.0[lane] / scale).max(1)) as u64
    };
    if cluster.nodes.capacity[node.0 as usize].0[GPU] > 0 {
        2 * part(GPU)
    } else {
        part(CPU) + part(MEMORY)
    }
}

/// The position of the best model of the node that has room, in the class's list.
fn preference(ask: &Ask, node: NodeIdx, cluster: &Cluster) -> usize {
    if ask.models.is_empty() {
        return 0;
    }
    let models = &cluster.nodes.models[node.0 as usize];
    let position = |model| ask.models.iter().position(|wanted| *wanted == model);
    let best = models
        .iter()
        .filter_map(|(model, _)| position(*model))
        .min();
    best.unwrap_or(15)
}
