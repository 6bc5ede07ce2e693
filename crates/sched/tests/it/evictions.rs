//! Evictions between two events come to an end, and no victim could have been spared.
//!
//! Named after what others met: kueue#3779 (endless preemption), volcano#5984 and #5994 (ten stopped
//! where one would do), volcano#4607 (gangs stopped in part).

use crate::script::{group, task_id};
use base::{Bytes, MilliCpu, Resources, Span, Time};
use proptest::prelude::*;
use sched::*;
use std::collections::{BTreeMap, BTreeSet};

/// Cores of each node; guarantee and weight of each queue; tasks: queue, cores, members, priority, flags.
type Case = (Vec<u8>, Vec<(u8, u8)>, Vec<(u8, u8, u8, u8, u8)>);

struct World {
    sched: Sched,
    nodes: Vec<NodeSpec>,
    queues: Vec<QueueSpec>,
    specs: BTreeMap<TaskId, TaskSpec>,
    running: BTreeMap<TaskId, Vec<Placement>>,
    now: Time,
    evictions: usize,
}

fn world((nodes, queues, _): &Case) -> World {
    let mut world = World {
        sched: Sched::new(Config::standard()),
        nodes: Vec::new(),
        queues: Vec::new(),
        specs: BTreeMap::new(),
        running: BTreeMap::new(),
        now: Time::from_ms(1_000),
        evictions: 0,
    };
    world.sched.apply(pool());
    for (at, cores) in nodes.iter().enumerate() {
        let spec = NodeSpec {
            id: NodeId(at as u32),
            name: format!("n{at}"),
            pool: "p".to_owned(),
            allocatable: cpu(u64::from(cores % 8) + 1),
            slots_max: 0,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            devices: Vec::new(),
        };
        world.nodes.push(spec.clone());
        world.sched.apply(Event::Node(spec));
    }
    for (at, (guaranteed, weight)) in queues.iter().enumerate() {
        let quota = Quota {
            guaranteed: cpu(u64::from(guaranteed % 8)),
            limit: BTreeMap::new(),
            weight: u32::from(weight % 3) + 1,
        };
        let spec = QueueSpec {
            name: format!("q{at}"),
            // Every other queue is below the one before it.
            parent: (at % 3 == 2).then(|| format!("q{}", at - 1)),
            priority: 0,
            quotas: BTreeMap::from([("*".to_owned(), quota)]),
        };
        world.queues.push(spec.clone());
        world.sched.apply(Event::Queue(spec));
    }
    world
}

fn pool() -> Event {
    Event::Pool(PoolSpec {
        name: "p".to_owned(),
        packing: Packing::BinPack,
        devices: DeviceMode::Counted,
        levels: Vec::new(),
    })
}

fn cpu(cores: u64) -> Resources {
    Resources {
        cpu: MilliCpu(cores * 1_000),
        memory: Bytes(0),
        gpu_milli: 0,
        extended: BTreeMap::new(),
    }
}

fn task(
    number: u128,
    queues: usize,
    (queue, cores, members, priority, flags): (u8, u8, u8, u8, u8),
) -> TaskSpec {
    let mut group = group("worker");
    group.count = u32::from(members % 3) + 1;
    group.min = group.count;
    group.request = cpu(u64::from(cores % 4) + 1);
    TaskSpec {
        id: task_id(number),
        generation: 1,
        name: format!("t{number}"),
        queue: format!("q{}", queue as usize % queues),
        kind: TaskKind::Batch,
        priority: i32::from(priority % 3),
        submitted: Time::from_ms(number as i64),
        groups: vec![group],
        preemptible: !flags.is_multiple_of(8),
        min_runtime: Span::ZERO,
        grace: Span::from_secs(1),
        checkpoints: flags.is_multiple_of(2),
        time_limit: None,
        expected: None,
        disruption: None,
        readmit: false,
    }
}

impl World {
    /// One round: decide, make everything durable, let everybody who was told to stop end and wait again.
    fn round(&mut self) -> bool {
        let before = self.running.clone();
        let decisions = self.sched.decide(self.now, 1_000_000);
        let mut stopped = Vec::new();
        let mut claims: BTreeMap<TaskId, BTreeSet<TaskId>> = BTreeMap::new();
        let mut nominated = Vec::new();
        let mut started_first = false;
        for decision in &decisions {
            match &decision.kind {
                DecisionKind::Start {
                    task, placements, ..
                } => {
                    started_first |= nominated.is_empty();
                    self.running.insert(*task, placements.clone());
                }
                DecisionKind::Evict {
                    task,
                    slots,
                    on_behalf_of,
                    ..
                } => {
                    assert!(slots.is_empty(), "gangs stop whole");
                    stopped.push(*task);
                    if let Some(claimant) = on_behalf_of {
                        claims.entry(*claimant).or_default().insert(*task);
                    }
                }
                DecisionKind::Nominate { task, .. } => nominated.push(*task),
                DecisionKind::Grow { .. } => panic!("nothing here is elastic"),
            }
        }
        if let (Some(first), false) = (nominated.first(), started_first) {
            // Nothing had changed yet when the first claim was weighed.
            self.check_minimal(&before, *first, &claims[first]);
        }
        for decision in &decisions {
            self.sched.apply(Event::Committed(decision.id));
        }
        self.evictions += stopped.len();
        for id in &stopped {
            for placement in self.running.remove(id).expect("only who runs is stopped") {
                self.sched.apply(Event::Released {
                    task: *id,
                    slot: placement.slot,
                });
            }
        }
        for id in &stopped {
            self.sched.apply(Event::Task(self.specs[id].clone()));
        }
        self.now = self.now + Span::from_secs(1);
        !decisions.is_empty()
    }

    /// A scheduler that sees the victims gone starts the claimant; with any one of them back it does not.
    fn check_minimal(
        &self,
        before: &BTreeMap<TaskId, Vec<Placement>>,
        claimant: TaskId,
        victims: &BTreeSet<TaskId>,
    ) {
        assert!(
            self.fits_without(before, claimant, victims),
            "the victims make room"
        );
        for spared in victims {
            let mut fewer = victims.clone();
            fewer.remove(spared);
            assert!(
                !self.fits_without(before, claimant, &fewer),
                "{spared:?} could have been spared"
            );
        }
    }

    fn fits_without(
        &self,
        before: &BTreeMap<TaskId, Vec<Placement>>,
        claimant: TaskId,
        gone: &BTreeSet<TaskId>,
    ) -> bool {
        let mut fresh = Sched::new(Config::standard());
        fresh.apply(pool());
        for spec in &self.nodes {
            fresh.apply(Event::Node(spec.clone()));
        }
        for spec in &self.queues {
            fresh.apply(Event::Queue(spec.clone()));
        }
        for (id, placements) in before {
            if !gone.contains(id) {
                let mut spec = self.specs[id].clone();
                spec.preemptible = false;
                fresh.apply(Event::Running(RunningTask {
                    spec,
                    started: Time::from_ms(0),
                    placements: placements.clone(),
                }));
            }
        }
        fresh.apply(Event::Task(self.specs[&claimant].clone()));
        let decisions = fresh.decide(self.now, 1_000_000);
        let starts = |decision: &Decision| matches!(decision.kind, DecisionKind::Start { .. });
        decisions.iter().any(starts)
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let bytes = any::<u8>();
    (
        proptest::collection::vec(bytes, 1..5),
        proptest::collection::vec(any::<(u8, u8)>(), 1..5),
        proptest::collection::vec(any::<(u8, u8, u8, u8, u8)>(), 1..16),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evictions_end_and_no_victim_could_be_spared(case in cases()) {
        let mut world = world(&case);
        for (at, row) in case.2.iter().enumerate() {
            let spec = task(at as u128 + 1, case.1.len(), *row);
            world.specs.insert(spec.id, spec.clone());
            world.sched.apply(Event::Task(spec));
            // Some run before the others come.
            if row.4 % 4 == 1 {
                world.round();
            }
        }
        let settled = world.evictions;
        let n = world.specs.len();
        let bound = n * n;
        let mut rounds = 0;
        while world.round() {
            rounds += 1;
            prop_assert!(rounds <= 4 * bound + 10, "it goes on for ever");
        }
        prop_assert!(world.evictions - settled <= bound, "{} evictions", world.evictions);
    }
}
