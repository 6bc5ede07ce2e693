//! Devices that pods of others claim, and Jobs and Apps of the platform. They are published by the tests themselves, on nodes that exist on paper: pods are bound there
//! and never run, so that only who gets which device is shown.

use super::{PATIENCE, events, kubeconfig, listed, up_with};
use e2e::{Installation, eventually, kubectl, try_kubectl};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kubernetes soon doubts that a new node is alive, and believes it again when it is said so.
const PERIOD: Duration = Duration::from_secs(3);

/// Nodes with devices of a driver of the test's own; everything of it goes with this.
pub(super) struct Lab {
    title: &'static str,
    pub(super) nodes: Vec<String>,
    is_over: Arc<AtomicBool>,
    heart: Option<JoinHandle<()>>,
}

impl Lab {
    /// So many devices on each node. Odd ones are larger; each two of a node share a link.
    pub(super) fn new(title: &'static str, devices: &[usize]) -> Lab {
        let nodes: Vec<String> = (0..devices.len()).map(|n| format!("{title}-{n}")).collect();
        let mut all: Vec<Value> = nodes
            .iter()
            .map(|name| {
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {
                    "name": name, "labels": {"kubernetes.io/hostname": name},
                }})
            })
            .collect();
        let driver = format!("{title}.example.com");
        all.push(class(&driver, &format!("device.driver == '{driver}'")));
        for (node, count) in nodes.iter().zip(devices) {
            let devices: Vec<Value> = (0..*count)
                .map(|n| {
                    let memory = if n % 2 == 1 { "80Gi" } else { "40Gi" };
                    json!({
                        "name": format!("gpu-{n}"),
                        "attributes": {"index": {"int": n}, "link": {"string": format!("l{}", n / 2)}},
                        "capacity": {"memory": {"value": memory}},
                    })
                })
                .collect();
            all.push(json!({
                "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": node},
                "spec": {
                    "driver": driver, "nodeName": node,
                    "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
                    "devices": devices,
                },
            }));
        }
        apply(&all);
        let is_over = Arc::new(AtomicBool::new(false));
        beat(&nodes);
        let heart = std::thread::spawn({
            let (nodes, is_over) = (nodes.clone(), Arc::clone(&is_over));
            move || {
                let mut beaten = Instant::now();
                while !is_over.load(Ordering::Acquire) {
                    if beaten.elapsed() > PERIOD {
                        beat(&nodes);
                        beaten = Instant::now();
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Lab {
            title,
            nodes,
            is_over,
            heart: Some(heart),
        }
    }

    fn class(&self) -> String {
        format!("{}.example.com", self.title)
    }

    /// What a claim for one request asks for.
    fn request(&self, more: Value) -> Value {
        let mut exactly = json!({"deviceClassName": self.class()});
        for (name, value) in more.as_object().expect("an object") {
            exactly[name] = value.clone();
        }
        json!({"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}})
    }

    fn template(&self, name: &str, spec: Value) {
        apply(&[json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
            "metadata": {"name": name, "namespace": "default", "labels": {"lab": self.title}},
            "spec": {"spec": spec},
        })]);
    }

    fn claim(&self, name: &str, spec: Value) {
        apply(&[json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "default", "labels": {"lab": self.title}},
            "spec": spec,
        })]);
    }

    /// A pod with a claim of its own from a template.
    fn pod(&self, name: &str, template: &str) -> Value {
        self.pod_with(name, json!({"resourceClaimTemplateName": template}))
    }

    fn pod_with(&self, name: &str, source: Value) -> Value {
        let mut claim = source;
        claim["name"] = json!("gpu");
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"lab": self.title}},
            "spec": {
                "schedulerName": "moonshot",
                "terminationGracePeriodSeconds": 0,
                "resourceClaims": [claim],
                "containers": [{
                    "name": "main", "image": "moonshot.test/busybox:1", "command": ["sleep", "100000"],
                    "resources": {"requests": {"cpu": "10m"}, "claims": [{"name": "gpu"}]},
                }],
            },
        })
    }

    /// Devices by pod of a Job or an App of this name, where it has a node and its claim has them.
    fn given_to(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let held: BTreeMap<String, Vec<String>> = self.held().into_iter().collect();
        let pods = listed(&["pods", "-l", "app.kubernetes.io/managed-by=moonshot"]);
        let given = pods.iter().filter_map(|pod| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let pod_name = text(&pod["metadata"]["name"])?;
            let node = text(&pod["spec"]["nodeName"])?;
            let claim = &pod["status"]["resourceClaimStatuses"][0]["resourceClaimName"];
            let devices = held.get(claim.as_str()?)?.clone();
            assert!(
                devices
                    .iter()
                    .all(|device| device.starts_with(&format!("{node}/"))),
                "{pod_name} is on {node} and has {devices:?}"
            );
            pod_name.starts_with(name).then_some((pod_name, devices))
        });
        given.collect()
    }

    /// Nodes by pod.
    pub(super) fn nodes_of_pods(&self) -> BTreeMap<String, String> {
        let pods = listed(&["pods", "-l", &format!("lab={}", self.title)]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let bound = pods.iter().filter_map(|pod| {
            Some((
                text(&pod["metadata"]["name"])?,
                text(&pod["spec"]["nodeName"])?,
            ))
        });
        bound.collect()
    }

    /// Devices by claim, as `node/device`.
    fn held(&self) -> Vec<(String, Vec<String>)> {
        let driver = self.class();
        let claims = listed(&["resourceclaims"]);
        let held = claims.iter().filter_map(|claim| {
            let results = claim["status"]["allocation"]["devices"]["results"].as_array()?;
            let of_driver = results
                .iter()
                .filter(|result| result["driver"] == driver.as_str());
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let devices = of_driver
                .map(|result| format!("{}/{}", text(&result["pool"]), text(&result["device"])));
            Some((
                text(&claim["metadata"]["name"]),
                devices.collect::<Vec<_>>(),
            ))
        });
        held.filter(|(_, devices)| !devices.is_empty()).collect()
    }

    /// No device is in two claims; how many are held.
    #[track_caller]
    fn n_distinct(&self) -> usize {
        let held = self.held();
        let all: Vec<&String> = held.iter().flat_map(|(_, devices)| devices).collect();
        let distinct: BTreeSet<&String> = all.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            all.len(),
            "a device is in two claims: {held:?}"
        );
        all.len()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
        if std::thread::panicking() {
            return;
        }
        let label = format!("lab={}", self.title);
        let now = ["--grace-period=0", "--force", "--ignore-not-found"];
        let of = [
            "delete",
            "pods,resourceclaims,resourceclaimtemplates",
            "-l",
            &label,
        ];
        kubectl(&[&of[..], &now].concat(), "");
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        kubectl(
            &[
                &["delete", "resourceslice", "--ignore-not-found"],
                &nodes[..],
            ]
            .concat(),
            "",
        );
        kubectl(&["delete", "deviceclass", &self.class()], "");
        kubectl(
            &[&["delete", "node", "--wait=false"], &nodes[..]].concat(),
            "",
        );
    }
}

/// No pod of its own runs here: these tests are content with a control plane on the loopback.
pub(super) fn server() -> Installation {
    up_with(&[("MOONSHOT_POD_LISTEN", "127.0.0.1:0")])
}

fn class(name: &str, expression: &str) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    })
}

pub(super) fn apply(objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl(&["apply", "-f", "-"], &list.to_string());
}

fn beat(nodes: &[String]) {
    let amounts = json!({"cpu": "8", "memory": "8Gi", "pods": "50"});
    let status = json!({"status": {
        "capacity": amounts, "allocatable": amounts,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Paper", "message": "it is made of paper"}],
    }});
    let words = [
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ];
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    kubectl(&[&["patch", "node"], &nodes[..], &words].concat(), "");
}

/// What a kubelet would say of a pod whose programs have ended.
fn end(pod: &str) {
    say_phase(pod, "Succeeded").expect("it is there");
}

fn say_phase(pod: &str, phase: &str) -> Result<String, String> {
    let said = json!({"status": {"phase": phase}}).to_string();
    let words = ["--subresource=status", "--type=merge", "-p", &said];
    try_kubectl(&[&["patch", "pod", pod][..], &words].concat(), "")
}

pub(super) fn is_told(pod: &str, words: &str) -> bool {
    events(pod).iter().any(|(_, text)| text.contains(words))
}

fn claim_of(pod: &str) -> Value {
    let path = "jsonpath={.status.resourceClaimStatuses[0].resourceClaimName}";
    let name = kubectl(&["get", "pod", pod, "-o", path], "");
    let claim = kubectl(&["get", "resourceclaim", &name, "-o", "json"], "");
    serde_json::from_str(&claim).expect("JSON")
}

fn why(installation: &Installation, pod: &str) -> String {
    installation
        .run(&["why", &format!("podgroup/{pod}")])
        .stdout
}

#[test]
fn foreign_pods_get_devices_of_their_own() {
    let lab = Lab::new("own", &[2, 2]);
    let installation = server();
    lab.template("one", lab.request(json!({})));
    let pods: Vec<Value> = (0..4)
        .map(|n| lab.pod(&format!("own-{n}"), "one"))
        .collect();
    apply(&pods);
    eventually("all are bound", PATIENCE, || lab.nodes_of_pods().len() == 4);
    assert_eq!(lab.n_distinct(), 4);
    for (pod, node) in lab.nodes_of_pods() {
        let claim = claim_of(&pod);
        let allocation = &claim["status"]["allocation"];
        assert_eq!(allocation["devices"]["results"][0]["pool"], node.as_str());
        let terms = &allocation["nodeSelector"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!([node]));
        assert_eq!(claim["status"]["reservedFor"][0]["name"], pod.as_str());
        let finalizers = &claim["metadata"]["finalizers"];
        assert_eq!(
            finalizers,
            &json!(["resource.kubernetes.io/delete-protection"])
        );
    }

    // One too many waits, is told which class is short, and goes on when another has ended.
    apply(&[lab.pod("own-late", "one")]);
    eventually("it is told what is short", PATIENCE, || {
        is_told("own-late", "device/own.example.com")
    });
    eventually("`why` says the same", PATIENCE, || {
        why(&installation, "own-late").contains("device/own.example.com is short (0 free)")
    });
    assert!(
        !is_told("own-late", "template"),
        "its claim was made in time"
    );
    assert_eq!(lab.nodes_of_pods().len(), 4);
    let ended = lab.nodes_of_pods()["own-2"].clone();
    end("own-2");
    eventually("it has its node", PATIENCE, || {
        lab.nodes_of_pods().get("own-late") == Some(&ended)
    });
    assert_eq!(lab.n_distinct(), 4);
}

#[test]
fn pods_that_share_a_claim_go_to_one_node() {
    let lab = Lab::new("shared", &[1, 1]);
    let _installation = server();
    lab.claim("both", lab.request(json!({})));
    let named = json!({"resourceClaimName": "both"});
    let pods: Vec<Value> = (0..3)
        .map(|n| lab.pod_with(&format!("shared-{n}"), named.clone()))
        .collect();
    apply(&pods);
    eventually("all are bound", PATIENCE, || lab.nodes_of_pods().len() == 3);
    let nodes: BTreeSet<String> = lab.nodes_of_pods().into_values().collect();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert_eq!(lab.n_distinct(), 1);
    let claim = kubectl(&["get", "resourceclaim", "both", "-o", "json"], "");
    let claim: Value = serde_json::from_str(&claim).expect("JSON");
    assert_eq!(
        claim["status"]["reservedFor"].as_array().map(Vec::len),
        Some(3)
    );
}

#[test]
fn selectors_and_constraints_are_heeded() {
    let lab = Lab::new("choosy", &[1, 4]);
    let _installation = server();
    let large = "device.capacity['choosy.example.com'].memory.compareTo(quantity('64Gi')) >= 0";
    lab.template(
        "large",
        lab.request(json!({"selectors": [{"cel": {"expression": large}}]})),
    );
    // Two that share a link: only the second pair is whole once a large one of the first is gone.
    let mut pair = lab.request(json!({"count": 2}));
    pair["devices"]["constraints"] = json!([{"matchAttribute": "choosy.example.com/link"}]);
    lab.template("pair", pair);
    apply(&[lab.pod("choosy-large", "large")]);
    eventually("it has its node", PATIENCE, || {
        lab.nodes_of_pods().len() == 1
    });
    apply(&[lab.pod("choosy-pair", "pair")]);
    eventually("the pair has its node", PATIENCE, || {
        lab.nodes_of_pods().len() == 2
    });
    assert_eq!(lab.n_distinct(), 3);
    let results = |pod: &str| {
        let claim = claim_of(pod);
        let results = claim["status"]["allocation"]["devices"]["results"].clone();
        let results = results.as_array().cloned().unwrap_or_default();
        let names = results
            .iter()
            .map(|result| result["device"].as_str().unwrap_or_default().to_owned());
        names.collect::<BTreeSet<String>>()
    };
    let (large, pair) = (results("choosy-large"), results("choosy-pair"));
    let of = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let halves = [of(&["gpu-0", "gpu-1"]), of(&["gpu-2", "gpu-3"])];
    assert!(
        large == of(&["gpu-1"]) || large == of(&["gpu-3"]),
        "{large:?}"
    );
    assert!(halves.contains(&pair), "{pair:?}");

    // No pair is left on any node, though two devices are free on the larger one at least once.
    apply(&[lab.pod("choosy-more", "pair")]);
    eventually("it is told where it cannot go", PATIENCE, || {
        is_told("choosy-more", "device/choosy.example.com")
    });
    assert_eq!(lab.nodes_of_pods().len(), 2);
}

#[test]
fn what_a_claim_lacks_is_told() {
    let lab = Lab::new("lacking", &[1]);
    let _installation = server();
    apply(&[lab.pod_with("lacking-claim", json!({"resourceClaimName": "late"}))]);
    eventually("the missing claim is named", PATIENCE, || {
        is_told("lacking-claim", "the claim `default/late` is not there")
    });
    let missing = json!({"resourceClaimTemplateName": "nobodys"});
    apply(&[lab.pod_with("lacking-template", missing)]);
    eventually("it is told that its claim is not made", PATIENCE, || {
        is_told(
            "lacking-template",
            "its claim `gpu` is not made from its template yet",
        )
    });
    lab.claim("late", json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "nobodys.example.com"}}]}}));
    eventually("the missing class is named", PATIENCE, || {
        is_told(
            "lacking-claim",
            "the device class `nobodys.example.com`, which is not there",
        )
    });
    let absent = "device.attributes['lacking.example.com'].colour == 'red'";
    lab.template(
        "absent",
        lab.request(json!({"selectors": [{"cel": {"expression": absent}}]})),
    );
    apply(&[lab.pod("lacking-attribute", "absent")]);
    eventually(
        "the expression and the attribute are named",
        PATIENCE,
        || {
            is_told(
                "lacking-attribute",
                "colour == 'red'` of a device of class `lacking.example.com` cannot be evaluated",
            )
        },
    );
    lab.template(
        "newer",
        lab.request(
            json!({"selectors": [{"cel": {"expression": "ip('127.0.0.1').isLoopback()"}}]}),
        ),
    );
    apply(&[lab.pod("lacking-function", "newer")]);
    eventually("a function that is not known is named", PATIENCE, || {
        is_told("lacking-function", "ip('127.0.0.1').isLoopback()")
    });
    assert!(lab.nodes_of_pods().is_empty());
}

/// The server may do everything but bind: it is killed when a pod has its devices and no node.
#[test]
fn a_server_that_dies_between_device_and_node_leaves_nothing_behind() {
    let lab = Lab::new("killed", &[2]);
    lab.template("one", lab.request(json!({})));
    let installation = server();
    let role = kubectl(&["get", "clusterrole", "moonshot", "-o", "json"], "");
    let whole: Value = serde_json::from_str(&role).expect("JSON");
    let mut unable = whole.clone();
    for rule in unable["rules"].as_array_mut().expect("rules") {
        if let Some(resources) = rule["resources"].as_array_mut() {
            resources.retain(|resource| resource != "pods/binding");
        }
    }
    let replace = |role: &Value| {
        let mut role = role.clone();
        role["metadata"]["resourceVersion"] = Value::Null;
        kubectl(&["replace", "-f", "-"], &role.to_string());
    };
    replace(&unable);
    apply(&[lab.pod("killed-kept", "one"), lab.pod("killed-gone", "one")]);
    eventually("both have devices", PATIENCE, || lab.held().len() == 2);
    assert!(lab.nodes_of_pods().is_empty());
    let kept = claim_of("killed-kept")["status"]["allocation"].clone();
    installation.run(&["down", "--keep-programs"]).ok();
    // One pod goes while nobody schedules: Kubernetes takes its claim along.
    kubectl(
        &[
            "delete",
            "pod",
            "killed-gone",
            "--force",
            "--grace-period=0",
        ],
        "",
    );
    replace(&whole);
    installation
        .run(&["up", "--engine", "k8s", "--kubeconfig", &kubeconfig()])
        .ok();
    eventually("the other has its node", PATIENCE, || {
        lab.nodes_of_pods().contains_key("killed-kept")
    });
    assert_eq!(
        claim_of("killed-kept")["status"]["allocation"],
        kept,
        "its devices are the same"
    );
    eventually("the device of the one that went is free", PATIENCE, || {
        lab.held().len() == 1
    });
    apply(&[lab.pod("killed-next", "one")]);
    eventually("another pod gets it", PATIENCE, || {
        lab.nodes_of_pods().len() == 2
    });
    assert_eq!(lab.n_distinct(), 2);
}

/// Both schedulers give devices of the same nodes away, by turns: in the same moment they could give the same one, for Kubernetes
/// itself does not compare claims.
#[test]
fn two_schedulers_give_no_device_twice() {
    let lab = Lab::new("beside", &[4, 4]);
    let _installation = server();
    lab.template("one", lab.request(json!({})));
    let mut n_bound = 0;
    let mut start = |name: &str, scheduler: &str, count: usize| {
        let pods = (0..count).map(|n| {
            let mut pod = lab.pod(&format!("beside-{name}-{n}"), "one");
            pod["spec"]["schedulerName"] = json!(scheduler);
            pod
        });
        apply(&pods.collect::<Vec<Value>>());
        n_bound += count;
        eventually("all are bound", PATIENCE, || {
            lab.nodes_of_pods().len() == n_bound
        });
        assert_eq!(lab.n_distinct(), n_bound);
    };
    start("ours", "moonshot", 3);
    start("theirs", "default-scheduler", 3);
    start("more", "moonshot", 1);
    start("most", "default-scheduler", 1);
    // Nothing is left for anybody.
    apply(&[lab.pod("beside-late", "one")]);
    eventually("it is told what is short", PATIENCE, || {
        is_told("beside-late", "device/beside.example.com")
    });
    assert_eq!((lab.nodes_of_pods().len(), lab.n_distinct()), (8, 8));
}

/// A gang whose devices are there starts as a whole; one device too few, and none of it holds any.
#[test]
fn a_gang_gets_all_its_devices_or_none() {
    let lab = Lab::new("gang", &[1, 1]);
    let _installation = server();
    lab.template("one", lab.request(json!({})));
    let member = |name: &str, gang: &str, size: &str| {
        let mut pod = lab.pod(name, "one");
        pod["metadata"]["labels"]["moonshot/gang"] = json!(gang);
        pod["metadata"]["labels"]["moonshot/gang-size"] = json!(size);
        pod
    };
    let three: Vec<Value> = (0..3)
        .map(|n| member(&format!("gang-three-{n}"), "three", "3"))
        .collect();
    apply(&three);
    eventually("it is told what is short", PATIENCE, || {
        is_told("gang-three-0", "device/gang.example.com")
    });
    assert!(lab.held().is_empty(), "{:?}", lab.held());
    let two: Vec<Value> = (0..2)
        .map(|n| member(&format!("gang-two-{n}"), "two", "2"))
        .collect();
    kubectl(
        &[
            "delete",
            "pods",
            "-l",
            "moonshot/gang=three",
            "--force",
            "--grace-period=0",
        ],
        "",
    );
    apply(&two);
    eventually("both are bound", PATIENCE, || {
        lab.nodes_of_pods().len() == 2
    });
    assert_eq!(lab.n_distinct(), 2);
}

/// What a kubelet would do to pods of a Job or an App of this name that are asked to end.
fn end_asked(name: &str) {
    let pods = listed(&["pods", "-l", "app.kubernetes.io/managed-by=moonshot"]);
    let asked = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_string());
    let names = asked.filter_map(|pod| pod["metadata"]["name"].as_str());
    for pod in names.filter(|pod| pod.starts_with(name)) {
        // It may be gone by now.
        let _ = say_phase(pod, "Failed");
        let now = ["--force", "--grace-period=0", "--wait=false"];
        let _ = try_kubectl(&[&["delete", "pod", pod][..], &now].concat(), "");
    }
}

/// Jobs and Apps ask for devices as for any resource; each replica gets its own, and what is left over goes when they have gone.
#[test]
fn jobs_and_apps_get_devices_of_their_own() {
    let lab = Lab::new("ours", &[2, 1]);
    let installation = server();
    let job = |name: &str, n: u32| {
        installation.apply(&format!(
            "apiVersion: moonshot/v1
kind: Job
metadata: {{name: {name}}}
spec:
  command: [sleep, '100000']
  groups: [{{name: worker, replicas: {n}}}]
  resources: {{cpu: 100m, extended: {{device/ours.example.com: 1}}}}
"
        ));
    };
    job("ours-pair", 2);
    eventually("both have a device", PATIENCE, || {
        lab.given_to("ours-pair").len() == 2
    });
    assert_eq!(lab.n_distinct(), 2);
    eventually("the Job's status names them", PATIENCE, || {
        let job = installation.get("job", "ours-pair").unwrap_or_default();
        let replicas = job["status"]["replicas"].as_array().cloned();
        let devices = replicas.unwrap_or_default().into_iter().map(|replica| {
            let id = replica["devices"][0]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            id.strip_prefix("ours.example.com/").map(str::to_owned)
        });
        let named: BTreeSet<String> = devices.flatten().collect();
        let held: BTreeSet<String> = lab.held().into_iter().flat_map(|(_, held)| held).collect();
        named == held
    });

    // An App takes the last one; a Job that comes then waits, and is told for what.
    installation.apply(
        "apiVersion: moonshot/v1
kind: App
metadata: {name: ours-web}
spec:
  template:
    command: [sleep, '100000']
    resources: {cpu: 100m, extended: {device/ours.example.com: 1}}
",
    );
    eventually("the App has a device", PATIENCE, || {
        lab.given_to("ours-web").len() == 1
    });
    assert_eq!(lab.n_distinct(), 3);
    job("ours-late", 1);
    eventually("`why` says what is short", PATIENCE, || {
        let why = installation.run(&["why", "job/ours-late"]).stdout;
        why.contains("device/ours.example.com is short (0 free)")
    });

    // A template that somebody deletes comes back.
    let templates = || {
        listed(&[
            "resourceclaimtemplates",
            "-l",
            "app.kubernetes.io/managed-by=moonshot",
        ])
    };
    eventually("the Job and the App have one each", PATIENCE, || {
        templates().len() == 2
    });
    let managed = "app.kubernetes.io/managed-by=moonshot";
    kubectl(
        &["delete", "resourceclaimtemplates,services", "-l", managed],
        "",
    );
    let services = || listed(&["services", "-l", managed]);
    eventually("they are made again", PATIENCE, || {
        templates().len() == 2 && services().len() == 1
    });

    // Another goes: its devices go to who waits.
    installation.run(&["cancel", "job/ours-pair"]).ok();
    eventually("the next one has a device", PATIENCE, || {
        end_asked("ours-pair");
        lab.given_to("ours-late").len() == 1
    });
    lab.n_distinct();
    installation.run(&["cancel", "job/ours-late"]).ok();
    installation.run(&["delete", "app", "ours-web"]).ok();
    eventually("nothing is left of them", PATIENCE * 2, || {
        for name in ["ours-pair", "ours-late", "ours-web"] {
            end_asked(name);
        }
        templates().is_empty() && services().is_empty() && lab.held().is_empty()
    });
}

/// Where a class is said to be the GPUs, `gpu` means its devices.
#[test]
fn gpus_may_be_claimed() {
    let lab = Lab::new("gpus", &[2]);
    let settings = [
        ("MOONSHOT_POD_LISTEN", "127.0.0.1:0"),
        ("MOONSHOT_GPU_CLASS", "gpus.example.com"),
    ];
    let installation = up_with(&settings);
    eventually("the node has GPUs", PATIENCE, || {
        let node = installation.get("node", "gpus-0").unwrap_or_default();
        node["status"]["allocatable"]["gpu"].as_f64() == Some(2.0)
    });
    installation.apply(
        "apiVersion: moonshot/v1
kind: Job
metadata: {name: gpus-two}
spec: {command: [sleep, '100000'], resources: {cpu: 100m, gpu: 2}}
",
    );
    eventually("it has both", PATIENCE, || {
        let given = lab.given_to("gpus-two");
        given.values().any(|devices| devices.len() == 2)
    });
    installation.run(&["cancel", "job/gpus-two"]).ok();
    eventually("nothing is held any more", PATIENCE, || {
        end_asked("gpus-two");
        lab.held().is_empty()
    });
}

/// A queue's limit is in devices of a class, too.
#[test]
fn a_queue_counts_devices() {
    let lab = Lab::new("quota", &[3]);
    let installation = server();
    installation.apply(
        "apiVersion: moonshot/v1
kind: Queue
metadata: {name: few}
spec:
  projects: [default]
  quotas: {'*': {limit: {extended: {device/quota.example.com: 1}}}}
",
    );
    lab.template("one", lab.request(json!({})));
    let pods: Vec<Value> = (0..2)
        .map(|n| {
            let mut pod = lab.pod(&format!("quota-{n}"), "one");
            pod["metadata"]["labels"]["moonshot/queue"] = json!("few");
            pod
        })
        .collect();
    apply(&pods);
    eventually("one is bound, the other is told why not", PATIENCE, || {
        let words = "device/quota.example.com limit 1";
        lab.nodes_of_pods().len() == 1 && (is_told("quota-0", words) || is_told("quota-1", words))
    });
    installation.run(&["delete", "queue", "few"]).ok();
}
