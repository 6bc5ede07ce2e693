//! `cordon`, `uncordon`, `drain`: verbs on Nodes.

use crate::exit::Failure;
use crate::session::Session;

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

pub(crate) async fn drain(session: &Session, args: &Args) -> Result<(), Failure> {
    for node in &args.nodes {
        session.client.drain(name(node)).await?;
        session.out.line(format!(
            "node/{} draining; its work moves away with grace",
            name(node)
        ))?;
    }
    Ok(())
}
