//! Who is stopped for whom: priority, guarantee, fair share, drains; and what is kept for who waits.

use crate::script::check;

#[test]
fn a_higher_priority_stops_the_cheapest_of_its_queue() {
    check(
        "pool p
         node 1 p cpu=4
         node 2 p cpu=4
         queue q
         job old q cpu=4 preemptible
         decide
         wait 1h
         job young q cpu=4 preemptible
         decide
         job firm q cpu=1
         job urgent q cpu=3 prio=5
         decide
         why urgent
         why young
         end young
         decide
         why urgent",
        "start old: 0.0@1
         start young: 0.0@2
         evict young for urgent: preempted by a higher priority
         nominate urgent: 2
         urgent waits at 1
         in `p`: 1 tasks are stopping to make room, by 1970-01-01T01:17:10.000Z
         expected in 30s
         young stops: preempted by a higher priority, to make room for `urgent`
         start urgent: 0.0@2
         start firm: 0.0@2
         urgent runs: node-2 was the fullest node that fits",
    );
}

#[test]
fn nobody_is_stopped_who_does_not_consent_or_ran_too_short() {
    check(
        "pool p
         node 1 p cpu=2
         queue q
         job firm q cpu=1
         job fresh q cpu=1 preemptible runs=1h
         decide
         job urgent q cpu=1 prio=5
         decide
         wait 1h
         decide",
        "start firm: 0.0@1
         start fresh: 0.0@1
         evict fresh for urgent: preempted by a higher priority
         nominate urgent: 1",
    );
}

#[test]
fn a_guarantee_is_taken_back_and_no_more() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue owner guaranteed.gpu=4
         queue guest
         job g1 guest gpu=2
         job g2 guest gpu=2
         job g3 guest gpu=2
         job g4 guest gpu=2
         decide
         job mine owner gpu=3
         decide
         end g1
         end g2
         end g3
         end g4
         decide
         job more owner gpu=4
         decide",
        "start g1: 0.0@1[g0 g1]
         start g2: 0.0@1[g2 g3]
         start g3: 0.0@1[g4 g5]
         start g4: 0.0@1[g6 g7]
         evict g1 for mine: reclaimed for a guaranteed quota
         evict g2 for mine: reclaimed for a guaranteed quota
         nominate mine: 1
         start mine: 0.0@1[g0 g1 g2]
         start more: 0.0@1[g4 g5 g6 g7]",
    );
}

#[test]
fn a_gang_is_stopped_whole_and_only_the_needed_one() {
    check(
        "pool p
         node 1 p cpu=4
         node 2 p cpu=4
         node 3 p cpu=4
         queue owner guaranteed.cpu=12
         queue guest
         job wide guest cpu=2 x3 pernode=1
         job narrow guest cpu=2 x2 pernode=1
         decide
         job mine owner cpu=4
         decide",
        "start wide: 0.0@1 0.1@2 0.2@3
         start narrow: 0.0@1 0.1@2
         evict wide for mine: reclaimed for a guaranteed quota
         nominate mine: 3",
    );
}

#[test]
fn a_fair_share_is_taken_only_from_who_stays_ahead() {
    check(
        "pool p
         node 1 p cpu=8
         queue rich
         queue poor
         job r1 rich cpu=2 preemptible
         job r2 rich cpu=2 preemptible
         job r3 rich cpu=2 preemptible
         job r4 rich cpu=2 preemptible
         decide
         job p1 poor cpu=2
         decide
         end r1
         end r2
         end r3
         end r4
         decide
         job s1 rich cpu=6 preemptible
         decide
         job p2 poor cpu=2
         decide
         why p2",
        "start r1: 0.0@1
         start r2: 0.0@1
         start r3: 0.0@1
         start r4: 0.0@1
         evict r1 for p1: reclaimed for a fair share
         nominate p1: 1
         start p1: 0.0@1
         start s1: 0.0@1
         p2 waits at 1
         in `p`: 0 of 1 members fit now; cpu is short (0 free)",
    );
}

#[test]
fn an_app_is_disturbed_within_its_budget() {
    check(
        "pool p
         node 1 p cpu=2
         queue owner guaranteed.cpu=2
         queue guest
         job a1 guest cpu=1 app=7
         job a2 guest cpu=1 app=7
         decide
         job m1 owner cpu=1
         job m2 owner cpu=1
         decide
         end a1
         decide
         node 1 p cpu=2
         decide",
        "start a1: 0.0@1
         start a2: 0.0@1
         evict a1 for m1: reclaimed for a guaranteed quota
         nominate m1: 1
         start m1: 0.0@1
         evict a2 for m2: reclaimed for a guaranteed quota
         nominate m2: 1",
    );
}

#[test]
fn a_drained_node_and_a_sick_device_are_left() {
    check(
        "pool p
         node 1 p cpu=8 gpus=2
         node 2 p cpu=8
         queue q
         job a q gpu=1
         job b q gpu=1
         job c q cpu=1
         job d q cpu=1 tolerates=maintenance
         decide
         node 1 p cpu=8 sick=1 gpus=1
         decide
         node 2 p cpu=8 drain=maintenance
         decide
         why c",
        "start a: 0.0@1[g0]
         start b: 0.0@1[g1]
         start c: 0.0@2
         start d: 0.0@2
         evict a: its node or device is drained
         evict c: its node or device is drained
         c stops: its node or device is drained",
    );
}

#[test]
fn small_jobs_do_not_starve_a_waiting_gang() {
    check(
        "pool p
         node 1 p cpu=4
         node 2 p cpu=4
         queue q
         queue flood
         job s1 flood cpu=2 limit=1h
         job s2 flood cpu=2 limit=2h
         decide
         job gang q cpu=4 x2
         job s3 flood cpu=2 limit=3h
         job s4 flood cpu=2 limit=30m
         decide
         why s3
         end s1
         end s2
         job s5 flood cpu=2 limit=3h
         decide",
        "start s1: 0.0@1
         start s2: 0.0@1
         start s4: 0.0@2
         s3 waits at 1
         in `p`: the free capacity is reserved for `gang` until 1970-01-01T02:16:40.000Z
         would start: declare a time limit of at most 2h",
    );
}

#[test]
fn an_elastic_job_grows_into_what_is_left() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=3
         job b q cpu=1 x4 min=1
         decide
         end a
         decide
         decide",
        "start a: 0.0@1
         start b: 0.0@1
         grow b: 0.1@1 0.2@1 0.3@1",
    );
}

#[test]
fn who_loses_the_work_of_many_gpus_costs_more_than_who_loses_that_of_one() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue owner guaranteed.gpu=1
         queue guest
         job large guest gpu=7 preemptible
         decide
         wait 10m
         job small guest gpu=1 preemptible
         decide
         wait 50m
         job mine owner gpu=1
         decide",
        "start large: 0.0@1[g0 g1 g2 g3 g4 g5 g6]
         start small: 0.0@1[g7]
         evict small for mine: reclaimed for a guaranteed quota
         nominate mine: 1",
    );
    // Six times the time on a seventh of the GPUs is less than it, although it ran longer.
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue owner guaranteed.gpu=1
         queue guest
         job small guest gpu=1 preemptible
         decide
         wait 50m
         job large guest gpu=7 preemptible
         decide
         wait 10m
         job mine owner gpu=1
         decide",
        "start small: 0.0@1[g0]
         start large: 0.0@1[g4 g5 g6 g7 g1 g2 g3]
         evict small for mine: reclaimed for a guaranteed quota
         nominate mine: 1",
    );
}

/// The look before the search errs on one side only: each of the rights is found by it.
#[test]
fn a_claim_that_nothing_but_one_right_allows_is_made() {
    // A lower priority below the claimant's queue.
    check(
        "pool p
         node 1 p cpu=2
         queue top
         queue leaf parent=top
         job low leaf cpu=2 preemptible
         decide
         wait 1m
         job high top cpu=1 prio=1
         decide",
        "start low: 0.0@1
         evict low for high: preempted by a higher priority
         nominate high: 1",
    );
    // A guarantee of a queue above the claimant's, against the child of another.
    check(
        "pool p
         node 1 p cpu=2
         queue org guaranteed.cpu=1
         queue team parent=org
         queue guests
         queue guest parent=guests
         job loan guest cpu=2
         decide
         job mine team cpu=1
         decide",
        "start loan: 0.0@1
         evict loan for mine: reclaimed for a guaranteed quota
         nominate mine: 1",
    );
    // A queue that nobody described is a rival too.
    check(
        "pool p
         node 1 p cpu=2
         queue gone
         queue mine guaranteed.cpu=1
         job loan gone cpu=2
         decide
         noqueue gone
         job own mine cpu=1
         decide",
        "start loan: 0.0@1
         evict loan for own: reclaimed for a guaranteed quota
         nominate own: 1",
    );
}

#[test]
fn what_leaves_for_another_does_not_make_its_neighbour_cheap() {
    check(
        "pool p
         node 1 p cpu=2
         node 2 p cpu=2
         queue owner guaranteed.cpu=4
         queue guest
         job saves1 guest cpu=1 checkpoints
         job loses guest cpu=1
         job saves2 guest cpu=1 checkpoints
         job saves3 guest cpu=1 checkpoints
         decide
         wait 1h
         job first owner cpu=1
         decide
         job second owner cpu=1
         decide",
        "start saves1: 0.0@1
         start loses: 0.0@1
         start saves2: 0.0@2
         start saves3: 0.0@2
         evict saves1 for first: reclaimed for a guaranteed quota
         nominate first: 1
         evict saves2 for second: reclaimed for a guaranteed quota
         nominate second: 2",
    );
}

#[test]
fn a_node_that_says_the_same_again_disturbs_no_plan() {
    check(
        "pool p
         node 1 p cpu=8 gpus=2 rack=a
         queue owner guaranteed.gpu=2
         queue guest
         job loan guest gpu=2
         decide
         job mine owner gpu=2
         decide
         node 1 p cpu=8 gpus=2 rack=a
         decide
         end loan
         decide
         node 1 p cpu=8 gpus=2 rack=b
         decide
         node 1 p cpu=8 gpus=1 sick=1 rack=b
         decide",
        "start loan: 0.0@1[g0 g1]
         evict loan for mine: reclaimed for a guaranteed quota
         nominate mine: 1
         start mine: 0.0@1[g0 g1]
         evict mine: its node or device is drained",
    );
}
