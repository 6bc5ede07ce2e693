//! Requests and answers.

use crate::server::{connect, serve};
use api::answer::{ApplyAction, PushRequest};
use api::kind::{Job, Kind, Object};
use api::manifest::Format;
use api::{FieldError, Problem};
use axum::body::Bytes;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, delete, get, head, patch, post, put};
use axum::{Json, Router};
use base::{Code, Digest, Retry};
use client::{ApplyOptions, ClientError, ListQuery};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "moonshot/v1", "kind": "Job",
        "metadata": {"name": name, "project": "default", "generation": 3},
        "spec": {"command": ["true"]},
        "status": {"phase": "Running", "observedGeneration": 3, "attempts": 1, "failures": 0},
    })
}

#[tokio::test]
async fn an_object_comes_typed() {
    let server = serve(Router::new().route(
        "/v1/projects/default/jobs/a",
        get(|| async { Json(job("a")) }),
    ))
    .await;
    let found: Job = server.client.get(Kind::Job, "default", "a").await.unwrap();
    assert_eq!(found.spec.program.command, ["true"]);
    let loose: Object = server.client.get(Kind::Job, "default", "a").await.unwrap();
    assert_eq!(loose.status.unwrap()["phase"], "Running");
}

#[tokio::test]
async fn names_cannot_leave_their_segment() {
    let server = serve(Router::new().route(
        "/v1/projects/{project}/jobs/{name}",
        get(|| async { Json(job("odd")) }),
    ))
    .await;
    let found: Object = server
        .client
        .get(Kind::Job, "a/../b", "x?y#z/..")
        .await
        .unwrap();
    assert_eq!(found.metadata.name, "odd");
}

#[tokio::test]
async fn lists_come_page_by_page() {
    let page = |Query(query): Query<BTreeMap<String, String>>| async move {
        assert_eq!(query["labelSelector"], "a in (b,c)");
        let from: u32 = query
            .get("continue")
            .map_or(0, |text| text.parse().unwrap());
        let mut page = json!({
            "apiVersion": "moonshot/v1", "kind": "JobList", "resourceVersion": 9, "hasMore": from < 4,
            "items": [job(&format!("j{from}")), job(&format!("j{}", from + 1))],
        });
        if from < 4 {
            page["continue"] = json!((from + 2).to_string());
        }
        Json(page)
    };
    let server = serve(
        Router::new()
            .route("/v1/jobs", get(page))
            .route("/v1/projects/p/jobs", get(page)),
    )
    .await;
    let query = ListQuery {
        labels: Some("a in (b,c)".to_owned()),
        ..ListQuery::default()
    };
    let all = server
        .client
        .list::<Object>(Kind::Job, &query, 1_000)
        .await
        .unwrap();
    let names: Vec<&str> = all
        .items
        .iter()
        .map(|job| job.metadata.name.as_str())
        .collect();
    assert_eq!(
        (names, all.has_more),
        (vec!["j0", "j1", "j2", "j3", "j4", "j5"], false)
    );
    let some = server
        .client
        .list::<Object>(
            Kind::Job,
            &ListQuery {
                project: Some("p".to_owned()),
                ..query
            },
            3,
        )
        .await
        .unwrap();
    assert_eq!((some.items.len(), some.has_more), (3, true));
}

#[tokio::test]
async fn a_refusal_keeps_the_servers_words() {
    let refuse = || async {
        let mut problem = Problem::invalid(
            "the manifest is not valid",
            vec![FieldError::new("spec.x", "unknown field")],
        );
        problem.request_id = "r1".to_owned();
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            [(header::CONTENT_TYPE, "application/problem+json")],
            Json(problem),
        )
    };
    let proxy = || async { (StatusCode::BAD_GATEWAY, "no upstream\n") };
    let empty = || async { StatusCode::FORBIDDEN };
    let html = || async { "<html>" };
    let router = Router::new()
        .route("/v1/apply", post(refuse))
        .route("/v1/status", get(proxy))
        .route("/v1/whoami", get(empty))
        .route("/v1/tokens", get(html));
    let server = serve(router).await;
    let error = server
        .client
        .apply_manifest(b"x".to_vec(), Format::Yaml, &ApplyOptions::default())
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::Invalid, Retry::Never));
    assert_eq!(
        error.to_string(),
        "the manifest is not valid: spec.x: unknown field"
    );
    assert_eq!(error.problem().unwrap().request_id, "r1");
    let error = server.client.status().await.unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        (Code::Unavailable, Retry::Later)
    );
    assert_eq!(
        error.to_string(),
        "the server answered 502 Bad Gateway: no upstream"
    );
    assert_eq!(
        server.client.whoami().await.unwrap_err().code(),
        Code::Denied
    );
    let error = server.client.tokens().await.unwrap_err();
    assert!(matches!(error, ClientError::Answer { .. }), "{error}");
}

#[tokio::test]
async fn nobody_at_the_door() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(&format!("http://{address}"))
        .status()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("moonshot up"), "{error}");
    for server in ["", "127.0.0.1:80", "ftp://x", "http://"] {
        let config = client::Config {
            server: server.to_owned(),
            token: None,
            certificates: None,
            timeout: base::Span::from_secs(1),
        };
        assert!(
            matches!(client::Client::new(&config), Err(ClientError::BadServer(_))),
            "{server}"
        );
    }
}

#[tokio::test]
async fn every_post_has_a_key_of_its_own() {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&keys);
    let act = move |headers: HeaderMap| async move {
        seen.lock()
            .unwrap()
            .push(headers["idempotency-key"].to_str().unwrap().to_owned());
        Json(job("a"))
    };
    let server = serve(Router::new().route("/v1/projects/default/jobs/a/{verb}", post(act))).await;
    for _ in 0..2 {
        server.client.cancel("default", "a").await.unwrap();
        server.client.suspend("default", "a").await.unwrap();
        server.client.resume("default", "a").await.unwrap();
        server.client.rerun("default", "a").await.unwrap();
    }
    let mut keys = keys.lock().unwrap().clone();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 8);
}

#[tokio::test]
async fn apply_patch_and_delete() {
    let apply = |Query(query): Query<BTreeMap<String, String>>, headers: HeaderMap, body: Bytes| async move {
        assert_eq!(
            (query["dryRun"].as_str(), query["project"].as_str()),
            ("true", "p")
        );
        assert_eq!(headers["content-type"], "application/yaml");
        assert_eq!(&body[..], b"a: 1\n");
        Json(
            json!({"results": [{"kind": "Job", "project": "p", "name": "a", "action": "created", "plan": ["start worker/0"]}]}),
        )
    };
    let merge = |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/merge-patch+json");
        assert_eq!(&body[..], br#"{"spec":{"suspend":true}}"#);
        Json(job("a"))
    };
    let replace = |headers: HeaderMap, Json(object): Json<Value>| async move {
        assert_eq!(headers["if-match"], "3");
        Json(object)
    };
    let router = Router::new()
        .route("/v1/apply", post(apply))
        .route("/v1/projects/default/jobs/a", patch(merge).put(replace))
        .route("/v1/queues/q", delete(|| async { StatusCode::NO_CONTENT }));
    let server = serve(router).await;
    let options = ApplyOptions {
        dry_run: true,
        replace: false,
        project: Some("p".to_owned()),
    };
    let answer = server
        .client
        .apply_manifest(b"a: 1\n".to_vec(), Format::Yaml, &options)
        .await
        .unwrap();
    assert_eq!(answer.results[0].action, ApplyAction::Created);
    let patched = server
        .client
        .patch(
            Kind::Job,
            "default",
            "a",
            &json!({"spec": {"suspend": true}}),
        )
        .await
        .unwrap();
    server
        .client
        .apply(&patched, Kind::Job, patched.metadata.generation)
        .await
        .unwrap();
    server
        .client
        .delete(Kind::Queue, "", "q", false)
        .await
        .unwrap();
}

#[tokio::test]
async fn blobs_go_up_and_come_down_with_progress() {
    let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let expect = content.clone();
    let keep = move |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-length"], "1000000");
        assert!(body[..] == expect[..]);
        Json(json!({"digest": format!("sha256:{}", "ab".repeat(32)), "size": body.len()}))
    };
    let give = content.clone();
    let router = Router::new()
        .route("/v1/projects/p/blobs", put(keep))
        .route(
            "/v1/projects/p/blobs/{digest}",
            head(|| async { StatusCode::NOT_FOUND }).get(|| async { give }),
        )
        .layer(axum::extract::DefaultBodyLimit::disable());
    let server = serve(router).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    assert!(!server.client.has_blob("p", &digest).await.unwrap());
    let sent = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&sent);
    let progress = Box::new(move |bytes| *counter.lock().unwrap() = bytes);
    let blob = server
        .client
        .upload("p", file.path(), Some(&digest), progress)
        .await
        .unwrap();
    assert_eq!(
        (blob.digest, blob.size, *sent.lock().unwrap()),
        (digest, 1_000_000, 1_000_000)
    );
    let mut down = Vec::new();
    let size = server
        .client
        .download("p", &digest, &mut down, Box::new(|_| {}))
        .await
        .unwrap();
    assert!(size == 1_000_000 && down == content);
    let error = server
        .client
        .upload(
            "p",
            std::path::Path::new("/nowhere"),
            None,
            Box::new(|_| {}),
        )
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/nowhere`");
}

#[tokio::test]
async fn every_other_call_has_its_route() {
    // The answers are not what the calls want: that they arrive is what counts.
    let server =
        serve(Router::new().fallback(any(|| async { Json(json!({})).into_response() }))).await;
    let client = &server.client;
    let unread =
        |error: ClientError| assert!(matches!(error, ClientError::Answer { .. }), "{error}");
    unread(client.restart("p", "a").await.unwrap_err());
    unread(client.rollback("p", "a", Some(1)).await.unwrap_err());
    unread(client.scale("p", "a", 1).await.unwrap_err());
    unread(client.revisions("p", "a").await.unwrap_err());
    unread(client.attempts("p", "a").await.unwrap_err());
    for kind in [Kind::Job, Kind::App, Kind::Environment] {
        unread(client.why(kind, "p", "a").await.unwrap_err());
        unread(client.events(kind, "p", "a").await.unwrap_err());
    }
    unread(client.model_versions("p", "a").await.unwrap_err());
    unread(
        client
            .push_model("p", "a", &PushRequest::default())
            .await
            .unwrap_err(),
    );
    for node in [
        client.cordon("n").await,
        client.uncordon("n").await,
        client.drain("n").await,
    ] {
        unread(node.unwrap_err());
    }
    unread(client.audit(10).await.unwrap_err());
    unread(client.top(Some("p")).await.unwrap_err());
    client.delete_token("t").await.unwrap();
    client.ready().await.unwrap();
    client
        .download_output("p", "j", "model", Vec::new(), Box::new(|_| {}))
        .await
        .unwrap();
}
