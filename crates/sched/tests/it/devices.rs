//! Parts of devices: cuts, shared ports, fast groups below the node, sick devices with a reason.

use crate::script::check;

#[test]
fn partitions_are_cut_where_they_spoil_the_least() {
    // 3g begins at 4, where only three places of 1g are lost instead of four; small parts go to the device
    // on which large ones have no place any more.
    check(
        "pool p
         node 1 p cpu=64 mig=2
         queue q
         job a q mig-3g.40gb=1
         job b q mig-1g.10gb=1
         job c q mig-3g.40gb=1
         job d q gpu=1
         job e q mig-2g.20gb=1
         job f q mig-1g.10gb=2
         decide
         why d
         end a
         end b
         end c
         end e
         end f
         decide",
        "start a: 0.0@1[g0/4+4]
         start b: 0.0@1[g0/0+1]
         start c: 0.0@1[g1/4+4]
         start e: 0.0@1[g0/2+2]
         start f: 0.0@1[g0/1+1 g1/0+1]
         d waits at 1
         in `p`: 0 of 1 members fit now; gpu is short (0.433 free)
         start d: 0.0@1[g0]",
    );
}

#[test]
fn a_cut_device_is_not_shared_and_a_shared_one_not_cut() {
    check(
        "pool p
         node 1 p cpu=64 mig=1
         queue q
         job a q gpu=0.3
         job b q mig-1g.10gb=1
         decide
         why b
         end a
         decide
         job c q gpu=0.3
         decide
         why c",
        "start a: 0.0@1[g0*300]
         b waits at 1
         in `p`: 0 of 1 members fit now; mig-1g.10gb is short (7 free)
         start b: 0.0@1[g0/6+1]
         c waits at 1
         in `p`: 0 of 1 members fit now; gpu is short (0.858 free)",
    );
}

#[test]
fn functions_and_bandwidth_come_from_one_port() {
    check(
        "pool p
         node 1 p cpu=64 nics=2
         queue q
         job a q rdma_vf=1 rdma_gbps=60
         job b q rdma_vf=1 rdma_gbps=60
         job c q rdma_vf=1 rdma_gbps=60
         job d q rdma_vf=3 rdma_gbps=40
         decide
         why c
         end a
         decide",
        "start a: 0.0@1[g0~]
         start b: 0.0@1[g1~]
         start d: 0.0@1[g0~]
         c waits at 1
         in `p`: 0 of 1 members fit now; rdma_gbps is short (40 free)
         start c: 0.0@1[g0~]",
    );
}

#[test]
fn a_member_may_require_one_fast_group() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue q
         job a q gpu=2
         job b q gpu=3
         job c q gpu=3 in=link
         decide
         why c
         end b
         decide
         job d q gpu=5 in=link
         decide
         why d",
        "start a: 0.0@1[g0 g1]
         start b: 0.0@1[g4 g5 g6]
         c waits at 1
         in `p`: 0 of 1 members fit now; gpu is short (3 free)
         would start: ask 2 GPUs instead of 3
         start c: 0.0@1[g4 g5 g6]
         d waits at 1
         in `p`: it can never start: one member asks for gpu in one link 5, the largest node has 4
         would start: ask 2 GPUs instead of 5",
    );
}

#[test]
fn a_sick_device_says_what_ails_it_and_is_used_again_when_well() {
    check(
        "pool p
         node 1 p cpu=8 gpus=1 devicetaint=xid:79
         queue q
         job a q gpu=1
         job b q gpu=1 tolerates=xid
         decide
         why a
         node 1 p cpu=8 gpus=1
         end b
         decide",
        "start b: 0.0@1[g0]
         a waits at 1
         in `p`: all 1 nodes are excluded: 1 by sick devices (`xid=79`)
         start a: 0.0@1[g0]",
    );
}

#[test]
fn a_device_that_falls_sick_is_left() {
    check(
        "pool p
         node 1 p cpu=8 gpus=2
         queue q
         job a q gpu=1
         job b q gpu=1
         decide
         node 1 p cpu=8 gpus=2 devicetaint=xid:48
         decide
         why b",
        "start a: 0.0@1[g0]
         start b: 0.0@1[g1]
         evict b: its node or device is drained
         b stops: its node or device is drained",
    );
}
