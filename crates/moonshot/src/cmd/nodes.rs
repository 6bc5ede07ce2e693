//! `cordon`, `uncordon`, `drain`: verbs on Nodes.

use crate::exit::Failure;
use crate::session::Session;
use api::Kind;
use api::kind::Node;
use base::Span;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often a drained node is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A server counts what is on a node this often at least; an empty node must be seen empty for longer.
const COUNTED: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes by name.
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

fn name(word: &str) -> &str {
    word.strip_prefix("node/").unwrap_or(word)
}

pub(crate) async fn cordon(session: &Session, args: &Args) -> Result<(), Failure> {
    for node in &args.nodes {
        session.client.cordon(name(node)).await?;
        session.out.line(format!("node/{} cordoned", name(node)))?;
    }
    Ok(())
}

pub(crate) async fn uncordon(session: &Session, args: &Args) -> Result<(), Failure> {
    for node in &args.nodes {
        session.client.uncordon(name(node)).await?;
        session
            .out
            .line(format!("node/{} uncordoned", name(node)))?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Nodes by name.
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Do not wait until nothing is left on them.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait. The work goes on moving afterwards.
    #[arg(long, default_value = "10m", value_name = "TIME")]
    timeout: Span,
}

pub(crate) async fn drain(session: &Session, args: &DrainArgs) -> Result<(), Failure> {
    for node in &args.nodes {
        session.client.drain(name(node)).await?;
        session.out.line(format!(
            "node/{} draining; its work moves away with grace",
            name(node)
        ))?;
    }
    let deadline = super::wait::deadline(args.timeout);
    for node in args.nodes.iter().filter(|_| !args.no_wait) {
        drained(session, name(node), deadline).await?;
        session.out.line(format!("node/{} drained", name(node)))?;
    }
    Ok(())
}

/// Waits until nothing is placed on a node.
async fn drained(session: &Session, node: &str, deadline: Instant) -> Result<(), Failure> {
    let mut empty_since = None;
    let mut told = 0;
    loop {
        let seen: Node = session.client.get(Kind::Node, "", node).await?;
        let left = seen.status.unwrap_or_default().replicas;
        let since = *empty_since.get_or_insert_with(Instant::now);
        if left > 0 {
            empty_since = None;
        } else if since.elapsed() > COUNTED {
            return Ok(());
        }
        if left > 0 && left != told {
            session
                .out
                .note(format!("node/{node}: {left} replicas are still there"));
            told = left;
        }
        if Instant::now() > deadline {
            return Err(Failure::Timeout(format!(
                "node/{node} still holds {left} replicas; `moonshot top` shows them, `moonshot why` what they wait for"
            )));
        }
        sleep(LOOK).await;
    }
}
