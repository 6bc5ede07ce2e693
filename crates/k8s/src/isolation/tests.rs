use super::*;
use crate::manifest::tests::config;

fn project(network: Option<Network>) -> Project {
    Project {
        network,
        ..Project::plain("air", "default")
    }
}

fn peer(end: PeerEnd, ports: &[u16]) -> Peer {
    Peer {
        end,
        ports: ports.to_vec(),
    }
}

fn net(text: &str) -> PeerEnd {
    PeerEnd::Net(text.parse().expect("a range"))
}

/// The same with keys in order, whether this build keeps them as written or not.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<&String, Value> = map
                .iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            json!(sorted)
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// A list as lines, without what is the same everywhere.
#[track_caller]
fn check(list: &Value, expect: &[&str]) {
    let rules = list.as_array().into_iter().flatten();
    let lines: Vec<String> = rules
        .map(|rule| sorted(rule).to_string().replace('"', ""))
        .map(|line| {
            line.replace(
                "namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:",
                "namespace:{{",
            )
        })
        .collect();
    assert_eq!(lines, expect);
}

const ALWAYS: &str = "{from:[{podSelector:{}},{namespace:{{moonshot}}}]}";

#[test]
fn by_default_others_stay_outside_and_everything_may_be_called() {
    let policy = policy(&config(), &project(None), Standing::Ours);
    let spec = &policy["spec"];
    assert_eq!(spec["podSelector"], json!({}));
    assert_eq!(spec["policyTypes"], json!(["Ingress"]));
    check(&spec["ingress"], &[ALWAYS]);
    assert!(spec.get("egress").is_none());
    // Typed objects have the same form: nothing is misspelt.
    let typed: k8s_openapi::api::networking::v1::NetworkPolicy =
        serde_json::from_value(policy.clone()).expect("a NetworkPolicy");
    assert_eq!(serde_json::to_value(typed).expect("JSON"), policy);
}

#[test]
fn who_is_named_is_let_in_and_out() {
    let mut config = config();
    config.clients = vec![Net::one([10, 0, 0, 9].into())];
    let network = Network {
        ingress: vec![
            peer(PeerEnd::Project("sea".to_owned()), &[]),
            peer(net("192.168.0.0/16"), &[443, 8080]),
        ],
        egress: Some(vec![peer(net("10.9.0.0/16"), &[5432])]),
    };
    let policy = policy(&config, &project(Some(network)), Standing::Ours);
    let spec = &policy["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    check(
        &spec["ingress"],
        &[
            "{from:[{podSelector:{}},{namespace:{{moonshot}}},{ipBlock:{cidr:10.0.0.9/32}}]}",
            "{from:[{namespace:{{sea}}}]}",
            "{from:[{ipBlock:{cidr:192.168.0.0/16}}],ports:[{port:443,protocol:TCP},{port:8080,protocol:TCP}]}",
        ],
    );
    check(
        &spec["egress"],
        &[
            "{to:[{podSelector:{}}]}",
            "{ports:[{port:53,protocol:UDP},{port:53,protocol:TCP}]}",
            "{ports:[{port:7400,protocol:TCP}],to:[{namespace:{{moonshot}}}]}",
            "{ports:[{port:7400,protocol:TCP}],to:[{ipBlock:{cidr:10.0.0.1/32}}]}",
            "{ports:[{port:5432,protocol:TCP}],to:[{ipBlock:{cidr:10.9.0.0/16}}]}",
        ],
    );
    let typed: k8s_openapi::api::networking::v1::NetworkPolicy =
        serde_json::from_value(policy.clone()).expect("a NetworkPolicy");
    assert_eq!(serde_json::to_value(typed).expect("JSON"), policy);
}

#[test]
fn the_server_is_reached_wherever_it_is() {
    let network = Network {
        ingress: Vec::new(),
        egress: Some(Vec::new()),
    };
    let last = |access: Access, advertise: &str| {
        let mut config = config();
        config.listen = "0.0.0.0:7090".parse().expect("an address");
        (config.access, config.advertise) = (access, Some(advertise.to_owned()));
        let policy = policy(&config, &project(Some(network.clone())), Standing::Ours);
        let rules = policy["spec"]["egress"].as_array().cloned();
        let rules = rules.unwrap_or_default();
        json!(rules[2..])
    };
    let inside = "{ports:[{port:7090,protocol:TCP}],to:[{namespace:{{moonshot}}}]}";
    check(
        &last(Access::InCluster, "http://moonshot-pods.moonshot.svc:7090"),
        &[inside],
    );
    let outside = || Access::File("kubeconfig".into());
    check(
        &last(outside(), "http://moonshot.example.org:8000"),
        &[inside, "{ports:[{port:8000,protocol:TCP}]}"],
    );
    check(
        &last(outside(), "http://[fd00::1]:8000"),
        &[
            inside,
            "{ports:[{port:8000,protocol:TCP}],to:[{ipBlock:{cidr:fd00::1/128}}]}",
        ],
    );
}

#[test]
fn a_namespace_of_somebody_elses_changes_only_as_the_project_says() {
    let labels = |pod_security: Option<PodSecurity>, standing: Standing| {
        let project = Project {
            pod_security,
            ..project(None)
        };
        let space = namespace(&project, standing);
        let labels = &space["metadata"]["labels"];
        let [managed, profile] =
            [names::MANAGED.0, names::POD_SECURITY].map(|name| labels[name].as_str());
        assert_eq!(labels[names::PROJECT], "air");
        (
            managed.is_some(),
            profile.map(str::to_owned),
            space["metadata"].get("annotations").is_some(),
        )
    };
    let restricted = Some("restricted".to_owned());
    let privileged = Some("privileged".to_owned());
    assert_eq!(labels(None, Standing::Ours), (true, restricted, false));
    assert_eq!(
        labels(Some(PodSecurity::Privileged), Standing::Ours),
        (true, privileged.clone(), false)
    );
    assert_eq!(labels(None, Standing::Adopted), (false, None, true));
    assert_eq!(
        labels(Some(PodSecurity::Privileged), Standing::Adopted),
        (false, privileged, true)
    );
    let pods = |network: Option<Network>| {
        let policy = policy(&config(), &project(network), Standing::Adopted);
        policy["spec"]["podSelector"].clone()
    };
    let ours = json!({"matchLabels": {"app.kubernetes.io/managed-by": "moonshot"}});
    assert_eq!(pods(None), ours);
    assert_eq!(pods(Some(Network::default())), json!({}));
}
