use super::*;

fn key(name: &str) -> Key {
    (name.to_owned(), 1)
}

#[test]
fn the_first_who_waits_wakes_the_loader_and_each_key_is_seen_once() {
    let demand = Demand::default();
    let (_a, wakes) = demand.join(key("a"), 9).unwrap();
    assert!(wakes);
    let (_again, wakes) = demand.join(key("a"), 9).unwrap();
    assert!(!wakes);
    let (_b, wakes) = demand.join(key("b"), 9).unwrap();
    assert!(!wakes, "the loader will see it, too");
    assert_eq!(demand.take_new(), [key("a"), key("b")]);
    assert!(demand.take_new().is_empty());
    let (_c, wakes) = demand.join(key("c"), 9).unwrap();
    assert!(wakes);
}

#[test]
fn all_who_wait_are_told_and_may_come_again() {
    let (demand, loads) = (Demand::default(), Loads::default());
    let waits: Vec<_> = (0..3)
        .map(|_| demand.join(key("a"), 9).unwrap().0)
        .collect();
    let (mut other, _) = demand.join(key("b"), 9).unwrap();
    demand.take_new();
    demand.answer(&key("a"), &None, &loads);
    for waits in waits {
        assert!(waits.blocking_recv().unwrap().is_none());
    }
    assert!(other.try_recv().is_err(), "it waits for another version");
    let (_again, wakes) = demand.join(key("a"), 9).unwrap();
    assert!(wakes);
    assert_eq!(demand.take_new(), [key("a")]);
}

#[test]
fn those_who_left_are_not_counted() {
    let demand = Demand::default();
    let (first, _) = demand.join(key("a"), 2).unwrap();
    let (_second, _) = demand.join(key("a"), 2).unwrap();
    let error = demand.join(key("a"), 2).map(drop).unwrap_err();
    assert_eq!(error.code, Code::Exhausted);
    let text = "2 requests wait for version 1 of model `a` to be loaded, the oldest for ";
    assert!(error.text.starts_with(text), "{error}");
    drop(first);
    let (third, _) = demand.join(key("a"), 2).unwrap();
    assert!(demand.is_wanted(&key("a")));
    drop((third, _second));
    assert!(!demand.is_wanted(&key("a")));
    assert!(!demand.is_wanted(&key("never")));
    // Whoever comes now is new to the loader.
    demand.take_new();
    let (_fourth, wakes) = demand.join(key("a"), 2).unwrap();
    assert!(wakes);
}
