//! `logs`: the output of replicas.

use crate::exit::Failure;
use crate::follow::{self, Output};
use crate::lines::Style;
use crate::session::Session;
use crate::target::{self, Replica, Target};
use api::{Kind, Object};
use client::LogQuery;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `job/NAME`, `app/NAME`, `job/NAME/GROUP/INDEX`, or a bare name: a Job's, else an App's.
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
    /// Stay until the object is over.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only this group of a Job, or Revision (`r3`) of an App.
    #[arg(long)]
    group: Option<String>,
    /// Only this rank or seat.
    #[arg(long)]
    index: Option<u32>,
    /// Only this try.
    #[arg(long)]
    attempt: Option<u32>,
    /// The try before the newest.
    #[arg(short, long, conflicts_with = "attempt")]
    previous: bool,
    /// Only after this time, or within this duration: `5m`.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Begin each line with its time.
    #[arg(long)]
    timestamps: bool,
    /// Begin each line with its replica. Default: where there are several.
    #[arg(long)]
    prefix: bool,
    /// Never begin lines with their replica.
    #[arg(long, conflicts_with = "prefix")]
    no_prefix: bool,
}

pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let (replica, object) = find(session, &args.object).await?;
    let query = LogQuery {
        group: args.group.or(replica.group),
        index: args.index.or(replica.index),
        attempt: args.attempt,
        previous: args.previous,
        follow: args.follow,
        tail: args.tail,
        since: args.since,
    };
    let several = follow::has_several(&object) && query.index.is_none();
    let style = Style {
        prefix: (several || args.prefix) && !args.no_prefix,
        timestamps: args.timestamps,
    };
    let (kind, name) = (replica.target.kind, replica.target.name);
    if query.follow {
        return stay(session, kind, &name, query, style).await;
    }
    let mut text = session
        .client
        .log_text(
            kind,
            &session.project,
            &name,
            &query,
            style.prefix,
            style.timestamps,
        )
        .await?;
    while let Some(piece) = text.next().await? {
        session.out.bytes(&piece)?;
    }
    Ok(())
}

/// Follows until the object is over, also over restarts of the server.
async fn stay(
    session: &Session,
    kind: Kind,
    name: &str,
    query: LogQuery,
    style: Style,
) -> Result<(), Failure> {
    let mut output = Output::new(session, kind, name, query, style);
    loop {
        // The order matters: what was written before the end was seen is printed after it.
        let over = follow::is_over(session, kind, name).await?;
        while let Some(text) = output.next().await? {
            session.out.text(&text)?;
        }
        if over {
            return session.out.text(&output.finish());
        }
        tokio::time::sleep(follow::PAUSE).await;
    }
}

async fn find(session: &Session, words: &[String]) -> Result<(Replica, Object), Failure> {
    let whole = |target| Replica {
        target,
        group: None,
        index: None,
    };
    let replica = match words {
        [name] if !name.contains('/') => {
            for kind in [Kind::Job, Kind::App] {
                if let Some(object) = session.find(kind, name).await? {
                    return Ok((
                        whole(Target {
                            kind,
                            name: name.clone(),
                        }),
                        object,
                    ));
                }
            }
            return Err(Failure::NotFound(format!(
                "there is no Job and no App `{name}` in project `{}`",
                session.project
            )));
        }
        [one] => target::replica(one)?,
        words => whole(target::one(words, None)?),
    };
    let kind = replica.target.kind;
    if !matches!(kind, Kind::Job | Kind::App) {
        return Err(Failure::Usage(format!(
            "{}: only Jobs and Apps have output",
            replica.target.show()
        )));
    }
    let object = session.get(kind, &replica.target.name).await?;
    Ok((replica, object))
}
