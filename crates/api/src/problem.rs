//! Errors on the wire: RFC 9457 problem+json.

use base::Code;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The most field errors told at once. What is wrong a hundred times is wrong for one reason.
pub const FIELD_ERRORS_MAX: usize = 100;

/// What went wrong and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank#<code>`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The HTTP status' phrase.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A sentence with the remedy.
    pub detail: String,
    /// A stable word, see [`base::Code`].
    pub code: String,
    /// Quote it when asking for help; the log has more under it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Every invalid field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One invalid field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldError {
    /// `spec.groups[1].replicas`.
    pub field: String,
    /// What is wrong and what is right.
    pub message: String,
    /// Line in the YAML that was sent, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the YAML that was sent, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl FieldError {
    /// An error whose place is not known yet.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldError {
        FieldError {
            field: field.into(),
            message: message.into(),
            line: None,
            column: None,
        }
    }
}

impl fmt::Display for FieldError {
    /// `line 4, column 3: spec.replicas: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// Invalid fields; at most [`FIELD_ERRORS_MAX`] are kept, and the text says how many there are.
    pub fn invalid(what: &str, mut errors: Vec<FieldError>) -> Problem {
        let n = errors.len();
        errors.truncate(FIELD_ERRORS_MAX);
        let detail = match errors.first() {
            Some(only) if n == 1 => format!("{what}: {only}"),
            Some(_) | None => format!("{what}: {n} errors"),
        };
        Problem {
            errors,
            ..Problem::new(Code::Invalid, detail)
        }
    }

    /// A problem with this code; title and status follow from it.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        let (status, title) = match code {
            Code::NotFound => (404, "Not Found"),
            Code::Conflict => (409, "Conflict"),
            Code::Invalid => (422, "Unprocessable Content"),
            Code::Denied => (403, "Forbidden"),
            Code::Unauthenticated => (401, "Unauthorized"),
            Code::Exhausted => (429, "Too Many Requests"),
            Code::Unavailable => (503, "Service Unavailable"),
            Code::Timeout => (504, "Gateway Timeout"),
            Code::Unsupported => (501, "Not Implemented"),
            Code::Gone => (410, "Gone"),
            Code::Internal => (500, "Internal Server Error"),
        };
        Problem {
            type_: format!("about:blank#{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.as_str().to_owned(),
            request_id: String::new(),
            errors: Vec::new(),
        }
    }
}
