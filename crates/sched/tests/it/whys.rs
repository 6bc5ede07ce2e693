//! What is said about a task.

use crate::script::{Script, check};
use sched::Config;

#[test]
fn the_life_of_a_task() {
    check(
        "pool p
         node 1 p cpu=8
         queue q limit.cpu=4
         job a q cpu=3
         why a
         propose
         why a
         commit
         why a
         job b q cpu=3
         job c q cpu=1
         decide
         why c
         end a
         why a",
        "a waits at 1
         in ``: it has not been considered yet
         start a: 0.0@1
         a starts
         a runs: node-1 was the fullest node that fits
         c waits at 2
         in `p`: `b` is before it in the queue
         a unknown",
    );
}

#[test]
fn the_smallest_change_starts_it() {
    let cluster = "pool p
         node 1 p cpu=64 gpus=8
         node 2 p cpu=64 gpus=4:A10
         queue q limit.cpu=100
         job hold q gpu=2 models=H200 limit=2h
         decide
         ";
    let told = "start hold: 0.0@1[g0 g1]
         ";
    for (job, change, changed, start) in [
        (
            "gpu=8 models=H200",
            "ask 6 GPUs instead of 8",
            "gpu=6 models=H200",
            "0.0@1[g4 g5 g6 g7 g2 g3]",
        ),
        (
            "cpu=1 gpu=3 models=H200 x3",
            "ask 2 GPUs instead of 3",
            "cpu=1 gpu=2 models=H200 x3",
            "0.0@1[g2 g3] 0.1@1[g4 g5] 0.2@1[g6 g7]",
        ),
        (
            "cpu=40 x3",
            "raise the cpu limit of queue `q` by 20",
            "cpu=40 x2",
            "0.0@2 0.1@1",
        ),
        (
            "cpu=60 gpu=1 models=A10 x2 pernode=1",
            "ask 1 members instead of 2",
            "cpu=60 gpu=1 models=A10",
            "0.0@2[g0]",
        ),
    ] {
        let mut run = crate::script::Script::new(sched::Config::standard());
        let out = run.run(&format!(
            "{cluster} job wish q {job}
             decide
             why wish
             job wish q {changed}
             decide"
        ));
        assert!(
            out.contains(&format!("would start: {change}"))
                || job.contains("x3") && out.contains("would start"),
            "{out}"
        );
        assert!(out.contains(&format!("start wish: {start}")), "{out}");
        assert!(out.starts_with(told.trim_end()), "{out}");
    }
}

#[test]
fn known_ends_give_a_time() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job a q cpu=4 limit=2h
         decide
         job b q cpu=2
         why b",
        "start a: 0.0@1
         b waits at 1
         in `p`: 0 of 1 members fit now; cpu is short (0 free)
         expected in 2h",
    );
}

#[test]
fn the_budget_that_keeps_a_guarantee_waiting_is_named() {
    // Both nodes are lent to replicas of one App, of which one may stop at a time.
    let mut run = Script::new(Config::standard());
    let out = run.run(
        "pool p
         node 1 p cpu=1
         node 2 p cpu=1
         queue apps
         queue owner guaranteed.cpu=2
         job a1 apps cpu=1 service app=7
         job a2 apps cpu=1 service app=7
         decide
         job x owner cpu=1
         decide
         job y owner cpu=1
         decide
         why y",
    );
    assert_eq!(out.matches("\nevict").count(), 1, "{out}");
    let sentence = "whose App lets 1 replicas stop at once";
    assert!(out.contains(sentence), "{out}");
}
