use super::*;
use crate::manifest::tests::group;
use crate::view::Slots;
use base::{Attempt, Epoch, Index};
use engine::StopReason;
use pod::wire::VERSION;
use shim::record::Exit;
use std::sync::Arc;

fn holder(life: Life) -> Holder {
    let mut group = group();
    group.life = life;
    Holder {
        kind: if life == Life::Batch {
            HolderKind::Job
        } else {
            HolderKind::Deployment
        },
        place: ("air".to_owned(), "x".to_owned()),
        uid: "u".to_owned(),
        version: "1".to_owned(),
        group: Arc::new(group),
        epoch: Epoch(5),
        slots: Slots::default(),
        replicas: None,
        is_over: false,
        is_deleting: false,
    }
}

fn pod(main: Main) -> PodView {
    PodView {
        place: ("air".to_owned(), "x-1".to_owned()),
        uid: "p".to_owned(),
        version: "1".to_owned(),
        owner: base::Uid(7),
        group: "worker".to_owned(),
        seat: Some((Index(1), Attempt(2))),
        epoch: Epoch(5),
        created: Some(Time::from_ms(1)),
        node: Some("n1".to_owned()),
        ip: Some("10.0.0.9".to_owned()),
        is_deleting: false,
        is_over: false,
        reason: None,
        main,
        ready_since: None,
        restarts: 0,
        last: None,
        claims: Vec::new(),
        devices: Vec::new(),
        labels: Default::default(),
    }
}

fn said(how: How, stopped: bool) -> Terminated {
    let report = Report {
        version: VERSION,
        exit: Exit {
            version: 1,
            how,
            oom: false,
            stopped,
            at: Time::from_ms(9),
            memory_peak: Bytes(5),
            lost: Bytes(0),
        },
        is_lost: false,
        outputs: Vec::new(),
        failure: None,
        last: 3,
    };
    Terminated {
        exit_code: 1,
        reason: "Error".to_owned(),
        message: String::new(),
        report: Some(Box::new(report)),
        at: Some(Time::from_ms(10)),
    }
}

fn see(holder: &Holder, pod: Option<&PodView>) -> ReplicaReport {
    report(holder, &holder.group.slots[0], pod, None)
}

fn cause(report: &ReplicaReport) -> Cause {
    match &report.phase {
        Phase::Ended(end) => end.cause,
        other => panic!("it has not ended: {other:?}"),
    }
}

fn stop(holder: &mut Holder) {
    let stop = Stop {
        reason: StopReason::Cancelled,
        grace_ms: 1_000,
        at: Time::from_ms(100),
    };
    holder.slots.entry(Index(1), Attempt(2)).stop = Some(stop);
}

#[test]
fn a_job_from_its_pod() {
    let holder = holder(Life::Batch);
    assert_eq!(see(&holder, None).phase, Phase::Preparing);
    let waiting = pod(Main::Waiting("ContainerCreating".to_owned(), String::new()));
    assert_eq!(see(&holder, Some(&waiting)).phase, Phase::Preparing);
    let running = pod(Main::Running(Time::from_ms(4)));
    assert_eq!(see(&holder, Some(&running)).phase, Phase::Running);
    let check = |ended: Terminated, expect: Cause| {
        assert_eq!(
            cause(&see(&holder, Some(&pod(Main::Terminated(ended))))),
            expect
        );
    };
    check(said(How::Code(0), false), Cause::Succeeded);
    check(said(How::Code(3), false), Cause::Failed);
    check(
        said(How::NotStarted("not found".to_owned()), false),
        Cause::StartFailed,
    );
    // The kubelet's SIGTERM without our request: somebody deleted the pod.
    check(said(How::Signal(15), true), Cause::Evicted);
    let killed = Terminated {
        report: None,
        reason: "OOMKilled".to_owned(),
        exit_code: 137,
        ..said(How::Code(0), false)
    };
    check(killed, Cause::OutOfMemory);
}

#[test]
fn a_pod_that_is_gone() {
    let mut holder = holder(Life::Batch);
    holder.is_over = true;
    assert_eq!(cause(&see(&holder, None)), Cause::Evicted);
    stop(&mut holder);
    assert_eq!(cause(&see(&holder, None)), Cause::Stopped);
    // What was written down counts, whatever is left.
    let end = untold(Cause::Succeeded, "it exited with code 0", Time::from_ms(1));
    holder.slots.entry(Index(1), Attempt(2)).end = Some(end);
    assert_eq!(cause(&see(&holder, None)), Cause::Succeeded);
}

#[test]
fn a_kubelet_that_refused_means_place_it_again() {
    let holder = holder(Life::Batch);
    for reason in [
        "OutOfcpu",
        "OutOfnvidia.com/gpu",
        "UnexpectedAdmissionError",
    ] {
        let refused = PodView {
            is_over: true,
            reason: Some((
                reason.to_owned(),
                "Node didn't have enough resource".to_owned(),
            )),
            ..pod(Main::Waiting(String::new(), String::new()))
        };
        assert_eq!(
            cause(&see(&holder, Some(&refused))),
            Cause::PortTaken,
            "{reason}"
        );
    }
    let evicted = PodView {
        is_over: true,
        reason: Some((
            "Evicted".to_owned(),
            "The node was low on resource: memory.".to_owned(),
        )),
        ..pod(Main::Waiting(String::new(), String::new()))
    };
    assert_eq!(cause(&see(&holder, Some(&evicted))), Cause::Evicted);
}

#[test]
fn a_service_lives_on() {
    let mut holder = holder(Life::Service);
    let mut ready = pod(Main::Running(Time::from_ms(4)));
    assert_eq!(see(&holder, Some(&ready)).endpoint, None);
    ready.ready_since = Some(Time::from_ms(8));
    let report = see(&holder, Some(&ready));
    assert_eq!(
        report.endpoint.expect("it is ready").addresses["http"],
        "10.0.0.9:8080"
    );
    let crashed = PodView {
        restarts: 2,
        last: Some(said(How::Signal(15), true)),
        ..pod(Main::Waiting("CrashLoopBackOff".to_owned(), String::new()))
    };
    let report = see(&holder, Some(&crashed));
    assert_eq!(report.phase, Phase::BackingOff(Time::from_ms(10 + 20_000)));
    assert_eq!(
        report.last_failure.expect("it failed").cause,
        Cause::Unhealthy
    );
    stop(&mut holder);
    let report = see(&holder, Some(&ready));
    assert_eq!(
        (report.phase, report.endpoint),
        (Phase::Stopping(Time::from_ms(1_100)), None)
    );
    assert_eq!(cause(&see(&holder, None)), Cause::Stopped);
}

/// Asked to end before its containers were there, it was stopped: its start did not fail.
#[test]
fn a_pod_that_is_deleted_before_its_start() {
    let mut raw = serde_json::json!({
        "metadata": {"name": "x-1", "namespace": "air", "uid": "p", "resourceVersion": "1", "labels": {
            crate::names::OWNER: base::Uid(7).to_string(), crate::names::GROUP: "worker",
            crate::names::INDEX: "1", crate::names::ATTEMPT: "2",
        }},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Failed", "initContainerStatuses": [{
            "name": "moonshot", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}},
        }]},
    });
    let view = |raw: &serde_json::Value| {
        let pod = serde_json::from_value(raw.clone()).expect("a pod");
        PodView::new(&pod).expect("it is ours")
    };
    let mut holder = holder(Life::Batch);
    assert_eq!(cause(&see(&holder, Some(&view(&raw)))), Cause::Evicted);
    stop(&mut holder);
    assert_eq!(cause(&see(&holder, Some(&view(&raw)))), Cause::Stopped);
    let terminated = &mut raw["status"]["initContainerStatuses"][0]["state"]["terminated"];
    *terminated = serde_json::json!({"exitCode": 1, "reason": "Error", "message": "no room"});
    assert_eq!(cause(&see(&holder, Some(&view(&raw)))), Cause::StartFailed);
}
