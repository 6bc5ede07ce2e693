//! The verbs, one file each.

pub(crate) mod api_resources;
pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod db;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod docs;
mod docs_api;
pub(crate) mod edit;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod jobs;
pub(crate) mod label;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod nodes;
pub(crate) mod patch;
pub(crate) mod platform;
pub(crate) mod port_forward;
pub(crate) mod predict;
pub(crate) mod rollout;
pub(crate) mod rsh;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod whoami;
pub(crate) mod why;

use crate::cli::{Cli, Verb};
use crate::exit::Failure;
use crate::out::Out;
use crate::session::Session;

/// Runs a verb.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let over = cli.place.overrides();
    // Verbs that need no server.
    let verb = match cli.verb {
        Verb::Up(args) => return platform::up(args).await,
        Verb::Down(args) => return platform::down(&args),
        Verb::Server(args) => return platform::server(args).await,
        Verb::Gateway(args) => return platform::gateway(args).await,
        Verb::Serve(args) => return serve::run(args).await,
        Verb::ServeWorker { .. } => return serve::work(),
        Verb::Config(verb) => return config::run(verb),
        Verb::Db(verb) => return db::run(verb).await,
        Verb::Sim(args) => return platform::sim(&args),
        Verb::Context(verb) => return context::run(verb, Out::new()),
        Verb::Explain(args) => return explain::run(&args, Out::new()),
        Verb::ApiResources(args) => return api_resources::run(&args, Out::new()),
        Verb::Completion(args) => return completion::run(&args, Out::new()),
        Verb::Docs(args) => return docs::run(&args, Out::new()),
        Verb::Rsh(args) => return rsh::run(args, over.server).await,
        Verb::Version(args) => return version::run(&args, &over).await,
        Verb::Token(token::Verb::Show) => return token::show(&over, Out::new()),
        verb => verb,
    };
    let session = &Session::open(&over)?;
    match verb {
        Verb::Run(args) => run::run(session, *args).await,
        Verb::Status(args) => status::run(session, &args).await,
        Verb::Get(args) => get::run(session, &args).await,
        Verb::Describe(args) => describe::run(session, &args).await,
        Verb::Why(args) => why::run(session, &args).await,
        Verb::Logs(args) => logs::run(session, args).await,
        Verb::Attach(args) => attach::run(session, &args).await,
        Verb::Events(args) => events::run(session, &args).await,
        Verb::Top(args) => top::run(session, &args).await,
        Verb::Apply(args) => apply::run(session, &args).await,
        Verb::Create(args) => create::run(session, &args).await,
        Verb::Diff(args) => diff::run(session, &args).await,
        Verb::Edit(args) => edit::run(session, &args).await,
        Verb::Patch(args) => patch::run(session, &args).await,
        Verb::Label(args) => label::run(session, &args).await,
        Verb::Delete(args) => delete::run(session, &args).await,
        Verb::Wait(args) => wait::run(session, &args).await,
        Verb::Cancel(args) => jobs::cancel(session, &args).await,
        Verb::Suspend(args) => jobs::suspend(session, &args).await,
        Verb::Resume(args) => jobs::resume(session, &args).await,
        Verb::Rerun(args) => jobs::rerun(session, &args).await,
        Verb::Scale(args) => scale::run(session, &args).await,
        Verb::Rollout(verb) => rollout::run(session, verb).await,
        Verb::Predict(args) => predict::run(session, &args).await,
        Verb::Exec(args) => exec::run(session, &args).await,
        Verb::Cp(args) => cp::run(session, &args).await,
        Verb::PortForward(args) => port_forward::run(session, &args).await,
        Verb::Secret(verb) => secret::run(session, verb).await,
        Verb::Model(verb) => model::run(session, verb).await,
        Verb::Token(verb) => token::run(session, verb).await,
        Verb::Cordon(args) => nodes::cordon(session, &args).await,
        Verb::Uncordon(args) => nodes::uncordon(session, &args).await,
        Verb::Drain(args) => nodes::drain(session, &args).await,
        Verb::Whoami(args) => whoami::run(session, &args).await,
        Verb::Up(_)
        | Verb::Down(_)
        | Verb::Server(_)
        | Verb::Gateway(_)
        | Verb::Serve(_)
        | Verb::ServeWorker { .. }
        | Verb::Config(_)
        | Verb::Db(_)
        | Verb::Sim(_)
        | Verb::Context(_)
        | Verb::Explain(_)
        | Verb::ApiResources(_)
        | Verb::Completion(_)
        | Verb::Docs(_)
        | Verb::Rsh(_)
        | Verb::Version(_) => unreachable!("these were run above"),
    }
}

/// How a verb prints what it answers.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct OutputArg {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: crate::out::Format,
}
