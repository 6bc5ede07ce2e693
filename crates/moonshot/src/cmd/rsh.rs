//! `rsh`: run a command beside another member of the same attempt. For launchers (Open MPI's `plm_rsh_agent`, MPICH's
//! Hydra) that otherwise use `ssh`: the same words in the same order, no key and no daemon. It runs inside a replica,
//! under the attempt's token.

use crate::cmd::exec;
use crate::exit::Failure;
use crate::out::Out;
use base::Span;
use client::{Client, Config};

/// How long an answer may take.
const ANSWER_TIMEOUT: Span = Span::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `GROUP-INDEX`, such as `worker-1`, then a command line for a shell there. Options of `ssh` and `rsh` before it
    /// are passed over.
    #[arg(last = true, required = true, value_name = "HOST COMMAND")]
    words: Vec<String>,
}

pub(crate) async fn run(args: Args, server: Option<String>) -> Result<(), Failure> {
    let asked = parse(args.words)?;
    let token = std::env::var("MOONSHOT_ATTEMPT_TOKEN").ok();
    let (Some(server), Some(token)) = (server, token) else {
        let words = "this runs inside a replica, where MOONSHOT_SERVER and MOONSHOT_ATTEMPT_TOKEN are set; \
             from outside use `moonshot exec`";
        return Err(Failure::Usage(words.to_owned()));
    };
    let client = Client::new(&Config {
        server,
        token: Some(token),
        certificates: None,
        timeout: ANSWER_TIMEOUT,
    })?;
    // As with ssh the words are joined for a shell.
    let command = ["sh", "-c", &asked.command].map(str::to_owned);
    let running = client.rsh(&asked.group, asked.index, &command).await?;
    let code = exec::talk(&Out::new(), running, asked.stdin, false).await?;
    exec::ended(code)
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    group: String,
    index: u32,
    command: String,
    stdin: bool,
}

/// `[-x] [-n] [-l user] worker-1 words…`.
fn parse(words: Vec<String>) -> Result<Asked, Failure> {
    let mut words = words.into_iter();
    let mut stdin = true;
    let host = loop {
        let Some(word) = words.next() else {
            return Err(Failure::Usage(
                "name a host, such as `worker-1`, and a command".to_owned(),
            ));
        };
        if !word.starts_with('-') {
            break word;
        }
        if word == "-n" {
            stdin = false;
        }
        if ["-l", "-o", "-p", "-i", "-F"].contains(&word.as_str()) {
            words.next();
        }
    };
    let command: Vec<String> = words.collect();
    // `user@host` is ssh's; the user is the replica's own.
    let name = host
        .rsplit_once('@')
        .map_or(host.as_str(), |(_, name)| name);
    let found = name
        .rsplit_once('-')
        .and_then(|(group, index)| Some((group, index.parse().ok()?)));
    let Some((group, index)) = found else {
        let words =
            format!("`{host}` is no replica of this Job; write `GROUP-INDEX`, such as `worker-1`");
        return Err(Failure::Usage(words));
    };
    if command.is_empty() {
        return Err(Failure::Usage(format!("say what to run on `{host}`")));
    }
    Ok(Asked {
        group: group.to_owned(),
        index,
        command: command.join(" "),
        stdin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_launchers_say() {
        let check = |line: &str, expect: (&str, u32, &str, bool)| {
            let words = line.split(' ').map(str::to_owned).collect();
            let asked = parse(words).unwrap();
            let found = (
                asked.group.as_str(),
                asked.index,
                asked.command.as_str(),
                asked.stdin,
            );
            assert_eq!(found, expect, "{line}");
        };
        check(
            "worker-1 orted -mca a b",
            ("worker", 1, "orted -mca a b", true),
        );
        check("-x -n -l root worker-0 true", ("worker", 0, "true", false));
        check(
            "root@big-worker-12 sh -c x",
            ("big-worker", 12, "sh -c x", true),
        );
        for line in ["worker-1", "worker true", "-n", "worker-x true"] {
            let words = line.split(' ').map(str::to_owned).collect();
            assert!(parse(words).is_err(), "{line}");
        }
    }
}
