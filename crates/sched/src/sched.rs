//! The scheduler: the state that events change and decisions are made from.

use crate::amount::{EXTENDED, GPU};
use crate::answers::Pending;
use crate::board::Boards;
use crate::calendar::Calendar;
use crate::class::{ClassIdx, Classes, ShapeIdx};
use crate::cluster::{Cluster, NodeIdx};
use crate::config::Config;
use crate::decision::{DecisionId, DeviceShare, Placement};
use crate::defrag::Progress;
use crate::domains::Domains;
use crate::event::{
    Event, NodeId, NodeSpec, PoolSpec, QueueSpec, RunningTask, SlotId, TaskId, TaskSpec,
};
use crate::fragmentation::Typical;
use crate::hash::Map;
use crate::hold::{Nomination, Reservation};
use crate::ledger::{Ledger, QueueIdx};
use crate::place::Undo;
use crate::pool::{HOLE, PoolIdx};
use crate::rights::Consenting;
use crate::seats::{Given, Seats};
use crate::task::{Held, Rare, Stage, Task, TaskIdx, Tasks};
use crate::waiting::Waiting;
use base::{Time, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// The scheduler core. Events in, decisions out; see the crate's head.
#[derive(Debug)]
pub struct Sched {
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) domains: Domains,
    pub(crate) typical: Typical,
    pub(crate) classes: Classes,
    pub(crate) boards: Boards,
    pub(crate) ledger: Ledger,
    pub(crate) tasks: Tasks,
    pub(crate) waiting: Waiting,
    /// Who holds seats on a node.
    pub(crate) holders: Vec<Vec<(TaskIdx, SlotId)>>,
    pub(crate) pending: BTreeMap<DecisionId, Pending>,
    pub(crate) decisions_made: u64,
    pub(crate) journal: Vec<Undo>,
    /// Pools by name.
    pub(crate) pool_order: Vec<PoolIdx>,
    /// The gains of each pool that waiting tasks were already told about.
    pub(crate) gains_told: Vec<u64>,
    pub(crate) reservations: BTreeMap<PoolIdx, Reservation>,
    pub(crate) nominations: BTreeMap<TaskId, Nomination>,
    /// Tasks that were told to stop and have not ended, in all and by the App that they disturb.
    pub(crate) stopping: u32,
    pub(crate) consenting: Consenting,
    pub(crate) disrupted: Map<Uid, u32>,
    /// Nodes on which something may have to leave.
    pub(crate) suspects: BTreeSet<NodeIdx>,
    /// Elastic tasks that run with less than they could use.
    pub(crate) growing: BTreeSet<TaskIdx>,
    pub(crate) growing_is_new: bool,
    /// Running tasks of which some group may have fewer seats than at best.
    pub(crate) elastic: BTreeSet<TaskIdx>,
    /// Single seats that are on their way out.
    pub(crate) shrinking: BTreeSet<(TaskIdx, SlotId)>,
    pub(crate) growth_next: TaskIdx,
    /// The gains of each pool at which growing was tried.
    pub(crate) growth_seen: Vec<u64>,
    /// When each pool's past was brought up to date.
    pub(crate) faded: Vec<Time>,
    /// The minute since the epoch, and how many were told to stop in it.
    pub(crate) told_to_stop: (i64, u32),
    /// Pools in which a claim met a start that is not durable yet.
    pub(crate) unmet_claims: BTreeSet<PoolIdx>,
    /// When whoever waits for a pool may find somebody to stop.
    pub(crate) claims_due: BTreeMap<PoolIdx, Time>,
    /// Nodes that are guaranteed whole, with the queue that owns them.
    pub(crate) cells: BTreeMap<NodeIdx, QueueIdx>,
    pub(crate) cells_stale: bool,
    pub(crate) calendar: Calendar,
    pub(crate) defrag: Progress,
}

impl Sched {
    /// A scheduler that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            cluster: Cluster::new(),
            domains: Domains::default(),
            typical: Typical::default(),
            classes: Classes::default(),
            boards: Boards::default(),
            ledger: Ledger::default(),
            tasks: Tasks::default(),
            waiting: Waiting::default(),
            holders: Vec::new(),
            pending: BTreeMap::new(),
            decisions_made: 0,
            journal: Vec::new(),
            pool_order: Vec::new(),
            gains_told: Vec::new(),
            reservations: BTreeMap::new(),
            nominations: BTreeMap::new(),
            stopping: 0,
            consenting: Consenting::default(),
            disrupted: Map::default(),
            suspects: BTreeSet::new(),
            growing: BTreeSet::new(),
            growing_is_new: false,
            elastic: BTreeSet::new(),
            shrinking: BTreeSet::new(),
            growth_next: TaskIdx(0),
            growth_seen: Vec::new(),
            faded: Vec::new(),
            told_to_stop: (0, 0),
            unmet_claims: BTreeSet::new(),
            claims_due: BTreeMap::new(),
            cells: BTreeMap::new(),
            cells_stale: false,
            calendar: Calendar::default(),
            defrag: Progress::default(),
        }
    }

    /// Takes note of a fact. Facts may repeat; what is unknown or outdated is ignored.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Pool(spec) => self.set_pool(spec),
            Event::PoolGone(name) => self.pool_gone(&name),
            Event::Node(spec) => self.set_node(&spec),
            Event::NodeGone(id) => self.node_gone(id),
            Event::Queue(spec) => self.set_queue(spec),
            Event::QueueGone(name) => {
                self.ledger.remove(&name);
                self.queues_changed();
            }
            Event::Task(spec) => self.set_task(spec),
            Event::Running(running) => self.set_running(running),
            Event::TaskGone(id) => self.task_gone(id),
            Event::Releasing {
                task,
                slot,
                deadline,
            } => self.releasing(task, slot, deadline),
            Event::Released { task, slot } => self.released(task, slot),
            Event::Committed(id) => self.committed(id),
            Event::Rejected(id) => self.rejected(id),
            Event::Calendar(entry) => self.set_calendar(entry),
            Event::CalendarGone(name) => self.calendar_gone(&name),
        }
    }

    // ---- queues ----

    fn set_queue(&mut self, spec: QueueSpec) {
        let order = spec.order;
        let queue = self.ledger.find_or_new(&spec.name);
        let is_new_order = self.ledger.order_of(&spec.name) != order;
        self.ledger.set(spec);
        if is_new_order {
            let mine: Vec<TaskIdx> = self
                .tasks
                .iter()
                .filter(|(_, task)| task.queue == queue)
                .map(|(idx, _)| idx)
                .collect();
            for idx in mine {
                let task = self.tasks.get(idx);
                let in_row =
                    task.stage == Stage::Waiting && !self.nominations.contains_key(&task.id);
                if in_row {
                    self.dequeue(idx);
                }
                self.tasks.get_mut(idx).rule = order;
                if in_row {
                    self.enqueue(idx);
                }
            }
        }
        self.queues_changed();
    }

    fn queues_changed(&mut self) {
        self.cells_stale = true;
        self.calendar_changed();
        self.waiting.wake_all();
    }

    // ---- pools and nodes ----

    fn set_pool(&mut self, spec: PoolSpec) {
        let mode = spec.devices;
        let mut is_new = false;
        for level in &spec.levels {
            let label = self.cluster.names.intern(level);
            is_new |= self.domains.register_label(label, &self.cluster);
        }
        if is_new {
            self.recount_presence();
        }
        let idx = self.cluster.set_pool(spec);
        self.cells_stale = true;
        self.calendar_changed();
        self.pool_order = self.cluster.pools_by_name();
        for node in self.cluster.pool(idx).members.clone() {
            if node != HOLE {
                self.without_holders(node, |sched| sched.cluster.set_device_mode(node, mode));
            }
        }
        self.waiting.wake_all();
    }

    fn pool_gone(&mut self, name: &str) {
        let Some(idx) = self.cluster.find_pool(name) else {
            return;
        };
        let pool = self.cluster.pool_mut(idx);
        pool.spec = None;
        for node in pool.members.clone() {
            if node != HOLE {
                self.cluster.cordon(node);
            }
        }
        self.waiting.wake_all();
    }

    fn set_node(&mut self, spec: &NodeSpec) {
        let pool = self.cluster.pool_or_new(&spec.pool);
        if self.pool_order.len() + 1 != self.cluster.pools.len() {
            self.pool_order = self.cluster.pools_by_name();
        }
        let node = self.node_or_new(spec.id);
        let lanes = self.cluster.pool(pool).extended.len();
        let declared = self.cluster.declare(spec, pool);
        if self.cluster.is_known(node, spec, pool, &declared) {
            // What was planned for it stays planned, and nobody has anything new to try.
            return;
        }
        let held: Vec<u16> = self.holders[node.0 as usize]
            .iter()
            .flat_map(|(task, slot)| {
                let task = self.tasks.get(*task);
                let held = task.find(*slot).ok().map(|at| &task.held[at].shares);
                held.into_iter().flatten().map(|share| share.device)
            })
            .collect();
        // Where each device goes. One that is missing but held is kept aside as sick, so that it is
        // not handed out twice when it comes back.
        let mut missing = Vec::new();
        let mut moved = Vec::new();
        for (at, device) in self.cluster.declared_devices(node).iter().enumerate() {
            let found = spec
                .devices
                .iter()
                .position(|other| *other.id == *device.id);
            moved.push(match found {
                Some(position) => position as u16,
                None if held.contains(&(at as u16)) => {
                    missing.push(device.clone());
                    (spec.devices.len() + missing.len() - 1) as u16
                }
                None => u16::MAX,
            });
        }
        self.without_holders(node, |sched| {
            if !moved.iter().copied().eq(0..moved.len() as u16) {
                sched.renumber_devices(node, &moved);
            }
            sched.cluster.set_node(spec, pool, declared, missing);
            sched.cells_stale = true;
            sched.domains.node_changed(node, &sched.cluster);
        });
        if self.cluster.pool(pool).extended.len() > lanes {
            self.count_new_lanes(pool, EXTENDED + lanes, node);
        }
        if !self.holders[node.0 as usize].is_empty() {
            self.suspects.insert(node);
            self.calendar_changed();
        }
    }

    /// Shares follow their device by identity when a node lists its devices differently.
    fn renumber_devices(&mut self, node: NodeIdx, moved: &[u16]) {
        for (task, slot) in &self.holders[node.0 as usize] {
            let task = self.tasks.get_mut(*task);
            let Ok(at) = task.find(*slot) else { continue };
            for share in &mut task.held[at].shares {
                if let Some(to) = moved.get(share.device as usize) {
                    share.device = *to;
                }
            }
        }
    }

    fn node_gone(&mut self, id: NodeId) {
        let Some(node) = self.cluster.find_node(id) else {
            return;
        };
        self.cluster.node_gone(node);
        self.cells_stale = true;
        self.forget_if_empty(node);
    }

    pub(crate) fn node_or_new(&mut self, id: NodeId) -> NodeIdx {
        let node = self.cluster.node_or_new(id);
        if self.holders.len() <= node.0 as usize {
            self.holders.resize_with(node.0 as usize + 1, Vec::new);
        }
        node
    }

    fn forget_if_empty(&mut self, node: NodeIdx) {
        let at = node.0 as usize;
        let claimed = || {
            let mut seats = self.nominations.values().flat_map(|n| &n.seats);
            seats.any(|seat| seat.node == node)
        };
        if !self.cluster.nodes.present[at] && self.holders[at].is_empty() && !claimed() {
            self.suspects.remove(&node);
            self.cluster.forget_node(node);
        }
    }

    /// Runs a change of what a node is while nothing on it is counted.
    fn without_holders(&mut self, node: NodeIdx, change: impl FnOnce(&mut Self)) {
        // What was planned for the node is planned again on what it has become.
        self.reservations
            .retain(|_, reservation| !reservation.kept.contains_key(&node));
        let nominees: Vec<TaskId> = self
            .nominations
            .iter()
            .filter(|(_, nomination)| nomination.seats.iter().any(|seat| seat.node == node))
            .map(|(id, _)| *id)
            .collect();
        for id in nominees {
            if let Some(idx) = self.tasks.find(id)
                && self.drop_nomination(idx)
            {
                self.enqueue(idx);
            }
        }
        for (task, slot) in self.holders[node.0 as usize].clone() {
            self.count_if_leaving(task, slot, false);
            self.count_held(task, slot, false);
        }
        change(self);
        for (task, slot) in self.holders[node.0 as usize].clone() {
            self.count_held(task, slot, true);
            self.count_if_leaving(task, slot, true);
        }
    }

    /// A pool got lanes for resources that it did not know. What is held on its nodes, other than the one
    /// that brought them, was counted without these and is counted in them from now on.
    fn count_new_lanes(&mut self, pool: PoolIdx, first: usize, but: NodeIdx) {
        let mut seats = Vec::new();
        for node in self.cluster.pool(pool).members.clone() {
            if node == HOLE || node == but {
                continue;
            }
            for (idx, slot) in &self.holders[node.0 as usize] {
                let task = self.tasks.get(*idx);
                let class = self.class_of(task.shape, *slot);
                seats.push((node, task.queue, class, self.is_leaving(*idx, *slot)));
            }
        }
        for (id, nomination) in &self.nominations {
            let Some(idx) = self.tasks.find(*id) else {
                continue;
            };
            let task = self.tasks.get(idx);
            for seat in &nomination.seats {
                if self.cluster.nodes.pool[seat.node.0 as usize] == pool {
                    let class = self.class_of(task.shape, seat.slot);
                    seats.push((seat.node, task.queue, class, false));
                }
            }
        }
        for (node, queue, class, leaves) in seats {
            let mut amount = self.seat_amount(class, node);
            amount.0[..first].fill(0);
            self.cluster.nodes.free[node.0 as usize] -= &amount;
            self.ledger.add(queue, pool, &amount);
            if leaves {
                self.ledger.count_leaving(queue, pool, &amount, true);
            }
        }
        self.calendar_changed();
    }

    /// Whether a seat is on its way out, alone or with its task.
    fn is_leaving(&self, idx: TaskIdx, slot: SlotId) -> bool {
        self.tasks.get(idx).evicting().is_some() || self.shrinking.contains(&(idx, slot))
    }

    fn count_if_leaving(&mut self, idx: TaskIdx, slot: SlotId, add: bool) {
        let task = self.tasks.get(idx);
        if self.is_leaving(idx, slot)
            && let Ok(at) = task.find(slot)
        {
            let (queue, node) = (task.queue, task.held[at].node);
            let amount = self.seat_amount(self.class_of(task.shape, slot), node);
            let pool = self.cluster.nodes.pool[node.0 as usize];
            self.ledger.count_leaving(queue, pool, &amount, add);
        }
    }

    fn count_held(&mut self, idx: TaskIdx, slot: SlotId, add: bool) {
        let task = self.tasks.get(idx);
        let Ok(at) = task.find(slot) else { return };
        let (node, mut shares, queue) =
            (task.held[at].node, task.held[at].shares.clone(), task.queue);
        let class = self.class_of(task.shape, slot);
        let amount = self.seat_amount(class, node);
        let pool = self.cluster.nodes.pool[node.0 as usize];
        if add {
            let devices = &self.cluster.nodes.devices[node.0 as usize];
            let ask = self.cluster.ask(self.classes.class(class), pool);
            let cut = |share: &DeviceShare| share.partition.is_some();
            let wants_cut = ask.others.iter().any(|other| {
                let mut cuts = devices.iter().flat_map(|device| device.cuts());
                cuts.any(|cut| cut.name == other.name)
            });
            let unsaid = shares.is_empty() || (wants_cut && !shares.iter().any(cut));
            if unsaid && !devices.is_empty() {
                // Whoever placed it did not say where: the devices that we would have named.
                let picked = self.cluster.pick_devices(node, &ask).unwrap_or_default();
                shares = picked.into_boxed_slice();
                self.tasks.get_mut(idx).held[at].shares = shares.clone();
            }
            self.take_seat(node, class, &shares);
            self.ledger.add(queue, pool, &amount);
        } else {
            self.give_seat(node, class, &shares);
            self.ledger.subtract(queue, pool, &amount);
        }
    }

    pub(crate) fn class_of(&self, shape: ShapeIdx, slot: SlotId) -> ClassIdx {
        let parts = &self.classes.shape(shape).parts;
        parts[(slot.group as usize).min(parts.len() - 1)].class
    }

    // ---- tasks ----

    fn set_task(&mut self, spec: TaskSpec) {
        if spec.groups.is_empty() {
            return;
        }
        let Some(idx) = self.tasks.find(spec.id) else {
            self.insert_waiting(spec);
            return;
        };
        let task = self.tasks.get(idx);
        if spec.generation <= task.generation {
            return;
        }
        match task.stage {
            Stage::Waiting => {
                self.remove_waiting(idx);
                self.insert_waiting(spec);
            }
            Stage::Starting(decision) => {
                if let Some(Pending::Start { next, .. }) = self.pending.get_mut(&decision) {
                    *next = Some(Box::new(spec));
                }
            }
            // A running task keeps the spec that it was started with.
            Stage::Running => {}
        }
    }

    fn make_task(&mut self, spec: TaskSpec, stage: Stage) -> Task {
        let shape = self.classes.acquire(&spec, &mut self.cluster.names);
        let mut recount = false;
        let parts = self.classes.shape(shape).parts.clone();
        for part in &parts {
            let class = self.classes.class(part.class);
            if class.has_affinity() || class.topology.is_some() {
                recount |= self.domains.register(class, &self.cluster);
            }
        }
        if recount {
            self.recount_presence();
        }
        if matches!(stage, Stage::Waiting) {
            for part in &parts {
                for pool in self.pools_of(part.class) {
                    // Where there are no GPUs nothing is scattered, and nothing need be learnt.
                    let nodes = self.cluster.pool(pool);
                    if nodes.count > 0 && nodes.capacity.0[GPU] == 0 {
                        continue;
                    }
                    let ask = self.cluster.ask(self.classes.class(part.class), pool);
                    self.typical.arrived(pool, &ask, part.count);
                }
            }
        }
        let rare = Rare {
            disruption: spec.disruption,
            evicting: None,
        };
        Task {
            id: spec.id,
            generation: spec.generation,
            name: spec.name.into_boxed_str(),
            queue: self.ledger.find_or_new(&spec.queue),
            shape,
            stage,
            priority: spec.priority,
            rule: self.ledger.order_of(&spec.queue),
            expected_s: spec.expected.map_or(u32::MAX, |expected| {
                u32::try_from(expected.as_ms() / 1_000).unwrap_or(u32::MAX)
            }),
            submitted: spec.submitted,
            preemptible: spec.preemptible,
            checkpoints: spec.checkpoints,
            readmit: spec.readmit,
            withdrawn: false,
            min_runtime: spec.min_runtime,
            grace: spec.grace,
            time_limit: spec.time_limit,
            started: Time::from_ms(0),
            held: Seats::None,
            given: Given::none(parts.len()),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }

    fn recount_presence(&mut self) {
        self.domains.clear_presence();
        let mut seats = Vec::new();
        for (_, task) in self.tasks.iter() {
            for held in &task.held {
                let class = self.class_of(task.shape, held.slot);
                if self.classes.class(class).has_affinity() {
                    seats.push((class, held.node));
                }
            }
        }
        for (class, node) in seats {
            let class = self.classes.class(class);
            self.domains.count(class, node, true, &mut self.cluster);
        }
    }

    pub(crate) fn insert_waiting(&mut self, spec: TaskSpec) {
        let task = self.make_task(spec, Stage::Waiting);
        let idx = self.tasks.insert(task);
        self.enqueue(idx);
    }

    pub(crate) fn enqueue(&mut self, idx: TaskIdx) {
        let task = self.tasks.get(idx);
        let (queue, order) = (task.queue, task.order());
        self.waiting
            .insert(queue, task.shape, task.time_limit, order, idx);
        self.ledger.count_waiting(queue, true);
    }

    /// Takes a task out of the rows, or gives up its nomination.
    pub(crate) fn dequeue(&mut self, idx: TaskIdx) {
        if self.drop_nomination(idx) {
            return;
        }
        let task = self.tasks.get(idx);
        let (queue, order) = (task.queue, task.order());
        self.waiting
            .remove(queue, task.shape, task.time_limit, order);
        self.ledger.count_waiting(queue, false);
    }

    pub(crate) fn remove_waiting(&mut self, idx: TaskIdx) {
        self.dequeue(idx);
        self.forget_task(idx);
    }

    pub(crate) fn forget_task(&mut self, idx: TaskIdx) {
        if self.tasks.get(idx).evicting().is_some() {
            self.count_stopping(idx, false);
        }
        self.growing.remove(&idx);
        self.elastic.remove(&idx);
        self.forget_shrinking(idx);
        if self.tasks.get(idx).stage != Stage::Waiting {
            self.count_consent(idx, false);
        }
        if let Some(task) = self.tasks.remove(idx) {
            for class in self.classes.release(task.shape) {
                self.boards.forget(class, self.cluster.pools.len());
            }
        }
    }

    fn set_running(&mut self, running: RunningTask) {
        if running.spec.groups.is_empty() {
            return;
        }
        let mut marks: Vec<(SlotId, Time)> = Vec::new();
        let mut evicting = None;
        if let Some(idx) = self.tasks.find(running.spec.id) {
            // The fact replaces whatever was assumed; stops that were asked for stay asked for.
            let task = self.tasks.get(idx);
            evicting = task.evicting();
            let releasing = task
                .held
                .iter()
                .filter_map(|h| Some((h.slot, h.releasing?)));
            marks.extend(releasing);
            self.drop_pending_of(idx);
            match self.tasks.get(idx).stage {
                Stage::Waiting => self.remove_waiting(idx),
                Stage::Starting(_) | Stage::Running => {
                    self.release_all(idx);
                    self.forget_task(idx);
                }
            }
        }
        let mut task = self.make_task(running.spec, Stage::Running);
        task.started = running.started;
        let groups = self.classes.shape(task.shape).parts.len();
        let idx = self.tasks.insert(task);
        self.count_consent(idx, true);
        let mut placements = running.placements;
        placements.sort_by_key(|placement| placement.slot);
        placements.dedup_by_key(|placement| placement.slot);
        self.tasks.get_mut(idx).held.reserve_exact(placements.len());
        for placement in placements {
            if (placement.slot.group as usize) < groups {
                let releasing = marks.iter().find(|(slot, _)| *slot == placement.slot);
                let releasing = releasing.map(|(_, deadline)| *deadline);
                self.hold_fact(idx, placement, releasing);
            }
        }
        if self.tasks.get(idx).held.is_empty() {
            self.forget_task(idx);
            return;
        }
        if evicting.is_some() {
            self.tasks.get_mut(idx).set_evicting(evicting);
            self.count_stopping(idx, true);
        }
        for node in self.tasks.get(idx).held.iter().map(|held| held.node) {
            self.suspects.insert(node);
        }
        self.note_growing(idx);
    }

    /// Remembers an elastic task that could use more seats.
    pub(crate) fn note_growing(&mut self, idx: TaskIdx) {
        let task = self.tasks.get(idx);
        let parts = &self.classes.shape(task.shape).parts;
        if parts.iter().any(|part| part.count > part.min) {
            self.elastic.insert(idx);
        }
        let numbered = parts.iter().enumerate();
        let wants = numbered
            .filter(|(_, part)| part.count > part.min)
            .any(|(group, part)| task.given(group) < part.count);
        if wants {
            self.growing_is_new |= self.growing.insert(idx);
        }
    }

    /// Counts a seat that somebody holds, whether it fits or not.
    fn hold_fact(&mut self, idx: TaskIdx, placement: Placement, releasing: Option<Time>) {
        let node = self.node_or_new(placement.node);
        let held = Held {
            slot: placement.slot,
            node,
            shares: placement.devices.into_boxed_slice(),
            releasing,
        };
        self.note_held(idx, held);
        self.count_held(idx, placement.slot, true);
    }

    /// Writes a seat into the books without counting its capacity.
    pub(crate) fn note_held(&mut self, idx: TaskIdx, held: Held) {
        self.holders[held.node.0 as usize].push((idx, held.slot));
        let task = self.tasks.get_mut(idx);
        let given = &mut task.given[held.slot.group as usize];
        *given = (*given).max(held.slot.index + 1);
        let slot = held.slot;
        match task.find(slot) {
            Ok(_) => {}
            Err(at) => {
                task.held.insert(at, held);
                self.count_firm(idx, slot, true);
            }
        }
    }

    /// Gives one seat back.
    pub(crate) fn release_seat(&mut self, idx: TaskIdx, slot: SlotId) {
        self.count_held(idx, slot, false);
        self.count_firm(idx, slot, false);
        self.mark_shrinking(idx, slot, false);
        let task = self.tasks.get_mut(idx);
        let Ok(at) = task.find(slot) else { return };
        let held = task.held.remove(at);
        let node = held.node.0 as usize;
        if self.tasks.get(idx).evicting().is_some() {
            let (queue, shape) = (self.tasks.get(idx).queue, self.tasks.get(idx).shape);
            let class = self.class_of(shape, slot);
            let amount = self.seat_amount(class, held.node);
            let pool = self.cluster.nodes.pool[node];
            self.ledger.count_leaving(queue, pool, &amount, false);
        }
        let holders = &mut self.holders[node];
        if let Some(at) = holders.iter().position(|holder| *holder == (idx, slot)) {
            holders.swap_remove(at);
            // A node that once had many small tasks does not keep room for them for ever.
            if holders.capacity() > 4 * holders.len().max(4) {
                holders.shrink_to(2 * holders.len());
            }
        }
        let pool = self.cluster.nodes.pool[node];
        self.cluster.pool_mut(pool).gains += 1;
        self.forget_if_empty(held.node);
    }

    pub(crate) fn release_all(&mut self, idx: TaskIdx) {
        while let Some(held) = self.tasks.get(idx).held.last() {
            let slot = held.slot;
            self.release_seat(idx, slot);
        }
    }

    fn task_gone(&mut self, id: TaskId) {
        let Some(idx) = self.tasks.find(id) else {
            return;
        };
        match self.tasks.get(idx).stage {
            Stage::Waiting => self.remove_waiting(idx),
            Stage::Starting(_) | Stage::Running => self.tasks.get_mut(idx).withdrawn = true,
        }
    }

    fn releasing(&mut self, id: TaskId, slot: SlotId, deadline: Time) {
        let Some(idx) = self.tasks.find(id) else {
            return;
        };
        let task = self.tasks.get_mut(idx);
        if let Ok(at) = task.find(slot) {
            task.held[at].releasing = Some(deadline);
        }
    }

    fn released(&mut self, id: TaskId, slot: SlotId) {
        let Some(idx) = self.tasks.find(id) else {
            return;
        };
        if self.tasks.get(idx).find(slot).is_err() {
            return;
        }
        let was_shrinking = self.shrinking.contains(&(idx, slot));
        if !was_shrinking && self.tasks.get(idx).evicting().is_none() {
            let task = self.tasks.get(idx);
            let (class, node) = (self.class_of(task.shape, slot), task.find(slot));
            let node = node.map(|at| task.held[at].node);
            if let Ok(node) = node
                && self.cluster.nodes.present[node.0 as usize]
            {
                let amount = self.seat_amount(class, node);
                self.note_given_back(self.cluster.nodes.pool[node.0 as usize], &amount);
            }
        }
        self.release_seat(idx, slot);
        if self.tasks.get(idx).held.is_empty() {
            self.drop_pending_of(idx);
            self.forget_task(idx);
        } else if was_shrinking {
            self.settle_shrunk(idx);
        }
    }

    pub(crate) fn drop_pending_of(&mut self, idx: TaskIdx) {
        let id = self.tasks.get(idx).id;
        self.pending.retain(|_, pending| match pending {
            Pending::Start { task, .. }
            | Pending::Grow { task, .. }
            | Pending::Evict { task }
            | Pending::Shrink { task, .. }
            | Pending::Nominate { task } => *task != id,
        });
    }
}
