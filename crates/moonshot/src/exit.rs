//! How the command line ends: exit codes, and what it says before.

use base::Code;
use client::ClientError;
use std::error::Error;
use std::process::ExitCode;

/// Exit codes, as the reference documents them.
pub(crate) const TABLE: [(u8, &str); 9] = [
    (0, "all went well"),
    (
        1,
        "something failed; `run`, `attach` and `exec` end with the program's own code",
    ),
    (2, "the command line is wrong"),
    (3, "not found"),
    (
        4,
        "conflict: the present state does not allow it, or somebody was faster",
    ),
    (5, "denied, or the token is missing or wrong"),
    (6, "the server cannot be reached or is not ready; try again"),
    (7, "the manifest or the request is not valid"),
    (124, "the time for it ran out"),
];

/// What stands below the help of the whole command line.
pub(crate) fn help() -> String {
    let codes: String = TABLE
        .iter()
        .map(|(code, meaning)| format!("  {code:>3}  {meaning}\n"))
        .collect();
    format!(
        "To begin:\n  moonshot up                       start the platform here\n  moonshot run -- python train.py   \
         run a program of this directory\n  moonshot explain job.spec         every field of a manifest\n\nExit codes:\n{codes}"
    )
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server refused or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A manifest is not valid; found on this side.
    #[error("{0}")]
    Invalid(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// The time ran out.
    #[error("{0}")]
    Timeout(String),
    /// A file or the terminal.
    #[error("cannot {what}")]
    Local {
        /// What was being done.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// All was said; this is the code.
    #[error("exit code {0}")]
    Code(u8),
    /// Whoever read our output has gone: not our failure.
    #[error("the output is closed")]
    Closed,
}

impl Failure {
    /// A failed operation on a file.
    pub(crate) fn local(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failure {
        let what = what.into();
        move |source| Failure::Local { what, source }
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Client(error) => of_code(error.code()),
            Failure::Usage(_) => 2,
            Failure::Invalid(_) => 7,
            Failure::Failed(_) | Failure::Local { .. } => 1,
            Failure::NotFound(_) => 3,
            Failure::Timeout(_) => 124,
            Failure::Code(code) => *code,
            Failure::Closed => 0,
        }
    }

    /// What is said on standard error: the failure, its causes, and what to do next.
    pub(crate) fn words(&self) -> String {
        match self {
            Failure::Code(_) | Failure::Closed => return String::new(),
            Failure::Client(_)
            | Failure::Usage(_)
            | Failure::Invalid(_)
            | Failure::Failed(_)
            | Failure::NotFound(_)
            | Failure::Timeout(_)
            | Failure::Local { .. } => {}
        }
        let mut words = format!("error: {self}\n");
        let problem = match self {
            Failure::Client(error) => error.problem(),
            _ => None,
        };
        if let Some(problem) = problem {
            // A single field error is in the sentence already.
            if problem.errors.len() > 1 {
                for error in &problem.errors {
                    words.push_str(&format!("  {error}\n"));
                }
            }
            if problem.code == Code::Internal.as_str() && !problem.request_id.is_empty() {
                words.push_str(&format!(
                    "  the server's log has more under request id {}\n",
                    problem.request_id
                ));
            }
        } else {
            let mut cause = match self {
                Failure::Client(error) => error.source(),
                other => other.source(),
            };
            while let Some(error) = cause {
                words.push_str(&format!("  because: {error}\n"));
                cause = error.source();
            }
        }
        if let Failure::Client(error) = self
            && let Some(hint) = hint(error.code())
        {
            words.push_str(&format!("hint: {hint}\n"));
        }
        words
    }
}

fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some(
            "give a token by MOONSHOT_TOKEN or a context; `moonshot context list` shows what is in use",
        ),
        Code::Denied => Some("`moonshot whoami` shows what this token may do"),
        Code::Gone => Some("the position is too old; run the command again"),
        Code::NotFound
        | Code::Conflict
        | Code::Invalid
        | Code::Exhausted
        | Code::Unavailable
        | Code::Timeout
        | Code::Unsupported
        | Code::Internal => None,
    }
}

fn of_code(code: Code) -> u8 {
    match code {
        Code::NotFound => 3,
        Code::Conflict | Code::Gone => 4,
        Code::Denied | Code::Unauthenticated => 5,
        Code::Unavailable => 6,
        Code::Invalid => 7,
        Code::Timeout => 124,
        Code::Exhausted | Code::Unsupported | Code::Internal => 1,
    }
}

/// Says why on standard error and gives the code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    let words = failure.words();
    if !words.is_empty() {
        // With standard error gone there is nobody left to tell.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
    }
    ExitCode::from(failure.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{FieldError, Problem};

    fn refused(problem: Problem) -> Failure {
        Failure::Client(ClientError::Refused(Box::new(problem)))
    }

    #[test]
    fn every_code_has_its_exit_code_and_the_table_knows_it() {
        for code in Code::ALL {
            let failure = refused(Problem::new(code, "x"));
            assert!(
                TABLE.iter().any(|(exit, _)| *exit == failure.exit_code()),
                "{code}"
            );
        }
    }

    #[test]
    fn words() {
        let errors = vec![
            FieldError::new("spec.a", "is missing"),
            FieldError {
                line: Some(3),
                column: Some(5),
                ..FieldError::new("spec.b", "unknown field")
            },
        ];
        assert_eq!(
            refused(Problem::invalid("the manifest is not valid", errors)).words(),
            "error: the manifest is not valid: 2 errors\n  spec.a: is missing\n  line 3, column 5: spec.b: unknown field\n"
        );
        let one = vec![FieldError::new("spec.a", "is missing")];
        assert_eq!(
            refused(Problem::invalid("the manifest is not valid", one)).words(),
            "error: the manifest is not valid: spec.a: is missing\n"
        );
        assert_eq!(
            refused(Problem::new(
                Code::Unauthenticated,
                "the token is not known"
            ))
            .words(),
            "error: the token is not known\nhint: give a token by MOONSHOT_TOKEN or a context; `moonshot context list` shows what is in use\n"
        );
        let internal = Problem {
            request_id: "r1".to_owned(),
            ..Problem::new(Code::Internal, "a defect on our side")
        };
        assert_eq!(
            refused(internal).words(),
            "error: a defect on our side\n  the server's log has more under request id r1\n"
        );
        let missing =
            Failure::local("read `x`")(std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(
            missing.words(),
            "error: cannot read `x`\n  because: entity not found\n"
        );
        assert_eq!(Failure::Closed.words(), "");
    }
}
