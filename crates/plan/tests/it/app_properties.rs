//! Whatever happens to an App, in whatever order, and wherever the one who performs plans dies.

use crate::app_model::{NODES, World};
use crate::fixture::config;
use base::Span;
use engine::Cause;
use plan::{AppPhase, Traffic};
use proptest::prelude::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Op {
    /// Plan, and perform only so many actions.
    Step(usize),
    Observe,
    Admit,
    Live,
    End(usize, Cause),
    Evict(usize),
    Fence(usize),
    Unfence,
    Drain(usize),
    Undrain,
    Lose(usize),
    Advance(u64),
    Scale(u32),
    /// The target becomes this Revision; one of them fails.
    Revise(u32),
    Split(u32),
    Pause(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let lost = prop::sample::select(vec![
        Cause::NodeLost,
        Cause::ShimLost,
        Cause::PortTaken,
        Cause::Evicted,
        Cause::StartFailed,
    ]);
    let op = prop_oneof![
        10 => prop_oneof![3 => Just(usize::MAX), 2 => 0usize..4].prop_map(Op::Step),
        6 => Just(Op::Observe),
        5 => Just(Op::Admit),
        6 => Just(Op::Live),
        2 => (0usize..8, lost).prop_map(|(replica, cause)| Op::End(replica, cause)),
        1 => (0usize..8).prop_map(Op::Evict),
        1 => (0usize..3).prop_map(Op::Fence),
        1 => Just(Op::Unfence),
        1 => (0usize..3).prop_map(Op::Drain),
        1 => Just(Op::Undrain),
        1 => (0usize..8).prop_map(Op::Lose),
        3 => (0u64..200_000).prop_map(Op::Advance),
        1 => (0u32..5).prop_map(Op::Scale),
        2 => (1u32..4).prop_map(Op::Revise),
        1 => (0u32..101).prop_map(Op::Split),
        1 => any::<bool>().prop_map(Op::Pause),
    ];
    prop::collection::vec(op, 0..60)
}

/// The Revision that fails as soon as it starts. The first works, so that there is something to go back to.
const BROKEN: u32 = 3;

fn world(replicas: u32, surge: u32, unavailable: u32) -> World {
    let mut world = World::new(replicas, surge, unavailable);
    world.broken.insert(BROKEN);
    world
}

fn happen(world: &mut World, op: &Op) {
    let pick = |world: &World, n: usize| {
        let alive = world.alive();
        (!alive.is_empty()).then(|| alive[n % alive.len()].clone())
    };
    match op {
        Op::Step(n) => {
            world.step(*n);
        }
        Op::Observe => world.observe(),
        Op::Admit => world.admit_all(),
        Op::Live => world.live(),
        Op::End(replica, cause) => {
            if let Some(key) = pick(world, *replica) {
                world.end(&key, *cause);
            }
        }
        Op::Evict(replica) => {
            if let Some(key) = pick(world, *replica) {
                world.evict(&key);
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
        Op::Drain(node) => {
            world.drained.insert(NODES[*node].to_owned());
            world.observe();
        }
        Op::Undrain => {
            world.drained.clear();
            world.observe();
        }
        Op::Lose(replica) => {
            if let Some(key) = pick(world, *replica) {
                world.lose(&key);
            }
        }
        Op::Advance(ms) => world.now = world.now + Span::from_ms(*ms),
        Op::Scale(replicas) => world.input.replicas = *replicas,
        Op::Revise(revision) => world.revise(*revision),
        Op::Split(percent) => {
            let older = world
                .input
                .stable
                .filter(|stable| *stable != world.input.target);
            if let Some(older) = older {
                let share = |revision, percent| Traffic { revision, percent };
                world.input.traffic = vec![
                    share(older, 100 - percent),
                    share(world.input.target, *percent),
                ];
            }
        }
        Op::Pause(paused) => {
            world.input.paused = *paused;
            world.input.progress.at = world.now;
        }
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    /// Left alone, an App comes to rest as wanted: with a target that works everything is ready, with one
    /// that does not the last stable one serves. Nothing is left of what is not wanted.
    #[test]
    fn every_app_comes_to_rest(
        replicas in 1u32..5, surge in 0u32..3, unavailable in 0u32..3, ops in ops(),
    ) {
        let mut world = world(replicas, surge, unavailable);
        for op in &ops {
            happen(&mut world, op);
        }
        world.input.paused = false;
        world.input.traffic.clear();
        let plan = world.run_to_rest();
        let target = world.input.target;
        if world.broken.contains(&target) && world.input.replicas > 0 {
            // There was nothing to go back to.
            prop_assert!(world.input.stable.is_none_or(|stable| stable == target), "{}", plan);
        } else if world.input.replicas > 0 {
            prop_assert_eq!(plan.status.phase, AppPhase::Ready, "{}", plan);
            prop_assert_eq!(world.alive().len(), world.input.replicas as usize, "{}", plan);
        } else {
            prop_assert_eq!(plan.status.phase, AppPhase::Stopped);
            prop_assert!(world.alive().is_empty());
        }
        prop_assert!(plan.actions.is_empty());
        prop_assert_eq!(&world.plan(), &plan);

        world.input.deleting = true;
        world.run_to_rest();
        prop_assert!(world.deleted && world.engine.is_empty());
    }

    /// Dying after any prefix of any plan leads to the same rest as not dying.
    #[test]
    fn any_crash_point_converges(
        replicas in 1u32..5, surge in 0u32..3, unavailable in 0u32..3, ops in ops(),
        prefixes in prop::collection::vec(0usize..5, 1..12),
    ) {
        let mut calm = world(replicas, surge, unavailable);
        for op in &ops {
            happen(&mut calm, op);
        }
        // How far a rollout came when it was paused does depend on the way.
        calm.input.paused = false;
        calm.observe();
        let mut crashed = calm.clone();
        for prefix in &prefixes {
            crashed.step(*prefix);
            crashed.observe();
        }
        calm.run_to_rest();
        crashed.run_to_rest();
        let shape = |world: &World| {
            let seats: Vec<_> = world.seats().into_iter().map(|(revision, _, seat)| (revision, std::mem::discriminant(&seat.stage))).collect();
            let target = world.input.target;
            // Under a target that fails, seats of older Revisions stay that never became ready; which of
            // them depends on the way.
            let works = !world.broken.contains(&target);
            let phase = world.plan().status.phase;
            (works.then_some((seats, phase)), target, world.input.stable)
        };
        prop_assert_eq!(shape(&calm), shape(&crashed));
    }

    /// While a Revision is rolled out, by plans performed as they come, the ready replicas never fall
    /// below the wanted count less `max_unavailable`, whether the new one works or not; and never more
    /// seats than the surge allows are there.
    #[test]
    fn a_rollout_keeps_enough_ready(
        replicas in 1u32..6, surge in 0u32..3, unavailable in 0u32..3,
        broken in any::<bool>(),
        order in prop::collection::vec(0u8..4, 0..80),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.run_to_rest();
        prop_assert_eq!(world.ready(), replicas);
        if broken {
            world.broken.insert(2);
        }
        world.revise(2);
        let ready_min = replicas.saturating_sub(unavailable);
        let seats_max = replicas + if (surge, unavailable) == (0, 0) { 1 } else { surge };
        for what in order {
            match what {
                0 => { world.step(usize::MAX); }
                1 => world.admit_all(),
                2 => world.live(),
                _ => world.now = world.now + Span::from_secs(1),
            }
            world.observe();
            prop_assert!(world.ready() >= ready_min, "{}", world.plan());
            let active = world.seats().iter().filter(|(_, _, seat)| seat.draining.is_none()).count();
            prop_assert!(active <= seats_max as usize);
        }
        let plan = world.run_to_rest();
        prop_assert_eq!(plan.status.phase, AppPhase::Ready, "{}", plan);
        prop_assert_eq!(world.input.target, if broken { 1 } else { 2 });
    }

    /// While nodes are drained the ready replicas never fall below the wanted count less `max_unavailable`,
    /// never more seats than the surge allows are there, and in the end nothing is left on those nodes.
    #[test]
    fn a_drain_keeps_enough_ready_and_ends(
        replicas in 1u32..6, surge in 0u32..3, unavailable in 0u32..3,
        drained in prop::collection::btree_set(0usize..3, 1..3),
        order in prop::collection::vec(0u8..4, 0..80),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.run_to_rest();
        prop_assert_eq!(world.ready(), replicas);
        world.drained = drained.into_iter().map(|node| NODES[node].to_owned()).collect();
        world.observe();
        let ready_min = replicas.saturating_sub(unavailable);
        let seats_max = replicas + if (surge, unavailable) == (0, 0) { 1 } else { surge };
        for what in order {
            match what {
                0 => { world.step(usize::MAX); }
                1 => world.admit_all(),
                2 => world.live(),
                _ => world.now = world.now + Span::from_secs(1),
            }
            world.observe();
            prop_assert!(world.ready() >= ready_min, "{}", world.plan());
            let active = world.seats().iter().filter(|(_, _, seat)| seat.draining.is_none()).count();
            prop_assert!(active <= seats_max as usize);
        }
        let plan = world.run_to_rest();
        prop_assert_eq!(plan.status.phase, AppPhase::Ready, "{}", plan);
        prop_assert_eq!(world.ready(), replicas);
        for key in world.alive() {
            prop_assert!(!world.drained.contains(&world.engine[&key].node), "{} stays", key);
        }
    }
}
