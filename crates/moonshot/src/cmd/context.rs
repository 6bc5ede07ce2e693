//! `context`: where this command line talks to.

use crate::context::{self, Context, File};
use crate::exit::Failure;
use crate::out::Out;
use crate::table::table;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// All contexts; `*` marks the current one.
    List,
    /// Use a context from now on.
    Use {
        /// Which.
        name: String,
    },
    /// Make or change a context.
    Set {
        /// Which.
        name: String,
        /// The server's URL.
        #[arg(long = "to", value_name = "URL")]
        server: Option<String>,
        /// A file with the token.
        #[arg(long = "with-token-file", value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// The project of commands that name none.
        #[arg(long = "in-project", value_name = "PROJECT")]
        project: Option<String>,
        /// A file with certificates (PEM) to trust besides the machine's.
        #[arg(long, value_name = "FILE")]
        certificates: Option<PathBuf>,
    },
    /// Forget a context.
    Delete {
        /// Which.
        name: String,
    },
}

pub(crate) fn run(verb: Verb, out: Out) -> Result<(), Failure> {
    let path = context::path()
        .ok_or_else(|| Failure::Failed("there is no HOME; set MOONSHOT_CONFIG".to_owned()))?;
    let mut file = context::read(&path)?;
    let unknown = |name: &str| {
        Failure::NotFound(format!(
            "there is no context `{name}`; `moonshot context list` shows them"
        ))
    };
    match verb {
        Verb::List => return out.text(&list(&file)),
        Verb::Use { name } => {
            if !file.contexts.contains_key(&name) {
                return Err(unknown(&name));
            }
            file.current = Some(name);
        }
        Verb::Set {
            name,
            server,
            token_file,
            project,
            certificates,
        } => {
            let old = file.contexts.get(&name).cloned().unwrap_or_default();
            let server = server.or(Some(old.server).filter(|server| !server.is_empty()));
            let server = server
                .ok_or_else(|| Failure::Usage("a new context needs `--to URL`".to_owned()))?;
            // The file is read from other directories too.
            let absolute =
                |path: Option<PathBuf>| path.map(|path| std::path::absolute(&path).unwrap_or(path));
            let new = Context {
                server,
                token_file: absolute(token_file).or(old.token_file),
                project: project.or(old.project),
                certificates: absolute(certificates).or(old.certificates),
            };
            file.contexts.insert(name.clone(), new);
            file.current.get_or_insert(name);
        }
        Verb::Delete { name } => {
            file.contexts.remove(&name).ok_or_else(|| unknown(&name))?;
            file.current = file.current.filter(|current| *current != name);
        }
    }
    context::write(&path, &file)
}

fn list(file: &File) -> String {
    let rows: Vec<Vec<String>> = file
        .contexts
        .iter()
        .map(|(name, context)| {
            let mark = if file.current.as_ref() == Some(name) {
                "*"
            } else {
                ""
            };
            let token = context
                .token_file
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string());
            vec![
                mark.to_owned(),
                name.clone(),
                context.server.clone(),
                context.project.clone().unwrap_or_default(),
                token,
            ]
        })
        .collect();
    table(&["", "NAME", "SERVER", "PROJECT", "TOKEN FILE"], &rows)
}
