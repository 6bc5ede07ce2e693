//! The yardstick: the least that a scheduler with cached scores must do.

use super::cluster::per_second;
use std::time::Instant;

/// Places pods of sixteen kinds on empty nodes of 64 cores: for each pod scan all nodes' cached integer
/// best-fit scores of its class, take the best, refresh the changed node. Answers pods a second.
pub(crate) fn calibrate(nodes: usize, pods: u64) -> f64 {
    let mut free = vec![64_000i64; nodes];
    let mut by_kind: Vec<Vec<i32>> = (0..16).map(|_| vec![0; nodes]).collect();
    let ask = |kind: usize| 250 * (1 + kind as i64);
    let score = |left: i64| {
        if left < 0 {
            i32::MIN
        } else {
            (1 << 20) - left as i32
        }
    };
    for (kind, scores) in by_kind.iter_mut().enumerate() {
        for (at, cached) in scores.iter_mut().enumerate() {
            *cached = score(free[at] - ask(kind));
        }
    }
    let begin = Instant::now();
    for number in 0..pods {
        let kind = number as usize % 16;
        let mut best = (i32::MIN, 0);
        for (at, cached) in by_kind[kind].iter().enumerate() {
            if *cached > best.0 {
                best = (*cached, at);
            }
        }
        let at = best.1;
        free[at] -= ask(kind);
        for (kind, scores) in by_kind.iter_mut().enumerate() {
            scores[at] = score(free[at] - ask(kind));
        }
    }
    // The result is used, so that none of it is left out.
    assert!(free.iter().all(|left| *left <= 64_000));
    per_second(pods, begin.elapsed())
}
