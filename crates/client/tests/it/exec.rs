//! WebSockets.

use crate::server::connect;
use api::exec::ExecMessage;
use api::kind::Kind;
use base::Code;
use client::ExecTarget;
use futures_util::{SinkExt, StreamExt};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

fn target() -> ExecTarget {
    ExecTarget {
        kind: Kind::Job,
        project: "p".to_owned(),
        name: "a".to_owned(),
        group: Some("worker".to_owned()),
        index: Some(1),
    }
}

/// Accepts one WebSocket and sends every message back; the request's path goes to `asked`.
async fn echo(listener: TcpListener, asked: Arc<Mutex<String>>) {
    let (stream, _) = listener.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let look = |request: &Request, response: Response| {
        assert_eq!(request.headers()["authorization"], "Bearer secret");
        *asked.lock().unwrap() = request.uri().to_string();
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, look)
        .await
        .unwrap();
    while let Some(Ok(message)) = socket.next().await {
        // The library answers pings and closes while it is polled.
        if let Message::Binary(bytes) = message {
            socket.send(Message::binary(bytes)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn exec_and_port_forward_speak_both_ways() {
    let mut tasks = JoinSet::new();
    let asked: Arc<Mutex<String>> = Arc::default();
    let listen = || async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = connect(&format!("http://{}", listener.local_addr().unwrap()));
        (listener, client)
    };
    let (listener, client) = listen().await;
    tasks.spawn(echo(listener, Arc::clone(&asked)));
    let (mut to, mut from) = client
        .exec(
            &target(),
            &["sh".to_owned(), "-c".to_owned(), "a & b".to_owned()],
            true,
        )
        .await
        .unwrap();
    let expect = "/v1/projects/p/jobs/a/exec?group=worker&index=1&command=sh&command=-c&command=a+%26+b&tty=true";
    assert_eq!(*asked.lock().unwrap(), expect);
    to.send(ExecMessage::Stdin(b"hello".to_vec()))
        .await
        .unwrap();
    assert_eq!(
        from.next().await.unwrap(),
        Some(ExecMessage::Stdin(b"hello".to_vec()))
    );

    let (listener, client) = listen().await;
    tasks.spawn(echo(listener, Arc::clone(&asked)));
    let (mut to, mut from) = client.port_forward(&target(), "http").await.unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        "/v1/projects/p/jobs/a/portforward?group=worker&index=1&port=http"
    );
    to.send(vec![0, 1, 2]).await.unwrap();
    assert_eq!(from.next().await.unwrap(), Some(vec![0, 1, 2]));
    to.end().await.unwrap();
    assert_eq!(
        from.next().await.unwrap(),
        None,
        "an empty message came back"
    );
}

#[tokio::test]
async fn a_refused_exec_keeps_the_servers_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = connect(&format!("http://{}", listener.local_addr().unwrap()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let problem = serde_json::to_string(&api::Problem::new(Code::Conflict, "worker/1 does not run")).unwrap();
        let answer = format!(
            "HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{problem}",
            problem.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let error = client
        .exec(&target(), &["true".to_owned()], false)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::Conflict, "worker/1 does not run")
    );
}
