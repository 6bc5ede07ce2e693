use super::allocate::allocate;
use super::known::Taken;
use super::*;
use crate::affinity::{Labels, Site};
use k8s_openapi::api::resource::v1::{DeviceClaim, DeviceRequestAllocationResult};
use serde_json::{Value, json};

mod pods;

/// A driver's devices on a node, all of its pool in one slice.
fn slice(node: &str, devices: Value) -> Slice {
    slice_of(node, node, 1, 1, devices)
}

fn slice_of(name: &str, node: &str, generation: i64, n_slices: i64, devices: Value) -> Slice {
    let slice = json!({
        "metadata": {"name": name},
        "spec": {
            "driver": "gpu.test", "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": n_slices},
            "devices": devices,
        },
    });
    Slice::new(serde_json::from_value(slice).expect("a slice")).expect("it has a name")
}

fn gpu(name: &str, memory: &str, link: &str) -> Value {
    json!({
        "name": name,
        "attributes": {"link": {"string": link}, "driver": {"version": "1.4.0"}, "other.test/link": {"int": 7}},
        "capacity": {"memory": {"value": memory}},
    })
}

fn class(name: &str, expression: &str) -> Class {
    let class = json!({
        "metadata": {"name": name},
        "spec": {
            "selectors": [{"cel": {"expression": expression}}],
            "config": [{"opaque": {"driver": "gpu.test", "parameters": {"of": name}}}],
        },
    });
    Class::new(serde_json::from_value(class).expect("a class")).expect("it has a name")
}

/// A claim; with `pod` it was made for the pod of this uid.
fn claim(name: &str, pod: Option<&str>, spec: Value, status: Value) -> Claim {
    let owners: Vec<Value> = pod
        .iter()
        .map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid, "controller": true}))
        .collect();
    let claim = json!({
        "metadata": {
            "name": name, "namespace": "lab", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "ownerReferences": owners,
        },
        "spec": {"devices": spec},
        "status": status,
    });
    Claim::new(serde_json::from_value(claim).expect("a claim")).expect("it has a name")
}

fn exactly(more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu"});
    for (name, value) in more.as_object().expect("an object") {
        exactly[name] = value.clone();
    }
    json!({"requests": [{"name": "r", "exactly": exactly}]})
}

/// Two nodes: `a` with three devices, `b` with one.
fn devices() -> Devices {
    let mut devices = Devices::default();
    devices.put_class(class("gpu", "device.driver == 'gpu.test'"));
    devices.put_class(class(
        "large",
        "device.capacity['gpu.test'].memory.isGreaterThan(quantity('50Gi'))",
    ));
    devices.put_slice(slice(
        "a",
        json!([
            gpu("0", "40Gi", "x"),
            gpu("1", "80Gi", "x"),
            gpu("2", "80Gi", "y")
        ]),
    ));
    devices.put_slice(slice("b", json!([gpu("0", "40Gi", "z")])));
    devices
}

fn on<T>(node: &str, act: impl FnOnce(Site<'_>) -> T) -> T {
    let labels = Labels::from([("zone".to_owned(), format!("z{node}"))]);
    act(Site {
        name: node,
        labels: &labels,
    })
}

/// What claims get on a node, as `request=pool/device`; the reason where it cannot be said.
fn given(devices: &Devices, claims: &[Value], node: &str) -> Result<Vec<String>, String> {
    let claims: Vec<DeviceClaim> = claims
        .iter()
        .map(|claim| serde_json::from_value(claim.clone()).expect("a claim"))
        .collect();
    for claim in &claims {
        if let Some(refused) = devices.known.refuses(claim) {
            return Err(refused);
        }
    }
    let claims: Vec<&DeviceClaim> = claims.iter().collect();
    let taken = Taken {
        holders: &devices.holders,
        except: &BTreeSet::new(),
    };
    let found = on(node, |site| allocate(&devices.known, &taken, &claims, site))?;
    let results = found
        .into_iter()
        .flatten()
        .filter_map(|found| found.devices?.results);
    let one = |result: DeviceRequestAllocationResult| {
        format!("{}={}/{}", result.request, result.pool, result.device)
    };
    Ok(results.flatten().map(one).collect())
}

#[track_caller]
fn check(devices: &Devices, claims: &[Value], node: &str, expect: &[&str]) {
    let given = given(devices, claims, node).expect("it can be said");
    assert_eq!(given, expect, "{claims:?} on {node}");
}

#[track_caller]
fn refused(devices: &Devices, claim: Value, words: &str) {
    let refused = given(devices, std::slice::from_ref(&claim), "a").expect_err("it cannot be said");
    assert!(refused.contains(words), "{refused}");
}

fn select(expression: &str) -> Value {
    json!([{"cel": {"expression": expression}}])
}

#[test]
fn requests_are_fulfilled_in_all_their_forms() {
    let devices = devices();
    let nothing: &[&str] = &[];
    check(&devices, &[exactly(json!({}))], "a", &["r=a/2"]);
    check(
        &devices,
        &[exactly(json!({"count": 2}))],
        "a",
        &["r=a/2", "r=a/1"],
    );
    check(&devices, &[exactly(json!({"count": 2}))], "b", nothing);
    check(&devices, &[exactly(json!({}))], "c", nothing);
    let all = exactly(json!({"allocationMode": "All"}));
    check(
        &devices,
        std::slice::from_ref(&all),
        "a",
        &["r=a/2", "r=a/1", "r=a/0"],
    );
    check(&devices, &[all], "c", nothing);
    let large = json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "large"}}]});
    check(&devices, std::slice::from_ref(&large), "b", nothing);
    // Two claims of one pod get different devices, and what only one can have it gets.
    check(
        &devices,
        &[exactly(json!({})), large.clone()],
        "a",
        &["r=a/2", "r=a/1"],
    );
    check(
        &devices,
        &[exactly(json!({"count": 2})), large.clone(), large],
        "a",
        nothing,
    );
    let first = json!({"requests": [{"name": "r", "firstAvailable": [
        {"name": "best", "deviceClassName": "large", "count": 2},
        {"name": "good", "deviceClassName": "gpu"},
    ]}]});
    check(
        &devices,
        std::slice::from_ref(&first),
        "a",
        &["r/best=a/2", "r/best=a/1"],
    );
    check(&devices, &[first], "b", &["r/good=b/0"]);
}

#[test]
fn expressions_choose_devices() {
    let devices = devices();
    let with = |expression: &str| exactly(json!({"selectors": select(expression)}));
    let check =
        |expression: &str, expect: &[&str]| check(&devices, &[with(expression)], "a", expect);
    check("device.attributes['gpu.test'].link == 'x'", &["r=a/1"]);
    check("device.attributes['other.test'].link == 7", &["r=a/2"]);
    check(
        "device.attributes['gpu.test'].driver.isLessThan(semver('1.4.0-rc.1'))",
        &[],
    );
    check(
        "device.attributes['gpu.test'].driver.compareTo(semver('1.4.0')) == 0",
        &["r=a/2"],
    );
    check(
        "device.capacity['gpu.test'].memory.compareTo(quantity('40Gi')) == 0",
        &["r=a/0"],
    );
    check(
        "device.capacity['gpu.test'].memory == quantity('42949672960')",
        &["r=a/0"],
    );
    check(
        "device.capacity['gpu.test'].memory.asInteger() < 50000000000",
        &["r=a/0"],
    );
    check("has(device.attributes['gpu.test'].colour)", &[]);
    check("'nobody.test' in device.attributes", &[]);
    check(
        "cel.bind(it, device.attributes['gpu.test'], it.link == 'y' && has(it.driver))",
        &["r=a/2"],
    );
    check(
        "device.attributes['gpu.test'].link.matches('^[yz]$')",
        &["r=a/2"],
    );
    check(
        "device.attributes['gpu.test'].link in ['x'] || false",
        &["r=a/1"],
    );
}

#[test]
fn what_is_not_understood_is_said() {
    let devices = devices();
    let with = |expression: &str| exactly(json!({"selectors": select(expression)}));
    refused(
        &devices,
        with("device.driver =="),
        "the selector `device.driver ==` of a device of class `gpu`",
    );
    refused(
        &devices,
        with("device.attributes['gpu.test'].colour == 'red'"),
        "colour",
    );
    refused(&devices, with("device.driver"), "neither true nor false");
    refused(&devices, with("ip('::1').isLoopback()"), "ip");
    refused(
        &devices,
        exactly(json!({"adminAccess": true})),
        "`adminAccess`",
    );
    refused(
        &devices,
        exactly(json!({"allocationMode": "Some"})),
        "`allocationMode: Some`",
    );
    refused(
        &devices,
        exactly(json!({"deviceClassName": "tpu"})),
        "the device class `tpu`, which is not there",
    );
    refused(
        &devices,
        exactly(json!({"capacity": {"requests": {"memory": "1Gi"}}})),
        "`capacity`",
    );
    refused(
        &devices,
        json!({"requests": [{"name": "r"}]}),
        "neither `exactly` nor `firstAvailable`",
    );
    let mut distinct = exactly(json!({"count": 2}));
    distinct["constraints"] = json!([{"distinctAttribute": "gpu.test/link"}]);
    refused(&devices, distinct, "`matchAttribute`");
}

#[test]
fn constraints_hold_among_the_devices_of_a_claim() {
    let devices = devices();
    let mut pair = exactly(json!({"count": 2}));
    pair["constraints"] = json!([{"matchAttribute": "gpu.test/link"}]);
    check(&devices, &[pair.clone()], "a", &["r=a/1", "r=a/0"]);
    let mut more = exactly(json!({"count": 3}));
    more["constraints"] = pair["constraints"].clone();
    check(&devices, &[more], "a", &[]);
    // Of two requests the constraint is about one: the other may be anywhere.
    let two = |about: Value| {
        json!({
            "requests": [
                {"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}},
                {"name": "s", "exactly": {"deviceClassName": "large"}},
            ],
            "constraints": [{"requests": about, "matchAttribute": "gpu.test/link"}],
        })
    };
    check(
        &devices,
        &[two(json!(["r"]))],
        "a",
        &["r=a/1", "r=a/0", "s=a/2"],
    );
    check(&devices, &[two(json!([]))], "a", &[]);
    pair["constraints"] = json!([{"matchAttribute": "nobody.test/link"}]);
    check(&devices, &[pair], "a", &[]);
}

#[test]
fn taints_keep_those_away_who_do_not_consent() {
    let mut devices = devices();
    let mut sick = gpu("0", "40Gi", "z");
    sick["taints"] = json!([{"key": "sick", "value": "hot", "effect": "NoSchedule"}]);
    devices.put_slice(slice("b", json!([sick])));
    let with = |toleration: Value| exactly(json!({"tolerations": [toleration]}));
    check(&devices, &[exactly(json!({}))], "b", &[]);
    check(
        &devices,
        &[with(json!({"operator": "Exists"}))],
        "b",
        &["r=b/0"],
    );
    check(
        &devices,
        &[with(json!({"key": "sick", "value": "hot"}))],
        "b",
        &["r=b/0"],
    );
    check(
        &devices,
        &[with(json!({"key": "sick", "value": "cold"}))],
        "b",
        &[],
    );
    check(
        &devices,
        &[with(json!({"operator": "Exists", "effect": "NoExecute"}))],
        "b",
        &[],
    );
}

#[test]
fn pools_count_when_they_are_whole() {
    let mut devices = devices();
    let one = exactly(json!({}));
    let of = |name: &str, generation, n_slices, device: &str| {
        slice_of(
            name,
            "b",
            generation,
            n_slices,
            json!([gpu(device, "40Gi", "z")]),
        )
    };
    // A newer generation, one of its two slices: neither it nor the older one is to be used.
    devices.put_slice(of("b-1", 2, 2, "1"));
    check(&devices, std::slice::from_ref(&one), "b", &[]);
    devices.put_slice(of("b-2", 2, 2, "2"));
    check(&devices, std::slice::from_ref(&one), "b", &["r=b/2"]);
    // Twice the same name.
    devices.put_slice(of("b-2", 2, 2, "1"));
    check(&devices, std::slice::from_ref(&one), "b", &[]);
    devices.remove_slice("b-1");
    devices.remove_slice("b-2");
    check(&devices, std::slice::from_ref(&one), "b", &["r=b/0"]);
    devices.remove_slice("b");
    check(&devices, &[one], "b", &[]);
}

#[test]
fn devices_are_reached_from_where_their_slices_say() {
    let check = |reach: Value, expect: [bool; 2], selector: Value| {
        let mut devices = Devices::default();
        devices.put_class(class("gpu", "true"));
        let mut spec = json!({
            "driver": "net.test", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "0"}],
        });
        for (name, value) in reach.as_object().expect("an object") {
            spec[name] = value.clone();
        }
        let slice = json!({"metadata": {"name": "p"}, "spec": spec});
        let slice = serde_json::from_value(slice).expect("a slice");
        devices.put_slice(Slice::new(slice).expect("a name"));
        let found = ["a", "b"].map(|node| {
            let taken = Taken {
                holders: &devices.holders,
                except: &BTreeSet::new(),
            };
            let claim: DeviceClaim = serde_json::from_value(exactly(json!({}))).expect("a claim");
            on(node, |site| {
                allocate(&devices.known, &taken, &[&claim], site)
            })
            .expect("said")
        });
        assert_eq!(found.each_ref().map(Option::is_some), expect, "{reach}");
        let found = found
            .into_iter()
            .flatten()
            .next()
            .expect("somewhere")
            .remove(0);
        assert_eq!(json!(found.node_selector), selector, "{reach}");
    };
    let by_name = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]});
    let by_zone = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["za"]}]}]});
    check(json!({"nodeName": "b"}), [false, true], by_name.clone());
    check(json!({"allNodes": true}), [true, true], Value::Null);
    check(json!({"nodeSelector": by_zone}), [true, false], by_zone);
    let each = json!({"perDeviceNodeSelection": true, "devices": [{"name": "0", "nodeName": "b"}]});
    check(each, [false, true], by_name);
}

#[test]
fn what_is_shared_or_waited_for_is_not_offered() {
    for (field, value) in [
        ("allowMultipleAllocations", json!(true)),
        ("bindingConditions", json!(["attached"])),
        (
            "consumesCounters",
            json!([{"counterSet": "c", "counters": {"n": {"value": "1"}}}]),
        ),
    ] {
        let mut devices = devices();
        let mut odd = gpu("0", "40Gi", "z");
        odd[field] = value;
        devices.put_slice(slice("b", json!([odd])));
        check(&devices, &[exactly(json!({}))], "b", &[]);
    }
}

#[test]
fn configuration_comes_from_class_and_claim() {
    let devices = devices();
    let mut spec = exactly(json!({}));
    spec["config"] = json!([
        {"requests": ["r"], "opaque": {"driver": "gpu.test", "parameters": {"of": "r"}}},
        {"requests": ["s"], "opaque": {"driver": "gpu.test", "parameters": {"of": "s"}}},
        {"opaque": {"driver": "gpu.test", "parameters": {"of": "all"}}},
    ]);
    let claim: DeviceClaim = serde_json::from_value(spec).expect("a claim");
    let taken = Taken {
        holders: &devices.holders,
        except: &BTreeSet::new(),
    };
    let found = on("b", |site| {
        allocate(&devices.known, &taken, &[&claim], site)
    })
    .expect("said");
    let found = json!(found.expect("there is one"))[0]["devices"]["config"].clone();
    let shown: Vec<String> = found
        .as_array()
        .expect("a list")
        .iter()
        .map(|config| {
            format!(
                "{} {} {}",
                config["source"], config["requests"], config["opaque"]["parameters"]["of"]
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#""FromClass" ["r"] "gpu""#,
            r#""FromClaim" ["r"] "r""#,
            r#""FromClaim" null "all""#
        ]
    );
}
