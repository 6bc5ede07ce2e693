//! An engine in memory. Programs are words: `exit N` ends with N, anything else runs until it is stopped.

use base::{Bytes, Epoch, Resources, Span, Time};
use engine::{
    BoxFuture, Cause, Cursor, End, Endpoint, Engine, EngineError, Exec, Group, NodeReport,
    Observation, Phase, ReplicaKey, ReplicaReport, StopReason, Usage,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// The engine.
#[derive(Default)]
pub(crate) struct Words {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    replicas: BTreeMap<ReplicaKey, ReplicaReport>,
    started: BTreeMap<ReplicaKey, u32>,
    gone: Vec<ReplicaKey>,
    version: u64,
}

impl Words {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        state.version += 1;
        drop(state);
        self.changed.notify_waiters();
        result
    }

    /// How often each replica was started.
    pub(crate) fn starts(&self) -> Vec<u32> {
        self.state
            .lock()
            .unwrap()
            .started
            .values()
            .copied()
            .collect()
    }

    /// Replicas that are not ended.
    pub(crate) fn running(&self) -> usize {
        let state = self.state.lock().unwrap();
        state
            .replicas
            .values()
            .filter(|report| !matches!(report.phase, Phase::Ended(_)))
            .count()
    }
}

fn end(cause: Cause, exit_code: Option<i32>) -> Phase {
    Phase::Ended(End {
        cause,
        exit_code,
        signal: None,
        at: Time::from_ms(0),
        message: format!("{cause}"),
        memory_peak: Bytes(0),
        outputs: Vec::new(),
    })
}

impl Engine for Words {
    fn lead(&self, _epoch: Epoch) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn ensure<'a>(
        &'a self,
        epoch: Epoch,
        group: &'a Group,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        self.change(|state| {
            for slot in &group.slots {
                let key = group.key(slot);
                if state.replicas.contains_key(&key) {
                    continue;
                }
                *state.started.entry(key.clone()).or_default() += 1;
                let code = group
                    .template
                    .command
                    .get(1)
                    .and_then(|word| word.parse::<i32>().ok());
                let phase = match code {
                    Some(0) => end(Cause::Succeeded, Some(0)),
                    Some(code) => end(Cause::Failed, Some(code)),
                    None => Phase::Running,
                };
                let addresses = slot
                    .ports
                    .iter()
                    .map(|(name, port)| (name.clone(), format!("127.0.0.1:{port}")));
                let ready = code.is_none() && !slot.ports.is_empty();
                let report = ReplicaReport {
                    key: key.clone(),
                    epoch,
                    node: slot.node.clone(),
                    devices: slot.devices.clone(),
                    ports: slot.ports.clone(),
                    phase,
                    started: Some(Time::from_ms(0)),
                    restarts: 0,
                    last_failure: None,
                    unready: None,
                    endpoint: ready.then(|| Endpoint {
                        addresses: addresses.collect(),
                        since: Time::from_ms(0),
                    }),
                    usage: Usage::default(),
                    output_lost: Bytes(0),
                };
                state.replicas.insert(key, report);
            }
        });
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(
        &'a self,
        _epoch: Epoch,
        key: &'a ReplicaKey,
        _grace: Span,
        _reason: StopReason,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        self.change(|state| {
            let is_over = state
                .replicas
                .get(key)
                .is_none_or(|report| matches!(report.phase, Phase::Ended(_)));
            if is_over {
                state.replicas.remove(key);
                state.gone.push(key.clone());
            } else if let Some(report) = state.replicas.get_mut(key) {
                report.phase = end(Cause::Stopped, None);
                report.endpoint = None;
            }
        });
        Box::pin(async { Ok(()) })
    }

    fn observe(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> BoxFuture<'_, Result<Observation, EngineError>> {
        Box::pin(async move {
            let notified = self.changed.notified();
            let version = self.state.lock().unwrap().version;
            if cursor == Some(Cursor(version)) {
                // Both ways lead to the same answer.
                let _ = tokio::time::timeout(wait.as_std(), notified).await;
            }
            let state = self.state.lock().unwrap();
            let node = NodeReport {
                name: "node-1".to_owned(),
                ready: true,
                address: "127.0.0.1".to_owned(),
                ports: Some((20_000, 20_999)),
                allocatable: Resources {
                    cpu: base::MilliCpu(4_000),
                    memory: Bytes(8 << 30),
                    ..Resources::default()
                },
                slots_max: 0,
                taints: Vec::new(),
                labels: BTreeMap::new(),
                devices: Vec::new(),
                warnings: Vec::new(),
            };
            Ok(Observation {
                cursor: Cursor(state.version),
                complete: true,
                nodes: vec![node],
                nodes_gone: Vec::new(),
                replicas: state.replicas.values().cloned().collect(),
                replicas_gone: state.gone.clone(),
                ..Observation::default()
            })
        })
    }

    fn peer_host(&self, _key: &ReplicaKey, _node: &str) -> String {
        "127.0.0.1".to_owned()
    }

    fn exec<'a>(
        &'a self,
        key: &'a ReplicaKey,
        _command: &'a [String],
        _terminal: Option<(u16, u16)>,
    ) -> BoxFuture<'a, Result<Exec, EngineError>> {
        Box::pin(async move { Err(EngineError::NotRunning(key.clone())) })
    }
}
