//! The scheduler loop: the only owner of [`sched::Sched`]. Events go in, decisions come out and are
//! committed gang by gang; what cannot be committed is told back and decided afresh.
//!
//! Other loops speak to it through [`SchedHandle`] after their own commit, so it never hears of a row that
//! does not exist. At start it is rebuilt from the tables.

use super::ports::Ports;
use crate::platform::Clock;
use base::{Attempt, Epoch, Index, Time, Uid};
use sched::{Decision, DecisionKind, Event, NodeId, Sched, TaskId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events that wait to be applied. A sender that finds it full waits.
const INPUT_MAX: usize = 65_536;
/// Events applied before the next decision.
const BATCH_MAX: usize = 4_096;
/// Elementary steps of one decision round: about 10 ms on a common machine.
const STEPS: u32 = 200_000;
/// Decisions being committed at once.
const COMMITS_MAX: usize = 512;
/// A round without events: time alone can change what is right (reservations, deadlines).
const PERIOD: Duration = Duration::from_secs(1);
/// After a decision that could not be committed: the database may be away, or a node out of ports.
const REJECTED_DELAY: Duration = Duration::from_millis(100);

/// Whose task it is, and what must be known to place it.
#[derive(Clone, Debug)]
pub struct TaskOwner {
    /// The Job or App.
    pub owner: Uid,
    /// Which of the two.
    pub is_app: bool,
    /// The owner's tenant.
    pub tenant: String,
    /// The owner's project.
    pub project: String,
    /// The restart unit's text.
    pub unit: String,
    /// Its attempt.
    pub attempt: Attempt,
    /// The task's groups in order.
    pub groups: Vec<TaskGroup>,
}

/// One group of a task.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    /// The group's name with the owner.
    pub name: String,
    /// The member that seat 0 is.
    pub first: Index,
    /// Names of the ports that each seat gets, by seat.
    pub ports: Vec<Vec<String>>,
}

/// A placement as it is committed.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The group's name with the owner.
    pub group: String,
    /// The member.
    pub index: Index,
    /// The node's name.
    pub node: String,
    /// Device identities with thousandths and memory.
    pub devices: Vec<engine::DeviceGrant>,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
}

/// Commits decisions. The server's implementation writes the database; tests have their own.
pub trait Commit: Send + Sync + 'static {
    /// Makes the placements durable, all or none; `false` when the task changed meanwhile.
    fn admit(
        &self,
        epoch: Epoch,
        task: TaskId,
        owner: TaskOwner,
        seats: Vec<Seat>,
    ) -> engine::BoxFuture<'static, bool>;
    /// Marks the task's seats as releasing; `false` when it is already over.
    fn evict(
        &self,
        epoch: Epoch,
        task: TaskId,
        owner: TaskOwner,
        reason: sched::EvictReason,
        deadline: Time,
    ) -> engine::BoxFuture<'static, bool>;
}

enum Input {
    Event(Event),
    Submit(Box<(sched::TaskSpec, TaskOwner)>),
    Running(Box<(sched::RunningTask, TaskOwner)>),
    NodePorts {
        node: String,
        range: (u16, u16),
    },
    PortsTaken {
        node: String,
        numbers: Vec<u16>,
    },
    PortsFree {
        node: String,
        numbers: Vec<u16>,
    },
    Explain {
        tasks: Vec<TaskId>,
        answer: oneshot::Sender<Vec<sched::Explanation>>,
    },
    Read(Box<dyn FnOnce(&Sched) + Send>),
}

/// Speaks to the loop. Calls wait only while its queue is full.
#[derive(Clone)]
pub struct SchedHandle {
    inputs: mpsc::Sender<Input>,
}

impl SchedHandle {
    /// A fact.
    pub async fn event(&self, event: Event) {
        self.send(Input::Event(event)).await;
    }
    /// A task that waits. Its row is committed.
    pub async fn submit(&self, spec: sched::TaskSpec, owner: TaskOwner) {
        self.send(Input::Submit(Box::new((spec, owner)))).await;
    }
    /// A task that holds placements, at rebuild.
    pub async fn running(&self, task: sched::RunningTask, owner: TaskOwner) {
        self.send(Input::Running(Box::new((task, owner)))).await;
    }
    /// A node whose replicas share its address.
    pub async fn node_ports(&self, node: String, range: (u16, u16)) {
        self.send(Input::NodePorts { node, range }).await;
    }
    /// Ports in use, at rebuild.
    pub async fn ports_taken(&self, node: String, numbers: Vec<u16>) {
        self.send(Input::PortsTaken { node, numbers }).await;
    }
    /// A released placement's ports.
    pub async fn ports_free(&self, node: String, numbers: Vec<u16>) {
        self.send(Input::PortsFree { node, numbers }).await;
    }
    /// What holds these tasks.
    pub async fn explain(&self, tasks: Vec<TaskId>) -> Vec<sched::Explanation> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Explain { tasks, answer }).await;
        answered.await.unwrap_or_default()
    }
    /// Reads something of the scheduler's state.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sched) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Read(Box::new(move |sched| {
            // Whoever asked may have gone.
            let _ = answer.send(read(sched));
        })))
        .await;
        answered.await.ok()
    }

    async fn send(&self, input: Input) {
        if self.inputs.send(input).await.is_err() {
            tracing::debug!("the scheduler loop has ended; the next leader reads the tables");
        }
    }
}

/// The loop's state.
pub struct SchedLoop {
    sched: Sched,
    inputs: mpsc::Receiver<Input>,
    commit: Arc<dyn Commit>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    owners: HashMap<TaskId, TaskOwner>,
    nodes: HashMap<NodeId, NodeNames>,
    ports: Ports,
    commits: JoinSet<Outcome>,
    not_before: Instant,
}

/// A decision, whether it is durable, and the ports to give back where it is not.
type Outcome = (sched::DecisionId, bool, Vec<(String, Vec<u16>)>);

struct NodeNames {
    name: String,
    devices: Vec<(String, String)>,
}

/// A loop and its handle. Run the loop with [`SchedLoop::run`].
pub fn new(
    sched: Sched,
    commit: Arc<dyn Commit>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
) -> (SchedHandle, SchedLoop) {
    let (sender, inputs) = mpsc::channel(INPUT_MAX);
    let state = SchedLoop {
        sched,
        inputs,
        commit,
        clock,
        epoch,
        owners: HashMap::new(),
        nodes: HashMap::new(),
        ports: Ports::from_offset(random_offset()),
        commits: JoinSet::new(),
        not_before: Instant::now(),
    };
    (SchedHandle { inputs: sender }, state)
}

fn random_offset() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    u16::from_ne_bytes(bytes)
}

impl SchedLoop {
    /// Until `stop`. Commits under way are waited for.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let next_round = self.next_round();
            let more = tokio::select! {
                n = self.inputs.recv_many(&mut batch, BATCH_MAX) => n > 0,
                Some(done) = self.commits.join_next() => { self.committed(done); true }
                () = tokio::time::sleep_until(next_round) => true,
                () = stop.cancelled() => false,
            };
            if !more {
                break;
            }
            let mut questions = Vec::new();
            for input in batch.drain(..) {
                self.apply(input, &mut questions);
            }
            while let Some(done) = self.commits.try_join_next() {
                self.committed(done);
            }
            if self.commits.len() < COMMITS_MAX && Instant::now() >= self.not_before {
                let decisions = self.sched.decide(self.clock.now(), STEPS);
                for decision in decisions {
                    self.perform(decision);
                }
            }
            // Questions are answered after the decision, so that `why` sees what was just found out.
            for (tasks, answer) in questions {
                let now = self.clock.now();
                let explanations = tasks
                    .into_iter()
                    .map(|task| self.sched.explain(task, now))
                    .collect();
                // Whoever asked may have gone.
                let _: Result<(), Vec<sched::Explanation>> =
                    oneshot::Sender::send(answer, explanations);
            }
        }
        while let Some(done) = self.commits.join_next().await {
            self.committed(done);
        }
    }

    fn next_round(&self) -> Instant {
        let now = Instant::now();
        if self.not_before > now {
            self.not_before
        } else {
            now + PERIOD
        }
    }

    fn reject(&mut self, id: sched::DecisionId) {
        self.not_before = Instant::now() + REJECTED_DELAY;
        self.sched.apply(Event::Rejected(id));
    }

    fn apply(
        &mut self,
        input: Input,
        questions: &mut Vec<(Vec<TaskId>, oneshot::Sender<Vec<sched::Explanation>>)>,
    ) {
        match input {
            Input::Event(event) => {
                match &event {
                    Event::Node(node) => {
                        let devices = node
                            .devices
                            .iter()
                            .map(|device| (device.id.clone(), device.class.clone()))
                            .collect();
                        self.nodes.insert(
                            node.id,
                            NodeNames {
                                name: node.name.clone(),
                                devices,
                            },
                        );
                    }
                    Event::TaskGone(task) => {
                        self.owners.remove(task);
                    }
                    _ => {}
                }
                self.sched.apply(event);
            }
            Input::Submit(submitted) => {
                let (spec, owner) = *submitted;
                self.owners.insert(spec.id, owner);
                self.sched.apply(Event::Task(spec));
            }
            Input::Running(running) => {
                let (task, owner) = *running;
                self.owners.insert(task.spec.id, owner);
                self.sched.apply(Event::Running(task));
            }
            Input::NodePorts { node, range } => self.ports.node(&node, range),
            Input::PortsTaken { node, numbers } => self.ports.take(&node, numbers),
            Input::PortsFree { node, numbers } => self.ports.release(&node, numbers),
            Input::Explain { tasks, answer } => questions.push((tasks, answer)),
            Input::Read(read) => read(&self.sched),
        }
    }

    fn perform(&mut self, decision: Decision) {
        let Decision { id, kind } = decision;
        match kind {
            DecisionKind::Start {
                task, placements, ..
            }
            | DecisionKind::Grow { task, placements } => {
                let Some((owner, seats)) = self.seats(task, &placements) else {
                    self.reject(id);
                    return;
                };
                let given = seats
                    .iter()
                    .map(|seat| (seat.node.clone(), seat.ports.values().copied().collect()))
                    .collect();
                let commit = self.commit.admit(self.epoch, task, owner, seats);
                self.commits.spawn(async move { (id, commit.await, given) });
            }
            DecisionKind::Evict {
                task,
                reason,
                deadline,
                ..
            } => {
                let Some(owner) = self.owners.get(&task).cloned() else {
                    self.reject(id);
                    return;
                };
                let commit = self.commit.evict(self.epoch, task, owner, reason, deadline);
                self.commits
                    .spawn(async move { (id, commit.await, Vec::new()) });
            }
            // The scheduler keeps nominations in mind; they are made durable with its memory.
            DecisionKind::Nominate { .. } => self.sched.apply(Event::Committed(id)),
        }
    }

    /// Names instead of numbers, and ports. `None` where the task is gone or a node has no port left.
    fn seats(
        &mut self,
        task: TaskId,
        placements: &[sched::Placement],
    ) -> Option<(TaskOwner, Vec<Seat>)> {
        let owner = self.owners.get(&task)?.clone();
        let mut seats: Vec<Seat> = Vec::with_capacity(placements.len());
        for placement in placements {
            let group = owner.groups.get(usize::from(placement.slot.group))?;
            let node = self.nodes.get(&placement.node)?;
            let names = group
                .ports
                .get(placement.slot.index as usize)
                .map_or(&[][..], Vec::as_slice);
            let Some(ports) = self.ports.give(&node.name, names) else {
                for seat in &seats {
                    self.ports.release(&seat.node, seat.ports.values().copied());
                }
                return None;
            };
            let devices = placement.devices.iter().filter_map(|share| {
                let (id, class) = node.devices.get(usize::from(share.device))?;
                Some(engine::DeviceGrant {
                    id: id.clone(),
                    class: class.clone(),
                    milli: share.milli,
                    memory: share.memory,
                })
            });
            seats.push(Seat {
                group: group.name.clone(),
                index: Index(group.first.0 + placement.slot.index),
                node: node.name.clone(),
                devices: devices.collect(),
                ports,
            });
        }
        Some((owner, seats))
    }

    fn committed(&mut self, done: Result<Outcome, tokio::task::JoinError>) {
        let Ok((id, durable, given)) = done else {
            // A commit that panicked leaves its decision open; the next leader reads what is durable.
            tracing::error!("a commit panicked");
            return;
        };
        if durable {
            self.sched.apply(Event::Committed(id));
            return;
        }
        for (node, numbers) in given {
            self.ports.release(&node, numbers);
        }
        self.reject(id);
    }
}
