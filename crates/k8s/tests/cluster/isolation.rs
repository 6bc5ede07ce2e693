//! Projects are kept apart. That NetworkPolicies are heeded is shown with the tests' own enforcer
//! (`testing/kube/kube/netpol.go`) alone: a cluster's own may differ.

use crate::bench::{Cluster, kubeconfig};
use base::{MilliCpu, Net, Span};
use engine::suite::{Bench, EPOCH, Program, Stage};
use engine::{
    ExecOutput, Group, Life, Network, Peer, PeerEnd, Phase, PodSecurity, Project, ReplicaKey,
};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 8080;

/// A program in a Project, small enough that several have room.
pub(crate) fn group(
    stage: &Stage<'_, Cluster>,
    project: &str,
    life: Life,
    program: &Program,
) -> Group {
    let mut group = stage.group(life, program);
    project.clone_into(&mut group.project);
    group.template.resources.cpu = MilliCpu(50);
    stage.declare_port(&mut group, PORT);
    group
}

/// Its address, once it runs.
pub(crate) async fn running(
    cluster: &Cluster,
    stage: &Stage<'_, Cluster>,
    group: &Group,
) -> (ReplicaKey, IpAddr) {
    let key = group.key(&group.slots[0]);
    stage.phase(&key, |phase| *phase == Phase::Running).await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &group.project);
    let its = ListParams::default().labels(&format!("moonshot/owner={}", group.owner));
    let pod = pods.list(&its).await.expect("listed").items.remove(0);
    let address = pod.status.and_then(|status| status.pod_ip);
    let address = address.expect("a running pod has an address");
    (key, address.parse().expect("an address"))
}

/// Whether a command beside a replica exits with 0.
async fn succeeds(cluster: &Cluster, key: &ReplicaKey, script: &str) -> bool {
    let command = ["sh", "-c", script].map(str::to_owned);
    let exec = cluster.engine().exec(key, &command, None).await;
    let mut exec = exec.expect("it runs");
    let mut code = None;
    while let Some(piece) = exec.output.recv().await {
        if let ExecOutput::Exited(with) = piece {
            code = Some(with);
        }
    }
    code.expect("it ended") == 0
}

/// Waits until a new connection is made, or refused.
pub(crate) async fn connects(
    cluster: &Cluster,
    from: &ReplicaKey,
    to: (IpAddr, u16),
    expect: bool,
    why: &str,
) {
    let script = format!(
        "timeout 2 nc -w 1 {} {} < /dev/null > /dev/null",
        to.0, to.1
    );
    until(why, async || {
        succeeds(cluster, from, &script).await == expect
    })
    .await;
}

pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What is said of a Project's network.
pub(crate) async fn say(cluster: &Cluster, name: &str, ingress: &[Peer], egress: Option<&[Peer]>) {
    let project = Project {
        network: Some(Network {
            ingress: ingress.to_vec(),
            egress: egress.map(<[Peer]>::to_vec),
        }),
        ..Project::plain(name, "default")
    };
    let told = cluster.engine().project(EPOCH, &project).await;
    told.expect("the engine heeds it");
}

fn at(address: IpAddr, port: u16) -> Peer {
    Peer {
        end: PeerEnd::Net(Net::one(address)),
        ports: vec![port],
    }
}

fn from_project(name: &str) -> Peer {
    Peer {
        end: PeerEnd::Project(name.to_owned()),
        ports: Vec::new(),
    }
}

/// The API server, which is no pod.
fn api_server() -> (IpAddr, u16) {
    let config = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    let cluster = config
        .clusters
        .into_iter()
        .next()
        .and_then(|named| named.cluster);
    let url = cluster
        .and_then(|cluster| cluster.server)
        .expect("its address");
    let (host, port) = url
        .trim_start_matches("https://")
        .rsplit_once(':')
        .expect("a host and a port");
    (
        host.parse().expect("an address"),
        port.parse().expect("a port"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_kept_apart_as_the_tests_own_enforcer_does_it() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    for name in ["north", "south"] {
        let plain = Project::plain(name, "default");
        let told = cluster.engine().project(EPOCH, &plain).await;
        told.expect("nothing is said of it");
    }
    let web = group(&stage, "north", Life::Service, &Program::Serve);
    let near = group(&stage, "north", Life::Batch, &Program::Sleep);
    let far = group(&stage, "south", Life::Batch, &Program::Sleep);
    for group in [&web, &near, &far] {
        stage.ensure(group).await;
    }
    let (web, address) = running(&cluster, &stage, &web).await;
    let (near, _) = running(&cluster, &stage, &near).await;
    let (far, far_address) = running(&cluster, &stage, &far).await;
    let web_port = (address, PORT);

    let near_may = async |why: &str| connects(&cluster, &near, web_port, true, why).await;
    let far_may = async |expect: bool, why: &str| {
        connects(&cluster, &far, web_port, expect, why).await;
    };
    near_may("a program reaches its own Project").await;
    far_may(false, "another Project stays outside").await;
    let name = "timeout 5 nslookup kubernetes.default.svc.cluster.local";
    assert!(succeeds(&cluster, &far, name).await, "names are found");
    connects(
        &cluster,
        &far,
        api_server(),
        true,
        "everything else may be called",
    )
    .await;

    say(&cluster, "north", &[from_project("south")], None).await;
    far_may(true, "a Project that is named comes in").await;
    near_may("and its own still do").await;
    say(&cluster, "north", &[at(far_address, PORT + 1)], None).await;
    far_may(false, "a range is let in at its port alone").await;
    say(&cluster, "north", &[at(far_address, PORT)], None).await;
    far_may(true, "a range is let in").await;

    // From here on the way in is open, and the way out is closed.
    say(&cluster, "south", &[], Some(&[])).await;
    far_may(false, "nothing may be called").await;
    connects(&cluster, &far, api_server(), false, "the node neither").await;
    assert!(succeeds(&cluster, &far, name).await, "but names are found");
    let talk = group(&stage, "south", Life::Batch, &Program::Lines(2));
    stage.ensure(&talk).await;
    let said = talk.key(&talk.slots[0]);
    stage.frames(&said, "line 2").await;
    stage.end(&said).await;
    say(&cluster, "south", &[], Some(&[at(address, PORT + 1)])).await;
    far_may(false, "a range is called at its port alone").await;
    say(&cluster, "south", &[], Some(&[at(address, PORT)])).await;
    far_may(true, "a range is called").await;
    connects(&cluster, &far, api_server(), false, "and nothing else").await;
    say(&cluster, "south", &[], Some(&[from_project("north")])).await;
    far_may(true, "another Project is called by its name").await;

    mended(&cluster.client).await;
    say(&cluster, "north", &[], None).await;
    far_may(false, "whoever is named no more stays outside").await;
    near_may("and its own still come in").await;
    for key in [&web, &near, &far] {
        stage.remove(key, Span::ZERO).await;
    }
    for key in [&web, &near, &far, &said] {
        stage.end(key).await;
        stage.remove(key, Span::ZERO).await;
    }
}

/// What somebody else deletes and opens comes back.
async fn mended(client: &Client) {
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), "north");
    let before = policies.get("moonshot").await.expect("there is a policy");
    let deleted = policies.delete("moonshot", &DeleteParams::default()).await;
    deleted.expect("deleted by hand");
    until("a policy that was deleted comes back", async || {
        let now = policies.get_opt("moonshot").await.expect("answered");
        now.is_some_and(|now| now.uid() != before.uid() && now.spec == before.spec)
    })
    .await;
    let open = Patch::Merge(json!({"spec": {"ingress": [{}]}}));
    let opened = policies
        .patch("moonshot", &PatchParams::default(), &open)
        .await;
    opened.expect("opened by hand");
    until("a policy that was opened is closed", async || {
        policies.get("moonshot").await.expect("answered").spec == before.spec
    })
    .await;
}

/// A pod that its node must trust.
fn privileged() -> Pod {
    let pod = json!({
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{
            "name": "main", "image": "moonshot.test/busybox:1",
            "securityContext": {"privileged": true},
        }]},
    });
    serde_json::from_value(pod).expect("a pod")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_pod_waits_for_its_projects_word() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "west");
    let spaces: Api<Namespace> = Api::all(cluster.client.clone());
    let (only_asked, pod) = (
        PostParams {
            dry_run: true,
            ..PostParams::default()
        },
        privileged(),
    );
    let refusal = async || match pods.create(&only_asked, &pod).await {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    let say = async |pod_security: Option<PodSecurity>| {
        let project = Project {
            pod_security,
            ..Project::plain("west", "default")
        };
        let told = cluster.engine().project(EPOCH, &project).await;
        told.expect("the engine heeds it");
    };
    say(None).await;
    let first = group(&stage, "west", Life::Batch, &Program::Exit(0));
    stage.ensure(&first).await;
    // The API server hears of a namespace's labels, and makes its account, a moment later.
    let refused = async |profile: &str| {
        let expect = format!("violates PodSecurity \"{profile}:latest\"");
        until(&format!("the pod {expect}"), async || {
            refusal().await.is_some_and(|said| said.contains(&expect))
        })
        .await;
    };
    refused("restricted").await;
    say(Some(PodSecurity::Baseline)).await;
    refused("baseline").await;
    say(Some(PodSecurity::Privileged)).await;
    until("the pod is allowed", async || refusal().await.is_none()).await;
    say(None).await;
    refused("restricted").await;

    let weak =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    let weak = Patch::Merge(weak);
    let weakened = spaces.patch("west", &PatchParams::default(), &weak).await;
    weakened.expect("weakened by hand");
    until(
        "what was weakened by hand is restricted again",
        async || refusal().await.is_some(),
    )
    .await;
    let key = first.key(&first.slots[0]);
    stage.end(&key).await;
    stage.remove(&key, Span::ZERO).await;
}

/// A namespace that was there before keeps its own rules until the Project's spec says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_somebody_elses_keeps_its_own_rules() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let spaces: Api<Namespace> = Api::all(cluster.client.clone());
    let space = json!({"metadata": {"name": "harbour", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let space: Namespace = serde_json::from_value(space).expect("a namespace");
    let made = spaces.create(&PostParams::default(), &space).await;
    made.expect("it was not there");
    let replica = group(&stage, "harbour", Life::Batch, &Program::Exit(0));
    stage.ensure(&replica).await;
    let profile = async || {
        let there = spaces.get("harbour").await.expect("it is there");
        let labels = there.labels();
        let label = |name: &str| labels.get(name).cloned();
        assert_eq!(label("moonshot/project").as_deref(), Some("harbour"));
        assert_eq!(label("app.kubernetes.io/managed-by"), None);
        label("pod-security.kubernetes.io/enforce")
    };
    assert_eq!(profile().await.as_deref(), Some("baseline"));
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), "harbour");
    let selects = async || {
        let policy = policies.get("moonshot").await.expect("there is a policy");
        let selector = policy.spec.and_then(|spec| spec.pod_selector);
        selector.and_then(|selector| selector.match_labels)
    };
    assert!(selects().await.is_some(), "pods of others stay as they are");
    let mut project = Project::plain("harbour", "default");
    project.pod_security = Some(PodSecurity::Restricted);
    project.network = Some(Network::default());
    let told = cluster.engine().project(EPOCH, &project).await;
    told.expect("the engine heeds it");
    assert_eq!(profile().await.as_deref(), Some("restricted"));
    assert_eq!(selects().await, None, "the policy is for all pods");
    let key = replica.key(&replica.slots[0]);
    stage.end(&key).await;
    stage.remove(&key, Span::ZERO).await;
    let deleted = spaces.delete("harbour", &DeleteParams::default()).await;
    deleted.expect("deleted");
}
