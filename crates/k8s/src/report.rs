//! From what is seen of a replica to what is reported. Pure.

use crate::view::{Holder, HolderKind, Main, PodView, SlotState, Stop, Terminated};
use base::{Bytes, Span, Time};
use engine::{Cause, End, Endpoint, Group, Life, Output, Phase, ReplicaReport, Slot, Usage};
use pod::wire::Report;
use shim::record::How;
use std::collections::BTreeMap;

/// The kubelet's waits between restarts: doubled from the first to the last.
const BACKOFF_FIRST: Span = Span::from_secs(10);
const BACKOFF_LAST: Span = Span::from_secs(300);

/// The report of one Slot of a holder, with its pod where there is one and what that waits for before it gets its node.
pub(crate) fn report(
    holder: &Holder,
    slot: &Slot,
    pod: Option<&PodView>,
    waits: Option<String>,
) -> ReplicaReport {
    let group = &*holder.group;
    let nothing = SlotState::default();
    let state = holder
        .slots
        .get(slot.index, slot.attempt)
        .unwrap_or(&nothing);
    let phase = phase(holder, state, pod);
    let epoch = pod.map_or(holder.epoch, |pod| pod.epoch.max(holder.epoch));
    let is_service = group.life == Life::Service;
    let last = pod.and_then(|pod| pod.last.as_ref()).filter(|_| is_service);
    let started = pod.and_then(|pod| match &pod.main {
        Main::Running(at) => Some(*at),
        Main::Terminated(ended) => ended.at,
        Main::Waiting(..) => None,
    });
    ReplicaReport {
        key: group.key(slot),
        epoch,
        node: pod
            .and_then(|pod| pod.node.clone())
            .unwrap_or_else(|| slot.node.clone()),
        devices: slot.devices.clone(),
        ports: group
            .template
            .ports
            .iter()
            .map(|port| (port.name.clone(), port.number))
            .collect(),
        endpoint: pod
            .filter(|pod| is_service && phase == Phase::Running && !pod.is_deleting)
            .and_then(|pod| endpoint(group, pod)),
        // What a probe says the kubelet tells in events only.
        unready: waits.filter(|_| phase == Phase::Preparing),
        phase,
        started,
        restarts: pod.filter(|_| is_service).map_or(0, |pod| pod.restarts),
        last_failure: last.map(|last| end_of_container(group, last, None, false)),
        usage: Usage::default(),
        output_lost: Bytes(0),
    }
}

fn phase(holder: &Holder, state: &SlotState, pod: Option<&PodView>) -> Phase {
    let group = &*holder.group;
    let is_batch = holder.kind == HolderKind::Job;
    let Some(pod) = pod else {
        return match (&state.end, state.stop) {
            (Some(end), _) => Phase::Ended(end.clone()),
            // A Job that is over makes no pod any more; of a service, no pod has claimed this Slot.
            (None, Some(stop)) if holder.is_over || !is_batch => Phase::Ended(stopped(stop)),
            (None, Some(stop)) => stopping(stop),
            (None, None) if is_batch && holder.is_over => {
                Phase::Ended(lost("its pod was deleted by somebody else"))
            }
            (None, None) => Phase::Preparing,
        };
    };
    let is_last_life = is_batch || pod.is_deleting || state.stop.is_some();
    match &pod.main {
        Main::Terminated(ended) if is_last_life => {
            let end = state
                .end
                .clone()
                .unwrap_or_else(|| end_of_container(group, ended, state.stop, true));
            Phase::Ended(end)
        }
        _ if pod.is_over && is_batch => Phase::Ended(
            state
                .end
                .clone()
                .unwrap_or_else(|| end_of_pod(pod, state.stop)),
        ),
        // It was placed where it cannot be: it is told before its pod is gone.
        _ if let Some(end) = &state.end
            && pod.node.is_none() =>
        {
            Phase::Ended(end.clone())
        }
        _ if let Some(stop) = state.stop => stopping(stop),
        Main::Running(_) => Phase::Running,
        Main::Terminated(ended) => Phase::BackingOff(ended.at.unwrap_or(Time::from_ms(0))),
        Main::Waiting(reason, _) if reason == "CrashLoopBackOff" => {
            Phase::BackingOff(next_start(pod))
        }
        Main::Waiting(..) => Phase::Preparing,
    }
}

fn stopping(stop: Stop) -> Phase {
    let until = stop
        .at
        .as_ms()
        .saturating_add(i64::try_from(stop.grace_ms).unwrap_or(i64::MAX));
    Phase::Stopping(Time::from_ms(until))
}

fn next_start(pod: &PodView) -> Time {
    let doubled = pod.restarts.saturating_sub(1).min(5);
    let wait = (BACKOFF_FIRST.as_ms() << doubled).min(BACKOFF_LAST.as_ms());
    let ended = pod
        .last
        .as_ref()
        .and_then(|last| last.at)
        .unwrap_or(Time::from_ms(0));
    Time::from_ms(ended.as_ms() + i64::try_from(wait).unwrap_or(0))
}

fn endpoint(group: &Group, pod: &PodView) -> Option<Endpoint> {
    let (since, ip) = (pod.ready_since?, pod.ip.as_ref()?);
    let address = |number: u16| {
        if ip.contains(':') {
            format!("[{ip}]:{number}")
        } else {
            format!("{ip}:{number}")
        }
    };
    let addresses: BTreeMap<String, String> = group
        .template
        .ports
        .iter()
        .map(|port| (port.name.clone(), address(port.number)))
        .collect();
    Some(Endpoint { addresses, since })
}

/// An end that no container tells.
fn untold(cause: Cause, message: impl Into<String>, at: Time) -> End {
    End {
        cause,
        exit_code: None,
        signal: None,
        at,
        message: message.into(),
        memory_peak: Bytes(0),
        outputs: Vec::new(),
    }
}

fn lost(message: &str) -> End {
    untold(Cause::Evicted, message, Time::from_ms(0))
}

fn stopped(stop: Stop) -> End {
    let message = format!("it was stopped: {}", stop.reason.as_str());
    untold(Cause::Stopped, message, stop.at)
}

/// The node of a pod cannot hold it.
pub(crate) fn misplaced(message: &str, at: Time) -> End {
    untold(Cause::Misplaced, message, at)
}

/// A pod that failed as a whole.
fn end_of_pod(pod: &PodView, stop: Option<Stop>) -> End {
    if let Some(stop) = stop {
        return stopped(stop);
    }
    let (reason, message) = pod.reason.clone().unwrap_or_default();
    let cause = match reason.as_str() {
        "NodeLost" | "NodeShutdown" | "Terminated" => Cause::NodeLost,
        // The kubelet refused what the scheduler gave: somebody else was faster. Place it again.
        "UnexpectedAdmissionError" => Cause::PortTaken,
        other if other.starts_with("OutOf") => Cause::PortTaken,
        _ => Cause::Evicted,
    };
    let sentence = match (reason.as_str(), message.as_str()) {
        ("", "") => "its pod failed without a reason".to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    untold(cause, sentence, pod.created.unwrap_or(Time::from_ms(0)))
}

/// Why a container ended; `is_last` where it is not started again by Kubernetes.
pub(crate) fn end_of_container(
    group: &Group,
    ended: &Terminated,
    stop: Option<Stop>,
    is_last: bool,
) -> End {
    if let Some(report) = &ended.report {
        return end_of_report(group, report, stop, is_last);
    }
    let at = ended.at.unwrap_or(Time::from_ms(0));
    let told = |cause, message: String| End {
        exit_code: Some(ended.exit_code).filter(|_| cause == Cause::Failed),
        ..untold(cause, message, at)
    };
    match (ended.reason.as_str(), stop) {
        ("OOMKilled", _) => told(
            Cause::OutOfMemory,
            format!(
                "the kernel killed it for memory: it may use {}",
                mib(group.template.resources.memory)
            ),
        ),
        ("StartError" | "ContainerCannotRun" | "CreateContainerError", _) => {
            told(Cause::StartFailed, ended.message.clone())
        }
        (_, Some(stop)) => stopped(stop),
        // Killed from outside before it could say anything.
        (_, None) if ended.exit_code == 137 || ended.exit_code == 143 => {
            let message = format!("it was killed from outside (exit code {})", ended.exit_code);
            told(
                if is_last {
                    Cause::Evicted
                } else {
                    Cause::Unhealthy
                },
                message,
            )
        }
        (_, None) => told(
            Cause::Failed,
            format!(
                "the pod's own process exited with code {}: {}",
                ended.exit_code, ended.message
            ),
        ),
    }
}

/// Why a program ended, by what `moonshot-pod` reports.
pub(crate) fn end_of_report(
    group: &Group,
    report: &Report,
    stop: Option<Stop>,
    is_last: bool,
) -> End {
    let exit = &report.exit;
    let (exit_code, signal) = match exit.how {
        How::Code(code) => (Some(code), None),
        How::Signal(signal) => (None, Some(signal)),
        How::NotStarted(_) => (None, None),
    };
    let is_good = exit_code == Some(0);
    let (cause, message) = match (&exit.how, stop) {
        (How::NotStarted(sentence), _) if report.is_lost => (Cause::ShimLost, sentence.clone()),
        (How::NotStarted(sentence), _) => (Cause::StartFailed, sentence.clone()),
        _ if exit.oom && !is_good && !exit.stopped => (
            Cause::OutOfMemory,
            format!(
                "the kernel killed it for memory: it may use {} and used up to {}",
                mib(group.template.resources.memory),
                mib(exit.memory_peak)
            ),
        ),
        (_, Some(stop)) if exit.stopped => (Cause::Stopped, stopped(stop).message),
        // SIGTERM came from the kubelet: it deletes the pod, or a probe failed.
        (_, None) if exit.stopped && is_last => (
            Cause::Evicted,
            "its pod was deleted by somebody else".to_owned(),
        ),
        (_, None) if exit.stopped => (
            Cause::Unhealthy,
            "its startup or liveness probe failed, so Kubernetes restarted it".to_owned(),
        ),
        (How::Code(0), _) => match &report.failure {
            Some(failure) => (Cause::Failed, failure.clone()),
            None => (Cause::Succeeded, "it exited with code 0".to_owned()),
        },
        (How::Code(code), _) => (Cause::Failed, format!("it exited with code {code}")),
        (How::Signal(signal), _) => (Cause::Failed, format!("it was killed by signal {signal}")),
    };
    End {
        cause,
        exit_code,
        signal,
        at: exit.at,
        message,
        memory_peak: exit.memory_peak,
        outputs: outputs(report),
    }
}

fn outputs(report: &Report) -> Vec<Output> {
    let kept = report.outputs.iter().filter_map(|kept| {
        Some(Output {
            name: kept.name.clone(),
            digest: kept.digest.parse().ok()?,
            size: Bytes(kept.size),
        })
    });
    kept.collect()
}

fn mib(bytes: Bytes) -> String {
    format!("{:.1} MiB", bytes.0 as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests;
