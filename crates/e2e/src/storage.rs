//! Storage of a test's own on the cluster under test, which has none: a class, volumes that are directories of this machine, and for
//! classes that make volumes as they are asked for a provisioner of the test's own.

use crate::kubectl;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the provisioner looks for claims.
const PERIOD: Duration = Duration::from_millis(200);
/// Says on a claim for which node its volume is wanted.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A class and its volumes; everything of it goes with this.
pub struct Storage {
    shared: Arc<Shared>,
    provisioner: Option<JoinHandle<()>>,
}

struct Shared {
    class: String,
    dir: tempfile::TempDir,
    volumes: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Storage {
    /// A class whose volumes are made by [`Storage::volume`] alone; they are chosen once a pod's node is known.
    pub fn by_hand(title: &str) -> Storage {
        Storage::new(
            title,
            "kubernetes.io/no-provisioner",
            "WaitForFirstConsumer",
        )
    }

    /// A class whose volumes the test's own provisioner makes for the node that a claim names.
    pub fn on_demand(title: &str) -> Storage {
        let mut storage = Storage::new(title, "moonshot.test/own", "WaitForFirstConsumer");
        let shared = Arc::clone(&storage.shared);
        storage.provisioner = Some(std::thread::spawn(move || {
            while !shared.is_over.load(Ordering::Acquire) {
                shared.provision();
                std::thread::sleep(PERIOD);
            }
        }));
        storage
    }

    /// A class that binds at once and for which nobody makes volumes.
    pub fn at_once_by_nobody(title: &str) -> Storage {
        Storage::new(title, "moonshot.test/nobody", "Immediate")
    }

    fn new(title: &str, provisioner: &str, mode: &str) -> Storage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let class = format!("{title}-{}-{n}", std::process::id());
        let object = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": class},
            "provisioner": provisioner, "volumeBindingMode": mode, "reclaimPolicy": "Retain",
        });
        kubectl(&["apply", "-f", "-"], &object.to_string());
        let shared = Shared {
            class,
            dir: tempfile::tempdir().expect("a directory"),
            volumes: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        Storage {
            shared: Arc::new(shared),
            provisioner: None,
        }
    }

    /// The class's name.
    pub fn class(&self) -> &str {
        &self.shared.class
    }

    /// A volume that only this node reaches; its name.
    pub fn volume(&self, node: &str, size: &str) -> String {
        self.shared.volume(
            node,
            json!(size),
            json!(["ReadWriteOnce", "ReadWriteMany"]),
            None,
        )
    }

    /// Where this machine has a volume's files.
    pub fn dir(&self) -> &Path {
        self.shared.dir.path()
    }
}

impl Shared {
    fn volume(&self, node: &str, size: Value, modes: Value, claim: Option<Value>) -> String {
        let mut volumes = self.volumes.lock().expect("no test panics with it");
        let name = format!("{}-{}", self.class, volumes.len());
        let path = self.dir.path().join(&name);
        std::fs::create_dir(&path).expect("made");
        // Programs run as nobody in particular.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("opened");
        let here = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
        let mut volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": size}, "accessModes": modes,
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": self.class,
                "local": {"path": path}, "nodeAffinity": {"required": {"nodeSelectorTerms": here}},
            },
        });
        if let Some(claim) = claim {
            volume["spec"]["claimRef"] = claim;
        }
        kubectl(&["apply", "-f", "-"], &volume.to_string());
        volumes.push(name.clone());
        name
    }

    /// A volume for each claim of the class that names a node and has none.
    fn provision(&self) {
        let list = |kind: &str| -> Vec<Value> {
            let text = kubectl(&["get", kind, "-A", "-o", "json"], "");
            let list: Value = serde_json::from_str(&text).expect("JSON");
            list["items"].as_array().cloned().unwrap_or_default()
        };
        let claims = list("persistentvolumeclaims");
        let wanting = claims.iter().filter(|claim| {
            claim["spec"]["storageClassName"] == self.class.as_str()
                && claim["spec"]["volumeName"]
                    .as_str()
                    .unwrap_or_default()
                    .is_empty()
                && claim["metadata"]["deletionTimestamp"].is_null()
        });
        let mut volumes = None;
        for claim in wanting {
            let meta = &claim["metadata"];
            let Some(node) = meta["annotations"][SELECTED_NODE].as_str() else {
                continue;
            };
            let volumes = volumes.get_or_insert_with(|| list("persistentvolumes"));
            let is_made = |volume: &Value| volume["spec"]["claimRef"]["uid"] == meta["uid"];
            if volumes.iter().any(is_made) {
                continue;
            }
            let spec = &claim["spec"];
            let size = spec["resources"]["requests"]["storage"].clone();
            let claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
            });
            self.volume(node, size, spec["accessModes"].clone(), Some(claim));
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(provisioner) = self.provisioner.take() {
            // What it panicked with was printed.
            let _ = provisioner.join();
        }
        if std::thread::panicking() {
            return;
        }
        let volumes = self.shared.volumes.lock().expect("nobody has it");
        let words = ["delete", "--ignore-not-found", "--wait=false"];
        if !volumes.is_empty() {
            let names: Vec<&str> = volumes.iter().map(String::as_str).collect();
            kubectl(&[&words[..], &["persistentvolume"], &names].concat(), "");
        }
        kubectl(
            &[&words[..], &["storageclass", &self.shared.class]].concat(),
            "",
        );
    }
}
