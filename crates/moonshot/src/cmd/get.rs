//! `get`: show objects.

use crate::age;
use crate::cmd::OutputArg;
use crate::exit::Failure;
use crate::out::Format;
use crate::session::Session;
use crate::target::{self, Target};
use crate::view::{self, Options};
use api::answer::ChangeOp;
use api::selector::Selector;
use api::{Kind, Object};
use client::{ListQuery, WatchQuery};
use serde_json::{Value, json};

/// The most objects of one list; more are asked for by a narrower selection.
const OBJECTS_MAX: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND`, `KIND,KIND`, `KIND NAME…` or `KIND/NAME…`; `all` for Jobs, Apps and Environments.
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
    /// Of all projects.
    #[arg(short = 'A', long)]
    all_projects: bool,
    /// Those with these labels: `a=b,c!=d,e in (f, g),!h`.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Those in this phase.
    #[arg(long)]
    phase: Option<String>,
    /// Show labels.
    #[arg(long)]
    show_labels: bool,
    /// Stay, and show what changes.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArg,
}

enum What {
    Kinds(Vec<Kind>),
    Objects(Vec<Target>),
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let selector: Option<Selector> = match &args.selector {
        Some(text) => Some(
            text.parse()
                .map_err(|error: api::selector::BadSelector| Failure::Usage(error.to_string()))?,
        ),
        None => None,
    };
    match what(&args.objects)? {
        What::Objects(targets) => named(session, args, &targets).await,
        What::Kinds(kinds) if args.watch => watch(session, args, &kinds, selector.as_ref()).await,
        What::Kinds(kinds) => lists(session, args, &kinds).await,
    }
}

fn what(words: &[String]) -> Result<What, Failure> {
    match words {
        [one] if one == "all" => Ok(What::Kinds(vec![Kind::Environment, Kind::Job, Kind::App])),
        [one] if !one.contains('/') => Ok(What::Kinds(
            one.split(',').map(target::kind).collect::<Result<_, _>>()?,
        )),
        words => Ok(What::Objects(target::many(words)?)),
    }
}

fn options(args: &Args) -> Options {
    Options {
        wide: args.output.output == Format::Wide,
        projects: args.all_projects,
        labels: args.show_labels,
        now: age::now(),
    }
}

async fn named(session: &Session, args: &Args, targets: &[Target]) -> Result<(), Failure> {
    let mut objects = Vec::new();
    for target in targets {
        objects.push((target.kind, session.get(target.kind, &target.name).await?));
    }
    if let Format::Json | Format::Yaml = args.output.output {
        let items: Vec<Value> = objects.iter().map(|(_, object)| json!(object)).collect();
        // One object is shown as itself.
        let value = match items.as_slice() {
            [one] if targets.len() == 1 => one.clone(),
            _ => json!({ "apiVersion": api::meta::API_VERSION, "kind": "List", "items": items }),
        };
        return session
            .out
            .value(&value, args.output.output == Format::Yaml);
    }
    // Neighbours of one kind share a table.
    for group in objects.chunk_by(|a, b| a.0 == b.0) {
        let list: Vec<Object> = group.iter().map(|(_, object)| object.clone()).collect();
        show(session, args, group[0].0, &list)?;
    }
    Ok(())
}

async fn lists(session: &Session, args: &Args, kinds: &[Kind]) -> Result<(), Failure> {
    let project = if args.all_projects {
        None
    } else {
        Some(session.project.clone())
    };
    let query = ListQuery {
        project,
        labels: args.selector.clone(),
        phase: args.phase.clone(),
        limit: Some(500),
    };
    let mut all: Vec<Value> = Vec::new();
    let mut shown = false;
    for (i, kind) in kinds.iter().enumerate() {
        let page = session
            .client
            .list::<Object>(*kind, &query, OBJECTS_MAX)
            .await?;
        if page.has_more {
            session.out.note(format!(
                "only the first {OBJECTS_MAX} {} are shown; select by `-l` or `--phase`",
                kind.plural()
            ));
        }
        if let Format::Json | Format::Yaml = args.output.output {
            all.extend(page.items.iter().map(|object| json!(object)));
            continue;
        }
        if page.items.is_empty() {
            continue;
        }
        if shown && args.output.output != Format::Name && i > 0 {
            session.out.line("")?;
        }
        shown = true;
        show(session, args, *kind, &page.items)?;
    }
    if let Format::Json | Format::Yaml = args.output.output {
        let kind = match kinds {
            [one] => format!("{}List", one.as_str()),
            _ => "List".to_owned(),
        };
        let value = json!({ "apiVersion": api::meta::API_VERSION, "kind": kind, "items": all });
        return session
            .out
            .value(&value, args.output.output == Format::Yaml);
    }
    if !shown {
        let words: Vec<&str> = kinds.iter().map(|kind| kind.plural()).collect();
        let place = if args.all_projects {
            String::new()
        } else {
            format!(" in project `{}`", session.project)
        };
        session
            .out
            .note(format!("there are no {}{place}", words.join(", ")));
    }
    Ok(())
}

fn show(session: &Session, args: &Args, kind: Kind, objects: &[Object]) -> Result<(), Failure> {
    if args.output.output == Format::Name {
        for object in objects {
            session.out.line(format!(
                "{}/{}",
                kind.as_str().to_ascii_lowercase(),
                object.metadata.name
            ))?;
        }
        return Ok(());
    }
    session
        .out
        .table(&view::objects(kind, objects, options(args)))
}

/// The list, then a row for each change.
async fn watch(
    session: &Session,
    args: &Args,
    kinds: &[Kind],
    selector: Option<&Selector>,
) -> Result<(), Failure> {
    let project = if args.all_projects {
        None
    } else {
        Some(session.project.clone())
    };
    let query = ListQuery {
        project: project.clone(),
        labels: args.selector.clone(),
        phase: args.phase.clone(),
        limit: Some(500),
    };
    let mut from = u64::MAX;
    for kind in kinds {
        let page = session
            .client
            .list::<Object>(*kind, &query, OBJECTS_MAX)
            .await?;
        from = from.min(page.resource_version);
        if !page.items.is_empty() {
            show_change(session, args, *kind, &page.items, true)?;
        }
    }
    let mut watch = session.client.watch(WatchQuery {
        kinds: kinds.to_vec(),
        project,
        from: Some(from),
    });
    loop {
        let change = watch.next().await?;
        let object = change.object;
        let Some(kind) = Kind::find(&object.kind) else {
            continue;
        };
        let chosen = selector.is_none_or(|selector| selector.matches(&object.metadata.labels))
            && args
                .phase
                .as_ref()
                .is_none_or(|phase| view::status(&object, "phase") == *phase);
        if !chosen {
            continue;
        }
        if change.op == ChangeOp::Delete && args.output.output == Format::Table {
            session.out.line(format!(
                "{}/{} is gone",
                kind.as_str().to_ascii_lowercase(),
                object.metadata.name
            ))?;
            continue;
        }
        show_change(session, args, kind, &[object], false)?;
    }
}

fn show_change(
    session: &Session,
    args: &Args,
    kind: Kind,
    objects: &[Object],
    header: bool,
) -> Result<(), Failure> {
    match args.output.output {
        Format::Json => {
            for object in objects {
                session.out.line(json!(object).to_string())?;
            }
            Ok(())
        }
        Format::Yaml => {
            for object in objects {
                session.out.line("---")?;
                session.out.value(&json!(object), true)?;
            }
            Ok(())
        }
        Format::Name => show(session, args, kind, objects),
        Format::Table | Format::Wide => {
            let table = view::objects(kind, objects, options(args));
            let rows = if header {
                table.as_str()
            } else {
                table.split_once('\n').map_or("", |(_, rows)| rows)
            };
            session.out.table(rows)
        }
    }
}
