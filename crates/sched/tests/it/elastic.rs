//! Elastic tasks give back what is above their minimum before anybody is stopped.

use crate::script::check_with;
use sched::Config;

fn shrinking() -> Config {
    Config {
        shrinks: true,
        ..Config::standard()
    }
}

#[test]
fn seats_above_the_minimum_go_first_and_no_more_than_needed() {
    check_with(
        shrinking(),
        "pool p
         node 1 p cpu=4
         node 2 p cpu=2
         queue q
         job firm q cpu=2 preemptible
         job wide q cpu=1 x4 min=1
         decide
         wait 1h
         job other q cpu=2
         decide
         why other
         end wide 0.3
         end wide 0.2
         decide
         end other
         decide",
        "start firm: 0.0@2
         start wide: 0.0@1 0.1@1 0.2@1 0.3@1
         evict wide [0.2 0.3] for other: preempted by a higher priority
         nominate other: 1
         other waits at 1
         in `p`: 1 tasks are stopping to make room, by 1970-01-01T01:17:10.000Z
         expected in 30s
         start other: 0.0@1
         grow wide: 0.2@1 0.3@1",
    );
}

#[test]
fn a_queue_within_its_guarantee_keeps_its_elastic_seats() {
    check_with(
        shrinking(),
        "pool p
         node 1 p cpu=4
         queue owner guaranteed.cpu=4
         queue guest
         job wide owner cpu=1 x4 min=1
         decide
         job other guest cpu=1
         decide
         why other",
        "start wide: 0.0@1 0.1@1 0.2@1 0.3@1
         other waits at 1
         in `p`: 0 of 1 members fit now; cpu is short (0 free)",
    );
}

#[test]
fn a_rejected_shrink_leaves_everything_as_it_was() {
    check_with(
        shrinking(),
        "pool p
         node 1 p cpu=2
         queue q
         job wide q cpu=1 x2 min=1
         decide
         job other q cpu=1
         propose
         reject
         used q p
         decide",
        "start wide: 0.0@1 0.1@1
         evict wide [0.1] for other: preempted by a higher priority
         nominate other: 1
         q uses cpu 2
         evict wide [0.1] for other: preempted by a higher priority
         nominate other: 1",
    );
}
