use super::*;
use engine::RelationKind;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Nodes by name, each with its zone; `e` is in none.
const NODES: [(&str, &str); 5] = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "z"), ("e", "")];

fn nodes() -> BTreeMap<String, NodeReport> {
    let node = |(name, zone): &(&str, &str)| {
        let mut labels = Labels::from([
            ("kubernetes.io/hostname".to_owned(), (*name).to_owned()),
            (
                "disk".to_owned(),
                if *zone == "x" { "ssd" } else { "hdd" }.to_owned(),
            ),
        ]);
        if !zone.is_empty() {
            labels.insert("zone".to_owned(), (*zone).to_owned());
        }
        let report = NodeReport {
            name: (*name).to_owned(),
            labels,
            ..NodeReport::default()
        };
        (report.name.clone(), report)
    };
    NODES.iter().map(node).collect()
}

/// A pod with the label `app`.
fn raw(name: &str, app: &str, spec: Value) -> Pod {
    let mut whole = json!({"containers": [{"name": "main"}]});
    for (name, value) in spec.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    let meta = json!({"namespace": "lab", "name": name, "uid": name, "labels": {"app": app}});
    serde_json::from_value(json!({"metadata": meta, "spec": whole})).expect("a pod")
}

fn rules(pod: &Pod) -> Rules {
    Rules::new(pod).expect("it is supported")
}

fn place(name: &str) -> Place {
    ("lab".to_owned(), name.to_owned())
}

fn put(relations: &mut Relations, pod: &Pod, node: Option<&str>) {
    let name = pod.metadata.name.clone().expect("a name");
    let neighbour = Neighbour {
        uid: name.clone(),
        labels: Arc::new(pod.metadata.labels.clone().expect("labels")),
        rules: Arc::new(rules(pod)),
        node: node.map(str::to_owned),
        waits: node.is_none(),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
    };
    relations.put(&place(&name), neighbour);
}

fn foreign(name: &str) -> ForeignPod {
    ForeignPod {
        pod: PodName {
            namespace: "lab".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        },
        ..ForeignPod::default()
    }
}

/// Where a pod may go.
fn allowed(relations: &mut Relations, name: &str) -> String {
    relations.look(&nodes(), Instant::now());
    let mut pod = foreign(name);
    relations.tie(&mut pod);
    let has = |node: &str| {
        let labels: Labels = relations.labels(node).collect();
        let mut asked = pod.node_selector.iter();
        asked.all(|(key, value)| labels.get(key) == Some(value))
    };
    let names = NODES.iter().map(|(name, _)| *name);
    names.filter(|name| has(name)).collect()
}

/// Where a pod with such a spec may go beside those that are there: name, app, spec, node.
#[track_caller]
fn check(there: &[(&str, &str, Value, &str)], app: &str, spec: Value, expect: &str) {
    let mut relations = Relations::default();
    relations.put_space("lab", Labels::from([("team".to_owned(), "one".to_owned())]));
    for (name, app, spec, node) in there {
        put(&mut relations, &raw(name, app, spec.clone()), Some(node));
    }
    put(&mut relations, &raw("new", app, spec.clone()), None);
    assert_eq!(allowed(&mut relations, "new"), expect, "{spec}");
    // The last check says the same of each node.
    for (node, _) in NODES {
        let kept = relations.keep(&foreign("new").pod, node, &nodes(), Instant::now());
        assert_eq!(
            kept == Prepared::Ready,
            expect.contains(node),
            "{node}: {kept:?}"
        );
        relations
            .pods
            .get_mut(&place("new"))
            .expect("it is there")
            .kept = None;
    }
}

fn term(app: &str, label: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": label})
}

fn required(kind: &str, terms: &[Value]) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn with(terms: &[Value]) -> Value {
    required("podAffinity", terms)
}

fn against(terms: &[Value]) -> Value {
    required("podAntiAffinity", terms)
}

fn spread(app: &str, label: &str, skew: u32, more: Value) -> Value {
    let mut one = json!({
        "maxSkew": skew, "topologyKey": label, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": app}},
    });
    for (name, value) in more.as_object().expect("an object") {
        one[name] = value.clone();
    }
    json!({"topologySpreadConstraints": [one]})
}

const HOST: &str = "kubernetes.io/hostname";

#[test]
fn node_affinity_means_nodes_in_all_its_words() {
    let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let wish = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    check(
        &[],
        "web",
        affinity(json!([wish("zone", "In", &["x", "y"])])),
        "abc",
    );
    check(
        &[],
        "web",
        affinity(json!([wish("zone", "NotIn", &["x"])])),
        "cde",
    );
    check(
        &[],
        "web",
        affinity(json!([wish("zone", "Exists", &[])])),
        "abcd",
    );
    let either = json!([wish("zone", "In", &["z"]), wish("disk", "In", &["ssd"])]);
    check(&[], "web", affinity(either), "abd");
    let nowhere = affinity(json!([wish("zone", "In", &["q", "r"])]));
    check(&[], "web", nowhere, "");
    // What labels can say is a plain selector, unless it contradicts the pod's own.
    let plain = affinity(json!([wish("zone", "In", &["x"])]));
    let pod = raw("p", "web", plain.clone());
    assert!(rules(&pod).is_empty());
    let selected = selector(pod.spec.as_ref().expect("a spec"));
    assert_eq!(selected.get("zone").map(String::as_str), Some("x"));
    let mut both = plain;
    both["nodeSelector"] = json!({"zone": "y"});
    let pod = raw("p", "web", both);
    let selected = selector(pod.spec.as_ref().expect("a spec"));
    assert_eq!(selected.get("zone").map(String::as_str), Some("y"));
    assert!(!rules(&pod).is_empty());
}

#[test]
fn a_port_of_a_node_is_one_pods() {
    let port = |more: Value| {
        let mut port = json!({"containerPort": 1, "hostPort": 80});
        for (name, value) in more.as_object().expect("an object") {
            port[name] = value.clone();
        }
        json!({"containers": [{"name": "main", "ports": [port]}]})
    };
    let there = [("p", "web", port(json!({})), "b")];
    check(&there, "other", port(json!({})), "acde");
    check(&there, "other", port(json!({"hostPort": 81})), "abcde");
    check(&there, "other", port(json!({"protocol": "UDP"})), "abcde");
    // Of all addresses is of each.
    check(&there, "other", port(json!({"hostIP": "10.0.0.1"})), "acde");
    let one = [("p", "web", port(json!({"hostIP": "10.0.0.2"})), "b")];
    check(&one, "other", port(json!({"hostIP": "10.0.0.1"})), "abcde");
    check(&one, "other", port(json!({"hostIP": "0.0.0.0"})), "acde");
    let all: Vec<_> = NODES
        .iter()
        .map(|(node, _)| (*node, "web", port(json!({})), *node))
        .collect();
    check(&all, "other", port(json!({})), "");
}

#[test]
fn pods_keep_away_from_others_and_others_from_them() {
    let there = [("p", "web", json!({}), "b")];
    check(&there, "job", against(&[term("web", HOST)]), "acde");
    // A node without the label is in no domain.
    check(&there, "job", against(&[term("web", "zone")]), "cde");
    check(&there, "job", against(&[term("other", "zone")]), "abcde");
    // One that is there keeps a pod away that asks for nothing.
    let guard = [("p", "db", against(&[term("job", "zone")]), "c")];
    check(&guard, "job", json!({}), "abde");
    check(&guard, "web", json!({}), "abcde");
    // By namespace: its own, named ones, or by their labels.
    let elsewhere = |more: Value| {
        let mut term = term("web", HOST);
        for (name, value) in more.as_object().expect("an object") {
            term[name] = value.clone();
        }
        against(&[term])
    };
    check(
        &there,
        "job",
        elsewhere(json!({"namespaces": ["sea"]})),
        "abcde",
    );
    check(
        &there,
        "job",
        elsewhere(json!({"namespaces": ["sea", "lab"]})),
        "acde",
    );
    check(
        &there,
        "job",
        elsewhere(json!({"namespaceSelector": {}})),
        "acde",
    );
    let team = |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}});
    check(&there, "job", elsewhere(team("one")), "acde");
    check(&there, "job", elsewhere(team("two")), "abcde");
    // Keys whose values must be the pod's own, or must not.
    check(
        &there,
        "web",
        elsewhere(json!({"mismatchLabelKeys": ["app"]})),
        "abcde",
    );
    let keys = json!({"labelSelector": {}, "matchLabelKeys": ["app"]});
    check(&there, "web", elsewhere(keys.clone()), "acde");
    check(&there, "job", elsewhere(keys), "abcde");
    // No selector means no pod.
    check(
        &there,
        "job",
        elsewhere(json!({"labelSelector": null})),
        "abcde",
    );
    let everywhere: Vec<_> = NODES
        .iter()
        .map(|(node, _)| (*node, "web", json!({}), *node))
        .collect();
    check(&everywhere, "job", against(&[term("web", HOST)]), "");
}

#[test]
fn pods_go_where_others_are() {
    let there = [("p", "web", json!({}), "b"), ("q", "db", json!({}), "d")];
    check(&there, "job", with(&[term("web", HOST)]), "b");
    check(&there, "job", with(&[term("web", "zone")]), "ab");
    // All terms must be fulfilled by the same pods.
    check(
        &there,
        "job",
        with(&[term("web", "zone"), term("db", "zone")]),
        "",
    );
    check(&there, "job", with(&[term("none", "zone")]), "");
    // The first of its kind goes wherever there is a domain; the next one is with it.
    check(&there, "job", with(&[term("job", "zone")]), "abcd");
    let first = [("p", "job", json!({}), "c")];
    check(&first, "job", with(&[term("job", "zone")]), "c");
}

#[test]
fn pods_are_spread_over_domains() {
    let web = |name, node| (name, "web", json!({}), node);
    let even = [web("1", "a"), web("2", "c"), web("3", "d")];
    check(&even, "web", spread("web", "zone", 1, json!({})), "abcd");
    let uneven = [web("1", "a"), web("2", "b"), web("3", "c"), web("4", "d")];
    check(&uneven, "web", spread("web", "zone", 1, json!({})), "cd");
    check(&uneven, "web", spread("web", "zone", 2, json!({})), "abcd");
    // A pod that is not meant itself makes no domain fuller.
    check(&uneven, "job", spread("web", "zone", 1, json!({})), "abcd");
    // Nodes that the pod does not mean do not count, unless it says so.
    let on_ssd = |more: Value| {
        let mut spec = spread("web", HOST, 1, more);
        spec["nodeSelector"] = json!({"disk": "ssd"});
        spec
    };
    let one = [web("1", "a")];
    check(&one, "web", on_ssd(json!({})), "bcde");
    check(
        &[web("1", "a"), web("2", "b")],
        "web",
        on_ssd(json!({})),
        "abcde",
    );
    let ignoring = on_ssd(json!({"nodeAffinityPolicy": "Ignore"}));
    check(&[web("1", "a"), web("2", "b")], "web", ignoring, "cde");
    // Too few domains: none may have more than `maxSkew`.
    check(
        &even,
        "web",
        spread("web", "zone", 1, json!({"minDomains": 4})),
        "",
    );
    check(&even, "web", spread("web", "rack", 1, json!({})), "");
}

/// Pods that are asked to end fill no domain, though they keep others away until they have gone.
#[test]
fn who_leaves_counts_for_no_spread() {
    let web = |name: &str| raw(name, "web", json!({}));
    let mut ending = web("1");
    ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    let mut relations = Relations::default();
    put(&mut relations, &ending, Some("a"));
    for (name, node) in [("2", "c"), ("3", "d")] {
        put(&mut relations, &web(name), Some(node));
    }
    let even = raw("new", "web", spread("web", "zone", 1, json!({})));
    put(&mut relations, &even, None);
    assert_eq!(allowed(&mut relations, "new"), "ab");
    let alone = raw("alone", "job", against(&[term("web", HOST)]));
    put(&mut relations, &alone, None);
    assert_eq!(allowed(&mut relations, "alone"), "be");
}

/// Several pods are placed in one round: the first takes the room, the next is told before it is bound.
#[test]
fn room_is_kept_for_who_comes_first() {
    let mut relations = Relations::default();
    let alone = against(&[term("web", "zone")]);
    for name in ["p", "q"] {
        put(&mut relations, &raw(name, "web", alone.clone()), None);
    }
    assert_eq!(allowed(&mut relations, "p"), "abcde");
    let now = Instant::now();
    let keep = |relations: &mut Relations, name: &str, node: &str, now| {
        relations.keep(&foreign(name).pod, node, &nodes(), now)
    };
    assert_eq!(keep(&mut relations, "p", "a", now), Prepared::Ready);
    assert!(relations.is_stale());
    let Prepared::Elsewhere(why) = keep(&mut relations, "q", "b", now) else {
        panic!("both would share a zone");
    };
    assert!(
        why.contains("`b`") && why.contains("podAntiAffinity"),
        "{why}"
    );
    assert_eq!(allowed(&mut relations, "q"), "cde");
    // It asks again for what it has, and nobody took it.
    assert_eq!(keep(&mut relations, "p", "a", now), Prepared::Ready);
    // Who does not come loses it.
    let later = now + KEPT_MAX + Duration::from_secs(1);
    relations.look(&nodes(), later);
    assert_eq!(keep(&mut relations, "q", "b", later), Prepared::Ready);
    // Who comes keeps it for good.
    put(&mut relations, &raw("q", "web", alone), Some("b"));
    relations.look(&nodes(), later + KEPT_MAX * 2);
    assert_eq!(allowed(&mut relations, "p"), "cde");
    relations.remove(&place("q"));
    assert!(relations.is_stale());
    assert_eq!(allowed(&mut relations, "p"), "abcde");
    relations.remove(&place("p"));
    relations.look(&nodes(), Instant::now());
    assert!(relations.asks.is_empty(), "nobody asks any more");
}

/// What the scheduler is told: relations between pods that have the same rule.
#[test]
fn the_scheduler_hears_of_what_holds_among_themselves() {
    let said = |app: &str, spec: Value| -> Vec<(RelationKind, String)> {
        let pod = raw("p", app, spec);
        let labels = pod.metadata.labels.clone().expect("labels");
        let relations = rules(&pod).among_themselves("lab", &labels);
        relations
            .into_iter()
            .map(|one| (one.kind, one.label))
            .collect()
    };
    let one = |kind, label: &str| vec![(kind, label.to_owned())];
    let apart = against(&[term("web", HOST)]);
    assert_eq!(said("web", apart.clone()), one(RelationKind::Apart, HOST));
    assert_eq!(said("job", apart), [], "it means others only");
    assert_eq!(
        said("web", with(&[term("web", "zone")])),
        one(RelationKind::Near, "zone")
    );
    let even = spread("web", "zone", 3, json!({}));
    assert_eq!(said("web", even), one(RelationKind::Spread(3), "zone"));
    let port =
        json!({"containers": [{"name": "main", "ports": [{"containerPort": 1, "hostPort": 80}]}]});
    assert_eq!(said("web", port), one(RelationKind::Apart, "host"));
}

/// A guard that comes later is heeded by a pod that was free to go anywhere.
#[test]
fn a_pod_hears_of_guards_that_come_later() {
    let mut relations = Relations::default();
    put(&mut relations, &raw("p", "job", json!({})), None);
    assert_eq!(allowed(&mut relations, "p"), "abcde");
    assert!(relations.asks.is_empty());
    let guard = raw("g", "db", against(&[term("job", HOST)]));
    put(&mut relations, &guard, Some("a"));
    let news = relations.look(&nodes(), Instant::now());
    assert!(news.pods.contains(&place("p")), "it is told of anew");
    assert_eq!(allowed(&mut relations, "p"), "bcde");
}
