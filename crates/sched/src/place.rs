//! Placing a gang: quota, topology, nodes and devices in one transaction that is undone exactly if
//! any part of it fails.

use crate::amount::{Amount, GPU};
use crate::ask::Ask;
use crate::board::{Board, View, Weighing};
use crate::class::ClassIdx;
use crate::cluster::{Cluster, NodeIdx};
use crate::config::{ModelOrder, Scoring};
use crate::decision::DeviceShare;
use crate::domains::NOWHERE;
use crate::event::SlotId;
use crate::ledger::{OverLine, QueueIdx};
use crate::names::Name;
use crate::pool::{HOLE, PoolIdx};
use crate::sched::Sched;
use std::collections::BTreeMap;

/// A seat found for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) slot: SlotId,
    pub(crate) node: NodeIdx,
    pub(crate) shares: Vec<DeviceShare>,
}

/// Why a gang could not be placed in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The pool's nodes could not hold it even if they were empty.
    Never,
    /// The ask alone is above a quota line.
    NeverQuota(OverLine),
    /// A quota line would be crossed.
    Quota(OverLine),
    /// The nodes are full.
    Full,
    /// No topology domain holds the group.
    Topology,
    /// Free capacity is kept for another.
    Reserved,
}

/// A gang that was not placed: the group that failed, and why, pool by pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) group: usize,
    pub(crate) pools: Vec<(PoolIdx, Refusal)>,
}

/// One step that was done, to be undone.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    Took {
        node: NodeIdx,
        class: ClassIdx,
        shares: Vec<DeviceShare>,
    },
    Gave {
        node: NodeIdx,
        class: ClassIdx,
        shares: Vec<DeviceShare>,
    },
    Used {
        queue: QueueIdx,
        pool: PoolIdx,
        amount: Amount,
    },
    Freed {
        queue: QueueIdx,
        pool: PoolIdx,
        amount: Amount,
    },
}

/// A position in the journal to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Savepoint(usize);

/// Where one group of a gang is being placed.
#[derive(Debug)]
struct Site {
    pool: PoolIdx,
    /// Positions of the domain it is kept in.
    within: Option<Vec<u32>>,
    /// Members of this task by position, where a maximum per node holds.
    per_node: BTreeMap<usize, u32>,
}

/// Nodes that the placement must leave alone, with what is left on them for it.
pub(crate) type Kept = BTreeMap<NodeIdx, Amount>;

impl Sched {
    pub(crate) fn view(&self) -> View<'_> {
        View {
            cluster: &self.cluster,
            domains: &self.domains,
            typical: &self.typical,
            weighing: Weighing {
                fragmentation: self.config.scoring == Scoring::Fragmentation,
                models_first: self.config.models == ModelOrder::Strict,
            },
        }
    }

    pub(crate) fn savepoint(&self) -> Savepoint {
        Savepoint(self.journal.len())
    }

    /// Undoes every step since the savepoint, newest first.
    pub(crate) fn roll_back(&mut self, savepoint: Savepoint) {
        while self.journal.len() > savepoint.0 {
            match self.journal.pop().expect("it is longer than the savepoint") {
                Undo::Took {
                    node,
                    class,
                    shares,
                } => self.give_seat(node, class, &shares),
                Undo::Gave {
                    node,
                    class,
                    shares,
                } => self.take_seat(node, class, &shares),
                Undo::Used {
                    queue,
                    pool,
                    amount,
                } => self.ledger.subtract(queue, pool, &amount),
                Undo::Freed {
                    queue,
                    pool,
                    amount,
                } => self.ledger.add(queue, pool, &amount),
            }
        }
    }

    /// Makes every step since the start of the transaction lasting.
    pub(crate) fn keep(&mut self) {
        self.journal.clear();
    }

    /// What a member of a class takes of a node, in the lanes of the node's pool.
    pub(crate) fn seat_amount(&self, class: ClassIdx, node: NodeIdx) -> Amount {
        let pool = self.cluster.nodes.pool[node.0 as usize];
        self.class_amount(class, pool)
    }

    pub(crate) fn class_amount(&self, class: ClassIdx, pool: PoolIdx) -> Amount {
        self.cluster
            .amount(&self.classes.class(class).spec.request, pool)
    }

    pub(crate) fn take_seat(&mut self, node: NodeIdx, class: ClassIdx, shares: &[DeviceShare]) {
        let amount = self.seat_amount(class, node);
        self.cluster.take(node, &amount, shares);
        let class = self.classes.class(class);
        if class.has_affinity() {
            self.domains.count(class, node, true, &mut self.cluster);
        }
    }

    pub(crate) fn give_seat(&mut self, node: NodeIdx, class: ClassIdx, shares: &[DeviceShare]) {
        let amount = self.seat_amount(class, node);
        self.cluster.give(node, &amount, shares);
        let class = self.classes.class(class);
        if class.has_affinity() {
            self.domains.count(class, node, false, &mut self.cluster);
        }
    }

    /// The pools a class may run in, the preferred first.
    pub(crate) fn pools_of(&self, class: ClassIdx) -> Vec<PoolIdx> {
        let spec = &self.classes.class(class).spec;
        let usable = |pool: &PoolIdx| self.cluster.pool(*pool).spec.is_some();
        if !spec.pools.is_empty() {
            let named = spec.pools.iter().filter_map(|p| self.cluster.find_pool(p));
            return named.filter(usable).collect();
        }
        let mut pools: Vec<PoolIdx> = self.pool_order.iter().copied().filter(usable).collect();
        if spec.request.gpu_milli == 0 {
            // Work without GPUs is kept off the pools that have them.
            pools.sort_by_key(|pool| self.cluster.pool(*pool).capacity.0[GPU] > 0);
        }
        pools
    }

    /// Places a gang: every group's minimum, then as much more as fits. On failure nothing is changed
    /// and every pool that was tried has its reason.
    ///
    /// `first` is the number of seats that each group was given before; `closed` are pools that must
    /// not be used, and `kept` nodes that must be left alone.
    pub(crate) fn place_gang(
        &mut self,
        queue: QueueIdx,
        parts: &[(ClassIdx, u32, u32)],
        first: &[u32],
        closed: &[PoolIdx],
        kept: &Kept,
    ) -> Result<Vec<Seat>, Refused> {
        let start = self.savepoint();
        let mut seats = Vec::new();
        let mut sites: Vec<Option<Site>> = Vec::new();
        let mut extras = false;
        for (group, (class, min, count)) in parts.iter().enumerate() {
            if *count == 0 {
                sites.push(None);
                continue;
            }
            extras |= count > min;
            let mut refusals = Vec::new();
            let mut found = None;
            for pool in self.pools_of(*class) {
                if closed.contains(&pool) {
                    continue;
                }
                let begin = first.get(group).copied().unwrap_or(0);
                match self.place_group(queue, (group, begin), *class, (*min, *count), pool, kept) {
                    Ok((site, placed)) => {
                        seats.extend(placed);
                        found = Some(site);
                        break;
                    }
                    Err(refusal) => refusals.push((pool, refusal)),
                }
            }
            if found.is_none() {
                self.roll_back(start);
                return Err(Refused {
                    group,
                    pools: refusals,
                });
            }
            sites.push(found);
        }
        if extras {
            for (group, (class, min, count)) in parts.iter().enumerate() {
                let Some(site) = &mut sites[group] else {
                    continue;
                };
                let begin = first.get(group).copied().unwrap_or(0) + min;
                let amount = self.class_amount(*class, site.pool);
                let mut more = count - min;
                while more > 0 {
                    let over = self.ledger.over_limit(
                        queue,
                        site.pool,
                        &amount.times(i64::from(more)),
                        &self.cluster,
                    );
                    match over {
                        Some(_) => more /= 2,
                        None => break,
                    }
                }
                let placed = self.place_members(queue, (group, begin), *class, more, site, kept);
                seats.extend(placed);
            }
        }
        Ok(seats)
    }

    fn place_group(
        &mut self,
        queue: QueueIdx,
        (group, begin): (usize, u32),
        class: ClassIdx,
        (min, count): (u32, u32),
        pool: PoolIdx,
        kept: &Kept,
    ) -> Result<(Site, Vec<Seat>), Refusal> {
        let amount = self.class_amount(class, pool).times(i64::from(min));
        if let Some(over) = self.ledger.over_limit(queue, pool, &amount, &self.cluster) {
            let limit = self.ledger.lines(over.queue, pool, &self.cluster).limit;
            let alone = amount.0[over.lane] > limit.0[over.lane];
            let room = self.with_board(class, pool, |board, _| board.room);
            return Err(if room < u64::from(min) {
                Refusal::Never
            } else if alone {
                Refusal::NeverQuota(over)
            } else {
                Refusal::Quota(over)
            });
        }
        let start = self.savepoint();
        let mut refusal = None;
        for level in self.levels_to_try(class, pool) {
            let within = match level {
                Some(label) => match self.best_domain(class, pool, label, (min, count), kept) {
                    Ok(within) => Some(within),
                    Err(why) => {
                        refusal = Some(why);
                        continue;
                    }
                },
                None => None,
            };
            let in_domain = within.is_some();
            let mut site = Site {
                pool,
                within,
                per_node: BTreeMap::new(),
            };
            let seats = self.place_members(queue, (group, begin), class, min, &mut site, kept);
            if seats.len() as u32 == min {
                return Ok((site, seats));
            }
            self.roll_back(start);
            refusal = Some(self.why_not(class, pool, min, in_domain, kept));
        }
        Err(refusal.unwrap_or(Refusal::Never))
    }

    /// The topology levels to keep a group in, the narrowest first. A level that is only preferred gives
    /// way to the wider ones of the pool, and in the end to none.
    fn levels_to_try(&self, class: ClassIdx, pool: PoolIdx) -> Vec<Option<Name>> {
        let Some((label, required)) = self.classes.class(class).topology else {
            return vec![None];
        };
        let mut levels = vec![Some(label)];
        if required {
            return levels;
        }
        let spec = self.cluster.pool(pool).spec.as_ref();
        let known = spec.map_or(&[][..], |spec| &spec.levels);
        let names: Vec<Option<Name>> = known
            .iter()
            .map(|level| self.cluster.names.find(level))
            .collect();
        if let Some(at) = names.iter().position(|name| *name == Some(label)) {
            levels.extend(names[..at].iter().rev().filter(|name| name.is_some()));
        }
        levels.push(None);
        levels
    }

    fn why_not(
        &mut self,
        class_idx: ClassIdx,
        pool: PoolIdx,
        min: u32,
        in_domain: bool,
        kept: &Kept,
    ) -> Refusal {
        let room = self.with_board(class_idx, pool, |board, _| board.room);
        if room < u64::from(min) {
            return Refusal::Never;
        }
        if !kept.is_empty() {
            return Refusal::Reserved;
        }
        if in_domain {
            return Refusal::Topology;
        }
        Refusal::Full
    }

    pub(crate) fn with_board<T>(
        &mut self,
        class_idx: ClassIdx,
        pool: PoolIdx,
        read: impl FnOnce(&mut Board, &Sched) -> T,
    ) -> T {
        let mut boards = std::mem::take(&mut self.boards);
        let class = self.classes.class(class_idx);
        let mut board = boards.take(class_idx, pool, class, self.view());
        let answer = read(&mut board, self);
        boards.put(class_idx, pool, board, self.config.score_bytes_max);
        self.boards = boards;
        answer
    }

    /// The tightest domain that holds the whole group, or else the roomiest that holds its minimum.
    fn best_domain(
        &mut self,
        class_idx: ClassIdx,
        pool: PoolIdx,
        label: Name,
        (min, count): (u32, u32),
        kept: &Kept,
    ) -> Result<Vec<u32>, Refusal> {
        let Some(column) = self.domains.column(label) else {
            return Err(Refusal::Never);
        };
        let domains = self.domains.domains_max(column);
        let mut fits = vec![0u32; domains];
        let mut rooms = vec![0u64; domains];
        self.with_board(class_idx, pool, |board, sched| {
            for (position, node) in sched.cluster.pool(pool).members.iter().enumerate() {
                if *node == HOLE {
                    continue;
                }
                let domain = sched.domains.domain(column, *node);
                let room = board.room_at(position);
                if domain == NOWHERE || room == 0 {
                    continue;
                }
                rooms[domain as usize] += u64::from(room);
                if board.has_score(position) && !kept.contains_key(node) {
                    let fit = &mut fits[domain as usize];
                    *fit += sched.cluster.count_fits(*node, &board.ask, count);
                }
            }
        });
        let text = |domain: usize| self.domains.text(column, domain as u32).to_owned();
        let whole = (0..domains)
            .filter(|domain| fits[*domain] >= count)
            .min_by_key(|domain| (fits[*domain], text(*domain)));
        let part = || {
            (0..domains)
                .filter(|domain| fits[*domain] >= min)
                .min_by_key(|domain| (u32::MAX - fits[*domain], text(*domain)))
        };
        let Some(domain) = whole.or_else(part) else {
            let ever = rooms.iter().any(|room| *room >= u64::from(min));
            return Err(if ever {
                Refusal::Topology
            } else {
                Refusal::Never
            });
        };
        let members = self.cluster.pool(pool).members.iter().enumerate();
        Ok(members
            .filter(|(_, node)| {
                **node != HOLE && self.domains.domain(column, **node) == domain as u32
            })
            .map(|(position, _)| position as u32)
            .collect())
    }

    /// Places up to `need` members one by one on the best nodes, and stops where none fits.
    fn place_members(
        &mut self,
        queue: QueueIdx,
        (group, begin): (usize, u32),
        class_idx: ClassIdx,
        need: u32,
        site: &mut Site,
        kept: &Kept,
    ) -> Vec<Seat> {
        if need == 0 {
            return Vec::new();
        }
        let pool = site.pool;
        let mut seats = Vec::with_capacity(need as usize);
        let mut boards = std::mem::take(&mut self.boards);
        let class = self.classes.class(class_idx);
        let mut board = boards.take(class_idx, pool, class, self.view());
        let affine = class.has_affinity();
        let per_node_max = class.spec.per_node_max;
        let mut left: BTreeMap<NodeIdx, Amount> = BTreeMap::new();
        for (node, amount) in kept {
            if self.cluster.nodes.pool[node.0 as usize] == pool {
                let position = self.cluster.nodes.position[node.0 as usize] as usize;
                if amount.lacks(&board.ask.amount).is_some() {
                    board.skip(position);
                } else {
                    left.insert(*node, *amount);
                }
            }
        }
        for (position, count) in &site.per_node {
            if *count >= per_node_max {
                board.skip(*position);
            }
        }
        let mut clean = true;
        for number in 0..need {
            let best = match &site.within {
                Some(positions) => board.best_of(positions),
                None => board.best(),
            };
            let Some(position) = best else { break };
            let node = self.cluster.pool(pool).members[position];
            let shares = self
                .choose_devices(node, &board.ask, pool)
                .expect("a node with a score has the devices");
            self.take_seat(node, class_idx, &shares);
            self.journal.push(Undo::Took {
                node,
                class: class_idx,
                shares: shares.clone(),
            });
            seats.push(Seat {
                slot: SlotId {
                    group: group as u16,
                    index: begin + number,
                },
                node,
                shares,
            });
            let class = self.classes.class(class_idx);
            if affine {
                board.follow(pool, class, self.view());
                clean = false;
            } else {
                board.rescore(position, pool, class, self.view());
            }
            if per_node_max > 0 {
                let count = site.per_node.entry(position).or_default();
                *count += 1;
                if *count >= per_node_max {
                    board.skip(position);
                }
            }
            if let Some(amount) = left.get_mut(&node) {
                *amount -= &board.ask.amount;
                if amount.lacks(&board.ask.amount).is_some() {
                    board.skip(position);
                }
            }
        }
        if clean {
            board.mark_seen(self.cluster.pool(pool).log_end());
        }
        boards.put(class_idx, pool, board, self.config.score_bytes_max);
        self.boards = boards;
        let amount = self.class_amount(class_idx, pool).times(seats.len() as i64);
        self.ledger.add(queue, pool, &amount);
        self.journal.push(Undo::Used {
            queue,
            pool,
            amount,
        });
        seats
    }

    /// The devices for one member: a part of a GPU goes to the device that loses the least by it.
    pub(crate) fn choose_devices(
        &self,
        node: NodeIdx,
        ask: &Ask,
        pool: PoolIdx,
    ) -> Option<Vec<DeviceShare>> {
        let weighed = self.config.scoring == Scoring::Fragmentation;
        if weighed && ask.part > 0 && ask.gpus == 0 {
            let devices = &self.cluster.nodes.devices[node.0 as usize];
            let candidates = devices
                .iter()
                .enumerate()
                .filter(|(_, device)| crate::devices::part_free(device, ask, self.cluster.gpu))
                .map(|(at, _)| at as u16);
            let best = self
                .typical
                .best_device(node, ask, pool, &self.cluster, candidates)?;
            return self.cluster.pick_devices_on(node, ask, best);
        }
        self.cluster.pick_devices(node, ask)
    }
}

impl Cluster {
    /// A request in the lanes of a pool; a resource that the pool lacks does not count.
    pub(crate) fn amount(&self, request: &base::Resources, pool: PoolIdx) -> Amount {
        use crate::amount::{CPU, MEMORY, SLOTS, lane_amount};
        let mut amount = Amount::ZERO;
        amount.0[CPU] = lane_amount(request.cpu.0);
        amount.0[MEMORY] = lane_amount(request.memory.0);
        amount.0[GPU] = lane_amount(request.gpu_milli);
        amount.0[SLOTS] = 1;
        for (resource, count) in &request.extended {
            let lane = self.names.find(resource);
            if let Some(lane) = lane.and_then(|name| self.pool(pool).lane(name)) {
                amount.0[lane] = lane_amount(*count);
            }
        }
        amount
    }
}
