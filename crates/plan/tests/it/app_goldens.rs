//! What plans of Apps look like, step by step.

use crate::app_model::World;
use base::Span;
use engine::{Cause, ReplicaKey};
use expect_test::{Expect, expect};
use plan::{AppPhase, Traffic};

/// A world whose plans are written down.
struct Story {
    world: World,
    text: String,
}

impl Story {
    /// An App whose first Revision serves; what led there is not written down.
    fn serving(replicas: u32, surge: u32, unavailable: u32) -> Self {
        let mut world = World::new(replicas, surge, unavailable);
        let plan = world.run_to_rest();
        assert_eq!(plan.status.phase, AppPhase::Ready);
        Story {
            world,
            text: String::new(),
        }
    }

    fn note(&mut self, what: &str) {
        self.text.push_str(&format!("== {what}\n"));
    }

    fn plan(&mut self) {
        for _ in 0..20 {
            self.world.observe();
            let plan = self.world.plan();
            self.text.push_str(&plan.to_string());
            if self.world.step(usize::MAX) == 0 || self.world.deleted {
                return;
            }
            self.text.push_str("--\n");
        }
        panic!("no rest:\n{}", self.text);
    }

    fn admit(&mut self) {
        self.note("admitted");
        self.world.admit_all();
        self.plan();
    }

    fn live(&mut self) {
        self.note("programs get ready, fail or stop");
        self.world.live();
        self.plan();
    }

    fn later(&mut self, secs: u64) {
        self.note(&format!("{secs} s later"));
        self.world.now = self.world.now + Span::from_secs(secs);
        self.plan();
    }

    fn replica(&self, group: &str, index: u32) -> ReplicaKey {
        let alive = self.world.alive();
        alive
            .into_iter()
            .find(|key| key.group == group && key.index.0 == index)
            .expect("it runs")
    }

    fn check(&self, expect: &Expect) {
        expect.assert_eq(&self.text);
    }
}

#[test]
fn the_first_revision_starts() {
    let mut story = Story {
        world: World::new(2, 1, 0),
        text: String::new(),
    };
    story.plan();
    story.admit();
    story.live();
    story.check(&expect![[r#"
        add r1/0 attempt 1
        add r1/1 attempt 1
        status Progressing RollingOut: 0 of 2 replicas of r1 are ready
          r1 0 of 2 ready
        --
        status Progressing RollingOut: 0 of 2 replicas of r1 are ready
          r1 0 of 2 ready, 2 waiting
        wake 1970-01-01T00:10:00.000Z
        == admitted
        bind r1/0/1
        ensure r1 of app/fares
          0/1 on n0
        bind r1/1/1
        ensure r1 of app/fares
          1/1 on n1
        status Progressing RollingOut: 0 of 2 replicas of r1 are ready
          r1 0 of 2 ready, 2 starting
        wake 1970-01-01T00:10:00.000Z
        --
        status Progressing RollingOut: 0 of 2 replicas of r1 are ready
          r1 0 of 2 ready, 2 starting
        wake 1970-01-01T00:10:00.000Z
        == programs get ready, fail or stop
        promote r1
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
        --
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
    "#]]);
}

#[test]
fn a_new_revision_takes_over_one_by_one() {
    let mut story = Story::serving(2, 1, 0);
    story.note("r2 is wanted");
    story.world.revise(2);
    story.plan();
    story.admit();
    story.live();
    story.later(2);
    story.live();
    story.admit();
    story.live();
    story.later(2);
    story.live();
    story.check(&expect![[r#"
        == r2 is wanted
        add r2/0 attempt 1
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready
        --
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        == admitted
        bind r2/0/1
        ensure r2 of app/fares
          0/1 on n0
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 starting
        wake 1970-01-01T00:10:00.000Z
        --
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 starting
        wake 1970-01-01T00:10:00.000Z
        == programs get ready, fail or stop
        drain r1/1/1
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 1 of 2 ready
        --
        add r2/1 attempt 2
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready, 1 draining
          r2 1 of 2 ready
        wake 1970-01-01T00:00:02.000Z
        --
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready, 1 draining
          r2 1 of 2 ready, 1 waiting
        wake 1970-01-01T00:00:02.000Z
        == 2 s later
        stop r1/1/1 within 30s: Replaced
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready, 1 draining
          r2 1 of 2 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        --
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready, 1 draining
          r2 1 of 2 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        == programs get ready, fail or stop
        release r1/1/1: Stopped, asked to stop: Replaced
        remove r1/1 attempt 1
        forget r1/1/1
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready, 1 draining
          r2 1 of 2 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        --
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready
          r2 1 of 2 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        == admitted
        bind r2/1/2
        ensure r2 of app/fares
          1/2 on n1
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready
          r2 1 of 2 ready, 1 starting
        wake 1970-01-01T00:10:02.000Z
        --
        status Progressing RollingOut: 1 of 2 replicas of r2 are ready
          r1 1 of 0 ready
          r2 1 of 2 ready, 1 starting
        wake 1970-01-01T00:10:02.000Z
        == programs get ready, fail or stop
        promote r2
        drain r1/0/1
        status Progressing RollingOut: 2 of 2 replicas of r2 are ready
          r1 1 of 0 ready
          r2 2 of 2 ready
        --
        status Ready Ready: 2 of 2 replicas of r2 are ready
          r1 0 of 0 ready, 1 draining
          r2 2 of 2 ready
        wake 1970-01-01T00:00:04.000Z
        == 2 s later
        stop r1/0/1 within 30s: Replaced
        status Ready Ready: 2 of 2 replicas of r2 are ready
          r1 0 of 0 ready, 1 draining
          r2 2 of 2 ready
        --
        status Ready Ready: 2 of 2 replicas of r2 are ready
          r1 0 of 0 ready, 1 draining
          r2 2 of 2 ready
        == programs get ready, fail or stop
        release r1/0/1: Stopped, asked to stop: Replaced
        remove r1/0 attempt 1
        forget r1/0/1
        status Ready Ready: 2 of 2 replicas of r2 are ready
          r1 0 of 0 ready, 1 draining
          r2 2 of 2 ready
        --
        status Ready Ready: 2 of 2 replicas of r2 are ready
          r2 2 of 2 ready
    "#]]);
}

#[test]
fn a_revision_that_fails_is_rolled_back() {
    let mut story = Story::serving(2, 1, 0);
    story.note("r2 is wanted, and fails");
    story.world.revise(2);
    story.world.broken.insert(2);
    story.plan();
    story.admit();
    story.live();
    story.later(600);
    story.live();
    story.check(&expect![[r#"
        == r2 is wanted, and fails
        add r2/0 attempt 1
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready
        --
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        == admitted
        bind r2/0/1
        ensure r2 of app/fares
          0/1 on n0
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 starting
        wake 1970-01-01T00:10:00.000Z
        --
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 starting
        wake 1970-01-01T00:10:00.000Z
        == programs get ready, fail or stop
        status Progressing RollingOut: 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 backing off
          last failure: r2/0 exited with code 1
        wake 1970-01-01T00:10:00.000Z
        == 600 s later
        roll back from r2 to r1: ProgressDeadline: r2 had 0 of 2 replicas ready and made no progress for 10m; the last failure: r2/0 exited with code 1
        status Degraded ProgressDeadline: 0 of 2 replicas of r2 are ready, without progress for 10m
          r1 2 of 0 ready
          r2 0 of 2 ready, 1 backing off
          last failure: r2/0 exited with code 1
        --
        drain r2/0/1
        status Progressing RollingOut: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
          r2 0 of 0 ready, 1 backing off
        --
        stop r2/0/1 within 30s: Replaced
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
          r2 0 of 0 ready, 1 draining
        --
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
          r2 0 of 0 ready, 1 draining
        == programs get ready, fail or stop
        release r2/0/1: Stopped, asked to stop: Replaced
        remove r2/0 attempt 1
        forget r2/0/1
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
          r2 0 of 0 ready, 1 draining
        --
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
    "#]]);
}

#[test]
fn a_lost_node_gives_the_same_seat_again() {
    let mut story = Story::serving(2, 1, 0);
    story.note("n1 is fenced");
    story.world.fence("n1");
    story.plan();
    story.admit();
    story.live();
    story.note("n1 is back");
    story.world.fenced.clear();
    story.plan();
    story.live();
    story.check(&expect![[r#"
        == n1 is fenced
        release r1/1/1: NodeLost
        replace r1/1 by attempt 2 not before 1970-01-01T00:00:00.000Z, first in its queue (losses 1): ReplicaFailed: r1/1 was lost with its node: node `n1` was not heard of for too long
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting
          last failure: r1/1 was lost with its node: node `n1` was not heard of for too long
        --
        submit r1/1 attempt 2, first in its queue
        stop r1/1/1 within 30s: Replaced
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting
        --
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting
        == admitted
        bind r1/1/2
        ensure r1 of app/fares
          1/2 on n2
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 starting
        --
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 starting
        == programs get ready, fail or stop
        forget r1/1/1
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
        --
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
        == n1 is back
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
        == programs get ready, fail or stop
        status Ready Ready: 2 of 2 replicas of r1 are ready
          r1 2 of 2 ready
    "#]]);
}

#[test]
fn an_evicted_seat_drains_and_another_queues() {
    let mut story = Story::serving(2, 1, 0);
    story.note("the scheduler evicts r1/1");
    let key = story.replica("r1", 1);
    story.world.evict(&key);
    story.plan();
    story.later(2);
    story.live();
    story.check(&expect![[r#"
        == the scheduler evicts r1/1
        drain r1/1/1
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 draining
        --
        add r1/2 attempt 2
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 draining
        wake 1970-01-01T00:00:02.000Z
        --
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting, 1 draining
        wake 1970-01-01T00:00:02.000Z
        == 2 s later
        stop r1/1/1 within 30s: Preempted
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting, 1 draining
        --
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting, 1 draining
        == programs get ready, fail or stop
        release r1/1/1: Stopped, asked to stop: Preempted
        remove r1/1 attempt 1
        forget r1/1/1
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting, 1 draining
        --
        status Degraded TooFewReady: 1 of 2 replicas of r1 are ready
          r1 1 of 2 ready, 1 waiting
    "#]]);
}

#[test]
fn a_port_taken_twice_waits_before_the_third_try() {
    let mut story = Story::serving(1, 1, 0);
    for _ in 0..2 {
        story.note("its port is taken");
        let key = story.replica("r1", 0);
        story.world.end(&key, Cause::PortTaken);
        story.plan();
        story.world.admit_all();
        story.world.settle();
    }
    story.check(&expect![[r#"
        == its port is taken
        release r1/0/1: PortTaken
        replace r1/0 by attempt 2 not before 1970-01-01T00:00:00.000Z, first in its queue (losses 1): ReplicaFailed: r1/0 found its port taken
        forget r1/0/1
        status Degraded TooFewReady: 0 of 1 replicas of r1 are ready
          r1 0 of 1 ready, 1 waiting
          last failure: r1/0 found its port taken
        --
        submit r1/0 attempt 2, first in its queue
        status Degraded TooFewReady: 0 of 1 replicas of r1 are ready
          r1 0 of 1 ready, 1 waiting
        --
        status Degraded TooFewReady: 0 of 1 replicas of r1 are ready
          r1 0 of 1 ready, 1 waiting
        == its port is taken
        release r1/0/2: PortTaken
        replace r1/0 by attempt 3 not before 1970-01-01T00:00:10.000Z, first in its queue (losses 2): ReplicaFailed: r1/0 found its port taken
        forget r1/0/2
        status Degraded TooFewReady: 0 of 1 replicas of r1 are ready
          r1 0 of 1 ready, 1 waiting
          last failure: r1/0 found its port taken
        --
        status Degraded TooFewReady: 0 of 1 replicas of r1 are ready
          r1 0 of 1 ready, 1 waiting
        wake 1970-01-01T00:00:10.000Z
    "#]]);
}

#[test]
fn scaling_and_deleting() {
    let mut story = Story::serving(1, 1, 0);
    story.note("three are wanted");
    story.world.input.replicas = 3;
    story.plan();
    story.admit();
    story.live();
    story.note("one is wanted");
    story.world.input.replicas = 1;
    story.plan();
    story.later(2);
    story.live();
    story.note("deleted");
    story.world.input.deleting = true;
    story.plan();
    story.later(2);
    story.live();
    story.check(&expect![[r#"
        == three are wanted
        add r1/1 attempt 2
        add r1/2 attempt 2
        status Progressing RollingOut: 1 of 3 replicas of r1 are ready
          r1 1 of 3 ready
        --
        status Progressing RollingOut: 1 of 3 replicas of r1 are ready
          r1 1 of 3 ready, 2 waiting
        == admitted
        bind r1/1/2
        ensure r1 of app/fares
          1/2 on n1
        bind r1/2/2
        ensure r1 of app/fares
          2/2 on n2
        status Progressing RollingOut: 1 of 3 replicas of r1 are ready
          r1 1 of 3 ready, 2 starting
        --
        status Progressing RollingOut: 1 of 3 replicas of r1 are ready
          r1 1 of 3 ready, 2 starting
        == programs get ready, fail or stop
        status Ready Ready: 3 of 3 replicas of r1 are ready
          r1 3 of 3 ready
        == one is wanted
        drain r1/2/2
        drain r1/1/2
        status Progressing RollingOut: 1 of 1 replicas of r1 are ready
          r1 3 of 1 ready
        --
        status Ready Ready: 1 of 1 replicas of r1 are ready
          r1 1 of 1 ready, 2 draining
        wake 1970-01-01T00:00:02.000Z
        == 2 s later
        stop r1/1/2 within 30s: Cancelled
        stop r1/2/2 within 30s: Cancelled
        status Ready Ready: 1 of 1 replicas of r1 are ready
          r1 1 of 1 ready, 2 draining
        --
        status Ready Ready: 1 of 1 replicas of r1 are ready
          r1 1 of 1 ready, 2 draining
        == programs get ready, fail or stop
        release r1/1/2: Stopped, asked to stop: Cancelled
        remove r1/1 attempt 2
        release r1/2/2: Stopped, asked to stop: Cancelled
        remove r1/2 attempt 2
        forget r1/1/2
        forget r1/2/2
        status Ready Ready: 1 of 1 replicas of r1 are ready
          r1 1 of 1 ready, 2 draining
        --
        status Ready Ready: 1 of 1 replicas of r1 are ready
          r1 1 of 1 ready
        == deleted
        drain r1/0/1
        status Deleting Deleting: it is being deleted; 1 replica left
          r1 1 of 0 ready
        --
        status Deleting Deleting: it is being deleted; 1 replica left
          r1 0 of 0 ready, 1 draining
        wake 1970-01-01T00:00:04.000Z
        == 2 s later
        stop r1/0/1 within 30s: Cancelled
        status Deleting Deleting: it is being deleted; 1 replica left
          r1 0 of 0 ready, 1 draining
        --
        status Deleting Deleting: it is being deleted; 1 replica left
          r1 0 of 0 ready, 1 draining
        == programs get ready, fail or stop
        release r1/0/1: Stopped, asked to stop: Cancelled
        remove r1/0 attempt 1
        forget r1/0/1
        status Deleting Deleting: it is being deleted; 1 replica left
          r1 0 of 0 ready, 1 draining
        --
        delete
        status Deleting Deleting: it is being deleted; 0 replicas left
    "#]]);
}

#[test]
fn a_canary_keeps_both() {
    let mut story = Story::serving(4, 1, 0);
    story.note("a tenth goes to r2");
    story.world.revise(2);
    let share = |revision, percent| Traffic { revision, percent };
    story.world.input.traffic = vec![share(1, 90), share(2, 10)];
    story.plan();
    story.admit();
    story.live();
    story.later(2);
    story.live();
    story.check(&expect![[r#"
        == a tenth goes to r2
        add r2/0 attempt 1
        status Progressing RollingOut: 0 of 1 replicas of r2 are ready
          r1 4 of 3 ready
          r2 0 of 1 ready
        --
        status Progressing RollingOut: 0 of 1 replicas of r2 are ready
          r1 4 of 3 ready
          r2 0 of 1 ready, 1 waiting
        wake 1970-01-01T00:10:00.000Z
        == admitted
        bind r2/0/1
        ensure r2 of app/fares
          0/1 on n0
        status Progressing RollingOut: 0 of 1 replicas of r2 are ready
          r1 4 of 3 ready
          r2 0 of 1 ready, 1 starting
        wake 1970-01-01T00:10:00.000Z
        --
        status Progressing RollingOut: 0 of 1 replicas of r2 are ready
          r1 4 of 3 ready
          r2 0 of 1 ready, 1 starting
        wake 1970-01-01T00:10:00.000Z
        == programs get ready, fail or stop
        drain r1/3/1
        status Progressing RollingOut: 1 of 1 replicas of r2 are ready
          r1 4 of 3 ready
          r2 1 of 1 ready
        --
        status Ready Ready: 1 of 1 replicas of r2 are ready
          r1 3 of 3 ready, 1 draining
          r2 1 of 1 ready
        wake 1970-01-01T00:00:02.000Z
        == 2 s later
        stop r1/3/1 within 30s: Cancelled
        status Ready Ready: 1 of 1 replicas of r2 are ready
          r1 3 of 3 ready, 1 draining
          r2 1 of 1 ready
        --
        status Ready Ready: 1 of 1 replicas of r2 are ready
          r1 3 of 3 ready, 1 draining
          r2 1 of 1 ready
        == programs get ready, fail or stop
        release r1/3/1: Stopped, asked to stop: Cancelled
        remove r1/3 attempt 1
        forget r1/3/1
        status Ready Ready: 1 of 1 replicas of r2 are ready
          r1 3 of 3 ready, 1 draining
          r2 1 of 1 ready
        --
        status Ready Ready: 1 of 1 replicas of r2 are ready
          r1 3 of 3 ready
          r2 1 of 1 ready
    "#]]);
}

#[test]
fn a_paused_rollout_stands_still() {
    let mut story = Story::serving(2, 1, 0);
    story.world.input.paused = true;
    story.world.revise(2);
    story.note("r2 is wanted, and the rollout paused");
    story.plan();
    story.later(3_600);
    story.check(&expect![[r#"
        == r2 is wanted, and the rollout paused
        status Progressing Paused: the rollout is paused; 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready
        == 3600 s later
        status Progressing Paused: the rollout is paused; 0 of 2 replicas of r2 are ready
          r1 2 of 0 ready
          r2 0 of 2 ready
    "#]]);
}

#[test]
fn an_old_canary_that_gets_all_traffic_is_given_time() {
    let mut world = World::new(4, 0, 1);
    world.run_to_rest();
    world.revise(2);
    let share = |revision, percent| Traffic { revision, percent };
    world.input.traffic = vec![share(1, 90), share(2, 10)];
    world.run_to_rest();
    world.now = world.now + Span::from_secs(86_400);
    world.input.traffic.clear();
    let plan = world.run_to_rest();
    assert_eq!(plan.status.phase, AppPhase::Ready, "{plan}");
    assert_eq!((world.input.target, world.input.stable), (2, Some(2)));
}
