//! Reserved windows and forecasts: who may start before them, and who leaves in time.

use crate::script::check;

#[test]
fn what_apps_need_at_eight_is_not_given_to_a_job_until_ten() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue apps
         queue jobs
         promise morning p apps until=12h 2h:gpu=6
         job long jobs gpu=4 limit=4h
         job short jobs gpu=4 limit=2h
         job small jobs gpu=2 limit=4h
         decide
         why long",
        "start short: 0.0@1[g0 g1 g2 g3]
         start small: 0.0@1[g4 g5]
         long waits at 1
         in `p`: 0 of 1 members fit now; gpu is short (2 free)
         expected in 2h",
    );
}

#[test]
fn who_waits_for_a_promise_is_told_what_would_do() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue apps
         queue jobs
         promise morning p apps until=12h 2h:gpu=6
         job long jobs gpu=4
         decide
         why long
         job long jobs gpu=4 preemptible
         decide",
        "long waits at 1
         in `p`: the capacity is promised to queue `apps` from 1970-01-01T02:16:40.000Z
         would start: allow it to be preempted
         start long: 0.0@1[g0 g1 g2 g3]",
    );
}

#[test]
fn who_can_be_drained_runs_until_the_grace_begins() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue apps
         queue jobs
         promise morning p apps until=12h 2h:gpu=6
         job a jobs gpu=4 preemptible grace=10m
         job b jobs gpu=2 preemptible grace=10m checkpoints
         job c jobs gpu=2 preemptible grace=10m
         decide
         wait 1h
         decide
         wait 45m
         decide
         wait 5m
         decide
         end a
         end b
         wait 20m
         job app apps gpu=6
         job d jobs gpu=2 preemptible
         decide
         wait 11h
         end app
         decide",
        "start a: 0.0@1[g0 g1 g2 g3]
         start b: 0.0@1[g4 g5]
         start c: 0.0@1[g6 g7]
         evict b: a reserved window begins
         evict a: a reserved window begins
         start app: 0.0@1[g0 g1 g2 g3 g4 g5]
         start d: 0.0@1[g4 g5]",
    );
}

#[test]
fn capacity_that_is_promised_now_stays_free_for_its_owner() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue apps
         queue jobs
         promise day p apps until=2h 0s:gpu=6
         job a jobs gpu=4 preemptible
         job b jobs gpu=2 preemptible
         job web apps gpu=4
         decide
         why a
         nopromise day
         decide",
        "start b: 0.0@1[g0 g1]
         start web: 0.0@1[g4 g5 g6 g7]
         a waits at 1
         in `p`: 0 of 1 members fit now; gpu is short (2 free)
         ",
    );
}

#[test]
fn an_elastic_job_keeps_to_its_minimum_before_a_window() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         queue apps
         queue jobs
         promise day p apps until=9h 1h:gpu=6
         job a jobs gpu=1 x8 min=2
         decide
         decide",
        "start a: 0.0@1[g0] 0.1@1[g1]",
    );
}
