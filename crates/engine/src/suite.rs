//! The contract of [`Engine`], as tests that every implementation runs: `suite::all(make)`.
//!
//! A [`Bench`] wraps one fresh engine and says how the programs of the suite are written there. Each
//! case waits for conditions, never for time, and panics with what it saw when [`PATIENCE`] is over.

mod stand_ins;

pub use stand_ins::{Files, Memory};

use crate::group::{
    EnvValue, EnvVar, Group, Isolation, Life, Mount, MountSource, PortSpec, Probe, ProbeAction,
    Probes, ReplicaKey, Runtime, Slot, Template,
};
use crate::observation::{Cause, Cursor, End, Observation, Phase, ReplicaReport};
use crate::port::{Engine, EngineError, Frame, StopReason, Stream};
use base::{Attempt, Bytes, Epoch, Index, MilliCpu, Resources, Span, Uid};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a condition may take: far more than any needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The entry `password` of the Secret `suite`, version 1, of every project.
pub const SECRET: &str = "open sesame";

/// A program that does one thing, in whatever words the engine's machine understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Exits with this code.
    Exit(i32),
    /// Ends itself by this signal.
    Signal(i32),
    /// Is not there.
    Missing,
    /// Writes `line 1` to `line <n>` to standard output, one `warning` to standard error, and succeeds.
    Lines(u32),
    /// Writes its first argument and the values of these variables, a line each.
    Say(String, Vec<String>),
    /// Runs until it is stopped.
    Sleep,
    /// Ignores SIGTERM, says `ready`, and runs.
    Stubborn,
    /// Answers 200 to HTTP on `$PORT` until it is stopped.
    Serve,
    /// Says `found ` and what it kept in `$MOONSHOT_CHECKPOINT` before, or `nothing`; keeps this word there, and succeeds.
    Keep(String),
}

/// A fresh engine and what belongs to it.
pub trait Bench: Send + Sync {
    /// The engine; its backoff base is at most a second.
    fn engine(&self) -> Arc<dyn Engine>;
    /// How a program is written here.
    fn command(&self, program: &Program) -> Vec<String>;
    /// What reached the sink for a replica.
    fn output(&self, key: &ReplicaKey) -> Vec<Frame>;
    /// A port that nobody uses.
    fn port(&self) -> u16;
}

/// Runs every case, each on an engine of its own.
pub async fn all<B: Bench>(make: impl AsyncFn() -> B) {
    programs_end_with_their_cause(&make().await).await;
    a_repeated_ensure_changes_nothing(&make().await).await;
    a_lower_epoch_has_no_effect(&make().await).await;
    a_replica_is_stopped_then_forgotten(&make().await).await;
    a_replica_that_never_was_is_gone_when_it_is_removed(&make().await).await;
    a_stubborn_program_is_killed_after_its_grace(&make().await).await;
    output_is_complete_and_dense(&make().await).await;
    variables_and_secrets_arrive(&make().await).await;
    deltas_add_up_to_the_whole(&make().await).await;
    a_service_is_restarted_in_place(&make().await).await;
    probes_decide_about_the_endpoint(&make().await).await;
    a_batch_program_is_never_restarted(&make().await).await;
    checkpoints_survive_attempts_and_go_with_their_owner(&make().await).await;
}

// ---- cases ----

/// Exit codes, signals, and a command that is not there.
pub async fn programs_end_with_their_cause(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let check = async |program: Program, cause: Cause, code: Option<i32>, signal: Option<i32>| {
        let key = stage.start(Life::Batch, &program).await;
        let end = stage.end(&key).await;
        assert_eq!(
            (end.cause, end.exit_code, end.signal),
            (cause, code, signal),
            "{program:?}: {}",
            end.message
        );
        end
    };
    check(Program::Exit(0), Cause::Succeeded, Some(0), None).await;
    check(Program::Exit(3), Cause::Failed, Some(3), None).await;
    check(Program::Signal(9), Cause::Failed, None, Some(9)).await;
    let end = check(Program::Missing, Cause::StartFailed, None, None).await;
    assert!(
        end.message.contains("not found"),
        "`{}` says what is wrong",
        end.message
    );
}

/// The same request again, also after the end, starts nothing.
pub async fn a_repeated_ensure_changes_nothing(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let group = stage.group(Life::Batch, &Program::Lines(3));
    let key = group.key(&group.slots[0]);
    for _ in 0..3 {
        stage.ensure(&group).await;
    }
    stage.end(&key).await;
    let before = stage.frames(&key, "line 3").await;
    stage.ensure(&group).await;
    let observation = stage.observe(None).await;
    assert_eq!(observation.replicas.len(), 1);
    assert!(matches!(observation.replicas[0].phase, Phase::Ended(_)));
    assert_eq!(stage.bench.output(&key), before);
}

/// After `lead`, every effect of a lower epoch is refused.
pub async fn a_lower_epoch_has_no_effect(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let running = stage.start(Life::Batch, &Program::Sleep).await;
    stage
        .phase(&running, |phase| *phase == Phase::Running)
        .await;
    stage
        .engine
        .lead(Epoch(7))
        .await
        .expect("a higher epoch leads");
    let superseded = |done: Result<(), EngineError>| match done {
        Err(EngineError::Superseded { ours, highest }) => {
            assert_eq!((ours, highest), (Epoch(6), Epoch(7)))
        }
        other => panic!("epoch 6 after 7: {other:?}"),
    };
    superseded(stage.engine.lead(Epoch(6)).await);
    let group = stage.group(Life::Batch, &Program::Exit(0));
    superseded(stage.engine.ensure(Epoch(6), &group).await);
    superseded(
        stage
            .engine
            .remove(Epoch(6), &running, Span::ZERO, StopReason::Cancelled)
            .await,
    );
    let observation = stage.observe(None).await;
    let keys: Vec<&ReplicaKey> = observation
        .replicas
        .iter()
        .map(|report| &report.key)
        .collect();
    assert_eq!(keys, [&running]);
    assert_eq!(observation.replicas[0].phase, Phase::Running);
    stage
        .engine
        .ensure(Epoch(7), &group)
        .await
        .expect("the leader acts");
}

/// Running, stopped, forgotten; and again is no error.
pub async fn a_replica_is_stopped_then_forgotten(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let key = stage.start(Life::Batch, &Program::Sleep).await;
    let report = stage.phase(&key, |phase| *phase == Phase::Running).await;
    assert!(report.started.is_some() && report.epoch == EPOCH);
    let cursor = stage.observe(None).await.cursor;
    stage.remove(&key, Span::from_secs(30)).await;
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Stopped, "{}", end.message);
    stage.remove(&key, Span::ZERO).await;
    stage.gone(&key, cursor).await;
    assert!(stage.observe(None).await.replicas.is_empty());
    stage.remove(&key, Span::ZERO).await;
}

/// Who asked for it died before the engine heard of it: whoever takes over stops it, and must hear that it is gone.
pub async fn a_replica_that_never_was_is_gone_when_it_is_removed(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let group = stage.group(Life::Batch, &Program::Sleep);
    let key = group.key(&group.slots[0]);
    for _ in 0..2 {
        let cursor = stage.observe(None).await.cursor;
        stage.remove(&key, Span::from_secs(30)).await;
        stage.gone(&key, cursor).await;
    }
    stage.ensure(&group).await;
    stage.phase(&key, |phase| *phase == Phase::Running).await;
}

/// SIGTERM is not enough for everybody.
pub async fn a_stubborn_program_is_killed_after_its_grace(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let key = stage.start(Life::Batch, &Program::Stubborn).await;
    stage.frames(&key, "ready").await;
    stage.remove(&key, Span::from_ms(300)).await;
    let end = stage.end(&key).await;
    assert_eq!(
        (end.cause, end.signal),
        (Cause::Stopped, Some(9)),
        "{}",
        end.message
    );
}

/// Every line once, in order, numbered from 1 without a gap.
pub async fn output_is_complete_and_dense(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let key = stage.start(Life::Batch, &Program::Lines(2_000)).await;
    stage.end(&key).await;
    let frames = stage.frames(&key, "line 2000").await;
    let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.0).collect();
    assert_eq!(seqs, (1..=frames.len() as u64).collect::<Vec<u64>>());
    let expect: String = (1..=2_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(text(&frames, Stream::Stdout), expect);
    assert_eq!(text(&frames, Stream::Stderr), "warning\n");
}

/// The template's, then the slot's; secrets by value; `$(NAME)` in arguments.
pub async fn variables_and_secrets_arrive(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let names = ["PLAIN", "OVERRIDDEN", "PASSWORD", "RANK"]
        .map(str::to_owned)
        .to_vec();
    let mut group = stage.group(
        Life::Batch,
        &Program::Say("rank is $(RANK)".to_owned(), names),
    );
    let secret = EnvValue::Secret {
        name: "suite".to_owned(),
        version: 1,
        key: "password".to_owned(),
    };
    let plain = |value: &str| EnvValue::Plain(value.to_owned());
    group.template.env = [
        ("PLAIN", plain("a value")),
        ("OVERRIDDEN", plain("by the slot")),
        ("PASSWORD", secret),
    ]
    .map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value,
    })
    .to_vec();
    group.slots[0].env = [("OVERRIDDEN", "it is"), ("RANK", "4")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
    let frames = stage.frames(&key, "\n4\n").await;
    assert_eq!(
        text(&frames, Stream::Stdout),
        format!("rank is 4\na value\nit is\n{SECRET}\n4\n")
    );
}

/// Deltas from the first whole observation lead to the last whole one.
pub async fn deltas_add_up_to_the_whole(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let first = stage.observe(None).await;
    assert!(first.complete && !first.nodes.is_empty() && first.replicas.is_empty());
    let mut seen: BTreeMap<ReplicaKey, ReplicaReport> = BTreeMap::new();
    let mut cursor = first.cursor;
    let stays = stage.start(Life::Batch, &Program::Exit(0)).await;
    let goes = stage.start(Life::Batch, &Program::Exit(0)).await;
    stage.end(&stays).await;
    stage.end(&goes).await;
    stage.remove(&goes, Span::ZERO).await;
    stage.gone(&goes, first.cursor).await;
    let whole = stage.observe(None).await;
    while cursor < whole.cursor {
        let delta = stage.observe(Some(cursor)).await;
        assert!(!delta.complete && delta.cursor > cursor);
        cursor = delta.cursor;
        seen.extend(
            delta
                .replicas
                .into_iter()
                .map(|report| (report.key.clone(), report)),
        );
        seen.retain(|key, _| !delta.replicas_gone.contains(key));
    }
    let seen: Vec<ReplicaReport> = seen.into_values().collect();
    assert_eq!(seen, stage.observe(None).await.replicas);
    let nothing = stage
        .engine
        .observe(Some(cursor), Span::ZERO)
        .await
        .expect("observed");
    assert_eq!((nothing.complete, nothing.replicas.len()), (false, 0));
    // A cursor that was never given out is answered with everything.
    let strange = stage
        .engine
        .observe(Some(Cursor(u64::MAX)), Span::ZERO)
        .await
        .expect("observed");
    assert!(strange.complete && strange.replicas.len() == 1);
}

/// A service that ends is started again under the same key, with waits in between.
pub async fn a_service_is_restarted_in_place(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let key = stage.start(Life::Service, &Program::Exit(3)).await;
    let report = stage
        .report(&key, |report| {
            report.restarts >= 1 && report.last_failure.is_some()
        })
        .await;
    let failure = report.last_failure.expect("asked for");
    assert_eq!((failure.cause, failure.exit_code), (Cause::Failed, Some(3)));
    stage
        .phase(&key, |phase| matches!(phase, Phase::BackingOff(_)))
        .await;
    stage.remove(&key, Span::ZERO).await;
    stage.end(&key).await;
}

/// No endpoint before the readiness probe, none after the stop.
pub async fn probes_decide_about_the_endpoint(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let http = |path: &str, failures: u32| Probe {
        action: ProbeAction::Http {
            port: "http".to_owned(),
            path: path.to_owned(),
        },
        initial_delay: Span::ZERO,
        period: Span::from_ms(100),
        timeout: Span::from_secs(5),
        successes: 1,
        failures,
    };
    let port = stage.bench.port();
    let mut group = stage.group(Life::Service, &Program::Serve);
    group.template.probes = Probes {
        startup: Some(http("/", 600)),
        readiness: Some(http("/", 3)),
        liveness: Some(http("/", 3)),
    };
    stage.declare_port(&mut group, port);
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let report = stage.report(&key, |report| report.endpoint.is_some()).await;
    let endpoint = report.endpoint.expect("asked for");
    assert_eq!(report.phase, Phase::Running);
    assert!(
        endpoint.addresses["http"].ends_with(&format!(":{port}")),
        "{endpoint:?}"
    );
    stage.remove(&key, Span::from_secs(30)).await;
    stage.end(&key).await;
    assert_eq!(stage.report(&key, |_| true).await.endpoint, None);

    // The same program without a listener on the probed port never gets one.
    let mut deaf = stage.group(Life::Service, &Program::Sleep);
    deaf.template.probes.readiness = Some(http("/", 1));
    deaf.template.probes.startup = Some(http("/", 2));
    let port = stage.bench.port();
    stage.declare_port(&mut deaf, port);
    let key = deaf.key(&deaf.slots[0]);
    stage.ensure(&deaf).await;
    let report = stage
        .report(&key, |report| report.last_failure.is_some())
        .await;
    let failure = report.last_failure.expect("asked for");
    assert_eq!(failure.cause, Cause::Unhealthy, "{}", failure.message);
    assert_eq!(report.endpoint, None);
    stage.remove(&key, Span::ZERO).await;
    stage.end(&key).await;
}

/// `plan` owns attempts.
pub async fn a_batch_program_is_never_restarted(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let key = stage.start(Life::Batch, &Program::Exit(1)).await;
    stage.end(&key).await;
    let report = stage.report(&key, |_| true).await;
    assert_eq!((report.restarts, report.last_failure), (0, None));
}

/// What one attempt keeps the next one finds, also after its replica was forgotten; another claim of the same owner is empty.
pub async fn checkpoints_survive_attempts_and_go_with_their_owner(bench: &impl Bench) {
    let stage = Stage::new(bench).await;
    let mut group = stage.group(Life::Batch, &Program::Keep("one".to_owned()));
    let owner = group.owner;
    let mut attempt = async |n: u32, claim: &str, word: &str, found: &str| {
        group.slots[0].attempt = Attempt(n);
        group.template.command = stage.bench.command(&Program::Keep(word.to_owned()));
        group.template.mounts = vec![checkpoint(claim)];
        let key = group.key(&group.slots[0]);
        stage.ensure(&group).await;
        let end = stage.end(&key).await;
        assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
        stage.frames(&key, &format!("found {found}\n")).await;
        let cursor = stage.observe(None).await.cursor;
        stage.remove(&key, Span::ZERO).await;
        stage.gone(&key, cursor).await;
    };
    attempt(1, "", "one", "nothing").await;
    attempt(2, "", "two", "one").await;
    attempt(3, "", "three", "two").await;
    attempt(4, "7", "seven", "nothing").await;

    let owners = stage.engine.checkpoints().await.expect("listed");
    assert_eq!(owners, [owner]);
    let late = stage
        .engine
        .drop_checkpoints(Epoch(EPOCH.0 - 1), owner)
        .await;
    assert!(
        matches!(late, Err(EngineError::Superseded { .. })),
        "{late:?}"
    );
    for owner in [owner, Uid(0)] {
        let dropped = stage.engine.drop_checkpoints(EPOCH, owner).await;
        dropped.expect("unknown owners are no error");
    }
    let gone = tokio::time::timeout(PATIENCE, async {
        while !stage.engine.checkpoints().await.expect("listed").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(gone.await.is_ok(), "checkpoints of {owner} are still kept");
}

/// Where a group keeps checkpoints under a claim.
pub fn checkpoint(claim: &str) -> Mount {
    Mount {
        source: MountSource::Checkpoint(claim.to_owned()),
        path: "checkpoint".to_owned(),
        read_only: false,
    }
}

// ---- the stage they play on ----

/// The epoch that the cases act under.
pub const EPOCH: Epoch = Epoch(5);

/// A bench with a leader; what cases, and an engine's own tests, do with it.
pub struct Stage<'a, B> {
    bench: &'a B,
    engine: Arc<dyn Engine>,
    node: String,
}

impl<'a, B: Bench> Stage<'a, B> {
    /// Takes the lead and looks for a node.
    pub async fn new(bench: &'a B) -> Self {
        let engine = bench.engine();
        engine.lead(EPOCH).await.expect("the first leader leads");
        let observation = engine.observe(None, Span::ZERO).await.expect("observed");
        let node = observation
            .nodes
            .first()
            .expect("an engine has a node")
            .name
            .clone();
        Stage {
            bench,
            engine,
            node,
        }
    }

    /// A group of one.
    pub fn group(&self, life: Life, program: &Program) -> Group {
        static OWNERS: AtomicU64 = AtomicU64::new(1);
        let owner = Uid(u128::from(OWNERS.fetch_add(1, Ordering::Relaxed)));
        Group {
            owner,
            name: "worker".to_owned(),
            title: "job/suite".to_owned(),
            tenant: "default".to_owned(),
            project: "suite".to_owned(),
            life,
            template: Template {
                command: self.bench.command(program),
                env: Vec::new(),
                workdir: None,
                runtime: Runtime::Host,
                mounts: Vec::new(),
                ports: Vec::new(),
                resources: Resources {
                    cpu: MilliCpu(500),
                    memory: Bytes(256 << 20),
                    ..Resources::default()
                },
                user: None,
                isolation: Isolation::None,
                probes: Probes::default(),
                grace: Span::from_secs(1),
                outputs: Vec::new(),
            },
            slots: vec![Slot {
                index: Index(0),
                attempt: Attempt(1),
                node: self.node.clone(),
                devices: Vec::new(),
                ports: BTreeMap::new(),
                env: Vec::new(),
                token: "token".to_owned(),
            }],
        }
    }

    /// Gives the group's slot a port `http`.
    pub fn declare_port(&self, group: &mut Group, number: u16) {
        group.template.ports = vec![PortSpec {
            name: "http".to_owned(),
            number,
            protocol: "http".to_owned(),
        }];
        group.slots[0].ports = BTreeMap::from([("http".to_owned(), number)]);
    }

    /// Makes it exist.
    pub async fn ensure(&self, group: &Group) {
        self.engine.ensure(EPOCH, group).await.expect("ensured");
    }

    /// Makes a group of one exist.
    pub async fn start(&self, life: Life, program: &Program) -> ReplicaKey {
        let group = self.group(life, program);
        self.ensure(&group).await;
        group.key(&group.slots[0])
    }

    /// Stops or forgets it.
    pub async fn remove(&self, key: &ReplicaKey, grace: Span) {
        self.engine
            .remove(EPOCH, key, grace, StopReason::Cancelled)
            .await
            .expect("removed");
    }

    /// Observes, waiting a second at most.
    pub async fn observe(&self, cursor: Option<Cursor>) -> Observation {
        self.engine
            .observe(cursor, Span::from_secs(1))
            .await
            .expect("observed")
    }

    /// Waits until the replica is reported so.
    pub async fn report(
        &self,
        key: &ReplicaKey,
        is: impl Fn(&ReplicaReport) -> bool,
    ) -> ReplicaReport {
        let mut last = None;
        let mut cursor = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let observation = self.observe(cursor).await;
                cursor = Some(observation.cursor);
                for report in observation
                    .replicas
                    .into_iter()
                    .filter(|report| report.key == *key)
                {
                    if is(&report) {
                        return report;
                    }
                    last = Some(report);
                }
            }
        });
        match found.await {
            Ok(report) => report,
            Err(_) => panic!("{key} is not so; it was last seen as {last:#?}"),
        }
    }

    /// Waits until its phase is so.
    pub async fn phase(&self, key: &ReplicaKey, is: impl Fn(&Phase) -> bool) -> ReplicaReport {
        self.report(key, |report| is(&report.phase)).await
    }

    /// Waits until it has ended.
    pub async fn end(&self, key: &ReplicaKey) -> End {
        match self
            .phase(key, |phase| matches!(phase, Phase::Ended(_)))
            .await
            .phase
        {
            Phase::Ended(end) => end,
            other => panic!("waited for an end, got {other:?}"),
        }
    }

    /// Waits until the replica is reported as gone to somebody who knows of it.
    pub async fn gone(&self, key: &ReplicaKey, from: Cursor) {
        let mut cursor = from;
        let gone = tokio::time::timeout(PATIENCE, async {
            loop {
                let observation = self.observe(Some(cursor)).await;
                cursor = observation.cursor;
                if observation.replicas_gone.contains(key) {
                    return;
                }
            }
        });
        assert!(gone.await.is_ok(), "{key} was not forgotten");
    }

    /// Waits until the output holds this text.
    pub async fn frames(&self, key: &ReplicaKey, text_in_it: &str) -> Vec<Frame> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let frames = self.bench.output(key);
                if text(&frames, Stream::Stdout).contains(text_in_it) {
                    return frames;
                }
                // An engine may work only while it is observed, and a sink says nothing by itself.
                self.observe(None).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let frames = found.await;
        frames.unwrap_or_else(|_| panic!("`{text_in_it}` is not in {:?}", self.bench.output(key)))
    }
}

/// What a stream said.
pub fn text(frames: &[Frame], stream: Stream) -> String {
    let of_stream = frames.iter().filter(|frame| frame.stream == stream);
    let bytes: Vec<u8> = of_stream.flat_map(|frame| frame.bytes.clone()).collect();
    String::from_utf8(bytes).expect("the suite's programs write text")
}
