//! An engine in memory, for tests of what stands above the port.
//!
//! It has no clock and no threads: each `observe` lets every replica take one step (preparing,
//! running, ended), so that a test sees every stage and decides the pace. Programs are the words of
//! [`program`]; any other command runs until [`Fake::end`] ends it. It can be told to misbehave as
//! real ones do: [`EffectFault`], [`ObservationFault`], and nodes that go away.

use crate::group::{EnvValue, Group, Life, ReplicaKey, Slot};
use crate::observation::{
    Cause, Cursor, End, Endpoint, NodeReport, Observation, Phase, ReplicaReport, Usage,
};
use crate::port::{
    BoxFuture, Content, Engine, EngineError, Exec, ExecOutput, Frame, OutputSink, StopReason,
};
use crate::project::Project;
use base::{Bytes, Epoch, Resources, Seq, Span, Time, Uid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

pub mod program;

use program::Act;

/// Each step takes this long on the fake's own clock.
const STEP: Span = Span::from_ms(10);

/// What happens to the next effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectFault {
    /// It never arrives; the caller gets an error.
    LoseRequest,
    /// It is done, but the caller gets an error.
    LoseAnswer,
    /// It is done twice.
    Duplicate,
    /// The caller is told that it is done; it arrives at [`Fake::release`], or never.
    Hold,
}

/// What happens to the next observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationFault {
    /// It fails.
    Lose,
    /// It says nothing new, whatever happened.
    Delay,
    /// It says again what was said before.
    Duplicate,
    /// Its reports come in another order.
    Reorder,
}

/// The engine.
pub struct Fake {
    state: Mutex<State>,
    counter: watch::Sender<u64>,
    sink: Option<Arc<dyn OutputSink>>,
    content: Option<Arc<dyn Content>>,
}

#[derive(Default)]
struct State {
    epoch: Epoch,
    counter: u64,
    now: Time,
    nodes: BTreeMap<String, (u64, NodeReport)>,
    nodes_gone: Vec<(u64, String)>,
    replicas: BTreeMap<ReplicaKey, Replica>,
    gone: Vec<(u64, ReplicaKey)>,
    output: BTreeMap<ReplicaKey, Vec<Frame>>,
    effect_faults: VecDeque<EffectFault>,
    observation_faults: VecDeque<ObservationFault>,
    held: Vec<(Epoch, Effect)>,
    n_starts: BTreeMap<ReplicaKey, u32>,
    projects: BTreeMap<String, Project>,
    /// What programs keep between attempts, by owner and claim.
    checkpoints: BTreeMap<(Uid, String), String>,
}

struct Replica {
    changed: u64,
    report: ReplicaReport,
    project: String,
    life: Life,
    act: Act,
    /// Its directory for checkpoints.
    keeps: Option<(Uid, String)>,
    /// Values by name, for what it says.
    env: BTreeMap<String, String>,
    /// Whether its probes would be answered.
    is_healthy: bool,
    has_probes: bool,
    stop: Option<StopReason>,
}

#[derive(Clone)]
enum Effect {
    Ensure(Box<Group>, BTreeMap<String, String>),
    Remove(ReplicaKey, Span, StopReason),
}

impl Fake {
    /// An engine with these nodes. Output goes to `sink`, secrets come from `content`, if there are any.
    pub fn new(
        nodes: Vec<NodeReport>,
        sink: Option<Arc<dyn OutputSink>>,
        content: Option<Arc<dyn Content>>,
    ) -> Fake {
        let state = State {
            nodes: nodes
                .into_iter()
                .map(|node| (node.name.clone(), (0, node)))
                .collect(),
            counter: 1,
            ..State::default()
        };
        Fake {
            state: Mutex::new(state),
            counter: watch::Sender::new(1),
            sink,
            content,
        }
    }

    /// A plain node.
    pub fn node(name: &str, allocatable: Resources) -> NodeReport {
        NodeReport {
            name: name.to_owned(),
            ready: true,
            address: "127.0.0.1".to_owned(),
            ports: Some((20_000, 29_999)),
            allocatable,
            slots_max: 0,
            taints: Vec::new(),
            labels: BTreeMap::new(),
            devices: Vec::new(),
            warnings: Vec::new(),
        }
    }

    // ---- faults ----

    /// The next effects misbehave, one by one.
    pub fn fail_effects(&self, faults: &[EffectFault]) {
        self.state().effect_faults.extend(faults);
    }

    /// The next observations misbehave, one by one.
    pub fn fail_observations(&self, faults: &[ObservationFault]) {
        self.state().observation_faults.extend(faults);
    }

    /// Held effects arrive, the last one first. Those of a superseded epoch have no effect.
    pub fn release(&self) {
        let mut state = self.state();
        let held = std::mem::take(&mut state.held);
        for (epoch, effect) in held.into_iter().rev() {
            if epoch >= state.epoch {
                state.perform(epoch, effect);
            }
        }
        self.tell(&state);
    }

    /// A node answers or not, as it changes.
    pub fn change_node(&self, name: &str, change: impl FnOnce(&mut NodeReport)) {
        let mut state = self.state();
        state.counter += 1;
        let counter = state.counter;
        if let Some((changed, node)) = state.nodes.get_mut(name) {
            change(node);
            *changed = counter;
        }
        self.tell(&state);
    }

    /// A node goes away with everything on it.
    pub fn lose_node(&self, name: &str) {
        let mut state = self.state();
        state.counter += 1;
        let counter = state.counter;
        if state.nodes.remove(name).is_some() {
            state.nodes_gone.push((counter, name.to_owned()));
        }
        let on_it = state
            .replicas
            .values()
            .filter(|replica| replica.report.node == name);
        for key in on_it
            .map(|replica| replica.report.key.clone())
            .collect::<Vec<_>>()
        {
            state.finish(&key, Cause::NodeLost, None, None, "its node went away");
        }
        self.tell(&state);
    }

    /// A program ends.
    pub fn end(&self, key: &ReplicaKey, cause: Cause, exit_code: Option<i32>) {
        let mut state = self.state();
        state.finish(key, cause, exit_code, None, "the test ended it");
        self.tell(&state);
    }

    /// A service answers its probes or not.
    pub fn set_healthy(&self, key: &ReplicaKey, is_healthy: bool) {
        if let Some(replica) = self.state().replicas.get_mut(key) {
            replica.is_healthy = is_healthy;
        }
    }

    // ---- what happened ----

    /// What a replica wrote.
    pub fn output(&self, key: &ReplicaKey) -> Vec<Frame> {
        self.state().output.get(key).cloned().unwrap_or_default()
    }

    /// How often a program was started under each key, restarts in place left out.
    pub fn starts(&self) -> BTreeMap<ReplicaKey, u32> {
        self.state().n_starts.clone()
    }

    /// What it was last told of a Project.
    pub fn told(&self, project: &str) -> Option<Project> {
        self.state().projects.get(project).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &State) {
        self.counter.send_replace(state.counter);
    }

    /// Does an effect, or whatever else happens to it.
    fn effect(&self, epoch: Epoch, effect: Effect) -> Result<(), EngineError> {
        let mut state = self.state();
        let fault = state.effect_faults.pop_front();
        let lost = || EngineError::Failed {
            operation: "reaching the engine".to_owned(),
            source: "the connection was lost".into(),
        };
        if fault == Some(EffectFault::LoseRequest) {
            return Err(lost());
        }
        state.admit(epoch)?;
        if fault == Some(EffectFault::Hold) {
            state.held.push((epoch, effect));
            return Ok(());
        }
        if fault == Some(EffectFault::Duplicate) {
            state.perform(epoch, effect.clone());
        }
        state.perform(epoch, effect);
        self.tell(&state);
        if fault == Some(EffectFault::LoseAnswer) {
            Err(lost())
        } else {
            Ok(())
        }
    }

    async fn resolve(&self, group: &Group) -> Result<BTreeMap<String, String>, EngineError> {
        let mut env = BTreeMap::new();
        for variable in &group.template.env {
            let value = match (&variable.value, &self.content) {
                (EnvValue::Plain(value), _) => value.clone(),
                (EnvValue::Secret { name, key, .. }, None) => format!("secret {name}/{key}"),
                (EnvValue::Secret { name, version, key }, Some(content)) => {
                    let entries = content.secret(&group.project, name, *version).await?;
                    let found = entries.into_iter().find(|(entry, _)| entry == key);
                    found
                        .map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned())
                        .unwrap_or_default()
                }
            };
            env.insert(variable.name.clone(), value);
        }
        Ok(env)
    }

    async fn observe_now(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> Result<Observation, EngineError> {
        let fault = self.state().observation_faults.pop_front();
        if fault == Some(ObservationFault::Lose) {
            return Err(EngineError::Failed {
                operation: "observing".to_owned(),
                source: "the connection was lost".into(),
            });
        }
        self.step().await;
        if let (Some(ObservationFault::Delay), Some(cursor)) = (fault, cursor) {
            return Ok(Observation {
                cursor,
                ..Observation::default()
            });
        }
        let from = if fault == Some(ObservationFault::Duplicate) {
            cursor.map(|_| Cursor(1))
        } else {
            cursor
        };
        let mut counter = self.counter.subscribe();
        let mut observation = self.state().since(from);
        if !observation.complete && Some(observation.cursor) == cursor {
            // Nobody but a test changes anything: one wake is enough.
            let _ = tokio::time::timeout(wait.as_std(), counter.changed()).await;
            observation = self.state().since(from);
        }
        if fault == Some(ObservationFault::Reorder) {
            observation.replicas.reverse();
            observation.nodes.reverse();
        }
        Ok(observation)
    }

    /// Every replica takes one step; what it says goes to the sink.
    async fn step(&self) {
        let said = {
            let mut state = self.state();
            let said = state.step();
            self.tell(&state);
            said
        };
        let Some(sink) = &self.sink else { return };
        for (project, key, frames) in said {
            // A sink that fails loses it: the fake keeps its own copy, see `output`.
            let _: Result<Seq, EngineError> = sink.append(&project, &key, frames).await;
        }
    }
}

impl State {
    fn admit(&mut self, epoch: Epoch) -> Result<(), EngineError> {
        if epoch < self.epoch {
            return Err(EngineError::Superseded {
                ours: epoch,
                highest: self.epoch,
            });
        }
        self.epoch = epoch;
        Ok(())
    }

    fn perform(&mut self, epoch: Epoch, effect: Effect) {
        match effect {
            Effect::Ensure(group, env) => {
                for slot in &group.slots {
                    self.ensure(epoch, &group, slot, &env);
                }
            }
            Effect::Remove(key, grace, reason) => self.remove(epoch, &key, grace, reason),
        }
    }

    fn ensure(&mut self, epoch: Epoch, group: &Group, slot: &Slot, env: &BTreeMap<String, String>) {
        let key = group.key(slot);
        self.counter += 1;
        let changed = self.counter;
        if let Some(known) = self.replicas.get_mut(&key) {
            if known.report.epoch < epoch {
                known.report.epoch = epoch;
                known.changed = changed;
            }
            return;
        }
        self.gone.retain(|(_, gone)| *gone != key);
        *self.n_starts.entry(key.clone()).or_default() += 1;
        let mut env = env.clone();
        env.extend(slot.env.iter().cloned());
        let command = group
            .template
            .command
            .iter()
            .map(|word| program::expand(word, &env))
            .collect::<Vec<_>>();
        let probes = &group.template.probes;
        let report = ReplicaReport {
            key: key.clone(),
            epoch,
            node: slot.node.clone(),
            devices: slot.devices.clone(),
            ports: slot.ports.clone(),
            phase: Phase::Preparing,
            started: None,
            restarts: 0,
            last_failure: None,
            unready: None,
            endpoint: None,
            usage: Usage::default(),
            output_lost: Bytes(0),
        };
        let act = program::parse(&command);
        let replica = Replica {
            changed,
            report,
            project: group.project.clone(),
            life: group.life,
            keeps: group
                .template
                .checkpoints()
                .next()
                .map(|claim| (group.owner, claim.to_owned())),
            env,
            is_healthy: act.is_healthy(),
            act,
            has_probes: probes.startup.is_some()
                || probes.readiness.is_some()
                || probes.liveness.is_some(),
            stop: None,
        };
        self.replicas.insert(key, replica);
    }

    fn remove(&mut self, epoch: Epoch, key: &ReplicaKey, grace: Span, reason: StopReason) {
        self.counter += 1;
        let (changed, deadline) = (self.counter, self.now + grace);
        let Some(replica) = self.replicas.get_mut(key) else {
            self.gone.push((changed, key.clone()));
            return;
        };
        replica.report.epoch = replica.report.epoch.max(epoch);
        replica.changed = changed;
        if matches!(replica.report.phase, Phase::Ended(_)) {
            self.replicas.remove(key);
            self.gone.push((changed, key.clone()));
            return;
        }
        replica.stop.get_or_insert(reason);
        replica.report.phase = Phase::Stopping(deadline);
        replica.report.endpoint = None;
    }

    fn finish(
        &mut self,
        key: &ReplicaKey,
        cause: Cause,
        exit_code: Option<i32>,
        signal: Option<i32>,
        message: &str,
    ) {
        self.counter += 1;
        let (changed, now) = (self.counter, self.now);
        let Some(replica) = self.replicas.get_mut(key) else {
            return;
        };
        if matches!(replica.report.phase, Phase::Ended(_)) {
            return;
        }
        let end = End {
            cause,
            exit_code,
            signal,
            at: now,
            message: message.to_owned(),
            memory_peak: Bytes(0),
            outputs: Vec::new(),
        };
        replica.changed = changed;
        replica.report.endpoint = None;
        let is_final = matches!(
            cause,
            Cause::Stopped | Cause::NodeLost | Cause::PortTaken | Cause::Misplaced | Cause::Evicted
        );
        if replica.life == Life::Batch || is_final || replica.stop.is_some() {
            replica.report.phase = Phase::Ended(end);
        } else {
            replica.report.phase = Phase::BackingOff(now + Span::from_secs(1));
            replica.report.last_failure = Some(end);
        }
    }

    /// What each replica said in this step.
    fn step(&mut self) -> Vec<(String, ReplicaKey, Vec<Frame>)> {
        self.now = self.now + STEP;
        let mut said = Vec::new();
        for key in self.replicas.keys().cloned().collect::<Vec<_>>() {
            if let Some(frames) = self.step_one(&key).filter(|frames| !frames.is_empty()) {
                let project = self
                    .replicas
                    .get(&key)
                    .map(|replica| replica.project.clone());
                self.output
                    .entry(key.clone())
                    .or_default()
                    .extend(frames.clone());
                said.push((project.unwrap_or_default(), key, frames));
            }
        }
        said
    }

    fn step_one(&mut self, key: &ReplicaKey) -> Option<Vec<Frame>> {
        let now = self.now;
        let counter = self.counter + 1;
        let replica = self.replicas.get_mut(key)?;
        match replica.report.phase.clone() {
            Phase::Preparing | Phase::BackingOff(_) => {
                if let Act::Missing = replica.act {
                    self.finish(
                        key,
                        Cause::StartFailed,
                        None,
                        None,
                        "`no-such-program`: command not found",
                    );
                    return None;
                }
                let is_again = replica.report.last_failure.is_some();
                replica.report.restarts += u32::from(is_again);
                replica.report.phase = Phase::Running;
                replica.report.started.get_or_insert(now);
                replica.changed = counter;
                self.counter = counter;
                let first = self
                    .output
                    .get(key)
                    .map_or(1, |frames| frames.len() as u64 + 1);
                if let (Act::Keep(text), Some(place)) = (&replica.act, &replica.keeps) {
                    let before = self.checkpoints.insert(place.clone(), text.clone());
                    let said = before.unwrap_or_else(|| "nothing".to_owned());
                    replica.env.insert(program::KEPT.to_owned(), said);
                }
                Some(replica.act.says(&replica.env, first, now))
            }
            Phase::Running => {
                if let Some((cause, code, signal)) = replica.act.ends() {
                    self.finish(key, cause, code, signal, &program::sentence(code, signal));
                    return None;
                }
                if replica.life == Life::Batch {
                    return None;
                }
                let is_ready = replica.is_healthy || !replica.has_probes;
                if !is_ready {
                    self.finish(key, Cause::Unhealthy, None, Some(15), "its probe failed");
                } else if replica.report.endpoint.is_none() {
                    let ports = replica.report.ports.iter();
                    let addresses = ports
                        .map(|(name, number)| (name.clone(), format!("127.0.0.1:{number}")))
                        .collect();
                    replica.report.endpoint = Some(Endpoint {
                        addresses,
                        since: now,
                    });
                    replica.changed = counter;
                    self.counter = counter;
                }
                None
            }
            Phase::Stopping(deadline) => {
                let signal = if replica.act.is_stubborn() { 9 } else { 15 };
                if signal == 15 || now >= deadline {
                    let reason = replica.stop.map_or("", StopReason::as_str);
                    self.finish(
                        key,
                        Cause::Stopped,
                        None,
                        Some(signal),
                        &format!("it was stopped: {reason}"),
                    );
                }
                None
            }
            Phase::Ended(_) => None,
        }
    }

    fn since(&self, cursor: Option<Cursor>) -> Observation {
        let from = cursor
            .map(|cursor| cursor.0)
            .filter(|from| *from <= self.counter);
        let is_new = |changed: u64| from.is_none_or(|from| changed > from);
        let nodes = self.nodes.values().filter(|(changed, _)| is_new(*changed));
        let replicas = self
            .replicas
            .values()
            .filter(|replica| is_new(replica.changed));
        let gone = |changed: u64| from.is_some() && is_new(changed);
        Observation {
            cursor: Cursor(self.counter),
            complete: from.is_none(),
            nodes: nodes.map(|(_, node)| node.clone()).collect(),
            nodes_gone: self
                .nodes_gone
                .iter()
                .filter(|(changed, _)| gone(*changed))
                .map(|(_, name)| name.clone())
                .collect(),
            replicas: replicas.map(|replica| replica.report.clone()).collect(),
            replicas_gone: self
                .gone
                .iter()
                .filter(|(changed, _)| gone(*changed))
                .map(|(_, key)| key.clone())
                .collect(),
            ..Observation::default()
        }
    }
}

impl Engine for Fake {
    fn lead(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move { self.state().admit(epoch) })
    }

    fn ensure<'a>(
        &'a self,
        epoch: Epoch,
        group: &'a Group,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let env = self.resolve(group).await?;
            self.effect(epoch, Effect::Ensure(Box::new(group.clone()), env))
        })
    }

    fn project<'a>(
        &'a self,
        epoch: Epoch,
        project: &'a Project,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.admit(epoch)?;
            state.projects.insert(project.name.clone(), project.clone());
            Ok(())
        })
    }

    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        key: &'a ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.effect(epoch, Effect::Remove(key.clone(), grace, reason)) })
    }

    fn observe(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> BoxFuture<'_, Result<Observation, EngineError>> {
        Box::pin(self.observe_now(cursor, wait))
    }

    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Uid>, EngineError>> {
        Box::pin(async move {
            let owners: BTreeSet<Uid> = self
                .state()
                .checkpoints
                .keys()
                .map(|(owner, _)| *owner)
                .collect();
            Ok(owners.into_iter().collect())
        })
    }

    fn drop_checkpoints(&self, epoch: Epoch, owner: Uid) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.admit(epoch)?;
            state.checkpoints.retain(|(of, _), _| *of != owner);
            Ok(())
        })
    }

    fn peer_host(&self, _: &ReplicaKey, node: &str) -> String {
        node.to_owned()
    }

    /// Says its command and exits with 0.
    fn exec<'a>(
        &'a self,
        key: &'a ReplicaKey,
        command: &'a [String],
        _: Option<(u16, u16)>,
    ) -> BoxFuture<'a, Result<Exec, EngineError>> {
        Box::pin(async move {
            let state = self.state();
            let running = state
                .replicas
                .get(key)
                .filter(|replica| replica.report.phase == Phase::Running);
            if running.is_none() {
                return Err(EngineError::NotRunning(key.clone()));
            }
            let (input, _) = mpsc::channel(1);
            let (sender, output) = mpsc::channel(2);
            let words = format!("{}\n", command.join(" ")).into_bytes();
            for said in [
                ExecOutput::Bytes(crate::port::Stream::Stdout, words),
                ExecOutput::Exited(0),
            ] {
                sender.try_send(said).expect("there is room for two");
            }
            Ok(Exec { input, output })
        })
    }
}

#[cfg(test)]
mod tests;
