//! What users of other schedulers ran into, one test each. The name says where.

use crate::script::{Script, check, check_with};
use sched::{Config, Defrag};

#[test]
fn kai_146_consolidation_keeps_to_disruption_budgets() {
    // Four nodes, each used in half, where whole nodes are what is asked for: two moves empty two nodes.
    // Replicas of one App may be disturbed one at a time.
    for (app, moves) in [("", 2), ("app=7", 1)] {
        let mut run = Script::new(Config {
            defrag: Some(Defrag {
                moves_max: 100,
                gain_by_cost_min: 1,
                horizon: base::Span::from_secs(3_600),
            }),
            ..Config::standard()
        });
        run.run("pool p\n queue q");
        for number in 0..6 {
            run.run(&format!("job big{number} q cpu=1 gpu=4 x8"));
        }
        for number in 0..6 {
            run.run(&format!("withdraw big{number}"));
        }
        for node in 1..=4 {
            run.run(&format!(
                "node {node} p cpu=64 gpus=4
                 job a{node} q cpu=1 gpu=2 preemptible checkpoints {app}
                 decide
                 node {node} p cpu=64 gpus=4 cordoned"
            ));
        }
        for node in 1..=4 {
            run.run(&format!("node {node} p cpu=64 gpus=4"));
        }
        let out = run.run("wait 1h\n decide");
        let moved = out.lines().filter(|line| line.contains("moved to join"));
        assert_eq!(moved.count(), moves, "{app}: {out}");
    }
}

#[test]
fn volcano_5984_one_is_stopped_where_one_will_do() {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n node 1 p cpu=64 gpus=8\n queue owner guaranteed.gpu=8\n queue guest");
    for number in 0..8 {
        run.run(&format!("job g{number} guest gpu=1 preemptible"));
    }
    let out = run.run("decide\n wait 1h\n job mine owner gpu=1\n decide\n decide\n decide");
    let evicted = out.lines().filter(|line| line.starts_with("evict")).count();
    assert_eq!(evicted, 1, "{out}");
}

#[test]
fn volcano_5994_a_gang_stops_no_more_than_it_needs() {
    // Each node gives its GPUs for a different number of victims; the gang needs one node.
    let mut run = Script::new(Config::standard());
    run.run("pool p\n queue owner guaranteed.gpu=8\n queue guest");
    run.run("node 1 p cpu=64 gpus=8");
    for number in 0..8 {
        run.run(&format!("job small{number} guest gpu=1 preemptible"));
    }
    run.run(
        "decide\n node 2 p cpu=64 gpus=8\n job big guest gpu=8 preemptible checkpoints\n decide",
    );
    let out = run.run("wait 1h\n job mine owner gpu=8\n decide\n decide");
    let evicted: Vec<&str> = out.lines().filter(|l| l.starts_with("evict")).collect();
    assert_eq!(evicted.len(), 1, "{out}");
    assert!(evicted[0].starts_with("evict big"), "{out}");
}

#[test]
fn volcano_3072_a_new_node_says_nothing_of_those_whom_it_does_not_help() {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n queue q\n node 1 p cpu=1");
    for number in 0..500 {
        run.run(&format!("job big{number} q cpu=8"));
    }
    run.run("decide");
    for node in 2..10 {
        let out = run.run(&format!("node {node} p cpu=1\n decide"));
        assert_eq!(out, "", "nothing changed for anybody");
    }
}

#[test]
fn volcano_5819_what_runs_is_taken_over_without_being_scheduled_again() {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n queue q");
    for node in 0..500 {
        run.run(&format!("node {node} p cpu=16"));
    }
    for number in 0..4_000 {
        run.run(&format!("job r{number} q cpu=2"));
    }
    run.run("decide\n restart\n pool p\n queue q");
    for node in 0..500 {
        run.run(&format!("node {node} p cpu=16"));
    }
    let before = run.run("node 500 p cpu=2\n job next q cpu=2").len();
    // One look is enough: the four thousand cost none.
    let out = run.run("decide 1");
    assert_eq!(out[before..].trim(), "start next: 0.0@500");
}

#[test]
fn volcano_2583_the_price_of_a_look_does_not_depend_on_what_runs() {
    for running in [10, 4_000] {
        let mut run = Script::new(Config::standard());
        run.run("pool p\n queue q\n node 1 p cpu=10000");
        for number in 0..running {
            run.run(&format!("job r{number} q cpu=1"));
        }
        run.run("decide");
        let before = run.run("job next q cpu=1").len();
        let out = run.run("decide 1");
        assert_eq!(out[before..].trim(), "start next: 0.0@1", "{running}");
    }
}

#[test]
fn kueue_9715_a_long_line_is_not_walked_again_for_each_arrival() {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n queue q\n node 1 p cpu=4 gpus=1\n job hold q gpu=1\n decide");
    // Three hundred kinds of work that wait for the GPU.
    for number in 1..=300 {
        run.run(&format!("job wait{number} q gpu=1 memory={number}"));
    }
    run.run("pool bare\n node 2 bare cpu=100");
    // Each call looks at ten; what was refused is not looked at again while newcomers arrive.
    let mut started = 0;
    for number in 0..60 {
        let before = run.run("").len();
        let out = run.run(&format!("job new{number} q cpu=1 pools=bare\n decide 10"));
        started += out[before..].matches("start new").count();
    }
    assert_eq!(
        started, 60,
        "every newcomer has started by the end of the line"
    );
}

#[test]
fn volcano_4607_a_gang_is_stopped_whole_or_not_at_all() {
    check(
        "pool p
         node 1 p cpu=2
         node 2 p cpu=2
         queue q
         job gang q cpu=2 x2 preemptible
         decide
         job urgent q cpu=1 prio=5
         decide
         end gang
         decide",
        "start gang: 0.0@1 0.1@2
         evict gang for urgent: preempted by a higher priority
         nominate urgent: 1
         start urgent: 0.0@1",
    );
}

#[test]
fn volcano_3869_two_that_starve_do_not_lock_each_other_out() {
    // Neither fits while the other holds a part: nobody holds a part.
    check(
        "pool p
         node 1 p cpu=3
         queue a
         queue b
         job x a cpu=1 x2
         job y b cpu=1 x2
         decide
         used b p
         end x
         decide",
        "start x: 0.0@1 0.1@1
         b uses nothing
         start y: 0.0@1 0.1@1",
    );
}

#[test]
fn volcano_5025_a_missed_event_is_mended_by_telling_everything_again() {
    check(
        "pool p
         node 1 p cpu=4
         queue q limit.cpu=4
         job a q cpu=2
         job b q cpu=2
         decide
         restart
         pool p
         node 1 p cpu=4
         queue q limit.cpu=4
         node 1 p cpu=4
         used q p
         job c q cpu=1
         decide
         end a
         decide",
        "start a: 0.0@1
         start b: 0.0@1
         q uses cpu 4
         start c: 0.0@1",
    );
}

#[test]
fn kueue_3779_two_queues_do_not_take_from_each_other_for_ever() {
    let mut run = Script::new(Config::standard());
    run.run(
        "pool p
         node 1 p cpu=3
         queue a
         queue b
         job a0 a cpu=2 preemptible
         decide
         job b0 b cpu=2 preemptible",
    );
    let mut evictions = 0;
    let mut running = 'a';
    for round in 0..20 {
        let out = run.run("wait 1h\n decide");
        let stopped = out.lines().skip_while(|line| !line.starts_with("evict"));
        let count = stopped.filter(|line| line.starts_with("evict")).count();
        if count == 0 || evictions > 10 {
            break;
        }
        evictions += count;
        let other = if running == 'a' { 'b' } else { 'a' };
        run.run(&format!(
            "end {running}{round}\n job {running}{} {running} cpu=2 preemptible",
            round + 1
        ));
        running = other;
    }
    assert!(evictions <= 1, "{evictions} evictions");
}

#[test]
fn kueue_6143_a_victim_that_does_not_end_holds_up_nobody_for_ever() {
    check(
        "pool p
         node 1 p cpu=1
         node 2 p cpu=1
         queue q
         job stuck q cpu=1 preemptible grace=10s
         decide
         wait 1h
         node 2 p cpu=1 taint=old
         job urgent q cpu=1 prio=5
         decide
         wait 5m
         node 2 p cpu=1
         decide",
        "start stuck: 0.0@1
         evict stuck for urgent: preempted by a higher priority
         nominate urgent: 1
         start urgent: 0.0@2",
    );
}

#[test]
fn kueue_8309_a_gang_is_not_starved_by_small_ones_behind_it() {
    check(
        "pool p
         node 1 p cpu=2
         node 2 p cpu=2
         queue q
         job s1 q cpu=1
         job s2 q cpu=1
         job s3 q cpu=1
         job s4 q cpu=1
         decide
         job gang q cpu=2 x2
         job s5 q cpu=1
         decide
         end s1
         job s6 q cpu=1
         decide
         end s2
         end s3
         decide
         end s4
         decide",
        "start s1: 0.0@1
         start s2: 0.0@1
         start s3: 0.0@2
         start s4: 0.0@2
         start gang: 0.0@1 0.1@2",
    );
}

#[test]
fn kueue_4809_who_waits_for_one_pool_blocks_no_other() {
    check(
        "pool big
         pool small
         node 1 big cpu=4
         node 2 small cpu=4
         queue q
         job hold q cpu=4 pools=big
         job head q cpu=4 pools=big
         job next q cpu=4 pools=small
         decide",
        "start hold: 0.0@1
         start next: 0.0@2",
    );
}

#[test]
fn kueue_4329_quota_is_not_held_by_who_cannot_be_placed() {
    check(
        "pool p
         node 1 p cpu=3
         node 2 p cpu=3
         queue q limit.cpu=6
         job wide q cpu=2 x3
         decide
         used q p
         job fits q cpu=2
         decide
         why wide",
        "q uses nothing
         start fits: 0.0@1
         wide waits at 1
         in `p`: queue `q` uses 2 of its cpu limit 6; this asks for 6 more
         would start: ask 1 members instead of 3",
    );
}

#[test]
fn kueue_14570_a_node_is_not_given_twice_in_one_round() {
    check(
        "pool p
         node 1 p cpu=64 gpus=8
         node 2 p cpu=64 gpus=8
         queue a
         queue b
         job x a gpu=8 x2
         job y b gpu=8
         job z b gpu=8
         decide
         used b p",
        "start x: 0.0@1[g0 g1 g2 g3 g4 g5 g6 g7] 0.1@2[g0 g1 g2 g3 g4 g5 g6 g7]
         b uses nothing",
    );
}

#[test]
fn yunikorn_511_what_is_stopping_already_is_counted() {
    check(
        "pool p
         node 1 p cpu=2
         queue q
         job a q cpu=1 preemptible
         job b q cpu=1 preemptible
         decide
         wait 1h
         job x q cpu=1 prio=5
         decide
         decide
         job y q cpu=1 prio=5
         decide",
        "start a: 0.0@1
         start b: 0.0@1
         evict a for x: preempted by a higher priority
         nominate x: 1
         evict b for y: preempted by a higher priority
         nominate y: 1",
    );
}

#[test]
fn yunikorn_76_nodes_without_gpus_do_not_distort_shares() {
    // `g` uses all GPUs of a pool that has few; `c` has nothing and goes first by its share of what
    // both ask for.
    check(
        "pool p
         node 1 p cpu=4 gpus=1
         node 2 p cpu=64
         pool bare
         node 3 bare cpu=4
         queue g
         queue c
         job g1 g cpu=1 gpu=1
         job c1 c cpu=8 pools=p
         decide
         job g2 g cpu=1 pools=bare
         job c2 c cpu=4 pools=bare
         decide",
        "start g1: 0.0@1[g0]
         start c1: 0.0@2
         start c2: 0.0@3",
    );
}

#[test]
fn koordinator_1194_many_alike_take_back_in_one_search() {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n queue owner guaranteed.cpu=200\n queue guest");
    for node in 1..=50 {
        run.run(&format!("node {node} p cpu=4"));
    }
    for number in 0..200 {
        run.run(&format!("job g{number} guest cpu=1"));
    }
    run.run("decide");
    for number in 0..200 {
        run.run(&format!("job o{number} owner cpu=1"));
    }
    // Steps for a few hundred looks are enough for two hundred claims.
    let out = run.run("decide 400");
    let evicted = out.lines().filter(|line| line.starts_with("evict")).count();
    assert_eq!(evicted, 200, "{out}");
}

#[test]
fn kubernetes_71486_who_cannot_start_holds_up_nobody() {
    check(
        "pool p
         node 1 p cpu=4
         queue q
         job huge q cpu=100 prio=9
         job odd q cpu=1 on=zone:none prio=8
         job fine q cpu=1
         decide",
        "start fine: 0.0@1",
    );
}

#[test]
fn kubernetes_108308_preemption_among_thousands_finds_the_cheapest() {
    let mut run = Script::new(Config::standard());
    run.run("pool p\n queue q");
    for node in 1..=2_000 {
        run.run(&format!("node {node} p cpu=1"));
    }
    for number in 0..2_000 {
        let prio = if number == 1_234 { 0 } else { 1 };
        run.run(&format!("job t{number} q cpu=1 preemptible prio={prio}"));
    }
    run.run("decide 1000000\n wait 1h\n job urgent q cpu=1 prio=5");
    let out = run.run("decide");
    assert!(
        out.contains("evict t1234 for urgent"),
        "{}",
        out.lines().last().unwrap()
    );
}

#[test]
fn stops_in_flight_are_bounded() {
    let config = Config {
        evictions_max: 1,
        ..Config::standard()
    };
    check_with(
        config,
        "pool p
         node 1 p cpu=1
         node 2 p cpu=1
         queue q
         job a q cpu=1 preemptible
         job b q cpu=1 preemptible
         decide
         wait 1h
         job x q cpu=1 prio=5
         job y q cpu=1 prio=5
         decide",
        "start a: 0.0@1
         start b: 0.0@2
         evict a for x: preempted by a higher priority
         nominate x: 1",
    );
}
