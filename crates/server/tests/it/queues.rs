//! What Queues and placement wishes say reaches the scheduler, on the engine in memory.

use crate::nodes::eventually;
use crate::server::Server;
use base::{Bytes, MilliCpu, Resources, Time};
use engine::Engine;
use engine::fake::Fake;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn nodes(racks: &[(&str, &str)]) -> Arc<Fake> {
    let room = Resources {
        cpu: MilliCpu(4_000),
        memory: Bytes(8 << 30),
        ..Resources::default()
    };
    let made = racks.iter().map(|(name, rack)| {
        let mut node = Fake::node(name, room.clone());
        node.labels.insert("rack".to_owned(), (*rack).to_owned());
        node
    });
    Arc::new(Fake::new(made.collect(), None, None))
}

async fn start(racks: &[(&str, &str)]) -> Server {
    Server::start_on(nodes(racks) as Arc<dyn Engine>).await
}

/// Applies an object of these fields.
async fn apply(server: &Server, kind: &str, name: &str, spec: Value) {
    let object = json!({"apiVersion": "moonshot/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    server.apply(&object.to_string()).await;
}

/// How many replicas of an App each node has, once all that can run do.
async fn by_node(server: &Server, name: &str, running: usize) -> BTreeMap<String, usize> {
    let path = format!("/v1/projects/default/apps/{name}");
    let places = |app: &Value| -> Vec<String> {
        let replicas = app["status"]["instances"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let placed = replicas
            .iter()
            .filter_map(|replica| replica["node"].as_str());
        placed
            .filter(|node| !node.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let app = eventually(server, &path, |app| places(app).len() == running).await;
    let mut count = BTreeMap::new();
    for node in places(&app) {
        *count.entry(node).or_default() += 1;
    }
    count
}

async fn why(server: &Server, path: &str, words: &str) {
    eventually(server, &format!("{path}/why"), |why| {
        why.to_string().contains(words)
    })
    .await;
}

#[tokio::test]
async fn what_a_queue_will_need_is_not_given_to_who_cannot_leave_in_time() {
    let server = start(&[("node-a", "r1")]).await;
    let now = server::platform::Clock::now(&server::platform::SystemClock::default());
    let hour = base::Span::from_secs(3_600);
    let window = |from: Time| {
        json!({"projects": ["default"], "reservations": [{"pool": "default", "once": {
            "from": from, "until": from + hour, "amount": {"cpu": 3},
        }}]})
    };
    apply(&server, "Queue", "apps", window(now + hour)).await;
    let job = |limit: &str| json!({"command": ["sleep"], "queue": "default", "resources": {"cpu": 2}, "preemptible": false, "timeLimit": limit});
    // The window is an hour away: who ends before it may have what is promised, who ends later may not.
    apply(&server, "Job", "short", job("10m")).await;
    let started = |job: &Value| job["status"]["attempts"] == 1;
    let jobs = "/v1/projects/default/jobs";
    eventually(&server, &format!("{jobs}/short"), started).await;
    apply(&server, "Job", "long", job("3h")).await;
    why(&server, &format!("{jobs}/long"), "promised to queue `apps`").await;
    // Whose window it is may.
    let mine = json!({"command": ["sleep"], "resources": {"cpu": 2}, "queue": "apps"});
    apply(&server, "Job", "mine", mine).await;
    eventually(&server, &format!("{jobs}/mine"), started).await;
    // What was promised is promised no longer.
    apply(&server, "Queue", "apps", json!({"projects": ["default"]})).await;
    eventually(&server, &format!("{jobs}/long"), started).await;
}

#[tokio::test]
async fn a_day_is_promised_by_the_clock_of_its_place() {
    let server = start(&[("node-a", "r1")]).await;
    // Always: from midnight on, every day.
    let daily = json!([{"at": "00:00", "amount": {"cpu": "3500m"}}]);
    let reservation = json!({"pool": "default", "daily": daily, "timeZone": "Asia/Shanghai"});
    apply(
        &server,
        "Queue",
        "apps",
        json!({"reservations": [reservation]}),
    )
    .await;
    apply(
        &server,
        "Job",
        "job",
        json!({"command": ["sleep"], "resources": {"cpu": 1}}),
    )
    .await;
    why(
        &server,
        "/v1/projects/default/jobs/job",
        "promised to queue `apps`",
    )
    .await;
}

#[tokio::test]
async fn a_queue_may_go_by_age_or_by_length() {
    let server = start(&[("node-a", "r1")]).await;
    let blocker = json!({"command": ["sleep"], "queue": "default", "resources": {"cpu": 4}});
    let jobs = "/v1/projects/default/jobs";
    apply(&server, "Job", "blocker", blocker).await;
    let running = |job: &Value| job["status"]["phase"] == "Running";
    eventually(&server, &format!("{jobs}/blocker"), running).await;
    for (queue, order) in [("age", "fifo"), ("length", "shortest")] {
        apply(
            &server,
            "Queue",
            queue,
            json!({"order": order, "projects": ["default"]}),
        )
        .await;
        let job = |hours: u32, priority: i32| {
            json!({"command": ["sleep"], "queue": queue, "resources": {"cpu": 4}, "preemptible": false,
                   "expectedTime": format!("{hours}h"), "priority": priority})
        };
        apply(&server, "Job", &format!("{queue}-long"), job(9, 0)).await;
        apply(
            &server,
            "Job",
            &format!("{queue}-urgent"),
            job(5, if order == "fifo" { 9 } else { 0 }),
        )
        .await;
        let path = format!("/v1/projects/default/jobs/{queue}-urgent");
        eventually(&server, &path, |job| job["status"]["phase"] == "Queued").await;
    }
    // By age the first is first, whatever its priority; by length the shorter is.
    for (name, position) in [
        ("age-long", 1),
        ("age-urgent", 2),
        ("length-urgent", 1),
        ("length-long", 2),
    ] {
        let words = format!("position {position} in its queue");
        why(&server, &format!("{jobs}/{name}"), &words).await;
    }
}

#[tokio::test]
async fn replicas_of_an_app_keep_their_distance_and_their_company() {
    let racks = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")];
    let server = start(&racks).await;
    let app = |replicas: u32, placement: Value| {
        json!({"replicas": replicas, "template": {
            "command": ["serve"], "ports": [{}], "resources": {"cpu": "100m"}, "placement": placement,
        }})
    };
    // Without wishes they are packed.
    apply(&server, "App", "packed", app(4, json!({}))).await;
    assert_eq!(by_node(&server, "packed", 4).await.len(), 1);
    let spread = json!({"spread": [{"level": "host", "required": true}]});
    apply(&server, "App", "spread", app(4, spread)).await;
    assert_eq!(by_node(&server, "spread", 4).await.len(), 4);
    let one = json!({"perNodeMax": 1});
    apply(&server, "App", "one", app(5, one)).await;
    let places = by_node(&server, "one", 4).await;
    assert!(
        places.len() == 4 && places.values().all(|n| *n == 1),
        "{places:?}"
    );
    // Two racks have as many, within one.
    let racks = json!({"spread": [{"level": "rack", "required": true}]});
    apply(&server, "App", "racks", app(3, racks)).await;
    let places = by_node(&server, "racks", 3).await;
    let of = |rack: &str| -> usize {
        let here = places.iter().filter(|(node, _)| node.starts_with(rack));
        here.map(|(_, n)| n).sum()
    };
    assert!(of("a").abs_diff(of("b")) == 1, "{places:?}");
    // Close to others, and away from them.
    let home = by_node(&server, "packed", 4)
        .await
        .into_keys()
        .next()
        .unwrap();
    let near = json!({"near": [{"app": "packed", "required": true}], "apart": [{"app": "away", "required": true}]});
    apply(&server, "App", "near", app(2, near)).await;
    assert_eq!(
        by_node(&server, "near", 2).await,
        BTreeMap::from([(home.clone(), 2)])
    );
    let away = json!({"apart": [{"app": "packed", "level": "rack", "required": true}]});
    apply(&server, "App", "away", app(2, away)).await;
    let places = by_node(&server, "away", 2).await;
    assert!(
        !places.keys().any(|node| node[..1] == home[..1]),
        "{places:?} {home}"
    );
    // All in one rack, as a Job's members are.
    let together = json!({"topology": {"level": "rack", "required": true}, "perNodeMax": 1});
    apply(&server, "App", "together", app(3, together)).await;
    let places = by_node(&server, "together", 2).await;
    let racks: std::collections::BTreeSet<&str> = places.keys().map(|node| &node[..1]).collect();
    assert!(racks.len() == 1 && places.len() == 2, "{places:?}");
}

#[tokio::test]
async fn a_jobs_members_are_spread_over_racks() {
    let server = start(&[("a1", "a"), ("b1", "b"), ("c1", "c")]).await;
    let spread = json!({"spread": [{"level": "rack", "required": true}]});
    let job = json!({"groups": [{"name": "worker", "replicas": 6}], "command": ["sleep"],
                     "resources": {"cpu": "100m"}, "placement": spread});
    apply(&server, "Job", "job", job).await;
    let job = eventually(&server, "/v1/projects/default/jobs/job", |job| {
        job["status"]["phase"] == "Running"
    })
    .await;
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for replica in job["status"]["replicas"].as_array().unwrap() {
        *count
            .entry(replica["node"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(
        count.values().copied().collect::<Vec<_>>(),
        [2, 2, 2],
        "{count:?}"
    );
}
