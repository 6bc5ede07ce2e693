//! Watches and logs.

use crate::server::serve;
use api::answer::ChangeOp;
use api::kind::Kind;
use axum::Router;
use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use base::Code;
use client::{LogQuery, WatchQuery};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn change(position: u64) -> String {
    let change = json!({
        "op": if position % 2 == 1 { "put" } else { "delete" },
        "object": {"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": format!("j{position}")}, "spec": {}},
    });
    format!("id: {position}\ndata: {change}\n\n")
}

#[tokio::test]
async fn a_watch_goes_on_where_it_broke() {
    let stream = |Query(query): Query<BTreeMap<String, String>>| async move {
        assert_eq!(
            (query["kinds"].as_str(), query["project"].as_str()),
            ("Job,App", "p")
        );
        let body = match query["resourceVersion"].as_str() {
            // The last event is cut: it is sent again.
            "4" => format!(": hello\n\n{}{}{}", change(5), change(6), &change(7)[..20]),
            "6" => change(7),
            "7" => return StatusCode::GONE.into_response(),
            from => panic!("resumed from {from}"),
        };
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    };
    let server = serve(Router::new().route("/v1/watch", get(stream))).await;
    let query = WatchQuery {
        kinds: vec![Kind::Job, Kind::App],
        project: Some("p".to_owned()),
        from: Some(4),
    };
    let mut watch = server.client.watch(query);
    for (name, op) in [
        ("j5", ChangeOp::Put),
        ("j6", ChangeOp::Delete),
        ("j7", ChangeOp::Put),
    ] {
        let change = watch.next().await.unwrap();
        assert_eq!(
            (change.object.metadata.name.as_str(), change.op),
            (name, op)
        );
    }
    // A position that is no longer kept cannot be healed here.
    assert_eq!(watch.next().await.unwrap_err().code(), Code::Gone);
}

#[tokio::test]
async fn logs_come_as_frames_to_their_end_however_they_are_cut() {
    let stream = |Query(query): Query<BTreeMap<String, String>>| async move {
        assert_eq!(
            (
                query["follow"].as_str(),
                query["tail"].as_str(),
                query["group"].as_str()
            ),
            ("true", "10", "worker")
        );
        let mut body = String::new();
        for seq in 1..=3 {
            let frame = json!({
                "group": "worker", "index": 1, "attempt": 1, "stream": "stdout", "seq": seq,
                "time": "2026-11-24T10:00:00.000Z", "text": format!("line {seq}\n"),
            });
            writeln!(body, "{frame}\n").unwrap();
        }
        let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body
            .as_bytes()
            .chunks(7)
            .map(|piece| Ok(piece.to_vec()))
            .collect();
        axum::body::Body::from_stream(futures_util::stream::iter(pieces))
    };
    let server = serve(Router::new().route("/v1/projects/p/jobs/a/logs", get(stream))).await;
    let query = LogQuery {
        follow: true,
        tail: Some(10),
        group: Some("worker".to_owned()),
        ..LogQuery::default()
    };
    let mut logs = server
        .client
        .logs(Kind::Job, "p", "a", &query)
        .await
        .unwrap();
    let mut text = String::new();
    while let Some(frame) = logs.next().await.unwrap() {
        text.push_str(&frame.text);
    }
    assert_eq!(text, "line 1\nline 2\nline 3\n");
}

#[tokio::test]
async fn logs_come_as_text() {
    let text =
        |Query(query): Query<BTreeMap<String, String>>| async move { format!("{query:?}\n") };
    let server = serve(Router::new().route("/v1/projects/p/apps/a/logs", get(text))).await;
    let mut logs = server
        .client
        .log_text(Kind::App, "p", "a", &LogQuery::default(), true, false)
        .await
        .unwrap();
    let piece = String::from_utf8(logs.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(
        piece,
        "{\"follow\": \"false\", \"prefix\": \"true\", \"previous\": \"false\", \"timestamps\": \"false\"}\n"
    );
    assert_eq!(logs.next().await.unwrap(), None);
}
