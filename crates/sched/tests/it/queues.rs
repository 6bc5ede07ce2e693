//! Whose turn it is: order, quota ceilings, who may block whom.

use crate::script::check;

#[test]
fn priority_then_age() {
    check(
        "pool p
         node 1 p cpu=8
         queue q
         job a q cpu=1
         job b q cpu=1 prio=5
         job c q cpu=1
         job d q cpu=1 readmit
         decide",
        "start d: 0.0@1
         start b: 0.0@1
         start a: 0.0@1
         start c: 0.0@1",
    );
}

#[test]
fn ceilings_hold_up_the_tree() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue org limit.gpu=4
         queue team parent=org limit.gpu=3
         queue other parent=org
         job a team gpu=3
         job b team gpu=1
         job c other gpu=1
         job d other gpu=1
         decide
         why b
         why d",
        "start a: 0.0@1[g0 g1 g2]
         start c: 0.0@1[g3]
         b waits at 1
         in `p`: queue `team` uses 3 of its gpu limit 3; this asks for 1 more
         d waits at 1
         in `p`: queue `org` uses 4 of its gpu limit 4; this asks for 1 more
         would start: raise the gpu limit of queue `org` by 1",
    );
}

#[test]
fn a_blocked_head_blocks_its_own_queue_and_pool_only() {
    check(
        "pool big
         pool small
         node 1 big cpu=4
         node 2 small cpu=4
         queue q
         queue other
         job hold q cpu=2 pools=big
         job head q cpu=4 pools=big
         job behind q cpu=8 pools=big
         job elsewhere q cpu=1 pools=small
         job stranger other cpu=1 pools=big
         decide
         why elsewhere
         why behind",
        "start hold: 0.0@1
         start stranger: 0.0@1
         start elsewhere: 0.0@2
         elsewhere runs: node-2 was the fullest node that fits
         behind waits at 2
         in `big`: it can never start: one member asks for cpu 8, the largest node has 4",
    );
}

#[test]
fn who_is_kept_out_by_relations_holds_nobody_up() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job web q cpu=1 key=web against=web
         job web2 q cpu=1 key=web against=web
         job behind q cpu=2
         decide
         why web2",
        "start web: 0.0@1
         start behind: 0.0@1
         web2 waits at 1
         in `p`: all 1 nodes are excluded: 1 by the affinity",
    );
}

#[test]
fn what_can_never_start_stands_in_nobodys_way() {
    check(
        "pool p
         node 1 p cpu=4
         queue q limit.cpu=3
         job never q cpu=100
         job over q cpu=1 x4
         job fine q cpu=1
         decide",
        "start fine: 0.0@1",
    );
}

#[test]
fn a_missing_queue_is_waited_for() {
    check(
        "pool p
         node 1 p cpu=4
         job a later cpu=1
         decide
         why a
         queue later
         decide
         noqueue later
         job b later cpu=1
         decide
         why b",
        "a waits at 1
         in ``: queue `later` does not exist
         start a: 0.0@1
         b waits at 1
         in ``: queue `later` does not exist",
    );
}

#[test]
fn the_poorer_queue_goes_first() {
    check(
        "pool p
         node 1 p cpu=6
         queue rich weight=2
         queue poor
         job a1 rich cpu=1
         job a2 rich cpu=1
         job a3 rich cpu=1
         job a4 rich cpu=1
         job b1 poor cpu=1
         job b2 poor cpu=1
         decide",
        "start a1: 0.0@1
         start b1: 0.0@1
         start a2: 0.0@1
         start a3: 0.0@1
         start b2: 0.0@1
         start a4: 0.0@1",
    );
}

#[test]
fn no_borrowing_without_weight() {
    check(
        "pool p
         node 1 p cpu=64 gpus=4
         queue q guaranteed.gpu=2 weight=0
         job a q gpu=2
         job b q gpu=1
         job c q cpu=1
         decide",
        "start a: 0.0@1[g0 g1]",
    );
}

#[test]
fn nothing_to_run_on() {
    check(
        "queue q
         job a q cpu=1
         decide
         why a
         pool p
         decide
         why a
         node 1 p cpu=1
         decide",
        "a waits at 1
         in ``: there are no nodes it may use
         a waits at 1
         in `p`: there are no nodes it may use
         start a: 0.0@1",
    );
}
