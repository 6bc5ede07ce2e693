//! Moves that join scattered GPUs: only in idle steps, only of who can move, each worth its cost.

use crate::script::Script;
use base::Span;
use sched::{Config, Defrag};

/// Two nodes of four GPUs on which this happens, while others ask for whole nodes.
fn while_whole_nodes_are_wanted(happens: &str, horizon: Span) -> Script {
    let mut run = Script::new(Config {
        defrag: Some(Defrag {
            moves_max: 1,
            gain_by_cost_min: 2,
            horizon,
        }),
        ..Config::standard()
    });
    run.run(
        "pool p
         node 1 p cpu=64 gpus=4
         node 2 p cpu=64 gpus=4
         queue q",
    );
    // What comes asks for whole nodes, so half-used nodes are a loss.
    for number in 0..10 {
        run.run(&format!("job big{number} q cpu=1 gpu=4 x4"));
    }
    run.run(happens);
    for number in 0..10 {
        run.run(&format!("withdraw big{number}"));
    }
    run
}

fn scattered(words: &str, horizon: Span) -> Script {
    let happens = format!(
        "job a q cpu=1 gpu=2 on=host:node-1 {words}
         job b q cpu=1 gpu=2 on=host:node-2
         decide"
    );
    while_whole_nodes_are_wanted(&happens, horizon)
}

fn moves(run: &mut Script) -> usize {
    let before = run.run("").lines().count();
    let out = run.run("wait 1h\n decide");
    out.lines()
        .skip(before)
        .filter(|line| line.contains("moved to join"))
        .count()
}

#[test]
fn a_task_that_cannot_go_elsewhere_is_not_moved() {
    // Its selector holds it where it is.
    let mut run = scattered("preemptible checkpoints", Span::from_secs(3_600));
    assert_eq!(moves(&mut run), 0);
}

fn free_to_move(words: &str, horizon: Span) -> Script {
    let happens = format!(
        "job full q cpu=1 gpu=3 on=host:node-1
         job rest q cpu=1 gpu=1 on=host:node-1
         job b q cpu=1 gpu=2 on=host:node-2
         decide
         job a q cpu=1 gpu=1 {words}
         decide
         end full
         end rest
         job c q cpu=1 gpu=3 on=host:node-1
         decide"
    );
    let mut run = while_whole_nodes_are_wanted(&happens, horizon);
    run.run("end b");
    run
}

#[test]
fn a_move_that_empties_a_node_is_made_once() {
    // Three of four are taken on node 1, one of four on node 2: together they leave a node whole.
    let mut run = free_to_move("preemptible checkpoints", Span::from_secs(3_600));
    let made = moves(&mut run);
    assert_eq!(made, 1, "{}", run.run(""));
    assert_eq!(moves(&mut run), 0, "it is on its way already");
}

#[test]
fn nobody_is_moved_who_would_lose_work_or_did_not_consent() {
    for words in [
        "preemptible",
        "checkpoints",
        "preemptible checkpoints runs=9h",
    ] {
        let mut run = free_to_move(words, Span::from_secs(3_600));
        assert_eq!(moves(&mut run), 0, "{words}");
    }
}

#[test]
fn a_move_must_be_worth_its_cost() {
    let mut run = free_to_move("preemptible checkpoints", Span::from_secs(10));
    assert_eq!(moves(&mut run), 0);
}

#[test]
fn nobody_is_moved_while_others_can_be_placed() {
    let mut run = free_to_move("preemptible checkpoints", Span::from_secs(3_600));
    let out = run.run("wait 1h\n job more q cpu=1\n decide");
    assert!(!out.contains("moved to join"), "{out}");
    assert!(out.contains("start more"), "{out}");
}
