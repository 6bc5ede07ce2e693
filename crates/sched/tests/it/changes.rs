//! The smallest change that is named really starts the task, whatever the cluster looks like.

use crate::script::{group, task_id};
use base::{Bytes, MilliCpu, Resources, Span, Time};
use proptest::prelude::*;
use sched::*;
use std::collections::BTreeMap;

/// Nodes: (cores, GPUs, model or taint); running: (cores, GPUs, limit); the wish: (cores, GPUs, members, flags).
type Case = (
    Vec<(u8, u8, u8)>,
    Vec<(u8, u8, u8)>,
    (u8, u8, u8, u8),
    (u8, u8),
);

fn quota(gpus: u64) -> BTreeMap<String, Quota> {
    let quota = Quota {
        guaranteed: Resources::default(),
        limit: BTreeMap::from([("gpu".to_owned(), gpus * 1_000)]),
        weight: 1,
        shapes: Vec::new(),
    };
    BTreeMap::from([("*".to_owned(), quota)])
}

fn queue(name: &str, gpus: u64) -> QueueSpec {
    QueueSpec {
        name: name.to_owned(),
        parent: None,
        priority: 0,
        order: QueueOrder::Priority,
        quotas: quota(gpus),
    }
}

fn world((nodes, running, _, (limit, promise)): &Case) -> Sched {
    let mut sched = Sched::new(Config::standard());
    sched.apply(Event::Pool(PoolSpec {
        name: "p".to_owned(),
        packing: Packing::BinPack,
        devices: DeviceMode::Named,
        levels: vec!["rack".to_owned()],
        half_life: None,
    }));
    for (at, (cores, gpus, flags)) in nodes.iter().enumerate() {
        let device = |number: u8| DeviceSpec {
            id: number.to_string(),
            class: "gpu".to_owned(),
            model: if flags % 2 == 0 { "A" } else { "B" }.to_owned(),
            memory: Bytes(0),
            healthy: true,
            link_group: 0,
            numa: 0,
            taints: Vec::new(),
            lanes: BTreeMap::new(),
            partitions: Vec::new(),
        };
        let taint = Taint {
            key: "own".to_owned(),
            value: String::new(),
            effect: TaintEffect::NoSchedule,
        };
        sched.apply(Event::Node(NodeSpec {
            id: NodeId(at as u32),
            name: format!("n{at}"),
            pool: "p".to_owned(),
            allocatable: Resources {
                cpu: MilliCpu(u64::from(cores % 16) * 1_000),
                memory: Bytes(1 << 30),
                ..Resources::default()
            },
            slots_max: 0,
            labels: BTreeMap::from([("rack".to_owned(), (at % 2).to_string())]),
            taints: if flags % 5 == 0 {
                vec![taint]
            } else {
                Vec::new()
            },
            unschedulable: false,
            devices: (0..gpus % 9).map(device).collect(),
        }));
    }
    sched.apply(Event::Queue(queue("q", u64::from(limit % 24))));
    sched.apply(Event::Queue(queue("apps", 1_000)));
    if promise % 2 == 0 {
        sched.apply(Event::Calendar(CalendarEntry {
            name: "morning".to_owned(),
            pool: "p".to_owned(),
            queue: "apps".to_owned(),
            steps: vec![CalendarStep {
                from: Time::from_ms(3_600_000),
                amount: Resources {
                    gpu_milli: u64::from(promise % 16) * 1_000,
                    ..Resources::default()
                },
            }],
            until: Time::from_ms(7_200_000),
        }));
    }
    for (at, (cores, gpus, limit)) in running.iter().enumerate() {
        let mut spec = task(at as u128 + 10, (*cores, *gpus, 0, 0));
        spec.time_limit = Some(Span::from_secs(600 + u64::from(*limit)));
        sched.apply(Event::Task(spec));
    }
    for decision in sched.decide(Time::from_ms(1_000), 1_000_000) {
        sched.apply(Event::Committed(decision.id));
    }
    for at in 0..running.len() {
        sched.apply(Event::TaskGone(task_id(at as u128 + 10)));
    }
    sched
}

fn task(number: u128, (cores, gpus, members, flags): (u8, u8, u8, u8)) -> TaskSpec {
    let mut group = group("worker");
    group.count = u32::from(members % 5) + 1;
    group.min = group.count;
    group.request = Resources {
        cpu: MilliCpu(u64::from(cores % 4) * 1_000),
        gpu_milli: [0, 1_000, 2_000, 3_000, 4_000, 8_000, 300, 1_500][gpus as usize % 8],
        ..Resources::default()
    };
    if flags % 3 == 1 {
        group.gpu_models = vec!["A".to_owned()];
    }
    if flags % 4 == 1 {
        group.topology = Some(TopologyRequest {
            level: "rack".to_owned(),
            required: true,
        });
    }
    if flags % 7 == 1 {
        group.per_node_max = 1;
    }
    TaskSpec {
        id: task_id(number),
        generation: 1,
        name: format!("t{number}"),
        queue: "q".to_owned(),
        kind: TaskKind::Batch,
        priority: 0,
        submitted: Time::from_ms(number as i64),
        groups: vec![group],
        preemptible: false,
        min_runtime: Span::ZERO,
        grace: Span::from_secs(1),
        checkpoints: false,
        time_limit: None,
        expected: None,
        disruption: None,
        readmit: false,
    }
}

/// What the user does who follows the advice.
fn follow(spec: &mut TaskSpec, limit: u64, change: &Change) -> Option<QueueSpec> {
    let group = &mut spec.groups[0];
    match change {
        Change::RaiseLimit {
            queue: name,
            lane,
            by,
            ..
        } => {
            assert_eq!(lane, "gpu");
            let mut raised = queue(name, 0);
            let quota = raised.quotas.get_mut("*").expect("it has one");
            quota.limit.insert("gpu".to_owned(), limit * 1_000 + by);
            return Some(raised);
        }
        Change::FewerGpus { ask, instead } => {
            assert_eq!(group.request.gpu_milli, *instead);
            group.request.gpu_milli = *ask;
        }
        Change::FewerMembers { ask, instead } => {
            assert_eq!(group.min, *instead);
            group.min = *ask;
            group.count = *ask;
        }
        Change::AllowModel(model) => group.gpu_models.push(model.clone()),
        Change::PreferLevel(level) => {
            group.topology = Some(TopologyRequest {
                level: level.clone(),
                required: false,
            });
        }
        Change::Tolerate(key) => group.tolerations.push(Toleration {
            key: key.clone(),
            value: None,
            effect: None,
        }),
        Change::TimeLimit(limit) => spec.time_limit = Some(*limit),
        Change::BePreemptible => spec.preemptible = true,
    }
    None
}

fn cases() -> impl Strategy<Value = Case> {
    let three = any::<(u8, u8, u8)>();
    (
        proptest::collection::vec(three, 1..6),
        proptest::collection::vec(any::<(u8, u8, u8)>(), 0..12),
        any::<(u8, u8, u8, u8)>(),
        any::<(u8, u8)>(),
    )
}

proptest! {
    #![proptest_config(crate::cases(5_000))]

    #[test]
    fn the_named_change_starts_the_task(case in cases()) {
        let mut sched = world(&case);
        let now = Time::from_ms(2_000);
        let mut wish = task(1_000, case.2);
        sched.apply(Event::Task(wish.clone()));
        for decision in sched.decide(now, 1_000_000) {
            sched.apply(Event::Committed(decision.id));
        }
        let explanation = sched.explain(wish.id, now);
        let Standing::Waiting { .. } = explanation.standing else { return Ok(()) };
        let Some(change) = explanation.change else { return Ok(()) };
        wish.generation += 1;
        if let Some(queue) = follow(&mut wish, u64::from(case.3.0 % 24), &change) {
            sched.apply(Event::Queue(queue));
        }
        sched.apply(Event::Task(wish.clone()));
        let decisions = sched.decide(now, 1_000_000);
        let started = decisions.iter().any(|decision| {
            matches!(decision.kind, DecisionKind::Start { task, .. } if task == wish.id)
        });
        prop_assert!(started, "{change:?} does not start {wish:?}: {:?}", sched.explain(wish.id, now));
    }
}

/// The property above is worth something only if changes are named often.
#[test]
fn changes_are_named() {
    let mut named = 0;
    for gpus in 0..8u8 {
        let case: Case = (
            vec![(8, 4, 1), (8, 2, 1)],
            vec![(1, 1, 9)],
            (1, gpus, 1, 0),
            (3, 1),
        );
        let mut sched = world(&case);
        let now = Time::from_ms(2_000);
        let wish = task(1_000, case.2);
        sched.apply(Event::Task(wish.clone()));
        sched.decide(now, 1_000_000);
        named += usize::from(sched.explain(wish.id, now).change.is_some());
    }
    assert!(named >= 3, "{named}");
}
