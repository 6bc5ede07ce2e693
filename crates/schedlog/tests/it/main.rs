//! Logs are replayed bit for bit, and every version that was ever written is still read.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where it finds something wrong"
)]

use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::*;
use schedlog::*;
use std::collections::BTreeMap;

const GOLDEN_1: &str = include_str!("../golden/v1.jsonl");

fn events() -> Vec<Event> {
    let amount = |cpu: u64, gpus: u64| Resources {
        cpu: MilliCpu(cpu),
        memory: Bytes(1 << 30),
        gpu_milli: gpus,
        extended: BTreeMap::from([("fpga".to_owned(), 1)]),
    };
    let device = |number: u16| DeviceSpec {
        id: format!("gpu-{number}"),
        class: "gpu".to_owned(),
        model: "H200".to_owned(),
        memory: Bytes(1 << 37),
        healthy: true,
        link_group: 0,
        numa: 0,
        taints: Vec::new(),
        lanes: BTreeMap::new(),
        partitions: Vec::new(),
    };
    let task = |id: u128, priority: i32, gpus: u64| TaskSpec {
        id: TaskId(Uid(id)),
        generation: 1,
        name: format!("job/{id}"),
        queue: "team".to_owned(),
        kind: TaskKind::Batch,
        priority,
        submitted: Time::from_ms(id as i64),
        groups: vec![GroupSpec {
            name: "worker".to_owned(),
            count: 1,
            min: 1,
            request: amount(500, gpus),
            gpu_models: vec!["H200".to_owned()],
            gpu_memory: Bytes(0),
            node_selector: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            pools: vec!["gpu".to_owned()],
            tolerations: vec![Toleration {
                key: "old".to_owned(),
                value: None,
                effect: Some(TaintEffect::NoSchedule),
            }],
            affinity: Affinity::default(),
            topology: Some(TopologyRequest {
                level: "rack".to_owned(),
                required: false,
            }),
            per_node_max: 0,
        }],
        preemptible: true,
        min_runtime: Span::ZERO,
        grace: Span::from_secs(30),
        checkpoints: true,
        time_limit: Some(Span::from_secs(3_600)),
        expected: None,
        disruption: Some((Uid(9), 5)),
        readmit: false,
    };
    vec![
        Event::Pool(PoolSpec {
            name: "gpu".to_owned(),
            packing: Packing::BinPack,
            devices: DeviceMode::Named,
            levels: vec!["rack".to_owned()],
            half_life: None,
        }),
        Event::Queue(QueueSpec {
            name: "team".to_owned(),
            parent: None,
            priority: 1,
            order: QueueOrder::Priority,
            quotas: BTreeMap::from([(
                "*".to_owned(),
                Quota {
                    guaranteed: amount(0, 1_000),
                    limit: BTreeMap::from([("gpu".to_owned(), 4_000)]),
                    weight: 2,
                    shapes: Vec::new(),
                },
            )]),
        }),
        Event::Node(NodeSpec {
            id: NodeId(1),
            name: "node-1".to_owned(),
            pool: "gpu".to_owned(),
            allocatable: amount(8_000, 0),
            slots_max: 10,
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            taints: vec![Taint {
                key: "old".to_owned(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            }],
            unschedulable: false,
            devices: vec![device(0), device(1)],
        }),
        Event::Task(task(1, 0, 1_000)),
        Event::Task(task(2, 5, 2_000)),
    ]
}

/// A short life: a start, an eviction for a higher priority, the end, the start of who waited.
fn record() -> (Vec<u8>, Vec<Decision>) {
    let config = Config::standard();
    let mut core = Sched::new(config.clone());
    let mut log = Recorder::new(Vec::new(), &config).unwrap();
    let mut all = Vec::new();
    let mut events = events();
    let late = events.pop().unwrap();
    let released = Event::Released {
        task: TaskId(Uid(1)),
        slot: SlotId { group: 0, index: 0 },
    };
    let gone = Event::CalendarGone("none".to_owned());
    let rounds = [events, vec![late], vec![released, gone]];
    for (at, events) in rounds.into_iter().enumerate() {
        for event in events {
            log.event(&event).unwrap();
            core.apply(event);
        }
        let now = Time::from_ms(10_000 * (at as i64 + 1));
        let decisions = core.decide(now, 1_000);
        log.decided(now, 1_000, &decisions).unwrap();
        for decision in &decisions {
            let event = Event::Committed(decision.id);
            log.event(&event).unwrap();
            core.apply(event);
        }
        all.extend(decisions);
    }
    (log.finish().unwrap(), all)
}

#[test]
fn a_log_is_replayed_bit_for_bit() {
    let (log, decisions) = record();
    assert!(decisions.len() >= 2, "{decisions:?}");
    let replayed = replay(log.as_slice()).unwrap();
    assert_eq!(replayed.decisions, decisions);
}

#[test]
fn version_1_is_still_read_and_still_written() {
    let (log, decisions) = record();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1.jsonl");
        std::fs::write(path, &log).unwrap();
        return;
    }
    let replayed = replay(GOLDEN_1.as_bytes()).unwrap();
    assert_eq!(replayed.decisions, decisions);
    assert_eq!(String::from_utf8(log).unwrap(), GOLDEN_1);
}

#[test]
fn a_changed_decision_is_noticed() {
    let changed = GOLDEN_1.replacen("\"node\":1", "\"node\":2", 1);
    let error = replay(changed.as_bytes()).unwrap_err();
    assert!(
        matches!(error, ReplayError::Differs { number: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("recorded Start"), "{error}");
}

#[test]
fn two_logs_in_one_file_are_refused() {
    let twice = format!("{GOLDEN_1}{GOLDEN_1}");
    let error = replay(twice.as_bytes()).unwrap_err();
    let lines = GOLDEN_1.lines().count();
    assert_eq!(
        error.to_string(),
        format!(
            "line {} begins another log; replay one at a time",
            lines + 1
        )
    );
}

#[test]
fn what_is_not_a_log_is_refused() {
    let check = |text: &str, want: &str| {
        let error = replay(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), want);
    };
    check("", "the log has no header at line 1");
    check("{}", "line 1 is not an entry of a scheduler log");
    check(
        "{\"decide\":{\"now\":1,\"steps\":1}}",
        "the log has no header at line 1",
    );
    let newer = GOLDEN_1.replacen("\"version\":1", "\"version\":99", 1);
    check(&newer, "the log has version 99, this program reads up to 1");
}
