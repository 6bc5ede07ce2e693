//! WebSockets (RFC 6455): the handshake, and what carries an exec or a connection over one. Nothing is buffered
//! beyond one message each way and the engine's own bounded queue: whoever is slow makes the other side wait.

use super::{Refusal, RequestId};
use crate::error::UseError;
use crate::platform::Platform;
use api::exec::{ExecMessage, MESSAGE_BYTES_MAX};
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base::Code;
use engine::{Exec, ExecInput, ExecOutput, Stream};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

/// How often the other side is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// One that says nothing for this long, not even to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(70);
/// How long the other side may take to close once everything was said.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes moved at once.
const PIECE_BYTES: usize = 32 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Sender = SplitSink<Socket, Message>;
type Receiver = SplitStream<Socket>;

/// A request that wants a WebSocket.
pub(crate) struct Upgrade {
    accept: String,
    upgrade: OnUpgrade,
}

impl FromRequestParts<Arc<Platform>> for Upgrade {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        _platform: &Arc<Platform>,
    ) -> Result<Self, Refusal> {
        let key = asks(&parts.headers);
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let (Some(key), Some(upgrade)) = (key, upgrade) else {
            let request = parts.extensions.get::<RequestId>();
            let request = request.map_or_else(String::new, |id| id.0.clone());
            let detail = "this is a WebSocket: ask with `Connection: Upgrade`, `Upgrade: websocket`, \
                 `Sec-WebSocket-Version: 13` and a `Sec-WebSocket-Key`";
            return Err(Refusal(UseError::new(Code::Invalid, detail), request));
        };
        Ok(Upgrade {
            accept: derive_accept_key(key.as_bytes()),
            upgrade,
        })
    }
}

/// The key of a good handshake (RFC 6455 §4.2.1).
fn asks(headers: &HeaderMap) -> Option<String> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|own| own.trim().eq_ignore_ascii_case(word))
    };
    let good = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    good.then(|| key.to_owned())
}

impl Upgrade {
    /// Answers, and carries an exec over the socket.
    pub(crate) fn exec(
        self,
        platform: &Arc<Platform>,
        exec: Exec,
        terminal: bool,
    ) -> Result<Response, UseError> {
        self.carry(platform, move |socket| carry_exec(socket, exec, terminal))
    }

    /// Answers, and carries a connection over the socket.
    pub(crate) fn connection(
        self,
        platform: &Arc<Platform>,
        stream: TcpStream,
    ) -> Result<Response, UseError> {
        self.carry(platform, move |socket| carry_connection(socket, stream))
    }

    fn carry<F: Future<Output = ()> + Send + 'static>(
        self,
        platform: &Arc<Platform>,
        work: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Result<Response, UseError> {
        let Upgrade { accept, upgrade } = self;
        let Some(place) = platform.streams.place() else {
            let detail = "too many connections to replicas are open; close some, or try again";
            return Err(UseError::new(Code::Exhausted, detail));
        };
        let stop = platform.stop.clone();
        platform.streams.carry(async move {
            let _place = place;
            let upgraded = match upgrade.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => {
                    tracing::debug!(%error, "a client went away before its WebSocket began");
                    return;
                }
            };
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX + 1))
                .max_frame_size(Some(MESSAGE_BYTES_MAX + 1));
            let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config));
            tokio::select! {
                () = work(socket.await) => {}
                () = stop.cancelled() => {}
            }
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept)
            .body(Body::empty());
        response.map_err(|error| UseError::internal("cannot answer the handshake", error))
    }
}

/// The next message with bytes; `None` once the other side has closed, is silent, or broke the protocol.
async fn next(receiver: &mut Receiver) -> Option<Vec<u8>> {
    loop {
        match tokio::time::timeout(SILENCE_MAX, receiver.next()).await {
            Ok(Some(Ok(Message::Binary(bytes)))) => return Some(bytes.into()),
            // Pings are answered by the library; text is not part of either protocol.
            Ok(Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_),
            ))) => {}
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
        }
    }
}

/// Between a socket and a program, until the program has ended or the other side has gone, which ends the program.
async fn carry_exec(socket: Socket, exec: Exec, terminal: bool) {
    let (mut sender, mut receiver) = socket.split();
    let Exec { input, mut output } = exec;
    let hear = hear(&mut receiver, input, terminal);
    tokio::pin!(hear);
    tokio::select! {
        // It stays to read what is still under way: a connection closed on unread bytes loses the last words.
        () = tell(&mut sender, &mut output) => {
            // Everything was said, whether or not the other side closes.
            let _ = tokio::time::timeout(LINGER, hear).await;
        }
        () = &mut hear => {}
    }
}

/// Hands on what the other side sends until it closes.
async fn hear(receiver: &mut Receiver, input: mpsc::Sender<ExecInput>, terminal: bool) {
    let mut input = Some(input);
    while let Some(bytes) = next(receiver).await {
        let piece = match ExecMessage::decode(&bytes) {
            Some(ExecMessage::Stdin(bytes)) => ExecInput::Stdin(bytes),
            Some(ExecMessage::Resize { columns, rows }) => ExecInput::Resize(columns, rows),
            // A terminal's input has no end, and its size may still change.
            Some(ExecMessage::StdinEnd) if terminal => continue,
            Some(ExecMessage::StdinEnd) => {
                input = None;
                continue;
            }
            Some(
                ExecMessage::Stdout(_)
                | ExecMessage::Stderr(_)
                | ExecMessage::Exit(_)
                | ExecMessage::Failed(_),
            )
            | None => return,
        };
        if let Some(input) = &input {
            // A program that has ended, or closed its input, takes no more.
            let _ = input.send(piece).await;
        }
    }
}

async fn tell(sender: &mut Sender, output: &mut mpsc::Receiver<ExecOutput>) {
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        let message = tokio::select! {
            said = output.recv() => match said {
                Some(ExecOutput::Bytes(Stream::Stdout, bytes)) => ExecMessage::Stdout(bytes),
                Some(ExecOutput::Bytes(Stream::Stderr | Stream::Note, bytes)) => {
                    ExecMessage::Stderr(bytes)
                }
                Some(ExecOutput::Exited(code)) => ExecMessage::Exit(code),
                None => ExecMessage::Failed("it ended with its replica".to_owned()),
            },
            _ = ping.tick() => {
                if sender.send(Message::Ping(Vec::new().into())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let is_last = matches!(message, ExecMessage::Exit(_) | ExecMessage::Failed(_));
        let sent = sender.send(Message::binary(message.encode())).await;
        if is_last && sent.is_ok() {
            // The other side may be quicker.
            let _ = sender.send(Message::Close(None)).await;
        }
        if is_last || sent.is_err() {
            return;
        }
    }
}

/// Between a socket and a connection, until both sides have said their last, or one has gone.
async fn carry_connection(socket: Socket, stream: TcpStream) {
    let (mut sender, mut receiver) = socket.split();
    let (read, write) = stream.into_split();
    let whole = async {
        let (up, down) = (upward(&mut receiver, write), downward(&mut sender, read));
        tokio::pin!(up, down);
        tokio::select! {
            whole = &mut up => whole && down.await,
            whole = &mut down => whole && up.await,
        }
    };
    if whole.await {
        // The other side may be quicker.
        let _ = sender.send(Message::Close(None)).await;
    }
}

/// To the replica; whether the other side said its last in good order.
async fn upward(receiver: &mut Receiver, mut write: OwnedWriteHalf) -> bool {
    while let Some(bytes) = next(receiver).await {
        if bytes.is_empty() {
            return write.shutdown().await.is_ok();
        }
        if write.write_all(&bytes).await.is_err() {
            return false;
        }
    }
    false
}

/// From the replica; whether it said its last in good order.
async fn downward(sender: &mut Sender, mut read: OwnedReadHalf) -> bool {
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let message = tokio::select! {
            n = read.read(&mut piece) => match n {
                Ok(n) => Message::binary(piece[..n].to_vec()),
                Err(_) => return false,
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        let is_last = message.is_binary() && message.is_empty();
        if sender.send(message).await.is_err() {
            return false;
        }
        if is_last {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn handshakes() {
        let check = |headers: &[(&'static str, &'static str)], expect: Option<&str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            assert_eq!(asks(&map).as_deref(), expect, "{headers:?}");
        };
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            key,
        ];
        check(&good, Some(key.1));
        check(&good[..3], None);
        check(&good[1..], None);
        check(
            &[good[0], good[1], ("sec-websocket-version", "8"), key],
            None,
        );
        // RFC 6455 §1.3.
        assert_eq!(
            derive_accept_key(key.1.as_bytes()),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
