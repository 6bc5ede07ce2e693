//! The scheduler loop: the only owner of [`sched::Sched`]. Events go in, decisions come out and are
//! committed gang by gang; what cannot be committed is told back and decided afresh.
//!
//! Other loops speak to it through [`SchedHandle`] after their own commit, so it never hears of a row that
//! does not exist. At start it is rebuilt from the tables.

use super::OwnerKind;
use super::ports::Ports;
use super::sched_log::Recorded;
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
/// Decisions to start that share a transaction.
const ADMISSIONS_MAX: usize = 256;
/// Decisions being committed at once; beyond it nothing new is decided.
const COMMITS_MAX: usize = 2_048;
/// A round without events: time alone can change what is right (reservations, deadlines).
const PERIOD: Duration = Duration::from_secs(1);
/// After a decision that could not be committed: the database may be away, or a node out of ports.
const REJECTED_DELAY: Duration = Duration::from_millis(100);

/// Whose task it is, and what must be known to place it.
#[derive(Clone, Debug)]
pub struct TaskOwner {
    /// The Job, App or PodGroup.
    pub owner: Uid,
    /// Which of them.
    pub kind: OwnerKind,
    /// The owner's tenant.
    pub tenant: String,
    /// The owner's project.
    pub project: String,
    /// The restart unit's text.
    pub unit: String,
    /// Its attempt.
    pub attempt: Attempt,
    /// The owner's name, for what is told of it.
    pub name: String,
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

/// A gang that shall start, or grow.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Its task.
    pub task: TaskId,
    /// Whose it is.
    pub owner: TaskOwner,
    /// All its placements.
    pub seats: Vec<Seat>,
}

impl Admission {
    /// The nodes of its placements, one for each.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.seats.iter().map(|seat| seat.node.as_str())
    }
}

/// Commits decisions. The server's implementation writes the database; tests have their own.
pub trait Commit: Send + Sync + 'static {
    /// Makes each gang's placements durable, all of a gang or none; for each in turn, `false` when its task
    /// changed meanwhile.
    fn admit(
        &self,
        epoch: Epoch,
        admissions: Vec<Admission>,
    ) -> engine::BoxFuture<'static, Vec<bool>>;
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
    sched: Recorded,
    inputs: mpsc::Receiver<Input>,
    commit: Arc<dyn Commit>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    owners: HashMap<TaskId, TaskOwner>,
    nodes: HashMap<NodeId, NodeNames>,
    ports: Ports,
    commits: JoinSet<Vec<Outcome>>,
    /// Decisions in them.
    n_committing: usize,
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
    sched: Recorded,
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
        n_committing: 0,
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
            if self.n_committing < COMMITS_MAX && Instant::now() >= self.not_before {
                let decisions = self.sched.decide(self.clock.now(), STEPS);
                let mut starts = Vec::new();
                for decision in decisions {
                    self.perform(decision, &mut starts);
                }
                self.admit(starts);
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

    /// Commits what shall start, many gangs a transaction.
    fn admit(&mut self, starts: Vec<(sched::DecisionId, Admission)>) {
        self.n_committing += starts.len();
        let mut starts = starts.into_iter().peekable();
        while starts.peek().is_some() {
            let (ids, admissions): (Vec<_>, Vec<Admission>) =
                starts.by_ref().take(ADMISSIONS_MAX).unzip();
            let given: Vec<Vec<(String, Vec<u16>)>> = admissions.iter().map(ports_of).collect();
            let commit = self.commit.admit(self.epoch, admissions);
            self.commits.spawn(async move {
                let durable = commit.await;
                let told = durable.into_iter().chain(std::iter::repeat(false));
                ids.into_iter()
                    .zip(told)
                    .zip(given)
                    .map(|((id, durable), given)| (id, durable, given))
                    .collect()
            });
        }
    }

    /// Begins to carry out a decision; what starts is added to `starts`.
    fn perform(&mut self, decision: Decision, starts: &mut Vec<(sched::DecisionId, Admission)>) {
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
                starts.push((id, Admission { task, owner, seats }));
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
                self.n_committing += 1;
                self.commits
                    .spawn(async move { vec![(id, commit.await, Vec::new())] });
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

    fn committed(&mut self, done: Result<Vec<Outcome>, tokio::task::JoinError>) {
        let Ok(outcomes) = done else {
            // A commit that panicked leaves its decisions open; the next leader reads what is durable.
            tracing::error!("a commit panicked");
            return;
        };
        self.n_committing = self.n_committing.saturating_sub(outcomes.len());
        for (id, durable, given) in outcomes {
            if durable {
                self.sched.apply(Event::Committed(id));
                continue;
            }
            for (node, numbers) in given {
                self.ports.release(&node, numbers);
            }
            self.reject(id);
        }
    }
}

/// The ports that an admission takes, to be given back where it is not durable.
fn ports_of(admission: &Admission) -> Vec<(String, Vec<u16>)> {
    let seats = admission.seats.iter().filter(|seat| !seat.ports.is_empty());
    seats
        .map(|seat| (seat.node.clone(), seat.ports.values().copied().collect()))
        .collect()
}
