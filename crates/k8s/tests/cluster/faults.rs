//! What other people and other servers do to our objects.

use crate::bench::Cluster;
use base::{Attempt, Epoch, Index, Span};
use engine::suite::{Bench, EPOCH, Program, Stage, text};
use engine::{Cause, Engine, EngineError, Group, Life, Phase, ReplicaKey, StopReason, Stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn say_then_wait(stage: &Stage<'_, Cluster>) -> (Group, ReplicaKey) {
    let mut group = stage.group(Life::Batch, &Program::Sleep);
    let script = "for i in 1 2 3; do echo line $i; done; sleep 100000";
    group.template.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let key = group.key(&group.slots[0]);
    (group, key)
}

/// Programs run while no server is there, and their ends are known to the next.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_finds_everything() {
    let mut cluster = Cluster::fresh().await;
    let (sleeping, ended) = {
        let stage = Stage::new(&cluster).await;
        let ended = stage.start(Life::Batch, &Program::Exit(3)).await;
        stage.end(&ended).await;
        let (group, sleeping) = say_then_wait(&stage);
        stage.ensure(&group).await;
        stage.frames(&sleeping, "line 3").await;
        (sleeping, ended)
    };
    cluster.reopen().await;
    let stage = Stage::new(&cluster).await;
    assert_eq!(stage.end(&ended).await.exit_code, Some(3));
    let report = stage
        .phase(&sleeping, |phase| *phase == Phase::Running)
        .await;
    assert_eq!((report.restarts, report.epoch), (0, EPOCH));
    stage.remove(&sleeping, Span::from_secs(5)).await;
    assert_eq!(stage.end(&sleeping).await.cause, Cause::Stopped);
    assert_eq!(
        text(&cluster.sink.of(&sleeping), Stream::Stdout),
        "line 1\nline 2\nline 3\n"
    );
}

/// `kubectl delete pod --force`: told as an eviction, output complete to the last acknowledged frame, nothing started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_by_hand_is_evicted() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let (group, key) = say_then_wait(&stage);
    stage.ensure(&group).await;
    stage.frames(&key, "line 3").await;
    let pods = cluster.api::<Pod>();
    let there = pods.list(&ListParams::default()).await.expect("listed");
    assert_eq!(there.items.len(), 1);
    let name = there.items[0]
        .metadata
        .name
        .clone()
        .expect("a pod has a name");
    let force = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    pods.delete(&name, &force).await.expect("deleted");
    assert_eq!(stage.end(&key).await.cause, Cause::Evicted);
    stage.ensure(&group).await;
    assert!(matches!(
        stage.report(&key, |_| true).await.phase,
        Phase::Ended(_)
    ));
    let job = cluster
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .expect("listed");
    assert_eq!(
        job.items[0]
            .status
            .as_ref()
            .and_then(|status| status.active)
            .unwrap_or(0),
        0
    );
    assert_eq!(
        text(&cluster.sink.of(&key), Stream::Stdout),
        "line 1\nline 2\nline 3\n"
    );
}

/// Each pod of a Deployment holds one Slot; to give one up ends exactly its pod; what somebody else scales goes back.
#[tokio::test(flavor = "multi_thread")]
async fn slots_of_a_service_are_held_one_by_one() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let mut group = stage.group(Life::Service, &Program::Sleep);
    group.slots = (0..3)
        .map(|index| engine::Slot {
            index: Index(index),
            attempt: Attempt(1),
            ..group.slots[0].clone()
        })
        .collect();
    let keys: Vec<ReplicaKey> = group.slots.iter().map(|slot| group.key(slot)).collect();
    stage.ensure(&group).await;
    for key in &keys {
        stage.phase(key, |phase| *phase == Phase::Running).await;
    }
    let claims = || async {
        let pods = cluster
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .expect("listed");
        let claim = |pod: &Pod| {
            pod.metadata
                .annotations
                .as_ref()?
                .get("moonshot/claim")
                .cloned()
        };
        let live = pods
            .items
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        live.map(|pod| (claim(pod), pod.metadata.uid.clone()))
            .collect::<BTreeSet<_>>()
    };
    let before = claims().await;
    assert_eq!(before.len(), 3, "{before:?}");

    stage.remove(&keys[1], Span::from_secs(1)).await;
    assert_eq!(stage.end(&keys[1]).await.cause, Cause::Stopped);
    stage.remove(&keys[1], Span::ZERO).await;
    let kept: BTreeSet<_> = before
        .iter()
        .filter(|(claim, _)| claim.as_deref() != Some("1/1"))
        .cloned()
        .collect();
    until("the others are the same pods", || async {
        claims().await == kept
    })
    .await;

    let deployments = cluster.api::<Deployment>();
    let there = deployments
        .list(&ListParams::default())
        .await
        .expect("listed");
    let name = there.items[0].metadata.name.clone().expect("it has a name");
    let five = Patch::Merge(json!({"spec": {"replicas": 5}}));
    deployments
        .patch(&name, &PatchParams::default(), &five)
        .await
        .expect("scaled by hand");
    until("it is scaled back", || async {
        let now = deployments.get(&name).await.expect("it is there");
        now.spec.and_then(|spec| spec.replicas) == Some(2) && claims().await == kept
    })
    .await;
}

/// What an old leader still tries, after another server has taken the lead, has no effect.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_leader_has_no_effect() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let (group, key) = say_then_wait(&stage);
    stage.ensure(&group).await;
    stage.phase(&key, |phase| *phase == Phase::Running).await;
    let second = cluster.second().await;
    let newer = Epoch(EPOCH.0 + 1);
    second.lead(newer).await.expect("the newer leads");
    match cluster.engine().lead(EPOCH).await {
        Err(EngineError::Superseded { highest, .. }) => assert_eq!(highest, newer),
        other => panic!("an old epoch leads: {other:?}"),
    }
    let report = stage.report(&key, |report| report.epoch == newer).await;
    assert_eq!(report.phase, Phase::Running);
    // It has seen the newer leader's stamp, and refuses by itself.
    let other = stage.group(Life::Batch, &Program::Exit(0));
    let done = cluster.engine().ensure(EPOCH, &other).await;
    assert!(
        matches!(done, Err(EngineError::Superseded { .. })),
        "{done:?}"
    );
    let done = cluster
        .engine()
        .remove(EPOCH, &key, Span::ZERO, StopReason::Cancelled)
        .await;
    assert!(
        matches!(done, Err(EngineError::Superseded { .. })),
        "{done:?}"
    );
    second
        .remove(newer, &key, Span::from_secs(1), StopReason::Cancelled)
        .await
        .expect("the newer leader acts");
    assert_eq!(stage.end(&key).await.cause, Cause::Stopped);
}

async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
