//! Small specs and placements to start from.

use base::{Bytes, Resources, Span, Time, Uid};
use engine::{Cause, End, Isolation, PortSpec, Probes, Runtime, StopReason, Template};
use plan::{
    Backoff, FailedRetry, Framework, GroupSpec, Intent, JobInput, JobSpec, Placement, Restart,
    RetrySpec, Stage, Success, SuccessRule,
};
use proptest::test_runner::{Config, RngSeed};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const UID: Uid = Uid(7);

pub(crate) fn at(secs: i64) -> Time {
    Time::from_ms(secs * 1_000)
}

pub(crate) fn template() -> Template {
    Template {
        command: vec!["python".to_owned(), "train.py".to_owned()],
        env: Vec::new(),
        workdir: None,
        runtime: Runtime::Host,
        mounts: Vec::new(),
        ports: Vec::new(),
        resources: Resources::default(),
        user: None,
        isolation: Isolation::None,
        probes: Probes::default(),
        grace: Span::from_secs(30),
        outputs: Vec::new(),
    }
}

pub(crate) fn serving_template() -> Template {
    Template {
        ports: vec![PortSpec {
            name: "http".to_owned(),
            number: 8000,
            protocol: "http".to_owned(),
        }],
        ..template()
    }
}

pub(crate) fn group(name: &str, count: u32, min: u32) -> GroupSpec {
    GroupSpec {
        name: name.to_owned(),
        count,
        min,
        template: template(),
        request: Resources::default(),
    }
}

pub(crate) fn job_spec(groups: Vec<GroupSpec>, restart: Restart) -> JobSpec {
    JobSpec {
        success: Success {
            groups: groups.iter().map(|group| group.name.clone()).collect(),
            rule: SuccessRule::All,
        },
        groups,
        framework: Framework::Custom,
        restart,
        retry: RetrySpec {
            limit: 2,
            backoff: Backoff {
                base: Span::from_secs(10),
                cap: Span::from_secs(60),
            },
            failed: FailedRetry::Always,
            out_of_memory: true,
            node_lost: true,
            start_failed: false,
        },
        time_limit: None,
        queue_time_limit: None,
        ttl: None,
    }
}

pub(crate) fn job(spec: JobSpec) -> JobInput {
    JobInput {
        uid: UID,
        name: "flights".to_owned(),
        tenant: "default".to_owned(),
        project: "demo".to_owned(),
        spec,
        intent: Intent::Run,
        started: None,
        finished: None,
        units: BTreeMap::new(),
        replicas: BTreeMap::new(),
    }
}

pub(crate) fn placement(node: &str) -> Placement {
    Placement {
        node: node.to_owned(),
        host: format!("{node}.local"),
        devices: Vec::new(),
        ports: BTreeMap::new(),
        token: "secret".to_owned(),
        stage: Stage::Reserved,
    }
}

pub(crate) fn ended(cause: Cause, exit_code: Option<i32>, at: Time) -> End {
    End {
        cause,
        exit_code,
        signal: None,
        at,
        message: String::new(),
        memory_peak: Bytes(0),
        outputs: Vec::new(),
    }
}

/// Marks a placement as the rows do when a stop begins.
pub(crate) fn begin_stop(stage: &mut Stage, deadline: Time, reason: StopReason) {
    if matches!(stage, Stage::Reserved | Stage::Bound) {
        *stage = Stage::Releasing { deadline, reason };
    }
}

/// So many cases from `MOONSHOT_SEED`, or from a seed that is printed (and shown when a test fails).
pub(crate) fn config(cases: u32) -> Config {
    let seed = match std::env::var("MOONSHOT_SEED") {
        Ok(seed) => seed.parse().expect("MOONSHOT_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos().into()),
    };
    println!("MOONSHOT_SEED={seed}");
    Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    }
}
