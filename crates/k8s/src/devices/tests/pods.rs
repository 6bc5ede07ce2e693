//! Where pods stand with their claims, what nodes are told to have for them, and what is kept for whom.

use super::*;
use crate::devices::objects::Allocation;
use crate::devices::reserve::{MADE_MAX, RESERVED_MAX};
use engine::{ForeignPod, PodName, Prepared};
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;
use tokio::time::Instant;

/// A pod with these claims, each `own` or shared, that waits or has a node.
fn pod(name: &str, claims: &[(&str, bool)], node: Option<&str>) -> (ForeignPod, Vec<Named>) {
    let asked: Vec<Value> = claims
        .iter()
        .map(|(claim, is_own)| match is_own {
            true => json!({"name": claim, "resourceClaimTemplateName": "t"}),
            false => json!({"name": claim, "resourceClaimName": claim}),
        })
        .collect();
    let made = claims
        .iter()
        .map(|(claim, _)| json!({"name": claim, "resourceClaimName": claim}));
    let raw = json!({
        "metadata": {"name": name, "namespace": "lab", "uid": name},
        "spec": {"containers": [], "resourceClaims": asked},
        "status": {"resourceClaimStatuses": made.collect::<Vec<Value>>()},
    });
    let raw: Pod = serde_json::from_value(raw).expect("a pod");
    let foreign = ForeignPod {
        pod: PodName {
            namespace: "lab".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        },
        node: node.map(str::to_owned),
        ..ForeignPod::default()
    };
    (foreign, named(&raw))
}

fn put(
    devices: &mut Devices,
    name: &str,
    claims: &[(&str, bool)],
    node: Option<&str>,
) -> ForeignPod {
    let (foreign, named) = pod(name, claims, node);
    devices.put_pod(&foreign.pod, foreign.node.is_none(), &named, Instant::now());
    look(devices);
    tied(devices, &foreign)
}

fn look(devices: &mut Devices) {
    for node in ["a", "b"] {
        on(node, |site| devices.look(&[site]));
    }
}

fn tied(devices: &Devices, pod: &ForeignPod) -> ForeignPod {
    let mut pod = pod.clone();
    devices.tie(&mut pod);
    pod
}

fn count(devices: &Devices, node: &str) -> u64 {
    let share = devices.share(node).expect("it was looked at");
    share.counts.get("device/gpu").copied().unwrap_or_default()
}

fn labelled(devices: &Devices, label: &str) -> Vec<&'static str> {
    let has = |node: &&str| {
        devices
            .share(node)
            .is_some_and(|share| share.labels.contains_key(label))
    };
    ["a", "b"].into_iter().filter(has).collect()
}

fn reserve(devices: &mut Devices, pod: &ForeignPod, node: &str) -> Result<(), String> {
    let (reserve, _) = on(node, |site| devices.reserve(&pod.pod, site, Instant::now()));
    look(devices);
    match reserve {
        Reserve::Done(Prepared::Ready) => Ok(()),
        Reserve::Done(Prepared::Waits(sentence) | Prepared::Elsewhere(sentence)) => Err(sentence),
        Reserve::First(releases) => Err(format!("{} to give back", releases.len())),
    }
}

/// What `allotments` does: what is kept is written.
fn write(devices: &mut Devices, pod: &ForeignPod) {
    for grant in devices.grants(&pod.pod) {
        let mut claim = grant.claim.clone();
        let result = grant.result.or(claim.allocation.map(|known| known.result));
        claim.allocation = result.map(|result| Allocation::new((*result).clone()));
        claim.users.push(
            serde_json::from_value(
                json!({"resource": "pods", "name": pod.pod.name, "uid": pod.pod.uid}),
            )
            .expect("a user"),
        );
        claim.version = "2".to_owned();
        devices.put_claim(claim);
    }
    look(devices);
}

#[test]
fn plain_claims_are_counted() {
    let mut devices = devices();
    devices.put_claim(claim(
        "c1",
        Some("p1"),
        exactly(json!({"count": 2})),
        json!({}),
    ));
    devices.put_claim(claim("c2", Some("p2"), exactly(json!({})), json!({})));
    devices.put_claim(claim(
        "c3",
        Some("p3"),
        exactly(json!({"count": 2})),
        json!({}),
    ));
    let first = put(&mut devices, "p1", &[("c1", true)], None);
    assert_eq!(
        first.request.extended,
        BTreeMap::from([("device/gpu".to_owned(), 2)])
    );
    assert!(
        first.node_selector.is_empty() && first.lacks.is_none(),
        "{first:?}"
    );
    let second = put(&mut devices, "p2", &[("c2", true)], None);
    let third = put(&mut devices, "p3", &[("c3", true)], None);
    assert_eq!((count(&devices, "a"), count(&devices, "b")), (3, 1));

    // Two pods that were decided on in one round get different devices.
    reserve(&mut devices, &first, "a").expect("there are three");
    let why = reserve(&mut devices, &third, "a").expect_err("one is left");
    assert!(
        why.contains("not enough free devices of class `gpu`"),
        "{why}"
    );
    reserve(&mut devices, &second, "a").expect("one is left");
    let kept: BTreeSet<&DeviceId> = devices.holders.keys().collect();
    assert_eq!(kept.len(), 3);
    // The scheduler counts them itself, before and after they are written.
    assert_eq!(count(&devices, "a"), 3);
    write(&mut devices, &first);
    assert_eq!(count(&devices, "a"), 3);
    assert!(devices.grants(&first.pod).is_empty());

    // A pod that has its node counts while its claim is being deleted with it.
    put(&mut devices, "p1", &[("c1", true)], Some("a"));
    let mut going = devices.claims[&("lab".to_owned(), "c1".to_owned())].clone();
    going.is_deleting = true;
    devices.put_claim(going);
    look(&mut devices);
    assert_eq!(count(&devices, "a"), 3);

    // A pod that is over counts no more: its devices are those of nobody known until its claim gives them back.
    devices.remove_pod(&("lab".to_owned(), "p1".to_owned()));
    look(&mut devices);
    assert_eq!(count(&devices, "a"), 1);
    devices.remove_claim(&("lab".to_owned(), "c1".to_owned()));
    look(&mut devices);
    assert_eq!(count(&devices, "a"), 3);
}

#[test]
fn what_counts_cannot_say_is_a_label() {
    let mut devices = devices();
    let large = exactly(
        json!({"selectors": select("device.capacity['gpu.test'].memory.isGreaterThan(quantity('50Gi'))"), "count": 2}),
    );
    devices.put_claim(claim("c1", Some("p1"), large.clone(), json!({})));
    devices.put_claim(claim("c2", Some("p2"), large, json!({})));
    let first = put(&mut devices, "p1", &[("c1", true)], None);
    let second = put(&mut devices, "p2", &[("c2", true)], None);
    assert_eq!(
        first.node_selector, second.node_selector,
        "they ask for the same"
    );
    let label = first
        .node_selector
        .keys()
        .next()
        .expect("one label")
        .clone();
    assert!(label.starts_with("device/gpu/"), "{label}");
    assert_eq!(labelled(&devices, &label), ["a"]);
    reserve(&mut devices, &first, "a").expect("both are there");
    assert_eq!(labelled(&devices, &label), [""; 0], "none is left");
    devices.remove_pod(&("lab".to_owned(), "p1".to_owned()));
    look(&mut devices);
    assert_eq!(
        labelled(&devices, &label),
        ["a"],
        "what was kept is free again"
    );
}

#[test]
fn a_shared_claim_is_where_its_first_pod_is() {
    let mut devices = devices();
    devices.put_claim(claim("c", None, exactly(json!({})), json!({})));
    let first = put(&mut devices, "p1", &[("c", false)], None);
    let second = put(&mut devices, "p2", &[("c", false)], None);
    assert_eq!(labelled(&devices, "device/lab/c"), ["a", "b"]);
    assert!(
        first.request.extended.is_empty(),
        "it is not this pod's alone"
    );
    reserve(&mut devices, &first, "b").expect("it is free");
    assert_eq!(labelled(&devices, "device/lab/c"), ["b"]);
    let why = reserve(&mut devices, &second, "a").expect_err("it is elsewhere");
    assert!(why.contains("the node `a` does not reach"), "{why}");
    reserve(&mut devices, &second, "b").expect("they share it");
    write(&mut devices, &first);
    write(&mut devices, &second);
    assert!(devices.claims.values().all(|claim| claim.users.len() == 2));
}

#[test]
fn what_hinders_a_pod_is_named() {
    let mut devices = devices();
    let check = |devices: &mut Devices, name: &str, claim: (&str, bool), expect: &str| {
        let pod = put(devices, name, &[claim], None);
        let lacks = pod.lacks.expect("it waits outside");
        assert!(lacks.contains(expect), "{lacks}");
    };
    check(
        &mut devices,
        "p1",
        ("gone", false),
        "the claim `lab/gone` is not there",
    );
    devices.put_claim(claim(
        "others",
        Some("somebody"),
        exactly(json!({})),
        json!({}),
    ));
    check(
        &mut devices,
        "p2",
        ("others", true),
        "was not made for this pod",
    );
    let colour = "device.attributes['gpu.test'].colour == 'red'";
    let spec = exactly(json!({"selectors": select(colour)}));
    devices.put_claim(claim("odd", Some("p3"), spec, json!({})));
    let expect = format!("the selector `{colour}` of a device of class `gpu` cannot be evaluated");
    check(&mut devices, "p3", ("odd", true), &expect);
    devices.missing = Some("it is an old cluster");
    check(&mut devices, "p4", ("odd", true), "it is an old cluster");
}

/// A claim from a template comes a moment after its pod: nobody is told, unless it does not come.
#[test]
fn a_claim_that_is_not_made_is_told_of_later() {
    let mut devices = devices();
    let (foreign, mut named) = pod("p", &[("c", true)], None);
    named[0].claim = None;
    let now = Instant::now();
    devices.put_pod(&foreign.pod, true, &named, now);
    assert!(devices.is_early(&foreign.pod));
    devices.idle(now + MADE_MAX);
    assert!(devices.is_early(&foreign.pod));
    let (_, touched) = devices.idle(now + MADE_MAX + Duration::from_millis(1));
    assert_eq!(touched.pods.len(), 1);
    assert!(!devices.is_early(&foreign.pod));
    let lacks = tied(&devices, &foreign).lacks.expect("it waits outside");
    assert!(
        lacks.contains("`c` is not made from its template yet"),
        "{lacks}"
    );
}

#[test]
fn who_begins_anew_goes_on() {
    let mut devices = devices();
    let held = |node: &str, device: &str, users: Value| {
        json!({
            "allocation": {
                "devices": {"results": [{"request": "r", "driver": "gpu.test", "pool": node, "device": device}]},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]},
            },
            "reservedFor": users,
        })
    };
    let mine = json!([{"resource": "pods", "name": "p1", "uid": "p1"}]);
    devices.put_claim(claim(
        "c",
        Some("p1"),
        exactly(json!({})),
        held("b", "0", mine.clone()),
    ));
    let pod = put(&mut devices, "p1", &[("c", true)], None);
    assert_eq!(
        labelled(&devices, "device/lab/c"),
        ["b"],
        "it has its device there"
    );
    assert_eq!(pod.request.extended.get("device/gpu"), Some(&1));
    assert_eq!(count(&devices, "b"), 1, "and counts as its own");
    reserve(&mut devices, &pod, "b").expect("nothing is left to do");
    assert!(devices.grants(&pod.pod).is_empty());
    assert_eq!(
        reserve(&mut devices, &pod, "a"),
        Err("1 to give back".to_owned())
    );

    // Another scheduler gave the same device away.
    let theirs = json!([{"resource": "pods", "name": "t", "uid": "t"}]);
    devices.put_claim(claim(
        "theirs",
        Some("t"),
        exactly(json!({})),
        held("b", "0", theirs),
    ));
    look(&mut devices);
    assert!(devices.is_pod_contested(&pod.pod));
    assert_eq!(
        reserve(&mut devices, &pod, "b"),
        Err("1 to give back".to_owned())
    );

    // It does not come for what it has.
    let later = Instant::now() + RESERVED_MAX + Duration::from_secs(1);
    let (releases, _) = devices.idle(later);
    let of = |release: &Release| (release.claim.place.1.clone(), release.pod.clone());
    let releases: Vec<_> = releases.iter().map(of).collect();
    assert_eq!(releases, [("c".to_owned(), "p1".to_owned())]);
    put(&mut devices, "p1", &[("c", true)], Some("b"));
    assert!(devices.idle(later).0.is_empty(), "it has its node");
}

/// Work of ours is placed before it has pods: classes are counted before anybody claims one, but only as many as there is room for.
#[test]
fn classes_are_counted_before_somebody_claims_one() {
    let mut devices = devices();
    for n in 0..9 {
        devices.put_class(class(&format!("c{n}"), "true"));
    }
    look(&mut devices);
    let told = |devices: &Devices| -> Vec<String> {
        let share = devices.share("a").expect("it was looked at");
        share.counts.keys().cloned().collect()
    };
    let first = ["c0", "c1", "c2", "c3", "c4", "c5"].map(|class| format!("device/{class}"));
    assert_eq!(told(&devices), first);
    devices.put_claim(claim("c", Some("p"), exactly(json!({})), json!({})));
    put(&mut devices, "p", &[("c", true)], None);
    let and_asked = [&first[..], &["device/gpu".to_owned()]].concat();
    assert_eq!(told(&devices), and_asked);
}

/// Where a class is said to be the GPUs, it counts as these and not as a class.
#[test]
fn gpus_may_be_a_class() {
    let mut devices = devices();
    devices.gpus = Some("gpu".to_owned());
    devices.put_claim(claim(
        "c",
        Some("p"),
        exactly(json!({"count": 2})),
        json!({}),
    ));
    let pod = put(&mut devices, "p", &[("c", true)], None);
    assert_eq!(pod.request.gpu_milli, 2_000);
    assert!(pod.request.extended.is_empty(), "{:?}", pod.request);
    let gpus = |devices: &Devices| devices.share("a").map(|share| share.gpus);
    assert_eq!(gpus(&devices), Some(3));
    assert_eq!(count(&devices, "a"), 0);
    reserve(&mut devices, &pod, "a").expect("there are three");
    assert_eq!(gpus(&devices), Some(3), "the scheduler counts its own");
    write(&mut devices, &pod);
    let given: Vec<String> = devices
        .given(&pod.pod)
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(given.len(), 2, "{given:?}");
    assert!(
        given.iter().all(|id| id.starts_with("gpu.test/a/")),
        "{given:?}"
    );
    // Those of somebody else are not there.
    devices.remove_pod(&("lab".to_owned(), "p".to_owned()));
    look(&mut devices);
    assert_eq!(gpus(&devices), Some(1));
}

/// A pod of ours waits until its claim is made, and says so.
#[test]
fn what_hinders_a_pod_is_known_until_it_has_its_node() {
    let mut devices = devices();
    let (foreign, mut named) = pod("p", &[("c", true)], None);
    let made = named[0].claim.take();
    let now = Instant::now();
    devices.put_pod(&foreign.pod, true, &named, now);
    let why = devices
        .hindrance(&foreign.pod)
        .expect("its claim is not made");
    assert!(
        why.contains("`c` is not made from its template yet"),
        "{why}"
    );
    named[0].claim = made;
    devices.put_pod(&foreign.pod, true, &named, now);
    let why = devices.hindrance(&foreign.pod).expect("nor is it known");
    assert!(why.contains("is not there"), "{why}");
    devices.put_claim(claim("c", Some("p"), exactly(json!({})), json!({})));
    assert_eq!(devices.hindrance(&foreign.pod), None);
}
