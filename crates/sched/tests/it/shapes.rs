//! Guarantees in shapes: whole nodes, not sums of scattered parts.

use crate::script::check;

#[test]
fn a_guaranteed_node_is_there_whole_although_others_sit_on_every_node() {
    // Three nodes of eight; the owner is promised one whole. Small firm tasks are kept off it while there
    // is room elsewhere, and leave it when the owner comes.
    check(
        "pool p
         node 1 p cpu=64 gpus=8:A100
         node 2 p cpu=64 gpus=8:A100
         queue owner shape=1x8:A100
         queue guest guaranteed.gpu=8
         job g1 guest gpu=4
         job g2 guest gpu=2
         job g3 guest gpu=4
         decide
         job mine owner gpu=8
         decide
         end g3
         decide
         job more owner gpu=1
         decide
         why more",
        "start g1: 0.0@2[g0 g1 g2 g3]
         start g2: 0.0@2[g4 g5]
         start g3: 0.0@1[g0 g1 g2 g3]
         evict g3 for mine: reclaimed for a guaranteed quota
         nominate mine: 1
         start mine: 0.0@1[g0 g1 g2 g3 g4 g5 g6 g7]
         start more: 0.0@2[g6]
         more runs: node-2 was the fullest node that fits",
    );
}

#[test]
fn a_cell_moves_when_its_node_is_lost() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8:A100
         node 2 p cpu=64 gpus=8:H200
         node 3 p cpu=64 gpus=8:A100
         queue owner shape=1x8:A100
         queue guest guaranteed.gpu=16
         job g1 guest gpu=1 models=A100
         decide
         gone 1
         job g2 guest gpu=1 models=A100
         decide
         job mine owner gpu=8 models=A100
         decide",
        "start g1: 0.0@3[g0]
         start g2: 0.0@3[g1]
         evict g1 for mine: reclaimed for a guaranteed quota
         evict g2 for mine: reclaimed for a guaranteed quota
         nominate mine: 3",
    );
}
