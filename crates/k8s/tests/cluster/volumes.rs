//! Claims for checkpoints between attempts, nodes and other people's hands.

use crate::bench::Cluster;
use base::{Attempt, Epoch, Index, Span};
use e2e::{Storage, kubectl};
use engine::suite::{Bench, EPOCH, Program, Stage, checkpoint};
use engine::{Cause, Engine, EngineError, Group, Keeps, Life, Phase, ReplicaKey, Slot};

fn keeping(stage: &Stage<'_, Cluster>, word: &str) -> Group {
    let mut group = stage.group(Life::Batch, &Program::Keep(word.to_owned()));
    group.template.mounts = vec![checkpoint("")];
    group
}

/// Another attempt of the same replica.
fn again(group: &Group, attempt: u32, node: &str) -> (Group, ReplicaKey) {
    let mut group = group.clone();
    group.slots = vec![Slot {
        index: Index(0),
        attempt: Attempt(attempt),
        node: node.to_owned(),
        ..group.slots[0].clone()
    }];
    let key = group.key(&group.slots[0]);
    (group, key)
}

fn keeps(group: &Group, n_replicas: u32) -> Keeps {
    Keeps {
        owner: group.owner,
        project: group.project.clone(),
        claim: String::new(),
        n_replicas,
    }
}

/// What is kept on one node is not looked for on another: the attempt ends at once as misplaced, its pod never ran, and the
/// engine tells where the next one must be. A claim that has lost its volume is told too.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_its_volume_does_not_reach_is_placed_again() {
    let storage = Storage::by_hand("reach");
    let cluster = Cluster::keeping(Some(storage.class())).await;
    let stage = Stage::new(&cluster).await;
    let engine = cluster.engine();
    let group = keeping(&stage, "one");
    let node = group.slots[0].node.clone();
    let ties = engine.ties(&keeps(&group, 1)).expect("it can be kept");
    assert_eq!(
        ties.into_iter().collect::<Vec<_>>(),
        [("volume/new-checkpoint".to_owned(), "reachable".to_owned())],
        "volumes of this class are made by hand, so only some nodes will do"
    );
    let volume = storage.volume(&node, "2Mi");
    let there = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let nodes = stage.observe(None).await.nodes;
            if nodes
                .iter()
                .any(|node| node.labels.contains_key("volume/new-checkpoint"))
            {
                return;
            }
        }
    });
    there
        .await
        .expect("the node says that it reaches a free volume");

    stage.ensure(&group).await;
    let key = group.key(&group.slots[0]);
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
    let ties = engine.ties(&keeps(&group, 1)).expect("it can be kept");
    assert_eq!(ties.get("kubernetes.io/hostname"), Some(&node), "{ties:?}");

    let (second, key) = again(&group, 2, "another-node");
    stage.ensure(&second).await;
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Misplaced);
    let names_both = end.message.contains(&volume) && end.message.contains("`another-node`");
    assert!(names_both, "{}", end.message);
    let cursor = stage.observe(None).await.cursor;
    stage.remove(&key, Span::ZERO).await;
    stage.gone(&key, cursor).await;

    let (third, key) = again(&group, 3, &node);
    stage.ensure(&third).await;
    stage.frames(&key, "found one\n").await;
    stage.end(&key).await;

    // Somebody takes the volume away by force.
    kubectl(&["delete", "pv", &volume, "--wait=false"], "");
    let unguarded = r#"{"metadata": {"finalizers": null}}"#;
    kubectl(
        &["patch", "pv", &volume, "--type=merge", "-p", unguarded],
        "",
    );
    let (fourth, key) = again(&group, 4, &node);
    stage.ensure(&fourth).await;
    let waiting = stage.report(&key, |report| report.unready.is_some()).await;
    let said = waiting.unready.unwrap_or_default();
    assert_eq!(waiting.phase, Phase::Preparing);
    assert!(said.contains(&volume), "{said}");
    stage.remove(&key, Span::ZERO).await;
    assert_eq!(stage.end(&key).await.cause, Cause::Stopped);
}

/// Another server knows what is kept; replicas that would share what only one node may write are refused in words.
#[tokio::test(flavor = "multi_thread")]
async fn claims_are_found_again_and_not_shared() {
    let storage = Storage::on_demand("again");
    let mut cluster = Cluster::keeping(Some(storage.class())).await;
    let (group, owner) = {
        let stage = Stage::new(&cluster).await;
        let group = keeping(&stage, "one");
        stage.ensure(&group).await;
        let end = stage.end(&group.key(&group.slots[0])).await;
        assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
        let owner = group.owner;
        (group, owner)
    };
    cluster.reopen().await;
    let stage = Stage::new(&cluster).await;
    let engine = cluster.engine();
    assert_eq!(engine.checkpoints().await.expect("listed"), [owner]);
    match engine.ties(&keeps(&group, 2)) {
        Err(EngineError::Unsupported { field, why }) => {
            assert_eq!(field, "checkpoint");
            assert!(why.contains("MOONSHOT_CHECKPOINT_ACCESS"), "{why}");
        }
        other => panic!("two replicas with one `ReadWriteOnce` claim: {other:?}"),
    }
    let late = engine.drop_checkpoints(Epoch(EPOCH.0 - 1), owner).await;
    assert!(
        matches!(late, Err(EngineError::Superseded { .. })),
        "{late:?}"
    );
    let (second, key) = again(&group, 2, &group.slots[0].node);
    stage.ensure(&second).await;
    stage.frames(&key, "found one\n").await;
}

/// No class is configured and the cluster has no default: Kubernetes' own words are told.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_class_it_is_said_what_is_missing() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let group = keeping(&stage, "one");
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let waits = |said: &str| {
        said.contains("MOONSHOT_CHECKPOINT_CLASS") && said.contains("no storage class is set")
    };
    let report = stage
        .report(&key, |report| report.unready.as_deref().is_some_and(waits))
        .await;
    assert_eq!(report.phase, Phase::Preparing);
    stage.remove(&key, Span::ZERO).await;
    assert_eq!(stage.end(&key).await.cause, Cause::Stopped);
    let engine: &dyn Engine = &*cluster.engine();
    engine
        .drop_checkpoints(EPOCH, group.owner)
        .await
        .expect("dropped");
}
