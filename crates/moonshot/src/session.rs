//! What every verb that speaks to a server has: a client, a project, the output.

use crate::context::{self, Overrides, Place, TokenFrom};
use crate::exit::Failure;
use crate::out::Out;
use api::{Kind, Object, Scope};
use base::{Code, Span};
use client::{Client, Config};

/// How long an answer may take.
const ANSWER_TIMEOUT: Span = Span::from_secs(60);

/// A prepared command.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) project: String,
    pub(crate) out: Out,
}

/// Where to, as flags, the environment and the contexts say.
pub(crate) fn place(over: &Overrides) -> Result<Place, Failure> {
    let file = match context::path() {
        Some(path) => context::read(&path)?,
        None => context::File::default(),
    };
    context::resolve(&file, over)
}

/// The token's text; `None` where none is known.
pub(crate) fn token(place: &Place) -> Result<Option<String>, Failure> {
    match &place.token {
        TokenFrom::Text(token) => Ok(Some(token.clone())),
        TokenFrom::File(path) => {
            let text = std::fs::read_to_string(path).map_err(Failure::local(format!(
                "read the token file `{}`",
                path.display()
            )))?;
            Ok(Some(text.trim().to_owned()))
        }
        TokenFrom::Nowhere => Ok(None),
    }
}

impl Session {
    /// Finds the server, the token and the project.
    pub(crate) fn open(over: &Overrides) -> Result<Session, Failure> {
        let place = place(over)?;
        let token = token(&place)?;
        let certificates = match place.certificates {
            Some(path) => Some(
                std::fs::read(&path)
                    .map_err(Failure::local(format!("read `{}`", path.display())))?,
            ),
            None => None,
        };
        let config = Config {
            server: place.server,
            token,
            certificates,
            timeout: ANSWER_TIMEOUT,
        };
        Ok(Session {
            client: Client::new(&config)?,
            project: place.project,
            out: Out::new(),
        })
    }

    /// The project of an object of this kind; empty for kinds of a wider scope.
    pub(crate) fn project_of(&self, kind: Kind) -> &str {
        if kind.scope() == Scope::Project {
            &self.project
        } else {
            ""
        }
    }

    /// Reads an object.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Object, Failure> {
        Ok(self.client.get(kind, &self.project, name).await?)
    }

    /// Reads an object; `None` where there is none.
    pub(crate) async fn find(&self, kind: Kind, name: &str) -> Result<Option<Object>, Failure> {
        match self.client.get(kind, &self.project, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
