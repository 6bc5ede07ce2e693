use super::*;
use crate::affinity::Terms;
use crate::storage::ClaimStage::{Bound, Lost, Pending};
use base::Bytes;
use serde_json::json;

/// Classes `waits` (made as asked), `local` (made by hand), `zone-a` (made as asked, in zone a) and `soon` (bound at once).
fn volumes() -> Volumes {
    let zone = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]);
    let zone: Vec<_> = serde_json::from_value(zone).expect("terms");
    let class = |name: &str, is_dynamic, waits_for_node, topologies| Class {
        name: name.to_owned(),
        is_dynamic,
        waits_for_node,
        topologies,
        is_default: false,
        created: None,
    };
    let classes = [
        class("waits", true, true, None),
        class("local", false, true, None),
        class("zone-a", true, true, Terms::of_topologies(Some(&zone))),
        class("soon", true, false, None),
    ];
    Volumes {
        classes: classes.map(|class| (class.name.clone(), class)).into(),
        ..Volumes::default()
    }
}

fn claim(class: Option<&str>, stage: ClaimStage) -> Claim {
    Claim {
        place: ("lab".to_owned(), "data".to_owned()),
        uid: "c".to_owned(),
        version: "1".to_owned(),
        owner: None,
        pod: None,
        stage,
        wish: Wish {
            class: class.map(str::to_owned),
            modes: vec!["ReadWriteOnce".to_owned()],
            size: Bytes(10),
            is_block: false,
            marks: Default::default(),
        },
        selected: None,
        is_deleting: false,
    }
}

/// A volume of the class `local` on a node.
fn volume(name: &str, node: &str, size: u64) -> Volume {
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "host", "operator": "In", "values": [node]}]}]});
    let terms = serde_json::from_value(terms).expect("a selector");
    Volume {
        name: name.to_owned(),
        version: "7".to_owned(),
        labels: Labels::new(),
        class: "local".to_owned(),
        modes: vec!["ReadWriteOnce".to_owned(), "ReadOnlyMany".to_owned()],
        size: Bytes(size),
        is_block: false,
        claim: None,
        affinity: Some(Terms::of_selector(&terms)),
        is_free: true,
    }
}

fn with(claim: Option<Claim>, there: &[Volume]) -> Volumes {
    let mut volumes = volumes();
    let claims = claim.into_iter().map(|claim| (claim.place.clone(), claim));
    volumes.claims.extend(claims);
    let there = there
        .iter()
        .map(|volume| (volume.name.clone(), volume.clone()));
    volumes.volumes.extend(there);
    volumes
}

fn labels(node: &str, zone: &str) -> Labels {
    [("host", node), ("zone", zone)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn named() -> Named {
    Named {
        claim: ("lab".to_owned(), "data".to_owned()),
        for_pod: None,
    }
}

/// `n1` is in zone a, `n2` in zone b; no other node is there.
fn judged(volumes: &Volumes, node: &str) -> String {
    let labels = labels(node, if node == "n1" { "a" } else { "b" });
    let site = Site {
        name: node,
        labels: &labels,
    };
    let verdict = volumes.judge(&named(), site, |name| ["n1", "n2"].contains(&name));
    match verdict {
        Verdict::Ready => "ready".to_owned(),
        Verdict::Act(Act::Take { volume, .. }) => format!("take {volume}"),
        Verdict::Act(Act::Select { node, .. }) => format!("select {node}"),
        Verdict::Waits(sentence) => format!("waits: {sentence}"),
        Verdict::Elsewhere(sentence) => format!("elsewhere: {sentence}"),
    }
}

fn check(volumes: &Volumes, node: &str, expect: &str) {
    let judged = judged(volumes, node);
    assert!(
        judged.starts_with(expect),
        "on {node}: {judged}, not {expect}"
    );
}

#[test]
fn a_bound_claim_is_where_its_volume_is() {
    let mut mine = volume("v", "n1", 10);
    mine.is_free = false;
    let there = with(Some(claim(Some("local"), Bound("v".to_owned()))), &[mine]);
    check(&there, "n1", "ready");
    check(
        &there,
        "n2",
        "elsewhere: the volume `v` of the claim `lab/data`",
    );
    let gone = with(Some(claim(Some("local"), Bound("v".to_owned()))), &[]);
    check(
        &gone,
        "n1",
        "waits: the volume `v` of the claim `lab/data` is not there",
    );
}

#[test]
fn what_is_wrong_with_a_claim_is_said() {
    check(&volumes(), "n1", "waits: the claim `lab/data` is not there");
    let lost = with(Some(claim(Some("local"), Lost("v".to_owned()))), &[]);
    check(
        &lost,
        "n1",
        "waits: the claim `lab/data` has lost its volume `v`",
    );
    let mut going = claim(Some("waits"), Pending);
    going.is_deleting = true;
    check(
        &with(Some(going), &[]),
        "n1",
        "waits: the claim `lab/data` is being deleted",
    );
    let classless = with(Some(claim(None, Pending)), &[]);
    check(
        &classless,
        "n1",
        "waits: the claim `lab/data` has no storage class: name one",
    );
    let mut ours = claim(None, Pending);
    ours.owner = Some(Uid(7));
    let ours = with(Some(ours), &[]);
    check(
        &ours,
        "n1",
        "waits: the claim `lab/data` has no storage class: set MOONSHOT_CHECKPOINT_CLASS",
    );
    let unknown = with(Some(claim(Some("new"), Pending)), &[]);
    check(&unknown, "n1", "waits: the storage class `new`");
    let mut soon = with(Some(claim(Some("soon"), Pending)), &[]);
    check(&soon, "n1", "waits: the claim `lab/data` is not bound yet");
    assert!(soon.hear("c", Some("ProvisioningFailed: no space".to_owned())));
    assert!(!soon.hear("c", Some("ProvisioningFailed: no space".to_owned())));
    assert!(judged(&soon, "n1").ends_with("; Kubernetes says: ProvisioningFailed: no space"));
}

#[test]
fn a_claim_that_was_made_for_another_pod_is_not_taken() {
    let mut other = claim(Some("waits"), Pending);
    other.pod = Some("old".to_owned());
    let volumes = with(Some(other), &[]);
    let of = |pod: &str| Named {
        for_pod: Some(pod.to_owned()),
        ..named()
    };
    assert_eq!(volumes.hindered(&of("old")), None);
    let said = volumes.hindered(&of("new")).unwrap_or_default();
    assert!(said.contains("was not made for this pod"), "{said}");
}

#[test]
fn the_smallest_free_volume_that_is_enough_is_taken() {
    let mut taken = volume("a-taken", "n1", 10);
    taken.is_free = false;
    let mut single = volume("b-mode", "n1", 10);
    single.modes = vec!["ReadOnlyMany".to_owned()];
    let there = [
        taken,
        single,
        volume("c-small", "n1", 9),
        volume("d-large", "n1", 12),
        volume("e-right", "n1", 11),
        volume("f-there", "n2", 10),
    ];
    let volumes = with(Some(claim(Some("local"), Pending)), &there);
    check(&volumes, "n1", "take e-right");
    check(&volumes, "n2", "take f-there");
    let nothing = with(Some(claim(Some("local"), Pending)), &[]);
    check(
        &nothing,
        "n1",
        "elsewhere: no free volume of the class `local`",
    );
}

#[test]
fn a_volume_on_its_way_is_waited_for_on_its_node() {
    let mut mine = volume("v", "n1", 10);
    mine.claim = Some((named().claim, Some("c".to_owned())));
    mine.is_free = false;
    let there = with(Some(claim(Some("local"), Pending)), &[mine.clone()]);
    check(
        &there,
        "n1",
        "waits: the claim `lab/data` is being bound to the volume `v`",
    );
    check(&there, "n2", "elsewhere");
    // One that had the same name before.
    mine.claim = Some((named().claim, Some("before".to_owned())));
    let there = with(Some(claim(Some("local"), Pending)), &[mine]);
    check(&there, "n1", "elsewhere: no free volume");
}

#[test]
fn a_volume_is_made_for_one_node() {
    check(
        &with(Some(claim(Some("waits"), Pending)), &[]),
        "n2",
        "select n2",
    );
    check(
        &with(Some(claim(Some("zone-a"), Pending)), &[]),
        "n1",
        "select n1",
    );
    let zone = with(Some(claim(Some("zone-a"), Pending)), &[]);
    check(
        &zone,
        "n2",
        "elsewhere: volumes of the class `zone-a` are not made",
    );
    let mut selected = claim(Some("waits"), Pending);
    selected.selected = Some("n1".to_owned());
    let there = with(Some(selected.clone()), &[]);
    check(&there, "n1", "waits: a volume is being made");
    check(&there, "n2", "elsewhere: a volume is being made");
    // Nobody makes it any more for a node that is gone.
    selected.selected = Some("n9".to_owned());
    check(&with(Some(selected), &[]), "n2", "select n2");
}

#[test]
fn nodes_are_known_by_labels_that_follow_the_claim() {
    let here = |volumes: &Volumes, node: &str| {
        let labels = labels(node, "a");
        let site = Site {
            name: node,
            labels: &labels,
        };
        let claim = named().claim;
        let wish = self::claim(Some("local"), Pending).wish;
        let labels = volumes.labels(site, [&claim].into_iter(), &wish, |_| true);
        labels.into_keys().collect::<Vec<String>>()
    };
    let (own, new) = ("volume/lab/data".to_owned(), NEW.to_owned());
    // Before anything is decided: where there is a free volume.
    let free = with(
        Some(claim(Some("local"), Pending)),
        &[volume("v", "n1", 10)],
    );
    assert_eq!(here(&free, "n1"), [own.clone(), new.clone()]);
    assert_eq!(here(&free, "n2"), [""; 0]);
    let pending = &free.claims[&named().claim];
    assert_eq!(free.ties(pending), one(own.clone()));
    assert_eq!(free.new_ties(&pending.wish), one(new));
    // Bound: the same label stays for those that wait with it, others name what the volume names.
    let mut mine = volume("v", "n1", 10);
    mine.is_free = false;
    let bound = with(Some(claim(Some("local"), Bound("v".to_owned()))), &[mine]);
    assert_eq!(here(&bound, "n1"), [own]);
    let ties = bound.ties(&bound.claims[&named().claim]);
    assert_eq!(ties, [("host".to_owned(), "n1".to_owned())].into());
    // A class whose volumes can be everywhere ties nobody.
    let anywhere = with(Some(claim(Some("waits"), Pending)), &[]);
    assert_eq!(
        anywhere.ties(&anywhere.claims[&named().claim]),
        Labels::new()
    );
}

#[test]
fn nothing_is_done_where_one_claim_of_several_cannot_be() {
    let mut volumes = with(Some(claim(Some("waits"), Pending)), &[]);
    let mut local = claim(Some("local"), Pending);
    local.place.1 = "near".to_owned();
    volumes.claims.insert(local.place.clone(), local.clone());
    let both = [
        named(),
        Named {
            claim: local.place,
            for_pod: None,
        },
    ];
    let labels = labels("n1", "a");
    let site = Site {
        name: "n1",
        labels: &labels,
    };
    let needs = volumes.needs(&both, site, |_| true);
    assert_eq!(needs.acts, []);
    assert!(matches!(needs.prepared(), Prepared::Elsewhere(_)));
}
