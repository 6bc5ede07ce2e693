//! Where a gang goes: nodes, devices, domains.

use crate::script::check;

#[test]
fn best_fit_fills_the_fullest_node() {
    check(
        "pool p
         node 1 p cpu=8
         node 2 p cpu=4
         queue q
         job a q cpu=2
         job b q cpu=2
         job c q cpu=2
         decide",
        "start a: 0.0@2
         start b: 0.0@2
         start c: 0.0@1",
    );
}

#[test]
fn spread_uses_the_emptiest_node() {
    check(
        "pool p spread
         node 1 p cpu=8
         node 2 p cpu=8
         queue q
         job a q cpu=2 x4
         decide",
        "start a: 0.0@1 0.1@2 0.2@1 0.3@2",
    );
}

#[test]
fn a_gang_starts_whole_or_not_at_all() {
    check(
        "pool p
         node 1 p cpu=4
         node 2 p cpu=2
         queue q
         job a q cpu=1 x2
         + ps cpu=3 x2
         decide
         used q p
         why a",
        "q uses nothing
         a waits at 1
         in `p`: 1 of 2 members fit now; cpu is short (6 free)",
    );
}

#[test]
fn whole_gpus_stay_inside_a_link_group() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue q
         job a q cpu=1 gpu=2
         job b q cpu=1 gpu=4
         job c q cpu=1 gpu=2
         decide",
        "start a: 0.0@1[g0 g1]
         start b: 0.0@1[g4 g5 g6 g7]
         start c: 0.0@1[g2 g3]",
    );
}

#[test]
fn fractions_share_a_device_and_never_more_than_it_has() {
    check(
        "pool p
         node 1 p cpu=64 gpus=2
         queue q
         job a q cpu=1 gpu=0.5
         job b q cpu=1 gpu=0.6
         job c q cpu=1 gpu=0.5
         job d q cpu=1 gpu=0.5
         decide
         why d",
        "start a: 0.0@1[g0*500]
         start b: 0.0@1[g1*600]
         start c: 0.0@1[g0*500]
         d waits at 1
         in `p`: 0 of 1 members fit now; gpu is short (0.4 free)
         would start: ask 0.4 GPUs instead of 0.5",
    );
}

#[test]
fn a_fraction_gets_the_memory_it_asks_for() {
    check(
        "pool p
         node 1 p cpu=64 gpus=1
         queue q
         job a q cpu=1 gpu=0.2 gpumemory=50000
         job b q cpu=1 gpu=0.2 gpumemory=50000
         decide",
        "start a: 0.0@1[g0*200]",
    );
}

#[test]
fn counted_pools_name_no_device_and_refuse_fractions() {
    check(
        "pool p counted
         node 1 p cpu=64 gpu=2
         queue q
         job a q cpu=1 gpu=2
         job b q cpu=1 gpu=0.5
         decide
         why b",
        "start a: 0.0@1
         b waits at 1
         in `p`: all 1 nodes are excluded: 1 by counted GPUs, which cannot be shared",
    );
}

#[test]
fn models_in_order_of_preference() {
    check(
        "pool p
         node 1 p cpu=64 gpus=1:A10
         node 2 p cpu=64 gpus=1:H200
         queue q
         job a q cpu=1 gpu=1 models=H200,A10
         job b q cpu=1 gpu=1 models=H200,A10
         job c q cpu=1 gpu=1 models=T4
         decide
         why c",
        "start a: 0.0@2[g0]
         start b: 0.0@1[g0]
         c waits at 1
         in `p`: all 2 nodes are excluded: 2 by the GPU model",
    );
}

#[test]
fn selectors_taints_and_cordons() {
    check(
        "pool p
         node 1 p cpu=8 taint=maintenance
         node 2 p cpu=8 zone=a cordoned
         node 3 p cpu=8 zone=b
         node 4 p cpu=8 zone=a softtaint=old
         queue q
         job a q cpu=1 on=zone:a
         job b q cpu=1 tolerates=maintenance
         job c q cpu=1 on=zone:c
         job d q cpu=1
         decide
         why c",
        "start a: 0.0@4
         start b: 0.0@1
         start d: 0.0@3
         c waits at 1
         in `p`: all 4 nodes are excluded: 1 by being unschedulable, 3 by the selector `zone=c`",
    );
}

#[test]
fn sick_devices_take_nothing_new() {
    check(
        "pool p
         node 1 p cpu=8 sick=1 gpus=1
         queue q
         job a q cpu=1 gpu=1
         job b q cpu=1 gpu=2
         decide
         why b",
        "start a: 0.0@1[g1]
         b waits at 1
         in `p`: it can never start: one member asks for gpu 2, the largest node has 1",
    );
}

#[test]
fn work_without_gpus_keeps_off_gpu_nodes() {
    check(
        "pool p
         node 1 p cpu=4 gpus=1
         node 2 p cpu=64
         queue q
         job a q cpu=1
         decide",
        "start a: 0.0@2",
    );
}

#[test]
fn at_most_so_many_members_on_a_node() {
    check(
        "pool p
         node 1 p cpu=64
         node 2 p cpu=64
         queue q
         job a q cpu=1 x4 pernode=2
         job b q cpu=1 x3 pernode=1
         job c q cpu=1 x2 pernode=1
         decide",
        "start a: 0.0@1 0.1@1 0.2@2 0.3@2
         start c: 0.0@1 0.1@2",
    );
}

#[test]
fn extended_resources_and_slots() {
    check(
        "pool p
         node 1 p cpu=64 fpga=2 slots=2
         queue q
         job a q cpu=1 fpga=1
         job b q cpu=1 fpga=2
         job c q cpu=1
         job d q cpu=1 dpu=1
         decide
         why b
         why d",
        "start a: 0.0@1
         start c: 0.0@1
         b waits at 1
         in `p`: 0 of 1 members fit now; slots is short (0 free)
         d waits at 2
         in `p`: it can never start: one member asks for dpu 1, the largest node has 0",
    );
}

#[test]
fn a_group_stays_in_the_tightest_rack() {
    check(
        "pool p levels=rack,host
         node 1 p cpu=4 rack=r1
         node 2 p cpu=4 rack=r1
         node 3 p cpu=2 rack=r2
         node 4 p cpu=4 rack=r2
         queue q
         job a q cpu=1 x6 in=rack
         job b q cpu=1 x6 in=rack
         job c q cpu=1 x6 in=rack
         decide
         why c",
        "start a: 0.0@3 0.1@3 0.2@4 0.3@4 0.4@4 0.5@4
         start b: 0.0@1 0.1@1 0.2@1 0.3@1 0.4@2 0.5@2
         c waits at 1
         in `p`: 2 of 6 members fit now; cpu is short (2 free)
         would start: ask 2 members instead of 6",
    );
}

#[test]
fn a_preferred_rack_is_not_waited_for() {
    check(
        "pool p
         node 1 p cpu=2 rack=r1
         node 2 p cpu=2 rack=r2
         queue q
         job a q cpu=1 x4 in=rack
         job b q cpu=1 x4 near=rack
         decide
         why a",
        "start b: 0.0@1 0.1@1 0.2@2 0.3@2
         a waits at 1
         in `p`: 0 of 4 members fit now; cpu is short (0 free)",
    );
}

#[test]
fn friends_and_foes() {
    check(
        "pool p
         node 1 p cpu=8 zone=a
         node 2 p cpu=8 zone=a
         node 3 p cpu=8 zone=b
         queue q
         job db q cpu=1 key=db against=db@zone x2
         job web q cpu=1 key=web with=db@zone against=web
         job web2 q cpu=1 key=web with=db against=web@zone
         job lonely q cpu=1 with=nobody
         decide
         why lonely",
        "start db: 0.0@1 0.1@3
         start web: 0.0@1
         start web2: 0.0@3
         lonely waits at 1
         in `p`: all 3 nodes are excluded: 3 by the affinity",
    );
}

#[test]
fn an_elastic_group_takes_what_is_there() {
    check(
        "pool p
         node 1 p cpu=3
         queue q
         job a q cpu=1 x8 min=2
         decide",
        "start a: 0.0@1 0.1@1 0.2@1",
    );
}
