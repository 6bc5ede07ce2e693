//! Failures of use cases: a code, a sentence for the client, and what the log alone may know.

use api::{FieldError, Problem};
use base::Code;
use db::{AsDbError, DbError};

/// A refused or failed request.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// Refused, in words for the client.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The database failed or was contradicted.
    #[error("the database refused")]
    Db(#[from] DbError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// Something of ours is broken.
    #[error("{what}")]
    Internal {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl UseError {
    /// Refused with this code and sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> UseError {
        UseError::Refused(Box::new(Problem::new(code, detail)))
    }

    /// There is no such object.
    pub fn not_found(kind: &str, project: &str, name: &str) -> UseError {
        let place = if project.is_empty() {
            String::new()
        } else {
            format!(" in project `{project}`")
        };
        UseError::new(
            Code::NotFound,
            format!("there is no {} `{name}`{place}", kind.to_lowercase()),
        )
    }

    /// Fields of the request are wrong.
    pub fn invalid(detail: impl Into<String>, errors: Vec<FieldError>) -> UseError {
        let mut problem = Problem::new(Code::Invalid, detail);
        problem.errors = errors;
        UseError::Refused(Box::new(problem))
    }

    /// One field of the request is wrong.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> UseError {
        let (field, message) = (field.into(), message.into());
        let detail = format!("`{field}` {message}");
        UseError::invalid(
            detail,
            vec![FieldError {
                field,
                message,
                line: None,
                column: None,
            }],
        )
    }

    /// Our own defect, or a resource of ours that failed.
    pub fn internal(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> UseError {
        UseError::Internal {
            what: what.into(),
            source: source.into(),
        }
    }

    /// What the client is told.
    pub fn problem(&self) -> Problem {
        match self {
            UseError::Refused(problem) => (**problem).clone(),
            UseError::Db(error) => match error.code() {
                Code::Unavailable => Problem::new(
                    Code::Unavailable,
                    "the database is away; try again in a moment",
                ),
                Code::Gone => Problem::new(Code::Gone, error.to_string()),
                Code::Exhausted => Problem::new(
                    Code::Exhausted,
                    "the database's disk is full; free some space and try again",
                ),
                Code::Conflict => Problem::new(Code::Conflict, error.to_string()),
                _ => Problem::new(
                    Code::Internal,
                    "something went wrong on our side; the log has more under this request id",
                ),
            },
            UseError::Engine(error) => match error.code() {
                Code::Unavailable => Problem::new(
                    Code::Unavailable,
                    "the engine is away; try again in a moment",
                ),
                code => Problem::new(code, error.to_string()),
            },
            UseError::Internal { .. } => Problem::new(
                Code::Internal,
                "something went wrong on our side; the log has more under this request id",
            ),
        }
    }

    /// Whether the log should tell of it.
    pub fn is_ours(&self) -> bool {
        matches!(self.problem().status, 500..)
    }
}

impl AsDbError for UseError {
    fn as_db_error(&self) -> Option<&DbError> {
        match self {
            UseError::Db(error) => Some(error),
            UseError::Refused(_) | UseError::Engine(_) | UseError::Internal { .. } => None,
        }
    }
}
