//! The table of routes against the router.

use crate::server::{Answer, Server};
use api::routes::{Body, Method, ROUTES, Route};
use serde_json::{Value, json};

/// Whether an answer is the router's own: nobody serves this path, or not with this method.
fn is_unserved(answer: &Answer) -> bool {
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    let unknown = [
        "there is no route",
        "there is no kind",
        "live outside projects",
        "live in a project",
    ];
    answer.status == 405
        || answer.status == 404 && unknown.iter().any(|words| detail.contains(words))
}

fn body(route: &Route) -> Value {
    match route.body {
        Body::None => Value::Null,
        Body::Bytes => json!("bytes"),
        Body::Object | Body::MergePatch | Body::Manifest | Body::Of(_) => json!({}),
    }
}

#[tokio::test]
async fn every_route_of_the_table_is_served() {
    let server = Server::start().await;
    let mut unserved = Vec::new();
    for route in ROUTES {
        for (path, _) in route.paths() {
            let asked = path
                .replace("{project}", "default")
                .replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
                .replace("{name}", "nobody")
                .replace("{output}", "nothing")
                .replace("{id}", "none");
            assert!(
                !asked.contains('{'),
                "{asked}: a parameter that this test does not know"
            );
            let method = route.method.as_str();
            let unserved_here = if asked.ends_with("/watch") || asked.ends_with("/feed") {
                // A stream of events has no end to wait for.
                server.begin(method, &asked).await != (200, "text/event-stream".to_owned())
            } else {
                is_unserved(&server.call(method, &asked, body(route)).await)
            };
            if unserved_here {
                unserved.push(format!("{} {path} ({})", route.method.as_str(), route.id));
            }
        }
    }
    assert!(unserved.is_empty(), "not served:\n{}", unserved.join("\n"));
}

#[tokio::test]
async fn what_is_not_in_the_table_is_seen_as_such() {
    let server = Server::start().await;
    for (method, path) in [
        (Method::Get, "/v1/nothing"),
        (Method::Get, "/v1/projects/default/jobs/a/nothing"),
        (Method::Get, "/v1/jobs/a"),
        (Method::Post, "/v1/status"),
        (Method::Delete, "/v1/projects/default/jobs/a/cancel"),
    ] {
        let answer = server.call(method.as_str(), path, Value::Null).await;
        assert!(is_unserved(&answer), "{path}: {answer:?}");
    }
}
