//! What plans of Jobs look like, step by step.

use crate::fixture::{at, group, job, job_spec};
use crate::job_model::World;
use base::{Bytes, Index, Span};
use engine::{Cause, DeviceGrant, Mount, MountSource, Phase};
use expect_test::{Expect, expect};
use plan::{
    Framework, Intent, JobAction, JobSpec, Restart, RetrySpec, Sight, Stage, Success, SuccessRule,
    UnitKey, plan_job,
};

/// A world whose plans are written down.
struct Story {
    world: World,
    text: String,
}

impl Story {
    fn of(spec: JobSpec) -> Self {
        Story {
            world: World::new(job(spec), at(0)),
            text: String::new(),
        }
    }

    fn note(&mut self, what: &str) {
        self.text.push_str(&format!("== {what}\n"));
    }

    /// Plans and performs until nothing is left to do, and writes each plan down.
    fn plan(&mut self) {
        for _ in 0..20 {
            self.world.observe();
            let plan = self.world.plan();
            self.text.push_str(&plan.to_string());
            if self.world.step(usize::MAX) == 0 || self.world.expired {
                return;
            }
            self.text.push_str("--\n");
        }
        panic!("no rest:\n{}", self.text);
    }

    fn admit(&mut self, missing: u32) {
        self.note("admitted");
        for unit in self.world.waiting() {
            self.world.admit(&unit, missing);
        }
        self.plan();
    }

    fn end(&mut self, group: &str, index: u32, cause: Cause) {
        self.note(&format!("{group}/{index} ends: {cause}"));
        let keys = self.world.alive();
        let key = keys
            .iter()
            .find(|key| key.group == group && key.index == Index(index))
            .expect("it runs");
        self.world.end(key, cause);
        self.plan();
    }

    fn obey(&mut self) {
        self.note("what was asked to stop did");
        self.world.obey();
        self.plan();
    }

    fn later(&mut self, secs: u64) {
        self.note(&format!("{secs} s later"));
        self.world.now = self.world.now + Span::from_secs(secs);
        self.plan();
    }

    fn check(&self, expect: &Expect) {
        expect.assert_eq(&self.text);
    }
}

fn no_retry(spec: &mut JobSpec) {
    spec.retry = RetrySpec {
        limit: 0,
        ..spec.retry.clone()
    };
}

#[test]
fn a_gang_starts_together_and_succeeds() {
    let mut spec = job_spec(vec![group("worker", 2, 2)], Restart::Gang);
    spec.framework = Framework::Xgboost;
    spec.ttl = Some(Span::from_secs(60));
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.end("worker", 1, Cause::Succeeded);
    story.end("worker", 0, Cause::Succeeded);
    story.later(60);
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: worker/0 worker/1
        ensure worker of job/flights
          0/1 on n0
          1/1 on n1
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 2 replicas run
        == worker/1 ends: Succeeded
        release worker/1/1 of gang: Succeeded with exit code 0
        forget worker/1/1
        status Running [1 running] Running: 1 replica run
        --
        status Running [1 running] Running: 1 replica run
        == worker/0 ends: Succeeded
        release worker/0/1 of gang: Succeeded with exit code 0
        end gang attempt 1 (charged 0, faults 0): Succeeded: it succeeded; the unit succeeded
        forget worker/0/1
        status Running [1 stopping] Stopping: an attempt ends
        --
        finish Succeeded: Succeeded: it succeeded
        status Succeeded [1 succeeded] Succeeded: it succeeded
        --
        status Succeeded [1 succeeded] Succeeded: it succeeded
        wake 1970-01-01T00:01:00.000Z
        == 60 s later
        expire
        status Succeeded [1 succeeded] Succeeded: it succeeded
    "#]]);
}

#[test]
fn a_failed_member_takes_the_gang_along_until_the_limit() {
    let mut spec = job_spec(vec![group("worker", 2, 2)], Restart::Gang);
    spec.retry.limit = 1;
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.end("worker", 0, Cause::Failed);
    story.obey();
    story.later(10);
    story.admit(0);
    story.end("worker", 1, Cause::OutOfMemory);
    story.obey();
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: worker/0 worker/1
        ensure worker of job/flights
          0/1 on n0
          1/1 on n1
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 2 replicas run
        == worker/0 ends: Failed
        release worker/0/1 of gang: Failed with exit code 1
        stop worker/1/1 within 30s: GangDone
        forget worker/0/1
        status Running [1 running] Running: 1 replica run
        --
        status Running [1 stopping] Stopping: an attempt ends; 1 replica to stop
        == what was asked to stop did
        release worker/1/1 of gang: Stopped, asked to stop: GangDone
        end gang attempt 1, charged (charged 1, faults 0): ReplicaFailed: worker/0 exited with code 1; then attempt 2 not before 1970-01-01T00:00:10.000Z
        forget worker/1/1
        status Running [1 stopping] Stopping: an attempt ends
        --
        status Queued [1 backing off] BackingOff: the last attempt failed; the next one waits
        wake 1970-01-01T00:00:10.000Z
        == 10 s later
        submit gang attempt 2
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 2: worker/0 worker/1
        ensure worker of job/flights
          0/2 on n0
          1/2 on n1
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 2 replicas run
        == worker/1 ends: OutOfMemory
        release worker/1/2 of gang: OutOfMemory
        stop worker/0/2 within 30s: GangDone
        forget worker/1/2
        status Running [1 running] RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit; 1 replica to stop
        --
        status Running [1 stopping] RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit; 1 replica to stop
        == what was asked to stop did
        release worker/0/2 of gang: Stopped, asked to stop: GangDone
        end gang attempt 2, charged (charged 2, faults 0): OutOfMemory: worker/1 used more memory than its limit; the unit failed: RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
        forget worker/0/2
        status Running [1 stopping] RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
        --
        finish Failed: RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
        status Failed [1 failed] RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
          failed gang: RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
        --
        status Failed [1 failed] RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
          failed gang: RetryLimit: it failed 2 times (retry limit 1); the last: worker/1 used more memory than its limit
    "#]]);
}

#[test]
fn a_parameter_server_that_sleeps_does_not_keep_a_job_alive() {
    let groups = vec![group("ps", 1, 1), group("worker", 1, 1)];
    let mut spec = job_spec(groups, Restart::Gang);
    spec.framework = Framework::Mxnet;
    spec.success = spec.framework.success(&spec.groups);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.end("worker", 0, Cause::Succeeded);
    story.obey();
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: ps/0 worker/0
        ensure ps of job/flights
          0/1 on n0
        ensure worker of job/flights
          0/1 on n1
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 2 replicas run
        == worker/0 ends: Succeeded
        release worker/0/1 of gang: Succeeded with exit code 0
        stop ps/0/1 within 30s: GangDone
        forget worker/0/1
        status Running [1 running] Running: 1 replica run
        --
        status Running [1 stopping] Stopping: an attempt ends; 1 replica to stop
        == what was asked to stop did
        release ps/0/1 of gang: Stopped, asked to stop: GangDone
        end gang attempt 1 (charged 0, faults 0): Succeeded: it succeeded; the unit succeeded
        forget ps/0/1
        status Running [1 stopping] Stopping: an attempt ends
        --
        finish Succeeded: Succeeded: it succeeded
        status Succeeded [1 succeeded] Succeeded: it succeeded
        --
        status Succeeded [1 succeeded] Succeeded: it succeeded
    "#]]);
}

#[test]
fn a_command_that_is_not_found_is_not_tried_again() {
    let spec = job_spec(vec![group("worker", 1, 1)], Restart::Gang);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.end("worker", 0, Cause::StartFailed);
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: worker/0
        ensure worker of job/flights
          0/1 on n0
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 1 replica run
        == worker/0 ends: StartFailed
        release worker/0/1 of gang: StartFailed
        end gang attempt 1, charged (charged 1, faults 0): StartFailed: worker/0 could not be started; the unit failed: StartFailed: worker/0 could not be started
        forget worker/0/1
        status Running [1 stopping] StartFailed: worker/0 could not be started
        --
        finish Failed: StartFailed: worker/0 could not be started
        status Failed [1 failed] StartFailed: worker/0 could not be started
          failed gang: StartFailed: worker/0 could not be started
        --
        status Failed [1 failed] StartFailed: worker/0 could not be started
          failed gang: StartFailed: worker/0 could not be started
    "#]]);
}

#[test]
fn indexes_fail_by_themselves() {
    let restart = Restart::Index {
        count: 3,
        parallelism: 2,
        failed_max: None,
    };
    let mut spec = job_spec(vec![group("task", 1, 1)], restart);
    no_retry(&mut spec);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.end("task", 1, Cause::Failed);
    story.end("task", 0, Cause::Succeeded);
    story.admit(0);
    story.end("task", 2, Cause::Succeeded);
    story.check(&expect![[r#"
        submit index/0 attempt 1
        submit index/1 attempt 1
        status Queued [3 pending] WaitingForCapacity: indexes: 3 pending
        --
        status Queued [1 pending, 2 waiting] WaitingForCapacity: indexes: 1 pending, 2 waiting
        == admitted
        bind index/0 attempt 1: task/0
        ensure task of job/flights
          0/1 on n0
        bind index/1 attempt 1: task/1
        ensure task of job/flights
          1/1 on n0
        status Starting [1 pending, 2 starting] Running: indexes: 1 pending, 2 starting
        --
        status Running [1 pending, 2 running] Running: indexes: 1 pending, 2 running
        == task/1 ends: Failed
        release task/1/1 of index/1: Failed with exit code 1
        end index/1 attempt 1, charged (charged 1, faults 0): ReplicaFailed: task/1 exited with code 1; the unit failed: ReplicaFailed: task/1 exited with code 1
        forget task/1/1
        status Running [1 pending, 1 running, 1 stopping] Running: indexes: 1 pending, 1 running, 1 stopping
        --
        submit index/2 attempt 1
        status Running [1 pending, 1 running, 1 failed] Running: indexes: 1 pending, 1 running, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        status Running [1 waiting, 1 running, 1 failed] Running: indexes: 1 waiting, 1 running, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        == task/0 ends: Succeeded
        release task/0/1 of index/0: Succeeded with exit code 0
        end index/0 attempt 1 (charged 0, faults 0): Succeeded: it succeeded; the unit succeeded
        forget task/0/1
        status Running [1 waiting, 1 stopping, 1 failed] WaitingForCapacity: indexes: 1 waiting, 1 stopping, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        status Queued [1 waiting, 1 succeeded, 1 failed] WaitingForCapacity: indexes: 1 waiting, 1 succeeded, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        == admitted
        bind index/2 attempt 1: task/2
        ensure task of job/flights
          2/1 on n0
        status Starting [1 starting, 1 succeeded, 1 failed] Running: indexes: 1 starting, 1 succeeded, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        status Running [1 running, 1 succeeded, 1 failed] Running: indexes: 1 running, 1 succeeded, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        == task/2 ends: Succeeded
        release task/2/1 of index/2: Succeeded with exit code 0
        end index/2 attempt 1 (charged 0, faults 0): Succeeded: it succeeded; the unit succeeded
        forget task/2/1
        status Running [1 stopping, 1 succeeded, 1 failed] WaitingForCapacity: indexes: 1 stopping, 1 succeeded, 1 failed
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        finish Failed: IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
        status Failed [2 succeeded, 1 failed] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        status Failed [2 succeeded, 1 failed] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
          failed index/1: ReplicaFailed: task/1 exited with code 1
    "#]]);
}

#[test]
fn too_many_failed_indexes_stop_the_rest() {
    let restart = Restart::Index {
        count: 3,
        parallelism: 2,
        failed_max: Some(0),
    };
    let mut spec = job_spec(vec![group("task", 1, 1)], restart);
    no_retry(&mut spec);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.end("task", 1, Cause::Failed);
    story.obey();
    story.check(&expect![[r#"
        submit index/0 attempt 1
        submit index/1 attempt 1
        status Queued [3 pending] WaitingForCapacity: indexes: 3 pending
        --
        status Queued [1 pending, 2 waiting] WaitingForCapacity: indexes: 1 pending, 2 waiting
        == admitted
        bind index/0 attempt 1: task/0
        ensure task of job/flights
          0/1 on n0
        bind index/1 attempt 1: task/1
        ensure task of job/flights
          1/1 on n0
        status Starting [1 pending, 2 starting] Running: indexes: 1 pending, 2 starting
        --
        status Running [1 pending, 2 running] Running: indexes: 1 pending, 2 running
        == task/1 ends: Failed
        release task/1/1 of index/1: Failed with exit code 1
        end index/1 attempt 1, charged (charged 1, faults 0): ReplicaFailed: task/1 exited with code 1; the unit failed: ReplicaFailed: task/1 exited with code 1
        forget task/1/1
        status Running [1 pending, 1 running, 1 stopping] Running: indexes: 1 pending, 1 running, 1 stopping
        --
        stop task/0/1 within 30s: GangDone
        status Running [1 pending, 1 running, 1 failed] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1; 1 replica to stop
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        status Running [1 pending, 1 stopping, 1 failed] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1; 1 replica to stop
          failed index/1: ReplicaFailed: task/1 exited with code 1
        == what was asked to stop did
        release task/0/1 of index/0: Stopped, asked to stop: GangDone
        end index/0 attempt 1 (charged 0, faults 0): Stopping: it was stopped with its gang; the unit is stopped
        forget task/0/1
        status Running [1 pending, 1 stopping, 1 failed] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        finish Failed: IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
        status Failed [1 pending, 1 failed, 1 stopped] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
          failed index/1: ReplicaFailed: task/1 exited with code 1
        --
        status Failed [1 pending, 1 failed, 1 stopped] IndexesFailed: 1 of 3 indexes failed; index/1: task/1 exited with code 1
          failed index/1: ReplicaFailed: task/1 exited with code 1
    "#]]);
}

#[test]
fn an_elastic_gang_replaces_one_rank() {
    let spec = job_spec(vec![group("worker", 3, 2)], Restart::Rank);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.note("n1 is fenced");
    story.world.fence("n1");
    story.plan();
    story.admit(0);
    story.note("n1 is back, and still runs the lost replica");
    story.world.fenced.clear();
    story.plan();
    story.obey();
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: worker/0 worker/1 worker/2
        ensure worker of job/flights
          0/1 on n0
          1/1 on n1
          2/1 on n2
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 3 replicas run
        == n1 is fenced
        release worker/1/1 of gang: NodeLost
        replace rank/worker/1 by attempt 2 not before 1970-01-01T00:00:00.000Z, first in its queue (charged 0, faults 1): ReplicaFailed: worker/1 was lost with its node: node `n1` was not heard of for too long
        status Running [1 running] Running: 2 replicas run
        --
        submit rank/worker/1 attempt 2, first in its queue
        status Running [1 running] Running: 2 replicas run
        --
        status Running [1 running] Running: 2 replicas run
        == admitted
        bind rank/worker/1 attempt 2: worker/1
        ensure worker of job/flights
          1/2 on n0
        status Running [1 running] Running: 3 replicas run
        --
        status Running [1 running] Running: 3 replicas run
        == n1 is back, and still runs the lost replica
        stop worker/1/1 within 30s: GangDone
        status Running [1 running] Running: 3 replicas run
        --
        status Running [1 running] Running: 3 replicas run
        == what was asked to stop did
        forget worker/1/1
        status Running [1 running] Running: 3 replicas run
        --
        status Running [1 running] Running: 3 replicas run
    "#]]);
}

#[test]
fn preemption_is_not_charged() {
    let spec = job_spec(vec![group("worker", 2, 2)], Restart::Gang);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.note("the scheduler evicts it");
    story.world.evict(&UnitKey::Gang, None);
    story.plan();
    story.obey();
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: worker/0 worker/1
        ensure worker of job/flights
          0/1 on n0
          1/1 on n1
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 2 replicas run
        == the scheduler evicts it
        stop worker/0/1 within 30s: Preempted
        stop worker/1/1 within 30s: Preempted
        status Running [1 stopping] Stopping: an attempt ends; 2 replicas to stop
        --
        status Running [1 stopping] Stopping: an attempt ends; 2 replicas to stop
        == what was asked to stop did
        release worker/0/1 of gang: Stopped, asked to stop: Preempted
        release worker/1/1 of gang: Stopped, asked to stop: Preempted
        end gang attempt 1 (charged 0, faults 0): Stopping: it was preempted; then attempt 2 not before 1970-01-01T00:00:00.000Z
        forget worker/0/1
        forget worker/1/1
        status Running [1 stopping] Stopping: an attempt ends
        --
        submit gang attempt 2
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
    "#]]);
}

#[test]
fn pausing_and_cancelling() {
    let spec = job_spec(vec![group("worker", 1, 1)], Restart::Gang);
    let mut story = Story::of(spec);
    story.plan();
    story.note("suspended while it waits");
    story.world.input.intent = Intent::Suspend;
    story.plan();
    story.note("resumed");
    story.world.input.intent = Intent::Run;
    story.plan();
    story.admit(0);
    story.note("suspended while it runs");
    story.world.input.intent = Intent::Suspend;
    story.plan();
    story.obey();
    story.note("cancelled");
    story.world.input.intent = Intent::Cancel;
    story.plan();
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == suspended while it waits
        withdraw gang attempt 1
        status Suspending [1 waiting] Suspended: it is being suspended
        --
        status Suspended [1 pending] Suspended: it is suspended
        == resumed
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        == admitted
        bind gang attempt 1: worker/0
        ensure worker of job/flights
          0/1 on n0
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 1 replica run
        == suspended while it runs
        stop worker/0/1 within 30s: Suspended
        status Suspending [1 running] Suspended: it is being suspended; 1 replica to stop
        --
        status Suspending [1 stopping] Suspended: it is being suspended; 1 replica to stop
        == what was asked to stop did
        release worker/0/1 of gang: Stopped, asked to stop: Suspended
        end gang attempt 1 (charged 0, faults 0): Suspended: it was suspended; then attempt 2 not before 1970-01-01T00:00:00.000Z
        forget worker/0/1
        status Suspending [1 stopping] Suspended: it is being suspended
        --
        status Suspended [1 pending] Suspended: it is suspended
        == cancelled
        finish Cancelled: Cancelled: it was cancelled
        status Cancelled [1 pending] Cancelled: it was cancelled
        --
        status Cancelled [1 pending] Cancelled: it was cancelled
    "#]]);
}

#[test]
fn limits_of_time() {
    let mut spec = job_spec(vec![group("worker", 1, 1)], Restart::Gang);
    spec.queue_time_limit = Some(Span::from_secs(5));
    spec.time_limit = Some(Span::from_secs(100));
    let mut story = Story::of(spec.clone());
    story.plan();
    story.later(5);
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        wake 1970-01-01T00:00:05.000Z
        == 5 s later
        finish Failed: QueueTimeLimit: it waited longer than its queue time limit of 5s
        status Failed [1 waiting] QueueTimeLimit: it waited longer than its queue time limit of 5s
        --
        status Failed [1 pending] QueueTimeLimit: it waited longer than its queue time limit of 5s
    "#]]);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    story.later(100);
    story.obey();
    story.check(&expect![[r#"
        submit gang attempt 1
        status Queued [1 pending] WaitingForCapacity: it waits for its turn
        --
        status Queued [1 waiting] WaitingForCapacity: it waits for its turn
        wake 1970-01-01T00:00:05.000Z
        == admitted
        bind gang attempt 1: worker/0
        ensure worker of job/flights
          0/1 on n0
        status Starting [1 starting] Preparing: its replicas are being started
        --
        status Running [1 running] Running: 1 replica run
        wake 1970-01-01T00:01:40.000Z
        == 100 s later
        stop worker/0/1 within 30s: TimeLimit
        status Running [1 running] TimeLimit: it ran longer than its time limit of 1m40s; 1 replica to stop
        --
        status Running [1 stopping] TimeLimit: it ran longer than its time limit of 1m40s; 1 replica to stop
        == what was asked to stop did
        release worker/0/1 of gang: Stopped, asked to stop: TimeLimit
        end gang attempt 1 (charged 0, faults 0): TimeLimit: its time limit was over; the unit is stopped
        forget worker/0/1
        status Running [1 stopping] TimeLimit: it ran longer than its time limit of 1m40s
        --
        finish Failed: TimeLimit: it ran longer than its time limit of 1m40s
        status Failed [1 stopped] TimeLimit: it ran longer than its time limit of 1m40s
        --
        status Failed [1 stopped] TimeLimit: it ran longer than its time limit of 1m40s
    "#]]);
}

#[test]
fn what_an_engine_is_asked_for() {
    let mut spec = job_spec(vec![group("worker", 2, 2)], Restart::Gang);
    spec.framework = Framework::Pytorch;
    let mut world = World::new(job(spec), at(0));
    world.settle();
    world.admit(&UnitKey::Gang, 0);
    let unit = world
        .input
        .units
        .get_mut(&UnitKey::Gang)
        .expect("it was admitted");
    for (i, member) in unit.members.iter_mut().enumerate() {
        let placement = &mut member.placement;
        placement.devices.push(DeviceGrant {
            id: format!("GPU-{i}"),
            class: "gpu".to_owned(),
            milli: 1_000,
            memory: Bytes(0),
        });
        if i == 0 {
            placement.ports.insert("master".to_owned(), 31_000);
        }
    }
    let plan = plan_job(&world.input, world.now);
    let mut text = plan.to_string();
    for action in &plan.actions {
        let JobAction::Ensure(group) = action else {
            continue;
        };
        for slot in &group.slots {
            text.push_str(&format!("env of {}\n", group.key(slot)));
            for (name, value) in &slot.env {
                text.push_str(&format!("  {name}={value}\n"));
            }
        }
    }
    assert!(!text.contains("secret"), "the token is not shown");
    expect![[r#"
        bind gang attempt 1: worker/0 worker/1
        ensure worker of job/flights
          0/1 on n0, gpu GPU-0, port master 31000
          1/1 on n1, gpu GPU-1
        status Starting [1 starting] Preparing: its replicas are being started
        env of 00000000-0000-0000-0000-000000000007/worker/0/1
          MOONSHOT_JOB=flights
          MOONSHOT_PROJECT=demo
          MOONSHOT_GROUP=worker
          MOONSHOT_INDEX=0
          MOONSHOT_RANK=0
          MOONSHOT_WORLD_SIZE=2
          MOONSHOT_ATTEMPT=1
          MOONSHOT_HOSTS=n0.local:31000,n1.local
          MASTER_ADDR=n0.local
          MASTER_PORT=31000
          RANK=0
          WORLD_SIZE=2
          LOCAL_RANK=0
          LOCAL_WORLD_SIZE=1
          NODE_RANK=0
          GROUP_RANK=0
          NNODES=2
          ROLE_RANK=0
          ROLE_WORLD_SIZE=2
        env of 00000000-0000-0000-0000-000000000007/worker/1/1
          MOONSHOT_JOB=flights
          MOONSHOT_PROJECT=demo
          MOONSHOT_GROUP=worker
          MOONSHOT_INDEX=1
          MOONSHOT_RANK=1
          MOONSHOT_WORLD_SIZE=2
          MOONSHOT_ATTEMPT=1
          MOONSHOT_HOSTS=n0.local:31000,n1.local
          MASTER_ADDR=n0.local
          MASTER_PORT=31000
          RANK=1
          WORLD_SIZE=2
          LOCAL_RANK=0
          LOCAL_WORLD_SIZE=1
          NODE_RANK=1
          GROUP_RANK=1
          NNODES=2
          ROLE_RANK=1
          ROLE_WORLD_SIZE=2
    "#]]
    .assert_eq(&text);
}

/// With a retry limit of 0, the attempt after a wrong place is not one of them; what is waited for is in the status.
#[test]
fn a_misplaced_replica_is_placed_again_and_nobody_pays() {
    let mut spec = job_spec(vec![group("worker", 1, 1)], Restart::Gang);
    no_retry(&mut spec);
    let mut story = Story::of(spec);
    story.plan();
    story.admit(0);
    for sight in story.world.input.replicas.values_mut() {
        if let Sight::Seen(seen) = sight {
            seen.phase = Phase::Preparing;
            seen.unready = Some("its volume is being made".to_owned());
        }
    }
    let plan = plan_job(&story.world.input, story.world.now);
    assert_eq!(
        plan.status.reason.sentence,
        "its replicas are being started; worker/0 waits: its volume is being made"
    );
    story.text.clear();
    story.end("worker", 0, Cause::Misplaced);
    assert!(
        story.text.contains("(charged 0, faults 1)"),
        "{}",
        story.text
    );
    assert!(
        story.text.contains("submit gang attempt 2\n"),
        "{}",
        story.text
    );
}

#[test]
fn indexes_keep_their_checkpoints_apart() {
    let restart = Restart::Index {
        count: 2,
        parallelism: 2,
        failed_max: None,
    };
    let mut spec = job_spec(vec![group("task", 1, 1)], restart);
    spec.groups[0].template.mounts.push(Mount {
        source: MountSource::Checkpoint(String::new()),
        path: "checkpoint".to_owned(),
        read_only: false,
    });
    let mut world = World::new(job(spec), at(0));
    world.settle();
    for unit in world.waiting() {
        world.admit(&unit, 0);
    }
    let claims: Vec<String> = plan_job(&world.input, world.now)
        .actions
        .iter()
        .filter_map(|action| match action {
            JobAction::Ensure(group) => Some(format!("{:?}", group.template.mounts[0].source)),
            _ => None,
        })
        .collect();
    assert_eq!(claims, ["Checkpoint(\"0\")", "Checkpoint(\"1\")"]);
}

#[test]
fn nothing_starts_before_every_seat_is_there() {
    let mut spec = job_spec(vec![group("worker", 2, 2)], Restart::Gang);
    spec.success = Success {
        groups: Vec::new(),
        rule: SuccessRule::All,
    };
    let mut world = World::new(job(spec), at(0));
    world.settle();
    world.admit(&UnitKey::Gang, 0);
    let unit = world
        .input
        .units
        .get_mut(&UnitKey::Gang)
        .expect("it was admitted");
    let missing = unit.members.pop();
    assert_eq!(world.plan().actions, []);
    let unit = world
        .input
        .units
        .get_mut(&UnitKey::Gang)
        .expect("it was admitted");
    unit.members.extend(missing);
    assert_eq!(world.plan().actions.len(), 2);
    let stages: Vec<&Stage> = world.input.units[&UnitKey::Gang]
        .members
        .iter()
        .map(|member| &member.placement.stage)
        .collect();
    assert_eq!(stages, [&Stage::Reserved, &Stage::Reserved]);
}

#[test]
fn a_rank_beyond_its_retries_ends_the_gang_though_enough_are_left() {
    let mut spec = job_spec(vec![group("worker", 4, 2)], Restart::Rank);
    no_retry(&mut spec);
    let mut story = Story::of(spec);
    story.world.settle();
    story.world.admit(&UnitKey::Gang, 0);
    story.world.settle();
    story.end("worker", 0, Cause::Succeeded);
    story.end("worker", 1, Cause::Succeeded);
    story.end("worker", 2, Cause::Evicted);
    story.admit(0);
    story.end("worker", 2, Cause::Failed);
    story.obey();
    story.check(&expect![[r#"
        == worker/0 ends: Succeeded
        release worker/0/1 of gang: Succeeded with exit code 0
        forget worker/0/1
        status Running [1 running] Running: 3 replicas run
        --
        status Running [1 running] Running: 3 replicas run
        == worker/1 ends: Succeeded
        release worker/1/1 of gang: Succeeded with exit code 0
        forget worker/1/1
        status Running [1 running] Running: 2 replicas run
        --
        status Running [1 running] Running: 2 replicas run
        == worker/2 ends: Evicted
        release worker/2/1 of gang: Evicted
        replace rank/worker/2 by attempt 2 not before 1970-01-01T00:00:00.000Z, first in its queue (charged 0, faults 1): ReplicaFailed: worker/2 was removed by somebody else
        forget worker/2/1
        status Running [1 running] Running: 1 replica run
        --
        submit rank/worker/2 attempt 2, first in its queue
        status Running [1 running] Running: 1 replica run
        --
        status Running [1 running] Running: 1 replica run
        == admitted
        bind rank/worker/2 attempt 2: worker/2
        ensure worker of job/flights
          2/2 on n0
        status Running [1 running] Running: 2 replicas run
        --
        status Running [1 running] Running: 2 replicas run
        == worker/2 ends: Failed
        release worker/2/2 of rank/worker/2: Failed with exit code 1
        end rank/worker/2 attempt 2, charged (charged 1, faults 0): ReplicaFailed: worker/2 exited with code 1; the unit failed: ReplicaFailed: worker/2 exited with code 1
        stop worker/3/1 within 30s: GangDone
        forget worker/2/2
        status Running [1 running] ReplicaFailed: worker/2 exited with code 1; 1 replica to stop
        --
        status Running [1 stopping] ReplicaFailed: worker/2 exited with code 1; 1 replica to stop
        == what was asked to stop did
        release worker/3/1 of gang: Stopped, asked to stop: GangDone
        end gang attempt 1, charged (charged 1, faults 0): ReplicaFailed: worker/2 exited with code 1; the unit failed: ReplicaFailed: worker/2 exited with code 1
        forget worker/3/1
        status Running [1 stopping] ReplicaFailed: worker/2 exited with code 1
        --
        finish Failed: ReplicaFailed: worker/2 exited with code 1
        status Failed [1 failed] ReplicaFailed: worker/2 exited with code 1
          failed gang: ReplicaFailed: worker/2 exited with code 1
        --
        status Failed [1 failed] ReplicaFailed: worker/2 exited with code 1
          failed gang: ReplicaFailed: worker/2 exited with code 1
    "#]]);
}
