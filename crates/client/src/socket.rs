//! Exec and port-forward: WebSockets to a replica.

use crate::error::ClientError;
use crate::http::Client;
use crate::objects::about;
use api::exec::ExecMessage;
use api::kind::Kind;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::{RequestBuilder, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};

/// Which replica of what.
#[derive(Clone, Debug)]
pub struct ExecTarget {
    /// A Job or an App.
    pub kind: Kind,
    /// The project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// The group, or the Revision (`r3`); `None` is the first.
    pub group: Option<String>,
    /// The rank or seat; `None` is the first that runs.
    pub index: Option<u32>,
}

/// What goes to a program that runs beside a replica's. Dropping both halves ends the program.
#[derive(Debug)]
pub struct ExecSender(Sender);

/// What comes from it.
#[derive(Debug)]
pub struct ExecReceiver(Receiver);

/// What goes to a replica's port. Each side may end its direction before the other.
#[derive(Debug)]
pub struct PortSender(Sender);

/// What comes from it.
#[derive(Debug)]
pub struct PortReceiver(Receiver);

type Socket = WebSocketStream<Upgraded>;
type Sender = SplitSink<Socket, Message>;
type Receiver = SplitStream<Socket>;

impl Client {
    /// Runs a program beside a replica's.
    pub async fn exec(
        &self,
        target: &ExecTarget,
        command: &[String],
        tty: bool,
    ) -> Result<(ExecSender, ExecReceiver), ClientError> {
        let words: Vec<(&str, &String)> = command.iter().map(|word| ("command", word)).collect();
        let request = self
            .target(target, "exec")
            .query(&words)
            .query(&[("tty", tty)]);
        let (sender, receiver) = self.socket(request).await?;
        Ok((ExecSender(sender), ExecReceiver(receiver)))
    }

    /// Runs a program beside that of another member of the same attempt. The client's token is the attempt's.
    pub async fn rsh(
        &self,
        group: &str,
        index: u32,
        command: &[String],
    ) -> Result<(ExecSender, ExecReceiver), ClientError> {
        let words: Vec<(&str, &String)> = command.iter().map(|word| ("command", word)).collect();
        let request = self
            .upgrade(&["v1", "rsh"])
            .query(&[("group", group)])
            .query(&[("index", index)])
            .query(&words);
        let (sender, receiver) = self.socket(request).await?;
        Ok((ExecSender(sender), ExecReceiver(receiver)))
    }

    /// Connects to a replica's port, by name or number.
    pub async fn port_forward(
        &self,
        target: &ExecTarget,
        port: &str,
    ) -> Result<(PortSender, PortReceiver), ClientError> {
        let request = self.target(target, "portforward").query(&[("port", port)]);
        let (sender, receiver) = self.socket(request).await?;
        Ok((PortSender(sender), PortReceiver(receiver)))
    }

    fn target(&self, target: &ExecTarget, what: &str) -> RequestBuilder {
        let mut request = self.upgrade(&about(target.kind, &target.project, &target.name, what));
        if let Some(group) = &target.group {
            request = request.query(&[("group", group)]);
        }
        if let Some(index) = target.index {
            request = request.query(&[("index", index)]);
        }
        request
    }

    /// The handshake of RFC 6455 §4.1.
    async fn socket(&self, request: RequestBuilder) -> Result<(Sender, Receiver), ClientError> {
        let key = generate_key();
        let request = request
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", &key);
        let response = self.good(request).await?;
        let accept = response
            .headers()
            .get("Sec-WebSocket-Accept")
            .and_then(|value| value.to_str().ok());
        if accept != Some(derive_accept_key(key.as_bytes()).as_str()) {
            return Err(self.not_understood("no WebSocket handshake"));
        }
        let upgraded = response
            .upgrade()
            .await
            .map_err(|source| self.failed(source))?;
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None);
        Ok(socket.await.split())
    }
}

impl ExecSender {
    /// Sends a message; waits while the program does not read.
    pub async fn send(&mut self, message: ExecMessage) -> Result<(), ClientError> {
        send(&mut self.0, message.encode()).await
    }
}

impl ExecReceiver {
    /// The next message; `None` when the other side has closed. It may be dropped while waiting.
    pub async fn next(&mut self) -> Result<Option<ExecMessage>, ClientError> {
        let Some(bytes) = next(&mut self.0).await? else {
            return Ok(None);
        };
        match ExecMessage::decode(&bytes) {
            Some(message) => Ok(Some(message)),
            None => Err(ClientError::Socket(Box::new(tungstenite::Error::Utf8(
                "not a message of the exec protocol".to_owned(),
            )))),
        }
    }
}

impl PortSender {
    /// Sends bytes, and waits while the other side does not read; none at all are nothing.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        if bytes.is_empty() {
            return Ok(());
        }
        send(&mut self.0, bytes).await
    }

    /// Says that no more comes from here; the other side may go on.
    pub async fn end(&mut self) -> Result<(), ClientError> {
        send(&mut self.0, Vec::new()).await
    }
}

impl PortReceiver {
    /// The next bytes; `None` when the other side sends no more. It may be dropped while waiting.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(next(&mut self.0).await?.filter(|bytes| !bytes.is_empty()))
    }
}

async fn send(socket: &mut Sender, bytes: Vec<u8>) -> Result<(), ClientError> {
    socket
        .send(Message::binary(bytes))
        .await
        .map_err(|error| ClientError::Socket(Box::new(error)))
}

async fn next(socket: &mut Receiver) -> Result<Option<Vec<u8>>, ClientError> {
    loop {
        match socket.next().await {
            None | Some(Ok(Message::Close(_))) => return Ok(None),
            Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes.to_vec())),
            // Pings are answered by the library; text is not part of either protocol.
            Some(Ok(
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
            )) => {}
            Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => {
                return Ok(None);
            }
            Some(Err(error)) => return Err(ClientError::Socket(Box::new(error))),
        }
    }
}
