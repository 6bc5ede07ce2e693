//! Whatever happens, in whatever order, and wherever the one who performs plans dies.

use crate::fixture::{at, config, group, job, job_spec};
use crate::job_model::{NODES, World};
use base::Span;
use engine::Cause;
use plan::{Intent, JobSpec, Restart, Success, SuccessRule, UnitKey};
use proptest::prelude::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Op {
    /// Plan, and perform only so many actions.
    Step(usize),
    /// The engine's reports arrive.
    Observe,
    Admit(usize, u32),
    End(usize, Cause),
    Obey,
    EvictUnit(usize),
    EvictMember(usize, usize),
    Fence(usize),
    Unfence,
    Lose(usize),
    Advance(u64),
    Suspend,
    Resume,
    Cancel,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let cause = prop::sample::select(Cause::ALL.to_vec());
    let op = prop_oneof![
        12 => prop_oneof![3 => Just(usize::MAX), 2 => 0usize..4].prop_map(Op::Step),
        6 => Just(Op::Observe),
        6 => (0usize..8, 0u32..3).prop_map(|(unit, missing)| Op::Admit(unit, missing)),
        4 => (0usize..8, cause).prop_map(|(replica, cause)| Op::End(replica, cause)),
        3 => Just(Op::Obey),
        1 => (0usize..8).prop_map(Op::EvictUnit),
        1 => (0usize..8, 0usize..4).prop_map(|(unit, member)| Op::EvictMember(unit, member)),
        1 => (0usize..3).prop_map(Op::Fence),
        1 => Just(Op::Unfence),
        1 => (0usize..8).prop_map(Op::Lose),
        3 => (0u64..40_000).prop_map(Op::Advance),
        1 => Just(Op::Suspend),
        2 => Just(Op::Resume),
    ];
    let last = prop_oneof![9 => Just(None), 1 => Just(Some(Op::Cancel))];
    (prop::collection::vec(op, 0..60), last).prop_map(|(mut ops, last)| {
        if let Some(last) = last {
            ops.push(last);
            ops.push(Op::Step(1));
        }
        ops
    })
}

fn specs() -> impl Strategy<Value = JobSpec> {
    let rule = prop::sample::select(vec![
        SuccessRule::All,
        SuccessRule::Any,
        SuccessRule::Index0,
    ]);
    let limits = (any::<bool>(), any::<bool>(), 0u32..3);
    let shape = prop_oneof![
        Just((vec![group("worker", 2, 2)], Restart::Gang)),
        Just((
            vec![group("ps", 1, 1), group("worker", 3, 3)],
            Restart::Gang
        )),
        Just((vec![group("worker", 4, 2)], Restart::Rank)),
        Just((
            vec![group("ps", 1, 1), group("worker", 3, 1)],
            Restart::Rank
        )),
        (1u32..5, 1u32..4, prop::option::of(0u32..2)).prop_map(
            |(count, parallelism, failed_max)| {
                let restart = Restart::Index {
                    count,
                    parallelism,
                    failed_max,
                };
                (vec![group("task", 1, 1)], restart)
            }
        ),
    ];
    (shape, rule, limits).prop_map(|((groups, restart), rule, (time, queue, limit))| {
        let mut spec = job_spec(groups, restart);
        spec.success = Success {
            groups: vec![spec.groups[spec.groups.len() - 1].name.clone()],
            rule,
        };
        spec.retry.limit = limit;
        spec.time_limit = time.then_some(Span::from_secs(200));
        spec.queue_time_limit = queue.then_some(Span::from_secs(100));
        spec
    })
}

fn pick<T: Clone>(items: &[T], n: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[n % items.len()].clone())
}

fn happen(world: &mut World, op: &Op) {
    match op {
        Op::Step(n) => {
            world.step(*n);
        }
        Op::Observe => world.observe(),
        Op::Admit(unit, missing) => {
            if let Some(unit) = pick(&world.waiting(), *unit) {
                world.admit(&unit, *missing);
            }
        }
        Op::End(replica, cause) => {
            if let Some(key) = pick(&world.alive(), *replica) {
                world.end(&key, *cause);
            }
        }
        Op::Obey => world.obey(),
        Op::EvictUnit(unit) => {
            if let Some(unit) = pick(&world.placed(), *unit) {
                world.evict(&unit, None);
            }
        }
        Op::EvictMember(unit, member) => {
            if let Some(unit) = pick(&world.placed(), *unit) {
                world.evict(&unit, Some(*member));
            }
        }
        Op::Fence(node) => {
            world.fence(NODES[*node]);
            world.observe();
        }
        Op::Unfence => {
            world.fenced.clear();
            world.observe();
        }
        Op::Lose(replica) => {
            if let Some(key) = pick(&world.alive(), *replica) {
                world.lose(&key);
            }
        }
        Op::Advance(ms) => world.now = world.now + Span::from_ms(*ms),
        Op::Suspend if world.input.intent == Intent::Run => world.input.intent = Intent::Suspend,
        Op::Resume if world.input.intent == Intent::Suspend => world.input.intent = Intent::Run,
        Op::Cancel => world.input.intent = Intent::Cancel,
        Op::Suspend | Op::Resume => {}
    }
}

proptest! {
    #![proptest_config(config(1_500))]

    /// Every Job ends, nothing of it is left, and on the way no rule of the model is broken (two live
    /// attempts of a unit, capacity back too early, a start without a committed seat …).
    #[test]
    fn every_job_ends(spec in specs(), ops in ops()) {
        let mut world = World::new(job(spec), at(1_000));
        for op in &ops {
            happen(&mut world, op);
        }
        if world.input.intent == Intent::Suspend {
            world.input.intent = Intent::Run;
        }
        world.run_to_end();
        world.obey();
        world.settle();
        prop_assert!(world.alive().is_empty());
        prop_assert!(world.engine.is_empty(), "records left: {:?}", world.engine);
        for (key, starts) in &world.starts {
            prop_assert_eq!(*starts, 1, "{} was started more than once", key);
        }
    }

    /// Once at rest, a plan has no actions, and planning again says the same.
    #[test]
    fn a_plan_at_rest_does_nothing(spec in specs(), ops in ops()) {
        let mut world = World::new(job(spec), at(1_000));
        for op in &ops {
            happen(&mut world, op);
        }
        let plan = world.settle();
        prop_assert!(plan.actions.is_empty());
        prop_assert_eq!(world.plan(), plan);
    }

    /// Dying after any prefix of any plan leads to the same rest as not dying.
    #[test]
    fn any_crash_point_converges(
        spec in specs(),
        ops in ops(),
        prefixes in prop::collection::vec(0usize..5, 1..12),
    ) {
        let mut calm = World::new(job(spec), at(1_000));
        for op in &ops {
            happen(&mut calm, op);
        }
        calm.observe();
        let mut crashed = calm.clone();
        for prefix in &prefixes {
            crashed.step(*prefix);
            crashed.observe();
        }
        for world in [&mut calm, &mut crashed] {
            world.settle();
            // One of them may have started an index that the other gave back unused: both end it.
            world.obey();
            world.settle();
        }
        prop_assert_eq!(calm.outcomes(), crashed.outcomes());
        prop_assert_eq!(&calm.input.finished, &crashed.input.finished);
        prop_assert_eq!(calm.alive(), crashed.alive());
    }

    /// A suspended Job holds nothing and asks for nothing, and resumes without a charge.
    #[test]
    fn a_pause_costs_nothing(spec in specs(), steps in 0usize..6) {
        let mut world = World::new(job(spec), at(1_000));
        for _ in 0..steps {
            world.settle();
            if let Some(unit) = world.waiting().first().cloned() {
                world.admit(&unit, 0);
            }
        }
        world.input.intent = Intent::Suspend;
        world.settle();
        world.obey();
        world.settle();
        prop_assert!(world.alive().is_empty() && world.waiting().is_empty() && world.placed().is_empty());
        for unit in world.input.units.values() {
            prop_assert_eq!(unit.tally, plan::Tally::default());
        }
        world.input.intent = Intent::Run;
        world.run_to_end();
        let finished = world.input.finished.clone().expect("it ran to its end");
        prop_assert_eq!(finished.phase, plan::JobPhase::Succeeded);
    }

    /// The text of a unit's name reads back.
    #[test]
    fn unit_names_read_back(group in "[a-z][a-z0-9-]{0,9}", index in any::<u32>()) {
        let index = base::Index(index);
        for key in [UnitKey::Gang, UnitKey::Index(index), UnitKey::Rank { group: group.clone(), index }] {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
