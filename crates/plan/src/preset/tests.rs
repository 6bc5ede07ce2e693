use super::*;
use crate::job::GroupSpec;
use base::{Attempt, Resources, Span};
use engine::{Isolation, PortSpec, Probes, Runtime, Template};
use expect_test::{Expect, expect};

fn group(name: &str, count: u32) -> GroupSpec {
    GroupSpec {
        name: name.to_owned(),
        count,
        min: count,
        template: Template {
            command: Vec::new(),
            env: Vec::new(),
            workdir: None,
            runtime: Runtime::Host,
            mounts: Vec::new(),
            ports: Vec::new(),
            resources: Resources::default(),
            user: None,
            isolation: Isolation::None,
            probes: Probes::default(),
            grace: Span::ZERO,
            outputs: Vec::new(),
        },
        request: Resources::default(),
    }
}

/// Members of these groups on one host, with ports allocated from 30000 as the framework asks.
fn ports(framework: Framework, groups: &[GroupSpec]) -> Vec<BTreeMap<String, u16>> {
    let mut next = 30_000;
    let mut all = Vec::new();
    for group in groups {
        for index in (0..group.count).map(Index) {
            let mut ports = BTreeMap::new();
            for need in framework.ports(groups, &group.name, index) {
                ports.insert(need.name.to_owned(), next);
                next += 1;
            }
            all.push(ports);
        }
    }
    all
}

fn env(framework: Framework, groups: &[GroupSpec], rank: usize, shared_address: bool) -> String {
    let mut allocated = ports(framework, groups);
    if !shared_address {
        allocated.iter_mut().for_each(BTreeMap::clear);
    }
    let hosts: Vec<String> = (0..allocated.len())
        .map(|rank| format!("h{rank}"))
        .collect();
    let mut peers = Vec::new();
    for group in groups {
        for index in (0..group.count).map(Index) {
            let rank = peers.len();
            peers.push(Peer {
                group: &group.name,
                index,
                host: &hosts[rank],
                ports: &allocated[rank],
                declared: group
                    .template
                    .ports
                    .iter()
                    .map(|port| (port.name.as_str(), port.number))
                    .collect(),
            });
        }
    }
    let env = framework.env(&Gang { peers }, rank);
    env.iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

fn check(framework: Framework, groups: &[(&str, u32)], rank: usize, expect: &Expect) {
    let groups: Vec<GroupSpec> = groups
        .iter()
        .map(|(name, count)| group(name, *count))
        .collect();
    expect.assert_eq(&env(framework, &groups, rank, true));
}

#[test]
fn xgboost() {
    check(
        Framework::Xgboost,
        &[("worker", 2)],
        1,
        &expect![[r#"
            DMLC_TRACKER_URI=h0
            DMLC_TRACKER_PORT=30000
            DMLC_NUM_WORKER=2
            DMLC_TASK_ID=000001
        "#]],
    );
}

#[test]
fn pytorch() {
    check(
        Framework::Pytorch,
        &[("chief", 1), ("worker", 2)],
        2,
        &expect![[r#"
            MASTER_ADDR=h0
            MASTER_PORT=30000
            RANK=2
            WORLD_SIZE=3
            LOCAL_RANK=0
            LOCAL_WORLD_SIZE=1
            NODE_RANK=2
            GROUP_RANK=2
            NNODES=3
            ROLE_RANK=1
            ROLE_WORLD_SIZE=2
        "#]],
    );
}

#[test]
fn tensorflow() {
    let groups = [("chief", 1), ("worker", 2), ("ps", 1), ("evaluator", 1)];
    check(
        Framework::Tensorflow,
        &groups,
        2,
        &expect![[r#"
            TF_CONFIG={"cluster": {"chief": ["h0:30000"], "worker": ["h1:30001", "h2:30002"], "ps": ["h3:30003"]}, "task": {"type": "worker", "index": 1}}
        "#]],
    );
    check(
        Framework::Tensorflow,
        &groups,
        4,
        &expect![[r#"
            TF_CONFIG={"cluster": {"chief": ["h0:30000"], "worker": ["h1:30001", "h2:30002"], "ps": ["h3:30003"]}, "task": {"type": "evaluator", "index": 0}}
        "#]],
    );
}

#[test]
fn ps_lite_has_the_variables_that_dmlc_cores_launcher_sets_with_a_scheduler_of_its_own() {
    let groups = [("scheduler", 1), ("server", 2), ("worker", 2)];
    check(
        Framework::Mxnet,
        &groups,
        2,
        &expect![[r#"
            DMLC_ROLE=server
            DMLC_PS_ROOT_URI=h0
            DMLC_PS_ROOT_PORT=30001
            DMLC_NUM_WORKER=2
            DMLC_NUM_SERVER=2
            DMLC_TASK_ID=3
            DMLC_NODE_HOST=h2
            PORT=30003
        "#]],
    );
}

#[test]
fn ps_lite_has_the_variables_that_dmlc_cores_launcher_sets_where_the_first_member_schedules_too() {
    check(
        Framework::PsLite,
        &[("worker", 1), ("ps", 1)],
        1,
        &expect![[r#"
            DMLC_ROLE=server
            DMLC_PS_ROOT_URI=h0
            DMLC_PS_ROOT_PORT=30001
            DMLC_NUM_WORKER=1
            DMLC_NUM_SERVER=1
            DMLC_TASK_ID=1
            DMLC_NODE_HOST=h1
            PORT=30002
        "#]],
    );
}

#[test]
fn mpi() {
    check(
        Framework::Mpi,
        &[("launcher", 1), ("worker", 2)],
        0,
        &expect![[r#"
            MOONSHOT_MPI_SLOTS=2
            MOONSHOT_MPI_HOSTS=worker-0:1,worker-1:1
            OMPI_MCA_plm_rsh_agent=moonshot rsh
            OMPI_MCA_orte_keep_fqdn_hostnames=1
            OMPI_ALLOW_RUN_AS_ROOT=1
            OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
            PRTE_MCA_plm_ssh_agent=moonshot rsh
            HYDRA_LAUNCHER=rsh
            HYDRA_LAUNCHER_EXEC=moonshot-rsh
        "#]],
    );
}

#[test]
fn a_member_with_its_own_address_uses_the_usual_port() {
    let text = env(Framework::Pytorch, &[group("worker", 2)], 1, false);
    assert!(text.contains("MASTER_PORT=29500\n"), "{text}");
}

#[test]
fn a_declared_port_is_used_and_not_asked_for_again() {
    let mut groups = [group("worker", 2)];
    groups[0].template.ports.push(PortSpec {
        name: "master".to_owned(),
        number: 12_345,
        protocol: "tcp".to_owned(),
    });
    assert_eq!(Framework::Pytorch.ports(&groups, "worker", Index(0)), []);
    let text = env(Framework::Pytorch, &groups, 1, false);
    assert!(text.contains("MASTER_PORT=12345\n"), "{text}");
}

#[test]
fn who_decides_about_success() {
    let check = |framework: Framework, names: &[&str], deciding: &[&str], rule| {
        let groups: Vec<GroupSpec> = names.iter().map(|name| group(name, 2)).collect();
        let success = framework.success(&groups);
        assert_eq!(success.groups, deciding, "{framework} {names:?}");
        assert_eq!(success.rule, rule, "{framework} {names:?}");
    };
    let all = SuccessRule::All;
    check(Framework::Custom, &["a", "b"], &["a", "b"], all);
    check(Framework::Xgboost, &["worker"], &["worker"], all);
    check(
        Framework::Tensorflow,
        &["chief", "worker", "ps"],
        &["chief"],
        all,
    );
    check(
        Framework::Tensorflow,
        &["worker", "ps", "evaluator"],
        &["worker"],
        all,
    );
    check(
        Framework::Mxnet,
        &["scheduler", "server", "worker"],
        &["worker"],
        all,
    );
    check(Framework::Caffe, &["ps", "worker"], &["worker"], all);
    check(Framework::PsLite, &["ps"], &["ps"], all);
    check(Framework::Mpi, &["launcher", "worker"], &["launcher"], all);
    check(
        Framework::Mpi,
        &["worker"],
        &["worker"],
        SuccessRule::Index0,
    );
}

#[test]
fn words_read_back() {
    for framework in Framework::ALL {
        assert_eq!(Framework::from_word(framework.as_str()), Some(framework));
    }
}

#[test]
fn the_platforms_own_variables() {
    let ports = BTreeMap::from([("http".to_owned(), 31_000)]);
    let peer = |index| Peer {
        group: "worker",
        index: Index(index),
        host: "h0",
        ports: &ports,
        declared: vec![("http", 80)],
    };
    let gang = Gang {
        peers: vec![peer(0), peer(1)],
    };
    let job = JobWords {
        name: "sweep",
        project: "demo",
        attempt: Attempt(3),
        array: Some((Index(7), 10)),
    };
    let env = gang.member_env(Framework::Custom, &job, 1);
    let text: String = env
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    expect![[r#"
        MOONSHOT_JOB=sweep
        MOONSHOT_PROJECT=demo
        MOONSHOT_GROUP=worker
        MOONSHOT_INDEX=1
        MOONSHOT_RANK=1
        MOONSHOT_WORLD_SIZE=2
        MOONSHOT_ATTEMPT=3
        MOONSHOT_HOSTS=h0:31000,h0:31000
        MOONSHOT_ARRAY_INDEX=7
        MOONSHOT_ARRAY_COUNT=10
    "#]]
    .assert_eq(&text);
}
