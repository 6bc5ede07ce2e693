//! The platform on a real Kubernetes: `cargo xtask test cluster` starts one and names it by `KUBECONFIG`; pods reach this
//! machine by the address of their bridge.

mod devices;
mod neighbours;
mod volumes;

use e2e::quickstart::learn_and_serve;
use e2e::{Installation, eventually, kubeconfig_of, kubectl};
use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// What an installation on the cluster of the tests is told.
const SETTINGS: [(&str, &str); 4] = [
    ("MOONSHOT_IMAGE_AGENT", "moonshot.test/moonshot:1"),
    ("MOONSHOT_IMAGE_HOST", "moonshot.test/busybox:1"),
    ("MOONSHOT_IMAGE_PYTHON", "moonshot.test/python:1"),
    ("MOONSHOT_IMAGE_SERVER", "moonshot.test/server:1"),
];

fn up() -> Installation {
    up_with(&[])
}

fn up_with(more: &[(&str, &str)]) -> Installation {
    let installation = Installation::new(&[&SETTINGS[..], more].concat());
    let said = installation.run(&["up", "--engine", "k8s", "--kubeconfig", &kubeconfig()]);
    assert!(said.ok().contains("is up"));
    installation
}

/// A kubeconfig with the rights that the chart gives the server, and no others: what is missing there fails here.
fn kubeconfig() -> String {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/moonshot.yaml");
        let space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: moonshot}\n";
        kubectl(&["apply", "-f", "-"], space);
        kubectl(&["apply", "-f", plain], "");
        let config = kubeconfig_of("moonshot", "moonshot");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("kubeconfig"), config).expect("written");
        dir
    });
    dir.path().join("kubeconfig").display().to_string()
}

/// The same files as on this machine.
#[test]
fn the_flights_are_learnt_and_served_on_kubernetes() {
    let installation = up();
    learn_and_serve(&installation);
    let nodes = installation.run(&["get", "nodes", "-o", "name"]).ok();
    assert!(nodes.contains("real-0"), "{nodes}");
    let said = installation.run(&["exec", "app/flights", "--", "echo", "inside"]);
    assert_eq!(said.ok().trim(), "inside");
    installation.run(&["delete", "app", "flights"]).ok();
    eventually("its Deployment goes with it", PATIENCE, || {
        listed(&["deployments", "-l", "app.kubernetes.io/managed-by=moonshot"]).is_empty()
    });
}

/// A Project's programs run although they reach nothing but the server; its images would be pulled with its password.
#[test]
fn what_a_project_says_is_kept_in_its_namespace() {
    let installation = up();
    let project = |spec: &str| {
        installation.apply(&format!(
            "apiVersion: moonshot/v1\nkind: Project\nmetadata: {{name: closed}}\nspec: {spec}\n"
        ));
    };
    let pulling =
        "{network: {egress: []}, registries: [{host: registry.example.org, secret: pull}]}";
    project(pulling);
    installation.apply(
        "apiVersion: moonshot/v1
kind: Secret
metadata: {name: pull, project: closed}
spec: {data: {username: somebody, password: open sesame}}
---
apiVersion: moonshot/v1
kind: Job
metadata: {name: shut-in, project: closed}
spec: {command: [sh, -c, 'echo it is said']}
",
    );
    let of = |args: &[&str]| kubectl(&[&["-n", "closed"], args].concat(), "");
    eventually("it ran", PATIENCE, || {
        let jobs = installation
            .run(&["get", "jobs", "--project", "closed"])
            .ok();
        jobs.contains("Succeeded")
    });
    let said = installation.run(&["logs", "job/shut-in", "--project", "closed"]);
    assert!(said.ok().contains("it is said"), "its output came out");
    let pods = of(&["get", "pods", "-o", "jsonpath={..imagePullSecrets[*].name}"]);
    assert_eq!(pods, "moonshot-registries");
    let secrets = || of(&["get", "secrets", "-o", "jsonpath={.items[*].type}"]);
    assert_eq!(secrets(), "kubernetes.io/dockerconfigjson");
    let types = || {
        let path = "jsonpath={.spec.policyTypes}";
        of(&["get", "networkpolicy", "moonshot", "-o", path])
    };
    assert_eq!(types(), r#"["Ingress","Egress"]"#);
    let profile = || {
        let path = r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}";
        kubectl(&["get", "namespace", "closed", "-o", path], "")
    };
    assert_eq!(profile(), "restricted");

    project("{podSecurity: privileged}");
    eventually("what is said no more is gone", PATIENCE, || {
        types() == r#"["Ingress"]"# && secrets().is_empty() && profile() == "privileged"
    });
}

// ---- pods that others made ----

/// Objects as JSON.
fn listed(args: &[&str]) -> Vec<Value> {
    let text = kubectl(&[&["get", "-o", "json"], args].concat(), "");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Pods with this label, as `name node`; no node is `-`.
fn pods(label: &str) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    listed(&["pods", "-l", label])
        .iter()
        .filter_map(|pod| {
            Some((
                text(&pod["metadata"]["name"])?,
                text(&pod["spec"]["nodeName"]),
            ))
        })
        .collect()
}

/// Sentences that were said of a pod, with their reasons.
fn events(pod: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let field = format!("involvedObject.name={pod}");
    listed(&["events", "--field-selector", &field])
        .iter()
        .filter(|event| {
            event["reportingComponent"] == "moonshot" || event["source"]["component"] == "moonshot"
        })
        .map(|event| (text(&event["reason"]), text(&event["message"])))
        .collect()
}

/// A pod of nobody's, with marks and a request for CPU.
fn bare(name: &str, marks: &str, cpu: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default, labels: {{{marks}}}}}
spec:
  schedulerName: moonshot
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: moonshot.test/busybox:1
      command: [sleep, '100000']
      resources: {{requests: {{cpu: {cpu}}}}}
"
    )
}

#[test]
fn a_foreign_deployment_is_admitted_bound_and_told_about() {
    let installation = up();
    installation.apply(
        "apiVersion: moonshot/v1\nkind: Queue\nmetadata: {name: others}\nspec: {projects: [default]}\n",
    );
    kubectl(
        &["apply", "-f", "-"],
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, moonshot/queue: others}}
    spec:
      schedulerName: moonshot
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: moonshot.test/busybox:1
          command: [sleep, '100000']
          resources: {requests: {cpu: 10m}}
",
    );
    let run = || {
        let phases = listed(&["pods", "-l", "app=web"]);
        phases.len() == 3 && phases.iter().all(|pod| pod["status"]["phase"] == "Running")
    };
    eventually("the Deployment's pods run", PATIENCE, run);
    let names: Vec<String> = pods("app=web").into_iter().map(|(name, _)| name).collect();
    for name in &names {
        let group = || installation.get("podgroup", name).unwrap_or_default();
        eventually("it is known to run", PATIENCE, || {
            group()["status"]["phase"] == "Running"
        });
        assert_eq!(group()["spec"]["queue"], "others");
        eventually("its binding is an event", PATIENCE, || {
            events(name).iter().any(|(reason, _)| reason == "Scheduled")
        });
    }
    let queue = || installation.get("queue", "others").expect("it is there");
    eventually("they count in their queue", PATIENCE, || {
        queue()["status"]["running"] == 3
    });

    // Too large for any node: `why` and the pod's own event say the same.
    kubectl(&["apply", "-f", "-"], &bare("giant", "app: giant", "900"));
    eventually("it is known why the pod waits", PATIENCE, || {
        events("giant")
            .iter()
            .any(|(reason, _)| reason == "FailedScheduling")
    });
    let why = installation.run(&["why", "podgroup/giant"]).ok();
    let (_, said) = events("giant")
        .into_iter()
        .find(|(reason, _)| reason == "FailedScheduling")
        .expect("it was said");
    assert!(why.contains(&said), "why says {why}, the event {said}");

    // Pods go by hand, and come back; what is gone is forgotten.
    kubectl(&["delete", "pod", "giant", &names[0]], "");
    eventually("another pod runs", PATIENCE, || {
        run() && installation.get("podgroup", &names[0]).is_none()
    });
    assert!(installation.get("podgroup", "giant").is_none());
    kubectl(&["delete", "deployment", "web"], "");
    eventually("nothing is left of it", PATIENCE, || {
        installation
            .run(&["get", "podgroups", "-o", "name"])
            .ok()
            .trim()
            .is_empty()
    });
}

#[test]
fn a_foreign_gang_starts_whole_or_not_at_all() {
    let installation = up();
    let ring = |name: &str| {
        bare(
            name,
            "app: ring, moonshot/gang: ring, moonshot/gang-size: '3'",
            "100m",
        )
    };
    let nodes = |label: &str| pods(label).into_iter().filter_map(|(_, node)| node).count();
    kubectl(
        &["apply", "-f", "-"],
        &[ring("ring-0"), ring("ring-1")].concat(),
    );
    let gang =
        |installation: &Installation| installation.get("podgroup", "ring").unwrap_or_default();
    eventually("two of three are there", PATIENCE, || {
        gang(&installation)["status"]["message"] == "2 of 3 pods are there"
    });
    assert_eq!(nodes("app=ring"), 0, "none starts before all are there");

    // Another server knows them from the database.
    installation.run(&["down", "--keep-programs"]).ok();
    installation
        .run(&["up", "--engine", "k8s", "--kubeconfig", &kubeconfig()])
        .ok();
    kubectl(&["apply", "-f", "-"], &ring("ring-2"));
    eventually("all three are bound", PATIENCE, || nodes("app=ring") == 3);

    // The node has room for one or two of these, not for three: none starts.
    let large = |name: &str| {
        bare(
            name,
            "app: large, moonshot/gang: large, moonshot/gang-size: '3'",
            "700m",
        )
    };
    let three = ["large-0", "large-1", "large-2"].map(large).concat();
    kubectl(&["apply", "-f", "-"], &three);
    eventually("it is known why the gang waits", PATIENCE, || {
        events("large-2")
            .iter()
            .any(|(reason, _)| reason == "FailedScheduling")
    });
    assert_eq!(nodes("app=large"), 0, "{:?}", pods("app=large"));

    // A field that is not supported is named.
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: Honor}]";
    let held = bare("held", "app: held", "10m")
        .replace("  containers:", &format!("  {spread}\n  containers:"));
    kubectl(&["apply", "-f", "-"], &held);
    eventually("the field is named", PATIENCE, || {
        events("held")
            .iter()
            .any(|(reason, text)| reason == "Unsupported" && text.contains("nodeTaintsPolicy"))
    });
    kubectl(&["delete", "pods", "-l", "app in (ring, large, held)"], "");
    eventually("nothing is left of them", PATIENCE, || {
        installation
            .run(&["get", "podgroups", "-o", "name"])
            .ok()
            .trim()
            .is_empty()
    });
}
