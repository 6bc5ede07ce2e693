//! Facts in an awkward order: repeats, rejections, restarts, nodes that shrink or leave.

use crate::script::check;

#[test]
fn a_rejected_start_is_decided_afresh() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=4
         propose
         used q p
         reject
         used q p
         decide
         commit
         reject
         used q p",
        "start a: 0.0@1
         q uses cpu 4
         q uses nothing
         start a: 0.0@1
         q uses cpu 4",
    );
}

#[test]
fn a_task_withdrawn_while_it_starts_does_not_come_back() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=4
         propose
         withdraw a
         reject
         decide
         why a",
        "start a: 0.0@1
         a unknown",
    );
}

#[test]
fn a_task_changed_while_it_starts_waits_as_changed() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=4
         propose
         job a q cpu=2 x2
         reject
         decide",
        "start a: 0.0@1
         start a: 0.0@1 0.1@1",
    );
}

#[test]
fn stopping_keeps_capacity_until_it_is_seen_to_end() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=4
         decide
         job b q cpu=4
         stop a
         decide
         end a
         end a
         decide",
        "start a: 0.0@1
         start b: 0.0@1",
    );
}

#[test]
fn a_node_may_shrink_below_what_it_holds() {
    check(
        "pool p
         node 1 p cpu=8
         queue q
         job a q cpu=4
         job b q cpu=4
         decide
         node 1 p cpu=6
         end a
         job c q cpu=3
         job d q cpu=2
         decide
         job e q cpu=1 prio=1
         decide
         why c",
        "start a: 0.0@1
         start b: 0.0@1
         start d: 0.0@1
         c waits at 2
         in `p`: 0 of 1 members fit now; cpu is short (0 free)",
    );
}

#[test]
fn a_lost_node_counts_until_released() {
    check(
        "pool p
         node 1 p cpu=8
         node 2 p cpu=8
         queue q limit.cpu=8
         job a q cpu=8
         decide
         gone 1
         gone 1
         job b q cpu=8
         decide
         why b
         end a
         decide
         node 1 p cpu=8
         used q p",
        "start a: 0.0@1
         b waits at 1
         in `p`: queue `q` uses 8 of its cpu limit 8; this asks for 8 more
         would start: raise the cpu limit of queue `q` by 8
         start b: 0.0@2
         q uses cpu 8",
    );
}

#[test]
fn a_restart_finds_everything_as_it_was() {
    check(
        "pool p
         node 1 p cpu=8 gpus=2
         queue q limit.gpu=2
         job a q cpu=1 gpu=0.5
         job b q cpu=1 gpu=1
         decide
         restart
         node 1 p cpu=8 gpus=2
         queue q limit.gpu=2
         pool p
         used q p
         job c q cpu=1 gpu=0.6
         job d q cpu=1 gpu=0.5
         decide
         why c",
        "start a: 0.0@1[g0*500]
         start b: 0.0@1[g1]
         q uses cpu 2, gpu 1.5
         c waits at 1
         in `p`: queue `q` uses 1.5 of its gpu limit 2; this asks for 0.6 more
         would start: ask 0.5 GPUs instead of 0.6",
    );
}

#[test]
fn a_pool_that_goes_takes_its_nodes_out() {
    check(
        "pool p
         node 1 p cpu=8
         queue q
         nopool p
         job a q cpu=1
         decide
         pool p
         decide
         node 1 p cpu=8
         decide",
        "start a: 0.0@1",
    );
}

#[test]
fn devices_are_known_by_identity() {
    check(
        "pool p counted
         node 1 p cpu=8 gpus=2
         queue q
         job a q gpu=1
         decide
         pool p named
         job b q gpu=1
         job c q gpu=1
         decide",
        "start a: 0.0@1
         start b: 0.0@1[g1]",
    );
}
