//! Wishes and numbers between tasks: soft affinity, spreads, most per domain, levels that give way.

use crate::script::check;

#[test]
fn soft_relations_weigh_more_than_packing_and_are_not_waited_for() {
    check(
        "pool p
         node 1 p cpu=8
         node 2 p cpu=4
         node 3 p cpu=2
         queue q
         job cache q cpu=1 key=cache on=host:node-1
         job near q cpu=1 prefer=cache
         job far q cpu=1 avoid=cache
         job full q cpu=4 prefer=cache x2
         decide",
        "start cache: 0.0@1
         start near: 0.0@1
         start far: 0.0@3
         start full: 0.0@1 0.1@2",
    );
}

#[test]
fn carriers_are_spread_over_racks() {
    check(
        "pool p
         node 1 p cpu=8 rack=a
         node 2 p cpu=8 rack=b
         node 3 p cpu=1 rack=c
         queue q
         job web q cpu=1 key=web spread=web@rack x6
         decide
         why web
         withdraw web
         job less q cpu=1 key=web spread=web@rack x5
         decide
         job soft q cpu=1 key=web softspread=web@rack x3
         decide",
        "web waits at 1
         in ``: each member fits alone, but not all of them together with their relations
         start less: 0.0@3 0.1@1 0.2@2 0.3@1 0.4@2
         start soft: 0.0@1 0.1@2 0.2@1",
    );
}

#[test]
fn at_most_so_many_of_an_app_in_a_domain() {
    check(
        "pool p
         node 1 p cpu=8 rack=a
         node 2 p cpu=8 rack=a
         node 3 p cpu=8 rack=b
         queue q
         job a q cpu=1 key=app atmost=app@host:1 atmost=app@rack:2
         job b q cpu=1 key=app atmost=app@host:1 atmost=app@rack:2
         job c q cpu=1 key=app atmost=app@host:1 atmost=app@rack:2
         job d q cpu=1 key=app atmost=app@host:1 atmost=app@rack:2
         decide
         why d
         end a
         decide",
        "start a: 0.0@1
         start b: 0.0@2
         start c: 0.0@3
         d waits at 1
         in `p`: all 3 nodes are excluded: 3 by the affinity
         start d: 0.0@1",
    );
}

#[test]
fn a_preferred_level_gives_way_to_the_next_wider_one() {
    check(
        "pool p levels=block,rack
         node 1 p cpu=2 block=x rack=r1
         node 2 p cpu=2 block=x rack=r2
         node 3 p cpu=2 block=y rack=r3
         node 4 p cpu=3 block=y rack=r4
         queue q
         job a q cpu=1 x4 near=rack
         job b q cpu=1 x5 near=rack
         decide",
        "start a: 0.0@1 0.1@1 0.2@2 0.3@2
         start b: 0.0@3 0.1@3 0.2@4 0.3@4 0.4@4",
    );
}

#[test]
fn a_required_level_may_be_asked_as_a_wish() {
    check(
        "pool p levels=rack
         node 1 p cpu=2 rack=r1
         node 2 p cpu=2 rack=r2
         node 3 p cpu=4 rack=r3
         queue q
         job hold q cpu=4 on=rack:r3
         decide
         job a q cpu=1 x4 in=rack
         decide
         why a",
        "start hold: 0.0@3
         a waits at 1
         in `p`: no rack holds all 4 members now; the best holds 2
         would start: ask 2 members instead of 4",
    );
}
