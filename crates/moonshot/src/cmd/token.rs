//! `token`: make, list and revoke tokens.

use crate::age;
use crate::context::Overrides;
use crate::exit::Failure;
use crate::out::Out;
use crate::session::{self, Session};
use crate::table::table;
use api::answer::{Role, Token, TokenRequest};
use base::{Span, Time};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Make a token. Its text is printed this once.
    Create {
        /// For people; unique.
        name: String,
        /// `admin`, `editor` or `viewer`.
        #[arg(long, default_value = "editor", value_parser = role)]
        role: Role,
        /// The only project it is good for.
        #[arg(long, value_name = "PROJECT")]
        only: Option<String>,
        /// How long it is good.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
    },
    /// Make a token that may call one App through the gateway, nothing else.
    Route {
        /// The App.
        app: String,
        /// How long it is good.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
    },
    /// Print the token that this command line uses: the console asks for it.
    Show,
    /// All tokens, without their text.
    List,
    /// Revoke tokens, by id or name.
    Delete {
        /// Which.
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "admin" => Ok(Role::Admin),
        "editor" => Ok(Role::Editor),
        "viewer" => Ok(Role::Viewer),
        _ => Err("write `admin`, `editor` or `viewer`".to_owned()),
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Editor => "editor",
        Role::Viewer => "viewer",
        Role::Route => "route",
    }
}

/// `token show`: needs no server.
pub(crate) fn show(over: &Overrides, out: Out) -> Result<(), Failure> {
    let token = session::token(&session::place(over)?)?.ok_or_else(|| {
        Failure::NotFound(
            "no token is known here; give one by MOONSHOT_TOKEN, MOONSHOT_TOKEN_FILE or a context"
                .to_owned(),
        )
    })?;
    out.line(token)
}

pub(crate) async fn run(session: &Session, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show => unreachable!("it was run without a session"),
        Verb::Create {
            name,
            role,
            only,
            expires_in,
        } => {
            let request = TokenRequest {
                name,
                role: Some(role),
                project: only,
                app: None,
                expires_in,
            };
            create(session, &request).await
        }
        Verb::Route { app, expires_in } => {
            let app = app.strip_prefix("app/").unwrap_or(&app).to_owned();
            let name = format!("route-{}-{app}-{}", session.project, age::now().as_ms());
            let request = TokenRequest {
                name,
                role: Some(Role::Route),
                project: Some(session.project.clone()),
                app: Some(app),
                expires_in,
            };
            create(session, &request).await
        }
        Verb::List => session
            .out
            .table(&list(&session.client.tokens().await?, age::now())),
        Verb::Delete { tokens } => {
            let known = session.client.tokens().await?;
            for wanted in tokens {
                let found = known
                    .iter()
                    .find(|token| token.id == wanted || token.name == wanted);
                let token = found.ok_or_else(|| {
                    Failure::NotFound(format!(
                        "there is no token `{wanted}`; `moonshot token list` shows them"
                    ))
                })?;
                session.client.delete_token(&token.id).await?;
                session.out.line(format!("token/{} revoked", token.name))?;
            }
            Ok(())
        }
    }
}

async fn create(session: &Session, request: &TokenRequest) -> Result<(), Failure> {
    let token = session.client.create_token(request).await?;
    if let Some(expires) = token.expires_at {
        session
            .out
            .note(format!("good until {expires}; it is not shown again"));
    }
    session.out.line(token.token.unwrap_or_default())
}

fn list(tokens: &[Token], now: Time) -> String {
    let row = |token: &Token| {
        let left = token
            .expires_at
            .map_or_else(String::new, |at| age::short(at.since(now)));
        let scope = [&token.project, &token.app]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join("/");
        vec![
            token.id.clone(),
            token.name.clone(),
            word(token.role).to_owned(),
            scope,
            age::short(now.since(token.created_at)),
            left,
        ]
    };
    table(
        &["ID", "NAME", "ROLE", "ONLY", "AGE", "GOOD FOR"],
        &tokens.iter().map(row).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_list() {
        let token = Token {
            id: "t1".to_owned(),
            name: "ci".to_owned(),
            role: Role::Route,
            project: Some("p".to_owned()),
            app: Some("a".to_owned()),
            created_at: Time::from_ms(0),
            expires_at: Some(Time::from_ms(3_660_000)),
            token: None,
        };
        expect![[r#"
            ID  NAME  ROLE   ONLY  AGE  GOOD FOR
            t1  ci    route  p/a   1m   1h
        "#]]
        .assert_eq(&list(&[token], Time::from_ms(60_000)));
    }
}
