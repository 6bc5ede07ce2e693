//! Nobody is stopped for what comes free by itself just as soon.

use crate::script::{Script, check};
use sched::Config;

/// Two cores, and tasks of one core that end one a second for ten seconds.
fn busy() -> Script {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n node 1 p cpu=2\n queue q\n queue owner guaranteed.cpu=1");
    run.run("job long q cpu=1 preemptible\n decide");
    for number in 0..10 {
        run.run(&format!(
            "job s{number} q cpu=1 preemptible\n decide\n wait 1s\n end s{number}\n decide"
        ));
    }
    run.run("job last q cpu=1 preemptible\n decide");
    run
}

#[test]
fn a_priority_waits_for_what_ends_soon_and_then_takes_it() {
    let mut run = busy();
    let before = run.run("").len();
    run.run("wait 1s\n job urgent q cpu=1 prio=5 now\n decide");
    assert_eq!(run.run("").len(), before, "it waits");
    let out = run.run("wait 500ms\n end last\n decide");
    assert!(out[before..].starts_with("start urgent"), "{out}");
}

#[test]
fn patience_ends() {
    let mut run = busy();
    let before = run.run("").len();
    let out = run.run("job urgent q cpu=1 prio=5 now\n decide\n wait 10s\n decide");
    assert!(
        out[before..].starts_with("evict last for urgent"),
        "{}",
        &out[before..]
    );
}

#[test]
fn a_guarantee_does_not_wait() {
    let mut run = busy();
    let before = run.run("").len();
    let out = run.run("job mine owner cpu=1 now\n decide");
    assert!(
        out[before..].contains("reclaimed for a guaranteed quota"),
        "{}",
        &out[before..]
    );
}

#[test]
fn where_nothing_ends_nobody_waits() {
    check(
        "pool p
         node 1 p cpu=1
         queue q
         job long q cpu=1 preemptible
         decide
         wait 1h
         job urgent q cpu=1 prio=5 now
         decide",
        "start long: 0.0@1
         evict long for urgent: preempted by a higher priority
         nominate urgent: 1",
    );
}
