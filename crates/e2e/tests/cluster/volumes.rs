//! Checkpoints in claims, and claims of pods that others made. Volumes are directories of this machine, made by the tests themselves.

use super::{PATIENCE, bare, events, listed, pods, up, up_with};
use e2e::{Installation, Storage, eventually, kubectl};
use serde_json::{Value, json};
use std::time::Duration;

/// The node that runs pods.
const REAL: &str = "real-0";
/// A node that exists on paper: pods are bound to it and never run.
const PAPER: &str = "paper-0";

/// A node of paper, as large as the real one; it is gone with this.
struct Paper;

impl Paper {
    fn new() -> Paper {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": PAPER, "labels": {"kubernetes.io/hostname": PAPER}},
        });
        kubectl(&["apply", "-f", "-"], &node.to_string());
        let paper = Paper;
        paper.be_ready();
        paper
    }

    /// Nothing else says that it is alive; Kubernetes believes it for less than a minute.
    fn be_ready(&self) {
        let amounts = json!({"cpu": "2", "memory": "8Gi", "pods": "50"});
        let status = json!({"status": {
            "capacity": amounts, "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Paper", "message": "it is made of paper"}],
        }});
        let words = [
            "patch",
            "node",
            PAPER,
            "--subresource=status",
            "--type=merge",
            "-p",
        ];
        kubectl(&[&words[..], &[&status.to_string()]].concat(), "");
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            kubectl(&["delete", "node", PAPER, "--wait=false"], "");
        }
    }
}

/// Nobody there ends a pod: what a kubelet would do is done by hand.
fn end_on_paper() {
    let all = listed(&["pods", "-l", "app.kubernetes.io/managed-by=moonshot"]);
    let there = all.iter().filter(|pod| pod["spec"]["nodeName"] == PAPER);
    for name in there.filter_map(|pod| pod["metadata"]["name"].as_str()) {
        let unguarded = r#"{"metadata": {"finalizers": null}}"#;
        kubectl(&["patch", "pod", name, "--type=merge", "-p", unguarded], "");
        let words = ["delete", "pod", name, "--force", "--grace-period=0"];
        kubectl(
            &[&words[..], &["--wait=false", "--ignore-not-found"]].concat(),
            "",
        );
    }
}

/// A Job that keeps its first attempt's number and waits to be killed; the next one says what it found.
fn job(name: &str, n_replicas: u32) -> String {
    format!(
        "apiVersion: moonshot/v1
kind: Job
metadata: {{name: {name}}}
spec:
  checkpoint: true
  groups:
    - name: worker
      replicas: {n_replicas}
      command:
        - sh
        - -c
        - |
          if [ -e $MOONSHOT_CHECKPOINT/step ]; then echo found `cat $MOONSHOT_CHECKPOINT/step` in $MOONSHOT_ATTEMPT; exit 0; fi
          echo $MOONSHOT_ATTEMPT > $MOONSHOT_CHECKPOINT/step
          echo kept
          sleep 100000
"
    )
}

fn said(installation: &Installation, name: &str) -> String {
    installation.run(&["logs", &format!("job/{name}")]).stdout
}

fn claims() -> Vec<Value> {
    listed(&[
        "persistentvolumeclaims",
        "-l",
        "app.kubernetes.io/managed-by=moonshot",
    ])
}

/// The node of the pod of a Job's claim, as it was bound.
fn nodes_of(name: &str) -> Vec<String> {
    let all = listed(&["pods", "-l", "app.kubernetes.io/managed-by=moonshot"]);
    let title = format!("job/{name}");
    let of_job = all
        .iter()
        .filter(|pod| pod["metadata"]["annotations"]["moonshot/title"] == title.as_str());
    of_job
        .filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_killed_job_finds_what_it_kept_and_takes_its_claim_along() {
    let storage = Storage::on_demand("killed");
    let installation = up_with(&[
        ("MOONSHOT_CHECKPOINT_CLASS", storage.class()),
        ("MOONSHOT_CHECKPOINT_SIZE", "1Mi"),
        ("MOONSHOT_CONTENT_GRACE", "2s"),
    ]);
    installation.apply(&job("killed", 1));
    eventually("it has kept something", PATIENCE, || {
        said(&installation, "killed").contains("kept")
    });
    assert_eq!(claims().len(), 1);
    let all = listed(&["pods", "-l", "app.kubernetes.io/managed-by=moonshot"]);
    let pod = all[0]["metadata"]["name"].as_str().expect("a name");
    kubectl(&["delete", "pod", pod, "--force", "--grace-period=0"], "");
    let ended = installation.wait_for("job", "killed", &["Succeeded"], PATIENCE);
    assert_eq!(ended["status"]["failures"], 0, "nobody's fault: {ended}");
    let said = said(&installation, "killed");
    assert!(said.contains("found 1 in 2"), "{said}");
    assert_eq!(claims().len(), 1, "it is kept as long as its Job is");

    installation.run(&["delete", "job", "killed"]).ok();
    eventually("its claim goes with it", PATIENCE, || claims().is_empty());
}

#[test]
fn a_job_goes_where_there_is_a_volume_for_it() {
    let paper = Paper::new();
    let here = Storage::by_hand("here");
    here.volume(REAL, "1Mi");
    let there = Storage::by_hand("there");
    there.volume(PAPER, "1Mi");
    for (storage, name, node) in [(&there, "far", PAPER), (&here, "near", REAL)] {
        let installation = up_with(&[
            ("MOONSHOT_CHECKPOINT_CLASS", storage.class()),
            ("MOONSHOT_CHECKPOINT_SIZE", "1Mi"),
            ("MOONSHOT_CONTENT_GRACE", "2s"),
        ]);
        paper.be_ready();
        installation.apply(&job(name, 1));
        eventually("its pod has its node", PATIENCE, || {
            paper.be_ready();
            !nodes_of(name).is_empty()
        });
        assert_eq!(nodes_of(name), [node]);
        // No other volume is there: the next one waits outside, and holds nothing.
        let second = format!("{name}-2");
        installation.apply(&job(&second, 1));
        eventually("it is said why the second waits", PATIENCE, || {
            paper.be_ready();
            let why = installation.run(&["why", &format!("job/{second}")]).stdout;
            why.contains("volume/new-checkpoint")
        });
        for name in [name, &second] {
            installation.run(&["delete", "job", name]).ok();
        }
        if node == PAPER {
            end_on_paper();
        }
        eventually("its claim goes with it", PATIENCE, || claims().is_empty());
    }
}

#[test]
fn a_job_that_cannot_keep_anything_says_why() {
    let installation = up_with(&[("MOONSHOT_CONTENT_GRACE", "2s")]);
    installation.apply(&job("classless", 1));
    let why = || installation.run(&["why", "job/classless"]).stdout;
    eventually("it is said what is missing", PATIENCE, || {
        let why = why();
        why.contains("MOONSHOT_CHECKPOINT_CLASS") && why.contains("no storage class is set")
    });
    let status = installation.get("job", "classless").expect("it is there")["status"].clone();
    assert_eq!(status["phase"], "Starting", "{status}");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("worker/0 waits: the claim"), "{message}");
    installation.run(&["delete", "job", "classless"]).ok();

    // One directory for two replicas, where one node at a time may write it.
    installation.apply(&job("pair", 2));
    let ended = installation.wait_for("job", "pair", &["Failed"], PATIENCE);
    assert_eq!(ended["status"]["reason"], "Unsupported");
    let message = ended["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("MOONSHOT_CHECKPOINT_ACCESS"), "{message}");
    installation.run(&["delete", "job", "pair"]).ok();
    eventually("no claim is left", PATIENCE, || claims().is_empty());
}

#[test]
fn replicas_share_a_claim_that_all_of_them_may_write() {
    let storage = Storage::on_demand("shared");
    let installation = up_with(&[
        ("MOONSHOT_CHECKPOINT_CLASS", storage.class()),
        ("MOONSHOT_CHECKPOINT_SIZE", "1Mi"),
        ("MOONSHOT_CHECKPOINT_ACCESS", "ReadWriteMany"),
        ("MOONSHOT_CONTENT_GRACE", "2s"),
    ]);
    installation.apply(
        "apiVersion: moonshot/v1
kind: Job
metadata: {name: shared}
spec:
  checkpoint: true
  groups:
    - name: worker
      replicas: 2
      command: [sh, -c, 'touch $MOONSHOT_CHECKPOINT/`hostname`; until [ `ls $MOONSHOT_CHECKPOINT | wc -l` -ge 2 ]; do sleep 0.1; done']
",
    );
    installation.wait_for("job", "shared", &["Succeeded"], PATIENCE);
    assert_eq!(claims().len(), 1);
    installation.run(&["delete", "job", "shared"]).ok();
    eventually("its claim goes with it", PATIENCE, || claims().is_empty());
}

// ---- pods that others made ----

fn claim(name: &str, class: &str, mode: &str) -> String {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "labels": {"test": "volumes"}},
        "spec": {
            "storageClassName": class, "accessModes": [mode],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    });
    format!("{claim}\n---\n")
}

/// A bare pod with a volume.
fn pod(name: &str, volume: &str) -> String {
    let bare = bare(name, "test: volumes", "10m");
    let mounted = "      volumeMounts: [{name: data, mountPath: /data}]\n      resources:";
    let bare = bare.replace("      resources:", mounted);
    let volumes = format!("  volumes: [{{name: data, {volume}}}]\n  containers:");
    bare.replace("  containers:", &volumes)
}

fn naming(claim: &str) -> String {
    format!("persistentVolumeClaim: {{claimName: {claim}}}")
}

fn runs(name: &str) -> bool {
    let all = listed(&["pods", "-l", "test=volumes"]);
    all.iter()
        .any(|pod| pod["metadata"]["name"] == name && pod["status"]["phase"] == "Running")
}

fn is_told(pod: &str, words: &str) -> bool {
    events(pod).iter().any(|(_, text)| text.contains(words))
}

fn clear() {
    kubectl(
        &[
            "delete",
            "pods,pvc",
            "-l",
            "test=volumes",
            "--grace-period=0",
            "--force",
        ],
        "",
    );
}

#[test]
fn foreign_pods_run_with_their_claims() {
    let demand = Storage::on_demand("demand");
    let hand = Storage::by_hand("hand");
    hand.volume(REAL, "1Mi");
    let installation = up();
    // A volume that is made for it, one that was made by hand, and one that is the pod's own.
    let own = format!(
        "ephemeral: {{volumeClaimTemplate: {{metadata: {{labels: {{test: volumes}}}}, spec: {{storageClassName: {}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}}}}}",
        demand.class()
    );
    let files = [
        claim("made", demand.class(), "ReadWriteOnce"),
        pod("on-demand", &naming("made")),
        claim("found", hand.class(), "ReadWriteOnce"),
        pod("by-hand", &naming("found")),
        pod("its-own", &own),
    ];
    for file in &files {
        kubectl(&["apply", "-f", "-"], file);
    }
    for name in ["on-demand", "by-hand", "its-own"] {
        eventually("it runs", PATIENCE, || runs(name));
    }
    // The only volume of that class is taken: the next pod waits outside, and comes in when there is one more.
    kubectl(
        &["apply", "-f", "-"],
        &[
            claim("second", hand.class(), "ReadWriteOnce"),
            pod("second", &naming("second")),
        ]
        .concat(),
    );
    eventually("it is told why it waits", PATIENCE, || {
        is_told("second", "volume/default/second")
    });
    hand.volume(REAL, "1Mi");
    eventually("it runs once there is a volume", PATIENCE, || {
        runs("second")
    });
    clear();
    eventually("nothing is left of them", PATIENCE, || {
        let groups = installation.run(&["get", "podgroups", "-o", "name"]).ok();
        groups.trim().is_empty()
    });
}

#[test]
fn foreign_pods_are_told_what_their_claims_lack() {
    let nobody = Storage::at_once_by_nobody("nobody");
    let demand = Storage::on_demand("lacking");
    let _installation = up();
    kubectl(&["apply", "-f", "-"], &pod("early", &naming("late")));
    eventually("the missing claim is named", PATIENCE, || {
        is_told("early", "the claim `default/late` is not there")
    });
    let unbound = [
        claim("unbound", nobody.class(), "ReadWriteOnce"),
        pod("unbound", &naming("unbound")),
    ];
    kubectl(&["apply", "-f", "-"], &unbound.concat());
    eventually("it is told that its claim is not bound", PATIENCE, || {
        is_told("unbound", "the claim `default/unbound` is not bound yet")
    });
    eventually("with Kubernetes' own words", PATIENCE, || {
        is_told("unbound", "Kubernetes says: ExternalProvisioning")
    });
    assert!(pods("test=volumes").iter().all(|(_, node)| node.is_none()));
    kubectl(
        &["apply", "-f", "-"],
        &claim("late", demand.class(), "ReadWriteOncePod"),
    );
    eventually("it runs once its claim is there", PATIENCE, || {
        runs("early")
    });
    kubectl(&["apply", "-f", "-"], &pod("other", &naming("late")));
    eventually("it is told who has its claim", PATIENCE, || {
        is_told("other", "the pod `default/early` uses it")
    });
    kubectl(
        &["delete", "pod", "early", "--grace-period=0", "--force"],
        "",
    );
    eventually("it runs when the other is gone", PATIENCE, || runs("other"));
    clear();
}

/// A gang whose volumes are on one node starts there as a whole.
#[test]
fn a_foreign_gang_goes_where_its_volumes_are() {
    let paper = Paper::new();
    let storage = Storage::by_hand("ring");
    let _installation = up();
    paper.be_ready();
    let member = |n: u32| {
        let name = format!("ring-{n}");
        let marks = "test: volumes, moonshot/gang: ring-of-volumes, moonshot/gang-size: '2'";
        let pod = pod(&name, &naming(&name)).replace("test: volumes", marks);
        [claim(&name, storage.class(), "ReadWriteOnce"), pod].concat()
    };
    storage.volume(REAL, "1Mi");
    kubectl(
        &["apply", "-f", "-"],
        &[member(0), "---\n".to_owned(), member(1)].concat(),
    );
    eventually(
        "it is told that there is one volume too few",
        Duration::from_secs(90),
        || {
            paper.be_ready();
            is_told("ring-0", "volume") || is_told("ring-1", "volume")
        },
    );
    storage.volume(REAL, "1Mi");
    eventually("both run", PATIENCE, || {
        paper.be_ready();
        runs("ring-0") && runs("ring-1")
    });
    clear();
}
