//! What is said about a task.

use crate::script::check;

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
