//! How replicas and their objects are named on a cluster. Pure.
//!
//! Identity is in labels (whole, selectable); an object's name only has to be unique and say something to people.

use base::{Attempt, Index, Uid};
use engine::{Group, ReplicaKey, Slot};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The name of our scheduler in `spec.schedulerName`.
pub(crate) const SCHEDULER: &str = "moonshot";
/// The one field manager of everything that is written here.
pub(crate) const MANAGER: &str = "moonshot";

// ---- labels ----

/// Marks everything of ours.
pub(crate) const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "moonshot");
/// Uid of the Job or App.
pub(crate) const OWNER: &str = "moonshot/owner";
/// Name of the Group.
pub(crate) const GROUP: &str = "moonshot/group";
/// Rank or seat; of a service's pod an annotation, since pods of one Deployment have equal labels.
pub(crate) const INDEX: &str = "moonshot/index";
/// Incarnation.
pub(crate) const ATTEMPT: &str = "moonshot/attempt";
/// The project, on its namespace.
pub(crate) const PROJECT: &str = "moonshot/project";
/// Its tenant, there too.
pub(crate) const TENANT: &str = "moonshot/tenant";
/// The profile of Pod Security that a namespace enforces.
pub(crate) const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// A namespace's own name, as the API server writes it and lets nobody change.
pub(crate) const NAMESPACE: &str = "kubernetes.io/metadata.name";

// ---- annotations ----

/// The Group as it was asked for, without tokens.
pub(crate) const ASKED: &str = "moonshot/asked";
/// The leader's epoch that last acted.
pub(crate) const EPOCH: &str = "moonshot/epoch";
/// What became of each Slot (see [`crate::view::Slots`]).
pub(crate) const SLOTS: &str = "moonshot/slots";
/// The Slot that a service's pod has claimed: `INDEX/ATTEMPT`.
pub(crate) const CLAIM: &str = "moonshot/claim";
/// On a Project's namespace that was there before the platform came.
pub(crate) const ADOPTED: &str = "moonshot/adopted";
/// On a Project's namespace that has a [`PULL_SECRET`].
pub(crate) const PULLS: &str = "moonshot/pull-secret";
/// What people call the owner: `job/flights`. Never an identity.
pub(crate) const TITLE: &str = "moonshot/title";

/// Name of the NetworkPolicy in each Project's namespace.
pub(crate) const POLICY: &str = "moonshot";
/// Name of the Secret there by which images are pulled.
pub(crate) const PULL_SECRET: &str = "moonshot-registries";

/// Kubernetes' bound for names of objects whose pods get the name as a label.
const NAME_MAX: usize = 52;

/// The selector for everything of ours.
pub(crate) fn selector() -> String {
    format!("{}={}", MANAGED.0, MANAGED.1)
}

/// Name of the Job of one batch replica.
pub(crate) fn job(group: &Group, slot: &Slot) -> String {
    let key = group.key(slot);
    let tail = format!(
        "{}-{}-{}",
        key.index.0,
        key.attempt.0,
        hash(&key.to_string())
    );
    named(&format!("{}-{}", plain(&group.title), group.name), &tail)
}

/// Name of the Deployment of a service's Group.
pub(crate) fn deployment(group: &Group) -> String {
    let tail = hash(&format!("{}/{}", group.owner, group.name));
    named(&format!("{}-{}", plain(&group.title), group.name), &tail)
}

/// Name of the headless Service under which an owner's replicas find each other.
pub(crate) fn peers(owner: Uid) -> String {
    format!("m-{}", hash(&owner.to_string()))
}

/// Name of the template from which the claims of devices of a Group's pods are made.
pub(crate) fn template(group: &Group) -> String {
    format!(
        "devices-{}",
        hash(&format!("{}/{}", group.owner, group.name))
    )
}

/// Name of the claim in which an owner keeps checkpoints.
pub(crate) fn checkpoint(owner: Uid, claim: &str) -> String {
    format!("checkpoint-{}", hash(&format!("{owner}/{claim}")))
}

/// The host name of a replica within its namespace, by its headless Service.
pub fn host(key: &ReplicaKey) -> String {
    format!("{}.{}", hostname(&key.group, key.index), peers(key.owner))
}

/// The first part of the host name.
pub(crate) fn hostname(group: &str, index: Index) -> String {
    format!("{}-{}", group.to_ascii_lowercase(), index.0)
}

/// Labels of every object of a Group.
pub(crate) fn labels(group: &Group) -> BTreeMap<String, String> {
    [
        (MANAGED.0, MANAGED.1.to_owned()),
        (OWNER, group.owner.to_string()),
        (GROUP, group.name.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Labels of one batch replica.
pub(crate) fn replica_labels(group: &Group, slot: &Slot) -> BTreeMap<String, String> {
    let mut labels = labels(group);
    labels.insert(INDEX.to_owned(), slot.index.0.to_string());
    labels.insert(ATTEMPT.to_owned(), slot.attempt.0.to_string());
    labels
}

/// `INDEX/ATTEMPT`.
pub(crate) fn claim(index: Index, attempt: Attempt) -> String {
    format!("{}/{}", index.0, attempt.0)
}

/// The reverse of [`claim`].
pub(crate) fn parse_claim(text: &str) -> Option<(Index, Attempt)> {
    let (index, attempt) = text.split_once('/')?;
    Some((Index(index.parse().ok()?), Attempt(attempt.parse().ok()?)))
}

/// `job/flights` → `flights`.
fn plain(title: &str) -> String {
    let name = title.rsplit('/').next().unwrap_or(title);
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(keep).collect()
}

fn named(head: &str, tail: &str) -> String {
    let room = NAME_MAX - tail.len() - 1;
    let cut: String = head.chars().take(room).collect();
    let cut = cut.trim_matches('-').replace('_', "-").to_ascii_lowercase();
    // A name begins with a letter.
    if cut.starts_with(|c: char| c.is_ascii_lowercase()) {
        format!("{cut}-{tail}")
    } else {
        format!("m{}-{tail}", cut.chars().skip(1).collect::<String>())
    }
}

/// Ten characters that tell things of one title apart.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    base::hex(&digest[..5])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::group;

    #[test]
    fn names_are_dns_labels_and_differ() {
        let mut group = group();
        group.title = format!("job/{}", "Very_long".repeat(20));
        let mut slot = group.slots[0].clone();
        let mut seen = std::collections::BTreeSet::new();
        for (index, attempt) in [(0, 1), (0, 2), (1, 1), (99_999, 4_000)] {
            (slot.index, slot.attempt) = (Index(index), Attempt(attempt));
            let name = job(&group, &slot);
            assert!(
                name.len() <= NAME_MAX && base::name::check(&name).is_ok(),
                "{name}"
            );
            assert!(seen.insert(name));
        }
        group.title = "app/9lives".to_owned();
        assert!(base::name::check(&deployment(&group)).is_ok());
        assert!(deployment(&group).starts_with('m'));
    }

    #[test]
    fn claims_come_back() {
        assert_eq!(
            parse_claim(&claim(Index(3), Attempt(7))),
            Some((Index(3), Attempt(7)))
        );
        for bad in ["", "3", "3/x", "/1"] {
            assert_eq!(parse_claim(bad), None, "{bad}");
        }
    }
}
