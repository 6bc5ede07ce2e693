use super::*;
use crate::suite::{self, Bench, EPOCH, Program, Stage};
use base::MilliCpu;

struct InMemory(Arc<Fake>);

impl Bench for InMemory {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.0) as Arc<dyn Engine>
    }
    fn command(&self, program: &Program) -> Vec<String> {
        program::command(program)
    }
    fn output(&self, key: &ReplicaKey) -> Vec<Frame> {
        self.0.output(key)
    }
    fn port(&self) -> u16 {
        20_000
    }
}

/// Knows the suite's Secret.
struct Secrets;

impl Content for Secrets {
    fn blob<'a>(
        &'a self,
        _: &'a str,
        digest: &'a base::Digest,
    ) -> BoxFuture<'a, Result<std::path::PathBuf, EngineError>> {
        Box::pin(async move { panic!("nobody asks for {digest}") })
    }
    fn environment<'a>(
        &'a self,
        _: &'a str,
        digest: &'a base::Digest,
    ) -> BoxFuture<'a, Result<std::path::PathBuf, EngineError>> {
        Box::pin(async move { panic!("nobody asks for {digest}") })
    }
    fn keep<'a>(
        &'a self,
        _: &'a str,
        path: &'a std::path::Path,
    ) -> BoxFuture<'a, Result<(base::Digest, u64), EngineError>> {
        Box::pin(async move { panic!("nobody keeps {}", path.display()) })
    }
    fn secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: u32,
    ) -> BoxFuture<'a, Result<crate::SecretEntries, EngineError>> {
        Box::pin(async {
            Ok(vec![(
                "password".to_owned(),
                suite::SECRET.as_bytes().to_vec(),
            )])
        })
    }
}

fn bench() -> InMemory {
    let allocatable = Resources {
        cpu: MilliCpu(4_000),
        memory: Bytes(8 << 30),
        ..Resources::default()
    };
    let nodes = vec![
        Fake::node("node-1", allocatable.clone()),
        Fake::node("node-2", allocatable),
    ];
    InMemory(Arc::new(Fake::new(nodes, None, Some(Arc::new(Secrets)))))
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds() {
    suite::all(async || bench()).await;
}

#[tokio::test(start_paused = true)]
async fn effects_are_lost_doubled_and_held_as_told() {
    let bench = bench();
    let stage = Stage::new(&bench).await;
    let fake = &bench.0;
    let group = stage.group(Life::Batch, &Program::Sleep);
    let key = group.key(&group.slots[0]);

    fake.fail_effects(&[
        EffectFault::LoseRequest,
        EffectFault::LoseAnswer,
        EffectFault::Duplicate,
    ]);
    assert!(fake.ensure(EPOCH, &group).await.is_err());
    assert!(fake.starts().is_empty());
    assert!(fake.ensure(EPOCH, &group).await.is_err());
    fake.ensure(EPOCH, &group).await.expect("ensured");
    assert_eq!(fake.starts(), BTreeMap::from([(key.clone(), 1)]));

    fake.fail_effects(&[EffectFault::Hold, EffectFault::Hold]);
    let late = stage.group(Life::Batch, &Program::Sleep);
    fake.ensure(EPOCH, &late).await.expect("so it is said");
    fake.remove(EPOCH, &key, Span::ZERO, StopReason::Cancelled)
        .await
        .expect("so it is said");
    assert_eq!(stage.observe(None).await.replicas.len(), 1);
    // A new leader acts before they arrive.
    fake.lead(EPOCH.next()).await.expect("leads");
    fake.release();
    let replicas = stage.observe(None).await.replicas;
    assert_eq!((replicas.len(), &replicas[0].phase), (1, &Phase::Running));
}

#[tokio::test(start_paused = true)]
async fn observations_are_lost_delayed_doubled_and_reordered_as_told() {
    let bench = bench();
    let stage = Stage::new(&bench).await;
    let first = stage.start(Life::Batch, &Program::Sleep).await;
    let second = stage.start(Life::Batch, &Program::Sleep).await;
    let seen = stage.observe(None).await;
    bench.0.fail_observations(&[
        ObservationFault::Lose,
        ObservationFault::Delay,
        ObservationFault::Duplicate,
        ObservationFault::Reorder,
    ]);
    assert!(
        bench
            .0
            .observe(Some(seen.cursor), Span::ZERO)
            .await
            .is_err()
    );
    bench.0.end(&first, Cause::Failed, Some(1));
    let delayed = stage.observe(Some(seen.cursor)).await;
    assert_eq!((delayed.cursor, delayed.replicas.len()), (seen.cursor, 0));
    let doubled = stage.observe(Some(seen.cursor)).await;
    assert!(!doubled.complete);
    assert_eq!(doubled.replicas.len(), 2, "both are told again");
    let reordered: Vec<ReplicaKey> = stage
        .observe(None)
        .await
        .replicas
        .into_iter()
        .map(|report| report.key)
        .collect();
    assert_eq!(reordered, [second, first]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_takes_its_replicas_along() {
    let bench = bench();
    let stage = Stage::new(&bench).await;
    let key = stage.start(Life::Service, &Program::Sleep).await;
    let cursor = stage.observe(None).await.cursor;
    bench.0.lose_node("node-1");
    let delta = stage.observe(Some(cursor)).await;
    assert_eq!(delta.nodes_gone, ["node-1"]);
    assert_eq!(stage.end(&key).await.cause, Cause::NodeLost);
}
