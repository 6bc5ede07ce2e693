//! Who goes first: per-queue orders, bands across queues, what was used before.

use crate::script::{check, check_with};
use sched::Config;

#[test]
fn a_fifo_queue_knows_no_priority() {
    check(
        "pool p
         node 1 p cpu=2
         queue q order=fifo
         job a q cpu=1 preemptible
         job b q cpu=1 preemptible
         job c q cpu=2 prio=9
         job d q cpu=1 prio=5
         decide
         end a
         end b
         decide",
        "start a: 0.0@1
         start b: 0.0@1
         start c: 0.0@1",
    );
}

#[test]
fn the_shortest_goes_first_where_a_queue_says_so() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=1
         job b q cpu=1 expected=2h
         job c q cpu=1 expected=1h
         job d q cpu=1 prio=1
         queue q order=shortest
         decide",
        "start d: 0.0@1
         start c: 0.0@1
         start b: 0.0@1
         start a: 0.0@1",
    );
}

#[test]
fn a_higher_band_goes_before_a_smaller_share() {
    let config = Config {
        bands: vec![100],
        ..Config::standard()
    };
    check_with(
        config,
        "pool p
         node 1 p cpu=4
         queue rich
         queue poor
         job r1 rich cpu=1
         decide
         job r2 rich cpu=1 prio=100
         job r3 rich cpu=1 prio=99
         job p1 poor cpu=1 prio=99
         decide",
        "start r1: 0.0@1
         start r2: 0.0@1
         start p1: 0.0@1
         start r3: 0.0@1",
    );
}

#[test]
fn what_a_queue_used_counts_until_it_has_faded() {
    let life = |wait: &str| {
        format!(
            "pool p halflife=1h
             node 1 p cpu=4
             queue old
             queue young
             job o1 old cpu=4
             decide
             wait 2h
             decide
             end o1
             job hold young cpu=2
             decide
             wait {wait}
             decide
             end hold
             job a old cpu=1
             job b young cpu=1
             decide"
        )
    };
    // Two hours of four cores weigh more than one minute of two; after a night they do not.
    check(
        &life("1m"),
        "start o1: 0.0@1
         start hold: 0.0@1
         start b: 0.0@1
         start a: 0.0@1",
    );
    check(
        &life("12h"),
        "start o1: 0.0@1
         start hold: 0.0@1
         start a: 0.0@1
         start b: 0.0@1",
    );
}

#[test]
fn stops_for_a_priority_are_rationed_by_the_minute() {
    let config = Config {
        evictions_per_minute: 1,
        ..Config::standard()
    };
    check_with(
        config,
        "pool p
         node 1 p cpu=1
         node 2 p cpu=1
         queue q
         job a q cpu=1 preemptible
         job b q cpu=1 preemptible
         decide
         wait 1h
         job x q cpu=1 prio=5
         job y q cpu=1 prio=5
         decide
         end a
         decide
         wait 1m
         decide",
        "start a: 0.0@1
         start b: 0.0@2
         evict a for x: preempted by a higher priority
         nominate x: 1
         start x: 0.0@1
         evict b for y: preempted by a higher priority
         nominate y: 2",
    );
}
