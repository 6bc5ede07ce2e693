//! The chart's rights, given to a service account of a test's own, and what was done with them.

use crate::bench::{client, kubeconfig};
use e2e::{kubeconfig_of, kubectl};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For a change of rights to be heeded.
const PATIENCE: Duration = Duration::from_secs(30);
/// The API server writes down what service accounts of this namespace do (`testing/kube/conf/audit.yaml`).
pub(crate) const NAMESPACE: &str = "moonshot-rights";

/// A verb on a kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    pub(crate) group: String,
    /// With its subresource: `pods/binding`.
    pub(crate) resource: String,
    pub(crate) verb: String,
}

impl Right {
    pub(crate) fn new(verb: &str, group: &str, resource: &str) -> Right {
        Right {
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
        }
    }
}

/// As the API server refuses it.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Right {
            group,
            resource,
            verb,
        } = self;
        write!(
            f,
            "cannot {verb} resource \"{resource}\" in API group \"{group}\""
        )
    }
}

/// A service account with the chart's rights.
pub(crate) struct Role {
    account: String,
    dir: tempfile::TempDir,
    client: Client,
    /// The ClusterRole and the Role.
    roles: Vec<Value>,
}

impl Role {
    /// Gives the rights of the chart's plain YAML to an account of a name like this.
    pub(crate) async fn new(title: &str) -> Role {
        // What an earlier run did is in the same log.
        let account = format!("{title}-{}", std::process::id());
        let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/moonshot.yaml");
        let space =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        apply(&space);
        let list = kubectl(
            &["apply", "--dry-run=client", "-o", "json", "-f", plain],
            "",
        );
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let mut roles = Vec::new();
        for object in list["items"].as_array().expect("a list") {
            let kind = object["kind"].as_str().unwrap_or_default();
            let is_of_rights = kind.starts_with("ClusterRole")
                || kind.starts_with("Role")
                || kind == "ServiceAccount";
            if !is_of_rights {
                continue;
            }
            let mut object = object.clone();
            object["metadata"] = json!({"name": account});
            if !kind.starts_with("Cluster") {
                object["metadata"]["namespace"] = json!(NAMESPACE);
            }
            if kind.ends_with("Binding") {
                object["roleRef"]["name"] = json!(account);
                object["subjects"][0]["name"] = json!(account);
                object["subjects"][0]["namespace"] = json!(NAMESPACE);
            }
            apply(&object);
            if kind.ends_with("Role") {
                roles.push(object);
            }
        }
        assert_eq!(roles.len(), 2, "the chart has a ClusterRole and a Role");
        let config = kubeconfig_of(&account, NAMESPACE);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, config).expect("written");
        Role {
            account,
            client: client(&path).await,
            dir,
            roles,
        }
    }

    /// A kubeconfig with these rights and no others.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Everything that the chart allows.
    pub(crate) fn allowed(&self) -> BTreeSet<Right> {
        let mut allowed = BTreeSet::new();
        for rule in self.roles.iter().flat_map(|role| words(&role["rules"])) {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                        allowed.insert(Right {
                            group: text(group),
                            resource: text(resource),
                            verb: text(verb),
                        });
                    }
                }
            }
        }
        allowed
    }

    /// What the account asked for until now and was allowed.
    pub(crate) fn used(&self) -> BTreeSet<Right> {
        let path = kubeconfig().with_file_name("audit.log");
        let text = std::fs::read_to_string(&path).expect("the API server's audit log");
        let account = format!("system:serviceaccount:{NAMESPACE}:{}", self.account);
        let mut used = BTreeSet::new();
        // The last line may be half written.
        for event in text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        {
            let is_allowed = event["annotations"]["authorization.k8s.io/decision"] == "allow";
            if event["user"]["username"] != account.as_str() || !is_allowed {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let mut resource = text(&object["resource"]);
            if let Some(sub) = object["subresource"].as_str() {
                resource = format!("{resource}/{sub}");
            }
            used.insert(Right {
                group: text(&object["apiGroup"]),
                resource,
                verb: text(&event["verb"]),
            });
        }
        used
    }

    /// Takes one right away, and waits until that is heeded.
    pub(crate) async fn take(&self, right: &Right) {
        for role in &self.roles {
            let mut role = role.clone();
            let mut rules = Vec::new();
            for rule in words(&role["rules"]) {
                rules.extend(without(rule, right));
            }
            role["rules"] = json!(rules);
            apply(&role);
        }
        self.until(right, false).await;
    }

    /// Gives it back.
    pub(crate) async fn give(&self, right: &Right) {
        self.roles.iter().for_each(apply);
        self.until(right, true).await;
    }

    async fn until(&self, right: &Right, is_allowed: bool) {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let (resource, sub) = right
            .resource
            .split_once('/')
            .unwrap_or((&right.resource, ""));
        let review = json!({"spec": {"resourceAttributes": {
            "group": right.group, "resource": resource, "subresource": sub, "verb": right.verb,
            "namespace": NAMESPACE,
        }}});
        let review = serde_json::from_value(review).expect("a review");
        let begun = Instant::now();
        loop {
            let done = reviews.create(&PostParams::default(), &review).await;
            let status = done.expect("everybody may ask").status.expect("an answer");
            if status.allowed == is_allowed {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{right}: still {}",
                status.allowed
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        for role in &self.roles {
            let kind = role["kind"].as_str().unwrap_or_default();
            for kind in [kind.to_owned(), format!("{kind}Binding")] {
                let words = ["delete", "--ignore-not-found", &kind, &self.account];
                kubectl(&[&words[..], &["-n", NAMESPACE]].concat(), "");
            }
        }
    }
}

/// A rule that allows the same but for one right.
fn without(rule: &Value, right: &Right) -> Vec<Value> {
    let mut rules = Vec::new();
    for group in words(&rule["apiGroups"]) {
        for resource in words(&rule["resources"]) {
            let is_its = *group == right.group.as_str() && *resource == right.resource.as_str();
            let verbs =
                words(&rule["verbs"]).filter(|verb| !is_its || **verb != right.verb.as_str());
            let verbs: Vec<&Value> = verbs.collect();
            if !verbs.is_empty() {
                rules.push(json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}));
            }
        }
    }
    rules
}

fn words(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn apply(object: &Value) {
    kubectl(&["apply", "-f", "-"], &object.to_string());
}
