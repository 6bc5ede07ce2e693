//! What a Project says of itself reaches the engine, on the engine in memory.

use crate::server::Server;
use engine::fake::Fake;
use engine::{Engine, Network, Peer, PeerEnd, PodSecurity, Project, Registry};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

async fn put(server: &Server, spec: Value) -> u16 {
    let object = json!({"apiVersion": "moonshot/v1", "kind": "Project", "metadata": {"name": "air"}, "spec": spec});
    server.call("PUT", "/v1/projects/air", object).await.status
}

/// Waits until the engine was told this of the Project.
async fn told(fake: &Fake, expect: Project) {
    for _ in 0..400 {
        if fake.told("air").as_ref() == Some(&expect) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(fake.told("air"), Some(expect));
}

async fn start() -> (Server, Arc<Fake>) {
    let fake = Arc::new(Fake::new(Vec::new(), None, None));
    let server = Server::start_on(Arc::clone(&fake) as Arc<dyn Engine>).await;
    (server, fake)
}

#[tokio::test]
async fn what_a_project_says_reaches_the_engine_and_changes_there() {
    let (server, fake) = start().await;
    let plain = Project::plain("air", "default");
    assert_eq!(put(&server, json!({})).await, 201);
    told(&fake, plain.clone()).await;

    let spec = json!({"podSecurity": "baseline", "network": {
        "ingress": [{"project": "sea"}],
        "egress": [{"cidr": "10.0.0.0/8", "ports": [5432]}],
    }});
    assert_eq!(put(&server, spec).await, 200);
    let peer = |end: PeerEnd, ports: &[u16]| Peer {
        end,
        ports: ports.to_vec(),
    };
    let range = "10.0.0.0/8".parse().expect("a range");
    let network = Network {
        ingress: vec![peer(PeerEnd::Project("sea".to_owned()), &[])],
        egress: Some(vec![peer(PeerEnd::Net(range), &[5432])]),
    };
    let expect = Project {
        pod_security: Some(PodSecurity::Baseline),
        network: Some(network),
        ..plain.clone()
    };
    told(&fake, expect).await;

    // No egress at all is something else than nothing said.
    assert_eq!(put(&server, json!({"network": {"egress": []}})).await, 200);
    let network = Network {
        ingress: Vec::new(),
        egress: Some(Vec::new()),
    };
    let expect = Project {
        network: Some(network),
        ..plain.clone()
    };
    told(&fake, expect).await;
    assert_eq!(put(&server, json!({})).await, 200);
    told(&fake, plain).await;
}

#[tokio::test]
async fn a_registry_comes_with_the_newest_version_of_its_secret() {
    let (server, fake) = start().await;
    let spec = json!({"registries": [{"host": "registry.example.org", "secret": "pull"}]});
    assert_eq!(put(&server, spec).await, 201);
    let expect = |version: Option<u32>| Project {
        registries: vec![Registry {
            host: "registry.example.org".to_owned(),
            mirror: None,
            secret: version.map(|version| ("pull".to_owned(), version)),
        }],
        ..Project::plain("air", "default")
    };
    told(&fake, expect(None)).await;
    for (version, password) in [(1, "first"), (2, "second")] {
        let data = json!({"username": "air", "password": password});
        let secret = json!({"apiVersion": "moonshot/v1", "kind": "Secret", "metadata": {"name": "pull", "project": "air"}, "spec": {"data": data}});
        let path = "/v1/projects/air/secrets/pull";
        let answer = server.call("PUT", path, secret).await;
        assert!(answer.status < 300, "{answer:?}");
        told(&fake, expect(Some(version))).await;
    }
}

#[tokio::test]
async fn only_an_administrator_changes_what_a_project_is_kept_to() {
    let (mut server, _) = start().await;
    assert_eq!(put(&server, json!({})).await, 201);
    let asked = json!({"name": "member", "role": "editor", "project": "air"});
    let token = server.call("POST", "/v1/tokens", asked).await.body;
    server.token = token["token"].as_str().expect("a token").to_owned();
    assert_eq!(
        put(&server, json!({"podSecurity": "privileged"})).await,
        403
    );
    assert_eq!(put(&server, json!({"network": {}})).await, 403);
}
