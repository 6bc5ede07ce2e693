//! Tables, and long random lives beside a model that only counts.

use super::*;
use e2e::Dice;
use std::collections::BTreeMap;

fn held(name: &str, bytes: u64, used_us: u64, is_busy: bool) -> Held {
    Held {
        key: (name.to_owned(), 1),
        bytes,
        used_us,
        is_busy,
    }
}

fn names(room: Room) -> Vec<String> {
    match room {
        Room::Without(keys) => keys.into_iter().map(|(name, _)| name).collect(),
        other => vec![format!("{other:?}")],
    }
}

fn load(name: &str, needed: u64) -> Load {
    Load {
        key: (name.to_owned(), 1),
        needed,
        is_alone: false,
        is_awaited: true,
    }
}

#[test]
fn the_least_recently_used_go_and_no_more_than_must() {
    let there = [
        held("new", 30, 9, false),
        held("old", 30, 1, false),
        held("busy", 30, 0, true),
        held("middle", 10, 5, false),
    ];
    let ask = |needed| names(room(needed, 0, 100, &there));
    assert!(ask(0).is_empty());
    assert_eq!(ask(1), ["old"]);
    assert_eq!(ask(30), ["old"]);
    assert_eq!(ask(31), ["old", "middle"]);
    assert_eq!(ask(70), ["old", "middle", "new"]);
    assert_eq!(ask(71), ["Later"], "the busy one stays");
    assert_eq!(ask(101), ["Never"]);
    assert_eq!(names(room(40, 31, 100, &there)), ["Later"]);
    assert_eq!(names(room(1, u64::MAX, 100, &there)), ["Later"]);
}

#[test]
fn awaited_loads_go_first_and_one_load_serves_all() {
    let mut queue = Queue::new(4);
    queue.add(Load {
        is_awaited: false,
        ..load("prepared", 1)
    });
    queue.add(load("a", 1));
    queue.add(load("b", 1));
    queue.add(load("a", 1));
    let mut order = Vec::new();
    while let Some(Step::Start(load)) = queue.next(|_| Room::Without(Vec::new())) {
        queue.add(load.clone());
        order.push(load.key.0);
    }
    assert_eq!(order, ["a", "b", "prepared"]);
}

#[test]
fn loads_whose_size_is_measured_run_one_at_a_time_and_hold_up_no_others() {
    let mut queue = Queue::new(3);
    for name in ["slow", "slower"] {
        queue.add(Load {
            is_alone: true,
            ..load(name, 1)
        });
    }
    queue.add(load("small", 1));
    let start = |queue: &mut Queue| match queue.next(|_| Room::Without(Vec::new())) {
        Some(Step::Start(load)) => load.key.0,
        other => format!("{other:?}"),
    };
    assert_eq!(start(&mut queue), "slow");
    assert_eq!(start(&mut queue), "small");
    assert_eq!(start(&mut queue), "None");
    queue.ended(&("slow".to_owned(), 1));
    assert_eq!(start(&mut queue), "slower");
}

#[test]
fn a_large_load_is_passed_only_so_often() {
    let mut queue = Queue::new(usize::MAX);
    queue.add(load("large", 90));
    for at in 0..2 * PASSED_MAX {
        queue.add(load(&format!("small{at}"), 1));
    }
    let full = |load: &Load| match load.needed {
        90 => Room::Later,
        _ => Room::Without(Vec::new()),
    };
    let mut n = 0;
    while queue.next(full).is_some() {
        n += 1;
    }
    assert_eq!(n, PASSED_MAX);
    let next = queue.next(|_| Room::Without(Vec::new()));
    assert_eq!(next, Some(Step::Start(load("large", 90))));
}

/// One life of a server: requests come and end, loads take their time, and after each step the books are checked
/// against the plain list of what is in memory.
fn live(dice: &mut Dice) {
    let max = 100 + dice.below(200);
    let n_threads = 1 + dice.pick(3);
    let sizes: Vec<u64> = (0..12).map(|_| 1 + dice.below(120)).collect();
    let name = |model: usize| (format!("m{model}"), 1);
    let size = |key: &Key| sizes[key.0[1..].parse::<usize>().unwrap()];
    let mut queue = Queue::new(n_threads);
    let mut memory: BTreeMap<Key, Held> = BTreeMap::new();
    let mut loading: Vec<Key> = Vec::new();
    for now in 0..400 {
        match dice.pick(4) {
            0 | 1 => {
                let key = name(dice.pick(sizes.len()));
                match memory.get_mut(&key) {
                    Some(held) => {
                        held.used_us = now;
                        held.is_busy = dice.pick(3) == 0;
                    }
                    None => queue.add(Load {
                        is_alone: size(&key) > 80,
                        is_awaited: dice.pick(4) > 0,
                        ..load(&key.0, size(&key))
                    }),
                }
            }
            2 if !loading.is_empty() => {
                let key = loading.swap_remove(dice.pick(loading.len()));
                queue.ended(&key);
                let there = held(&key.0, size(&key), now, false);
                assert!(memory.insert(key, there).is_none(), "loaded twice");
            }
            _ => memory.values_mut().for_each(|held| held.is_busy = false),
        }
        loop {
            let there: Vec<Held> = memory.values().cloned().collect();
            let fixed = queue.running_bytes();
            match queue.next(|load| room(load.needed, fixed, max, &there)) {
                Some(Step::Start(load)) => {
                    assert!(!memory.contains_key(&load.key), "it is there already");
                    loading.push(load.key);
                }
                Some(Step::LetGo(gone)) => {
                    assert!(!gone.is_empty());
                    let newest = gone.iter().map(|key| memory[key].used_us).max();
                    for key in &gone {
                        let gone = memory.remove(key).unwrap();
                        assert!(!gone.is_busy, "a request uses it");
                    }
                    let older = memory
                        .values()
                        .find(|held| !held.is_busy && Some(held.used_us) < newest);
                    assert!(older.is_none(), "{older:?} was used less recently");
                }
                Some(Step::Refuse(load)) => assert!(load.needed > max),
                None => break,
            }
            let in_memory: u64 = memory.values().map(|held| held.bytes).sum();
            let under_way: u64 = loading.iter().map(size).sum();
            assert_eq!(queue.running_bytes(), under_way);
            assert!(in_memory + under_way <= max, "over the bound");
            assert!(loading.len() <= n_threads);
            assert!(loading.iter().filter(|key| size(key) > 80).count() <= 1);
        }
    }
    // Once nothing is busy and loads end, everything that fits comes, so that no wait is for ever.
    memory.values_mut().for_each(|held| held.is_busy = false);
    for _ in 0..1_000 {
        for key in loading.drain(..) {
            queue.ended(&key);
            memory.insert(key.clone(), held(&key.0, size(&key), 400, false));
        }
        let there: Vec<Held> = memory.values().cloned().collect();
        let fixed = queue.running_bytes();
        match queue.next(|load| room(load.needed, fixed, max, &there)) {
            Some(Step::Start(load)) => loading.push(load.key),
            Some(Step::LetGo(gone)) => gone.iter().for_each(|key| drop(memory.remove(key))),
            Some(Step::Refuse(_)) => {}
            None => break,
        }
    }
    assert!(queue.is_idle(), "{queue:?}");
}

#[test]
fn random_lives_keep_the_bound_and_the_order_and_starve_nobody() {
    let mut dice = Dice::new();
    for _ in 0..300 {
        live(&mut dice);
    }
}
