//! The table of verbs: help, the reference (`moonshot docs cli`) and completions come from it.

use crate::cmd;
use crate::context::Overrides;
use crate::exit;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Train models and serve them on one pool of machines.
#[derive(Debug, Parser)]
#[command(
    name = "moonshot",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = exit::help()
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// Threads for what waits for others. The roles that carry requests use the whole machine; nothing else does much.
    pub(crate) fn n_threads(&self) -> usize {
        match self.verb {
            Verb::Gateway(_) | Verb::Serve(_) => {
                std::thread::available_parallelism().map_or(2, |n| n.get().max(2))
            }
            _ => 2,
        }
    }
}

/// Where to, as whom, in which project. Taken by every verb that speaks to a server.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where to")]
pub(crate) struct Place {
    /// The context of the configuration file to use instead of the current one.
    #[arg(long, global = true, env = "MOONSHOT_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// The server's URL.
    #[arg(long, global = true, env = "MOONSHOT_SERVER", value_name = "URL")]
    server: Option<String>,
    /// The token. Not as a flag: other users of the machine could read it.
    #[arg(
        long,
        global = true,
        env = "MOONSHOT_TOKEN",
        hide = true,
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// A file with the token.
    #[arg(long, global = true, env = "MOONSHOT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The project.
    #[arg(
        short = 'n',
        long,
        global = true,
        env = "MOONSHOT_PROJECT",
        value_name = "PROJECT"
    )]
    project: Option<String>,
}

impl Place {
    /// As the contexts want it.
    pub(crate) fn overrides(self) -> Overrides {
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        Overrides {
            context: full(self.context),
            server: full(self.server),
            token: full(self.token),
            token_file: self.token_file.filter(|path| !path.as_os_str().is_empty()),
            project: full(self.project),
        }
    }
}

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    // ---- the platform on this machine ----
    /// Start the platform on this machine, in the background.
    Up(cmd::platform::UpArgs),
    /// Stop the platform and what runs on it.
    Down(cmd::platform::DownArgs),
    /// Run the server: API, console, controllers, scheduler.
    Server(cmd::platform::RoleArgs),
    /// Run the gateway, through which Apps are reached.
    Gateway(cmd::platform::RoleArgs),
    /// Serve models from a directory: XGBoost, LightGBM, TensorFlow and ONNX, without a platform.
    Serve(cmd::serve::Args),
    /// The settings of the server and the gateway.
    #[command(subcommand)]
    Config(cmd::config::Verb),
    /// Back up, restore and check the control database.
    #[command(subcommand)]
    Db(cmd::db::Verb),
    /// Simulate the scheduler: traces, scenarios, replay, what-if and benches.
    Sim(cmd::platform::SimArgs),
    // ---- run and see ----
    /// Run a program of this directory as a Job and follow it.
    Run(Box<cmd::run::Args>),
    /// The state of the platform on one page.
    Status(cmd::status::Args),
    /// Show objects.
    Get(cmd::get::Args),
    /// Everything about objects, on one page each.
    Describe(cmd::describe::Args),
    /// Why something waits.
    Why(cmd::why::Args),
    /// The output of replicas.
    Logs(cmd::logs::Args),
    /// Follow a Job that runs, as `run` does.
    Attach(cmd::attach::Args),
    /// What happened.
    Events(cmd::events::Args),
    /// Who uses what right now.
    Top(cmd::top::Args),
    // ---- change ----
    /// Make objects be as manifests say.
    Apply(cmd::apply::Args),
    /// Make new objects from manifests; `generateName` gives them names.
    Create(cmd::create::Args),
    /// What `apply` would change. Ends with 1 where something differs.
    Diff(cmd::diff::Args),
    /// Change an object in your editor.
    Edit(cmd::edit::Args),
    /// Merge a patch into an object.
    Patch(cmd::patch::Args),
    /// Set or remove labels.
    Label(cmd::label::Args),
    /// Delete objects.
    Delete(cmd::delete::Args),
    /// Wait until an object is in a state.
    Wait(cmd::wait::Args),
    // ---- Jobs ----
    /// Stop Jobs for good.
    Cancel(cmd::jobs::Args),
    /// Stop Jobs until they are resumed.
    Suspend(cmd::jobs::Args),
    /// Let suspended Jobs go on.
    Resume(cmd::jobs::Args),
    /// Make new Jobs from finished ones.
    Rerun(cmd::jobs::Args),
    // ---- Apps ----
    /// Want another number of replicas.
    Scale(cmd::scale::Args),
    /// Look at and steer the rollout of an App.
    #[command(subcommand)]
    Rollout(cmd::rollout::Verb),
    /// Send one request to an App through the gateway.
    Predict(cmd::predict::Args),
    // ---- replicas ----
    /// Run a program beside a replica's.
    Exec(cmd::exec::Args),
    /// Copy outputs of Jobs and files of replicas.
    Cp(cmd::cp::Args),
    /// Reach a replica's port from here.
    PortForward(cmd::port_forward::Args),
    /// Run a command beside another member of the same attempt: what launchers use instead of `ssh`.
    Rsh(cmd::rsh::Args),
    // ---- things of the platform ----
    /// Make, list and look at Secrets.
    #[command(subcommand)]
    Secret(cmd::secret::Verb),
    /// Push and list models.
    #[command(subcommand)]
    Model(cmd::model::Verb),
    /// Make, list and revoke tokens.
    #[command(subcommand)]
    Token(cmd::token::Verb),
    /// Nothing new starts on nodes.
    Cordon(cmd::nodes::Args),
    /// Work may start on nodes again.
    Uncordon(cmd::nodes::Args),
    /// Cordon nodes and move their work away.
    Drain(cmd::nodes::DrainArgs),
    // ---- this command line ----
    /// Where this command line talks to.
    #[command(subcommand)]
    Context(cmd::context::Verb),
    /// Who the server takes you for.
    Whoami(cmd::whoami::Args),
    /// The fields of a kind.
    Explain(cmd::explain::Args),
    /// The kinds.
    ApiResources(cmd::api_resources::Args),
    /// The version of this program and of the server.
    Version(cmd::version::Args),
    /// Completions for a shell.
    Completion(cmd::completion::Args),
    /// Run one model for a server that started this.
    #[command(hide = true, name = cmd::serve::WORKER)]
    ServeWorker {
        /// Which; for people who look at processes.
        #[arg(value_name = "MODEL/VERSION")]
        what: Option<std::ffi::OsString>,
    },
    /// Print the reference of this command line.
    #[command(hide = true)]
    Docs(cmd::docs::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::path::Path;

    #[test]
    fn the_table_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_people_and_the_console_type_is_understood() {
        for line in [
            "get jobs -A -o wide",
            "get job/flights -o json",
            "get jobs a b -l team=a --watch",
            "apply -f . --dry-run",
            "apply -f a.yaml -f b.yaml --wait --replace",
            "diff -f -",
            "describe job flights --project p",
            "why job flights",
            "logs -f job/flights",
            "logs job/flights --tail 10 --previous --since 5m",
            "wait environment/flights --for phase=Ready --timeout 20m",
            "cancel job flights",
            "rerun job/flights",
            "scale app/flights --replicas 3",
            "rollout status app/flights",
            "rollout undo app/flights --to-revision 2",
            "rollout history app/flights --revision 2",
            "exec job/flights/worker/0 -it -- sh -c ls",
            "cp job/flights:model .",
            "port-forward app/flights 8080:http",
            "rsh -- -x worker-1 orted -mca a b --help",
            "secret create db --from-literal password=x --from-file key.pem=./k",
            "model push flights job/flights:model --format xgboost --metric rmse=12.5",
            "model ls flights",
            "model rm flights@1 old",
            "model diff flights@1 flights@2",
            "token create ci --role editor --expires-in 30d",
            "token show",
            "cordon n1 n2",
            "run --env e --gpus 2 --memory 4Gi --replicas 2 --framework xgboost -p lr=0.1 -- python train.py --epochs 3",
            "run --detach python train.py",
            "context use local",
            "config check",
            "config show",
            "db backup /tmp/moonshot.backup",
            "db restore -",
            "db check",
            "explain job.spec.retry",
            "completion bash",
            "predict app/flights --path /healthz --data {}",
            "label job a x=y z-",
            "patch job a -p {}",
            "delete job a --wait",
            "delete -f a.yaml",
            "version -o json",
        ] {
            let words = std::iter::once("moonshot").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    /// Every command that the documents, the console and our own messages name must be one.
    #[test]
    fn commands_that_are_named_anywhere_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = Vec::new();
        for folder in [
            "README.md",
            "docs",
            "examples",
            "crates",
            "console/src/i18n",
            "xtask/src",
        ] {
            texts(&root.join(folder), &mut files);
        }
        let mut n_commands = 0;
        let mut wrong = Vec::new();
        // The reference is printed from the table itself.
        files.retain(|(path, _)| !path.ends_with("docs/src/cli.md"));
        for (path, text) in files {
            for command in commands(&text) {
                n_commands += 1;
                if let Err(error) = understood(&command) {
                    wrong.push(format!("{}: `{command}`: {error}", path.display()));
                }
            }
        }
        assert!(n_commands > 100, "only {n_commands} commands were found");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn texts(path: &Path, found: &mut Vec<(PathBuf, String)>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                texts(&entry.unwrap().path(), found);
            }
        } else if path
            .extension()
            .is_some_and(|ext| ["md", "rs", "ts"].iter().any(|known| ext == *known))
        {
            found.push((path.to_owned(), std::fs::read_to_string(path).unwrap()));
        }
    }

    /// What stands in backticks and begins with our name, and lines of shell blocks.
    fn commands(text: &str) -> Vec<String> {
        let quoted = text
            .split('`')
            .filter(|part| part.starts_with("moonshot ") && !part.contains('\n'));
        let lines = text.lines().map(|line| line.trim_start_matches("$ "));
        let in_blocks = lines.filter(|line| line.starts_with("moonshot ") && !line.contains('`'));
        quoted.chain(in_blocks).map(str::to_owned).collect()
    }

    /// Whether its verbs and flags exist; what is merely not written out is fine.
    fn understood(command: &str) -> Result<(), String> {
        use clap::error::ErrorKind;
        let command = command
            .split(['#', '|', ';', '&'])
            .next()
            .unwrap_or_default();
        let words = command
            .split_whitespace()
            .map(|word| word.trim_matches(['\'', '"', ',', '.', '…', '[', ']']))
            .filter(|word| !word.is_empty());
        let words: Vec<&str> = words.collect();
        // `VERB` stands for any; launchers of MPI are given `rsh`, nobody types it.
        if words
            .get(1)
            .is_some_and(|verb| ["VERB", "rsh"].contains(verb))
        {
            return Ok(());
        }
        let Err(error) = Cli::try_parse_from(words) else {
            return Ok(());
        };
        match error.kind() {
            ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument => Err(error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()),
            _ => Ok(()),
        }
    }
}
