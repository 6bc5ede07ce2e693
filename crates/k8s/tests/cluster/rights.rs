//! The rights that the chart gives the server are those that it uses: no more, no less.

use crate::bench::Cluster;
use crate::role::{NAMESPACE, Right, Role};
use base::{Epoch, Index, Span};
use e2e::{Storage, kubectl};
use engine::suite::{Bench, EPOCH, Program, Stage, checkpoint};
use engine::{
    Cause, EngineError, ExecOutput, ForeignPod, Group, Life, Network, Note, Phase, PodName,
    PodSecurity, Prepared, Project, Registry, ReplicaKey, StopReason,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// The API server asks for these and does not write it down: for the first beside `get` when a connection is upgraded, for the
/// others beside `patch` when something that is applied is not there yet. The second test takes them away.
const UNWRITTEN: [(&str, &str, &str); 4] = [
    ("create", "", "pods/exec"),
    ("create", "networking.k8s.io", "networkpolicies"),
    ("create", "", "secrets"),
    ("create", "", "persistentvolumeclaims"),
];

/// Everything that the engine ever asks of the API, done under the chart's rights; the API server writes down which of them
/// it was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_chart_gives_the_rights_that_are_used_and_no_others() {
    let role = Role::new("used").await;
    let storage = Storage::by_hand("rights");
    let cluster = Cluster::under(
        &role.kubeconfig(),
        NAMESPACE.to_owned(),
        Some(storage.class()),
    )
    .await;
    forget_leader(&cluster).await;
    let stage = Stage::new(&cluster).await;
    a_checkpoint(&cluster, &stage, &storage).await;
    a_job_and_a_service(&cluster, &stage).await;
    for project in [pulling("a.example.org"), Project::plain("suite", "default")] {
        let told = cluster.engine().project(EPOCH, &project).await;
        told.expect("the engine heeds what Projects say");
    }
    pods_of_others(&cluster).await;
    devices_of_others(&cluster).await;
    devices_of_ours(&cluster, &stage).await;
    somebody_else_writes(&cluster, &stage, &role).await;
    let next = Epoch(EPOCH.0 + 1);
    let led = cluster.engine().lead(next).await;
    led.expect("the next leader leads");

    let mut used = role.used();
    used.extend(UNWRITTEN.map(|(verb, group, resource)| Right::new(verb, group, resource)));
    let allowed = role.allowed();
    let of = |rights: BTreeSet<&Right>| -> Vec<String> {
        let one = |right: &Right| format!("{} {} {}", right.verb, right.group, right.resource);
        rights.into_iter().map(one).collect()
    };
    let idle = of(allowed.difference(&used).collect());
    assert_eq!(idle, [""; 0], "the chart gives rights that nothing uses");
    let missing = of(used.difference(&allowed).collect());
    assert_eq!(missing, [""; 0], "used, and not in the chart");
}

/// A replica that keeps something: its claim is made, given a volume, and deleted.
async fn a_checkpoint(cluster: &Cluster, stage: &Stage<'_, Cluster>, storage: &Storage) {
    storage.volume(&node(cluster).await, "2Mi");
    let mut group = stage.group(Life::Batch, &Program::Keep("it".to_owned()));
    group.template.mounts = vec![checkpoint("")];
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
    stage.remove(&key, Span::ZERO).await;
    let dropped = cluster.engine().drop_checkpoints(EPOCH, group.owner).await;
    dropped.expect("claims may be deleted");
}

/// A replica of each kind, from its start to its end.
async fn a_job_and_a_service(cluster: &Cluster, stage: &Stage<'_, Cluster>) {
    let job = stage.start(Life::Batch, &Program::Sleep).await;
    let service = stage.group(Life::Service, &Program::Sleep);
    stage.ensure(&service).await;
    let more = with_slot(&service, 1);
    stage.ensure(&more).await;
    let seats: Vec<ReplicaKey> = more.slots.iter().map(|slot| more.key(slot)).collect();
    for key in seats.iter().chain([&job]) {
        stage.phase(key, |phase| *phase == Phase::Running).await;
    }
    let said = echo(cluster, &job).await.expect("exec is allowed");
    assert_eq!(said, b"here\n");
    for key in seats.iter().chain([&job]) {
        stage.remove(key, Span::ZERO).await;
        assert_eq!(stage.end(key).await.cause, Cause::Stopped);
        stage.remove(key, Span::ZERO).await;
    }
}

/// A Project whose images need a password.
fn pulling(host: &str) -> Project {
    Project {
        registries: vec![Registry {
            host: host.to_owned(),
            mirror: None,
            secret: Some(("suite".to_owned(), 1)),
        }],
        ..Project::plain("suite", "default")
    }
}

/// The group with one Slot more.
fn with_slot(group: &Group, index: u32) -> Group {
    let mut more = group.clone();
    let slot = engine::Slot {
        index: Index(index),
        ..group.slots[0].clone()
    };
    more.slots.push(slot);
    more
}

/// What `echo here` says beside a replica.
async fn echo(cluster: &Cluster, key: &ReplicaKey) -> Result<Vec<u8>, EngineError> {
    let command = ["echo", "here"].map(str::to_owned);
    let mut exec = cluster.engine().exec(key, &command, None).await?;
    let mut said = Vec::new();
    while let Some(piece) = exec.output.recv().await {
        if let ExecOutput::Bytes(_, bytes) = piece {
            said.extend(bytes);
        }
    }
    Ok(said)
}

/// Pods that name a PodGroup of either kind: read, bound, told about, evicted.
async fn pods_of_others(cluster: &Cluster) {
    let marks = [
        "scheduling.x-k8s.io/pod-group",
        "scheduling.k8s.io/group-name",
    ];
    for (name, mark) in ["rights-a", "rights-b"].into_iter().zip(marks) {
        let pod = foreign(cluster, name, json!({mark: name})).await;
        let engine = cluster.engine();
        let bound = engine.bind(EPOCH, &pod.pod, &node(cluster).await).await;
        assert!(bound.expect("it may be bound"), "{name} waits for a node");
        let note = Note {
            is_warning: false,
            reason: "Tested".to_owned(),
            sentence: "its rights are looked at".to_owned(),
        };
        engine.tell(EPOCH, &pod.pod, &note).await.expect("told");
        let evicted = engine.evict(EPOCH, &pod.pod, Span::ZERO).await;
        evicted.expect("it may be evicted");
    }
}

/// A pod that claims a device: it is given one, and its node. No driver is there, so that it never runs.
async fn devices_of_others(cluster: &Cluster) {
    let (engine, node) = (cluster.engine(), node(cluster).await);
    let _devices = Published::new(&node);
    let pod = claiming_a_device(cluster).await.pod;
    let prepared = engine.prepare(EPOCH, &pod, &node).await;
    assert_eq!(prepared.expect("devices are known"), Prepared::Ready);
    let bound = engine.bind(EPOCH, &pod, &node).await;
    assert!(
        bound.expect("it may be given a device"),
        "it waits for a node"
    );
}

/// The same for a replica of ours. What stood beside it goes when it has ended.
async fn devices_of_ours(cluster: &Cluster, stage: &Stage<'_, Cluster>) {
    let _devices = Published::new(&node(cluster).await);
    let group = with_a_device(stage);
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let begun = Instant::now();
    loop {
        let observed = cluster.engine().observe(None, Span::ZERO).await;
        let mut there = observed.expect("observed").replicas.into_iter();
        let found = there.find(|report| report.key == key);
        if let Some(device) = found.iter().flat_map(|report| &report.devices).next() {
            assert_eq!(device.id, "rights.example.com/rights-device/only");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it gets no device: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.remove(&key, Span::ZERO).await;
    assert_eq!(stage.end(&key).await.cause, Cause::Stopped);
    stage.remove(&key, Span::ZERO).await;
    let begun = Instant::now();
    let kinds = "services,resourceclaimtemplates,resourceclaims";
    let left = || kubectl(&["get", kinds, "-n", "suite", "-o", "name"], "");
    while left().lines().any(|name| !name.ends_with("/rights-device")) {
        assert!(
            begun.elapsed() < PATIENCE,
            "they are still there: {}",
            left()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A replica that claims the device of [`Published`].
fn with_a_device(stage: &Stage<'_, Cluster>) -> Group {
    let mut group = stage.group(Life::Batch, &Program::Sleep);
    let name = "device/rights-device".to_owned();
    group.template.resources.extended.insert(name, 1);
    group
}

/// A device that is published on a node, with its class and a claim.
struct Published;

impl Published {
    fn new(node: &str) -> Published {
        let (kind, name) = ("resource.k8s.io/v1", "rights-device");
        let request = json!({"name": "one", "exactly": {"deviceClassName": name}});
        for object in [
            json!({"apiVersion": kind, "kind": "DeviceClass", "metadata": {"name": name}, "spec": {}}),
            json!({
                "apiVersion": kind, "kind": "ResourceSlice", "metadata": {"name": name},
                "spec": {
                    "driver": "rights.example.com", "nodeName": node,
                    "pool": {"name": name, "generation": 1, "resourceSliceCount": 1},
                    "devices": [{"name": "only"}],
                },
            }),
            json!({
                "apiVersion": kind, "kind": "ResourceClaim",
                "metadata": {"name": name, "namespace": "suite"},
                "spec": {"devices": {"requests": [request]}},
            }),
        ] {
            kubectl(&["apply", "-f", "-"], &object.to_string());
        }
        Published
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let now = ["--grace-period=0", "--force", "--ignore-not-found"];
        for kind in ["pod", "resourceclaim", "resourceslice", "deviceclass"] {
            let words = ["delete", kind, "rights-device", "-n", "suite"];
            kubectl(&[&words[..], &now].concat(), "");
        }
    }
}

/// A pod of somebody else's that names the claim of [`Published`], once the engine reports that it can be placed.
async fn claiming_a_device(cluster: &Cluster) -> ForeignPod {
    let mut pod = plain("rights-device", json!({}));
    pod["spec"]["resourceClaims"] = json!([{"name": "one", "resourceClaimName": "rights-device"}]);
    reported(cluster, pod, |pod| pod.lacks.is_none()).await
}

/// A pod of somebody else's, once the engine reports it.
async fn foreign(cluster: &Cluster, name: &str, labels: serde_json::Value) -> ForeignPod {
    foreign_with(cluster, name, labels, None).await
}

/// The same with a claim of its own name and this class.
async fn foreign_with(
    cluster: &Cluster,
    name: &str,
    labels: serde_json::Value,
    class: Option<&str>,
) -> ForeignPod {
    let mut pod = plain(name, labels);
    if let Some(class) = class {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "suite"},
            "spec": {
                "storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Mi"}},
            },
        });
        kubectl(&["apply", "-f", "-"], &claim.to_string());
        pod["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": name}}]);
    }
    reported(cluster, pod, |_| true).await
}

/// A pod that names our scheduler.
fn plain(name: &str, labels: serde_json::Value) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "schedulerName": "moonshot",
            "terminationGracePeriodSeconds": 0,
            // As the Project's namespace asks for.
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65_532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "main", "image": "moonshot.test/busybox:1", "command": ["sleep", "100000"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "10m"}},
            }],
        },
    })
}

/// Makes a pod and waits until the engine reports it as is wanted.
async fn reported(
    cluster: &Cluster,
    pod: serde_json::Value,
    is_wanted: impl Fn(&ForeignPod) -> bool,
) -> ForeignPod {
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    let pods = cluster.api::<Pod>();
    let made = pods
        .create(&PostParams::default(), &pod)
        .await
        .expect("made");
    let uid = made.metadata.uid;
    let begun = Instant::now();
    loop {
        let observed = cluster.engine().observe(None, Span::ZERO).await;
        let mut there = observed.expect("observed").foreign.into_iter();
        let found = there.find(|pod| Some(&pod.pod.uid) == uid.as_ref());
        if let Some(pod) = found.filter(&is_wanted) {
            return pod;
        }
        assert!(begun.elapsed() < PATIENCE, "it is not reported: {uid:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn node(cluster: &Cluster) -> String {
    let observed = cluster.engine().observe(None, Span::ZERO).await;
    observed.expect("observed").nodes[0].name.clone()
}

/// Other people write a Job while the engine does: it reads it anew.
async fn somebody_else_writes(cluster: &Cluster, stage: &Stage<'_, Cluster>, role: &Role) {
    let reads = Right::new("get", "batch", "jobs");
    let begun = Instant::now();
    while !role.used().contains(&reads) {
        assert!(begun.elapsed() < PATIENCE, "no write met another's");
        let key = stage.start(Life::Batch, &Program::Sleep).await;
        stage.phase(&key, |phase| *phase == Phase::Running).await;
        let jobs = cluster.api::<Job>();
        let all = jobs
            .list(&ListParams::default())
            .await
            .expect("listed")
            .items;
        let names: Vec<String> = all
            .into_iter()
            .filter_map(|job| job.metadata.name)
            .collect();
        let scribble = async |n: u32| {
            for name in &names {
                let patch = json!({"metadata": {"annotations": {"somebody": n.to_string()}}});
                // It may be gone by now.
                let _ = jobs
                    .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await;
            }
        };
        scribble(0).await;
        let engine = cluster.engine();
        // Where others never cease to write, the engine gives up and is asked again.
        tokio::select! {
            () = async { for n in 1.. { scribble(n).await } } => {}
            _ = engine.remove(EPOCH, &key, Span::ZERO, StopReason::Cancelled) => {}
        }
        stage.remove(&key, Span::ZERO).await;
        stage.end(&key).await;
        stage.remove(&key, Span::ZERO).await;
    }
}

/// The suite's own epoch, whoever led here before.
async fn forget_leader(cluster: &Cluster) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    // There is none at first.
    let _ = maps
        .delete("moonshot-leader", &DeleteParams::default())
        .await;
}

// ---- taken away ----

/// Rights are taken away one by one: what needs one is refused, in the API server's words.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_right_is_for_fails_without_it() {
    let role = Role::new("taken").await;
    let storage = Storage::by_hand("rights");
    let class = Some(storage.class());
    let cluster = Cluster::under(&role.kubeconfig(), NAMESPACE.to_owned(), class).await;
    forget_leader(&cluster).await;
    let stage = Stage::new(&cluster).await;
    let engine = cluster.engine();
    let check = async |verb: &str, group: &str, resource: &str, act: Act<'_>| {
        let right = Right::new(verb, group, resource);
        role.take(&right).await;
        let done = act.await;
        role.give(&right).await;
        let error = done.expect_err(&format!("it went on although it {right}"));
        let said = chain(&error);
        // An upgrade that is refused has no words, only a number.
        let is_refused = said.contains(&right.to_string()) || said.contains("403");
        assert!(is_refused, "without `{verb} {resource}`: {said}");
    };

    let running = stage.start(Life::Batch, &Program::Sleep).await;
    stage
        .phase(&running, |phase| *phase == Phase::Running)
        .await;
    let ended = stage.start(Life::Batch, &Program::Exit(0)).await;
    stage.end(&ended).await;
    let networks = "networking.k8s.io";
    for (n, (group, resource)) in [("", "namespaces"), (networks, "networkpolicies")]
        .into_iter()
        .enumerate()
    {
        let mut new = stage.group(Life::Batch, &Program::Exit(0));
        new.project = format!("rights-{}-{n}", std::process::id());
        check("create", group, resource, engine.ensure(EPOCH, &new)).await;
    }
    let mut project = Project::plain("suite", "default");
    project.pod_security = Some(PodSecurity::Baseline);
    let act = engine.project(EPOCH, &project);
    check("patch", "", "namespaces", act).await;
    project.network = Some(Network::default());
    let act = engine.project(EPOCH, &project);
    check("patch", networks, "networkpolicies", act).await;
    // Each is another one: what failed is done by itself once it may be.
    for (verb, host) in [("create", "a.example.org"), ("patch", "b.example.org")] {
        let pulling = pulling(host);
        check(verb, "", "secrets", engine.project(EPOCH, &pulling)).await;
    }
    let told = engine.project(EPOCH, &pulling("c.example.org")).await;
    told.expect("it is heeded with all rights");
    let plain = Project::plain("suite", "default");
    check("delete", "", "secrets", engine.project(EPOCH, &plain)).await;
    let told = engine.project(EPOCH, &plain).await;
    told.expect("it is heeded with all rights");

    let mut group = stage.group(Life::Batch, &Program::Exit(0));
    group.template.mounts = vec![checkpoint("")];
    let claims = "persistentvolumeclaims";
    for verb in ["create", "patch"] {
        check(verb, "", claims, engine.ensure(EPOCH, &group)).await;
    }
    stage.ensure(&group).await;
    let owners = engine.checkpoints().await.expect("listed");
    assert_eq!(owners, [group.owner]);
    let act = engine.drop_checkpoints(EPOCH, group.owner);
    check("delete", "", claims, act).await;
    let claiming = foreign_with(&cluster, "rights-claim", json!({}), Some(storage.class())).await;
    let node_name = node(&cluster).await;
    let prepare = || {
        let act = engine.prepare(EPOCH, &claiming.pod, &node_name);
        Box::pin(async { act.await.map(drop) })
    };
    check("list", "", "events", prepare()).await;
    storage.volume(&node_name, "2Mi");
    tokio::time::sleep(Duration::from_secs(1)).await;
    check("patch", "", "persistentvolumes", prepare()).await;
    let devices = Published::new(&node_name);
    let claiming = claiming_a_device(&cluster).await.pod;
    let prepared = engine.prepare(EPOCH, &claiming, &node_name).await;
    assert_eq!(prepared.expect("devices are known"), Prepared::Ready);
    for resource in ["resourceclaims", "resourceclaims/status"] {
        let act = Box::pin(async { engine.bind(EPOCH, &claiming, &node_name).await.map(drop) });
        check("patch", "resource.k8s.io", resource, act).await;
    }
    drop(devices);
    let claiming = with_a_device(&stage);
    let act = engine.ensure(EPOCH, &claiming);
    check("create", "resource.k8s.io", "resourceclaimtemplates", act).await;
    let group = stage.group(Life::Batch, &Program::Exit(0));
    check("create", "", "services", engine.ensure(EPOCH, &group)).await;
    let group = stage.group(Life::Batch, &Program::Exit(0));
    check("create", "batch", "jobs", engine.ensure(EPOCH, &group)).await;
    for verb in ["get", "create"] {
        let act = Box::pin(async { echo(&cluster, &running).await.map(drop) });
        check(verb, "", "pods/exec", act).await;
    }

    let service = stage.group(Life::Service, &Program::Sleep);
    let act = engine.ensure(EPOCH, &service);
    check("create", "apps", "deployments", act).await;
    stage.ensure(&service).await;
    let seat = service.key(&service.slots[0]);
    stage.phase(&seat, |phase| *phase == Phase::Running).await;
    for (index, verb) in (1..).zip(["get", "patch"]) {
        let more = with_slot(&service, index);
        let act = engine.ensure(EPOCH, &more);
        check(verb, "apps", "deployments", act).await;
    }
    stage.remove(&seat, Span::ZERO).await;
    stage.end(&seat).await;
    let remove = |key| engine.remove(EPOCH, key, Span::ZERO, StopReason::Cancelled);
    check("delete", "apps", "deployments", remove(&seat)).await;

    let pod: PodName = foreign(&cluster, "rights-taken", json!({})).await.pod;
    let node = node(&cluster).await;
    let act = Box::pin(async { engine.bind(EPOCH, &pod, &node).await.map(drop) });
    check("create", "", "pods/binding", act).await;
    let act = engine.evict(EPOCH, &pod, Span::ZERO);
    check("create", "", "pods/eviction", act).await;

    // The running Job's pod is live: the next leader would stamp it.
    let lead = || engine.lead(Epoch(EPOCH.0 + 1));
    for verb in ["get", "update"] {
        check(verb, "", "configmaps", lead()).await;
    }
    check("patch", "batch", "jobs", remove(&running)).await;
    check("delete", "", "pods", remove(&running)).await;
    check("delete", "batch", "jobs", remove(&ended)).await;
    forget_leader(&cluster).await;
    check("create", "", "configmaps", lead()).await;
    let another = stage.start(Life::Batch, &Program::Sleep).await;
    stage
        .phase(&another, |phase| *phase == Phase::Running)
        .await;
    check("patch", "", "pods", lead()).await;

    let pods = cluster.api::<Pod>();
    let now = DeleteParams::default().grace_period(0);
    for name in ["rights-taken", "rights-claim"] {
        pods.delete(name, &now).await.expect("deleted");
    }
    kubectl(
        &[
            "delete",
            "-n",
            "suite",
            "persistentvolumeclaim",
            "rights-claim",
        ],
        "",
    );
}

type Act<'a> = engine::BoxFuture<'a, Result<(), EngineError>>;

/// An error with its causes.
fn chain(error: &EngineError) -> String {
    let mut text = format!("{error}: {error:?}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
