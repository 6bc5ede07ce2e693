//! `port-forward`: reach a replica's port from here.

use crate::cmd::exec;
use crate::exit::Failure;
use crate::session::Session;
use crate::target;
use client::ExecTarget;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Bytes moved at once.
const PIECE: usize = 32 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `app/NAME`, `job/NAME/GROUP/INDEX`.
    replica: String,
    /// `LOCAL:REMOTE`, or one number for both; the remote one may be a port's name.
    ports: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let replica = target::replica(&args.replica)?;
    let (local, remote) = ports(&args.ports)?;
    let listener = TcpListener::bind(("127.0.0.1", local))
        .await
        .map_err(Failure::local(format!("listen on port {local}")))?;
    let address = listener
        .local_addr()
        .map_err(Failure::local("look at the listener"))?;
    let to = exec::of(session, &replica);
    session.out.line(format!(
        "{address} leads to port {remote} of {}; Ctrl-C ends it",
        args.replica
    ))?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                let (stream, _) = accepted.map_err(Failure::local("accept a connection"))?;
                connections.spawn(connect(session.clone(), to.clone(), remote.clone(), stream));
            }
            Some(ended) = connections.join_next() => {
                if let Ok(Err(failure)) = ended {
                    // The other connections go on.
                    session.out.note(failure.words().trim_end());
                }
            }
        }
    }
}

fn ports(text: &str) -> Result<(u16, String), Failure> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let local = local.parse().map_err(|_| {
        Failure::Usage(format!(
            "`{text}` is not `LOCAL:REMOTE`, such as `8080:http`"
        ))
    })?;
    Ok((local, remote.to_owned()))
}

async fn connect(
    session: Session,
    target: ExecTarget,
    port: String,
    mut stream: TcpStream,
) -> Result<(), Failure> {
    let (mut to, mut from) = session.client.port_forward(&target, &port).await?;
    let (mut read, mut write) = stream.split();
    let up = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = read.read(&mut buffer).await;
            let n = n.map_err(Failure::local("read from the connection"))?;
            if n == 0 {
                return Ok::<_, Failure>(to.end().await?);
            }
            to.send(buffer[..n].to_vec()).await?;
        }
    };
    let down = async {
        while let Some(bytes) = from.next().await? {
            let written = write.write_all(&bytes).await;
            written.map_err(Failure::local("write to the connection"))?;
        }
        let ended = write.shutdown().await;
        ended.map_err(Failure::local("end the connection"))
    };
    // Until both sides have said their last, or one fails.
    tokio::try_join!(up, down).map(drop)
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn pairs_of_ports() {
        assert_eq!(ports("8080:http").unwrap(), (8080, "http".to_owned()));
        assert_eq!(ports("8080").unwrap(), (8080, "8080".to_owned()));
        assert!(ports("x").is_err() && ports(":80").is_err() && ports("70000").is_err());
    }
}
