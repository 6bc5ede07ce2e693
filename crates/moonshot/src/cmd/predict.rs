//! `predict`: one request to an App through the gateway.

use crate::exit::Failure;
use crate::session::Session;
use crate::target;
use crate::view::status;
use api::Kind;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The App: `NAME` or `app/NAME`.
    app: String,
    /// The path below the App's.
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
    /// What to send; `@FILE` sends a file. With it the request is a POST.
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,
    /// Its media type.
    #[arg(long, default_value = "application/json", value_name = "TYPE")]
    content_type: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let target = target::one(std::slice::from_ref(&args.app), Some(Kind::App))?;
    let app = session.get(Kind::App, &target.name).await?;
    let url = status(&app, "url");
    if url.is_empty() {
        return Err(Failure::Failed(format!(
            "app/{} is not reachable yet; `moonshot why app/{}` says why",
            target.name, target.name
        )));
    }
    let data = match args
        .data
        .as_deref()
        .map(|data| (data, data.strip_prefix('@')))
    {
        None => None,
        Some((_, Some(file))) => {
            Some(std::fs::read(file).map_err(Failure::local(format!("read `{file}`")))?)
        }
        Some((text, None)) => Some(text.as_bytes().to_vec()),
    };
    let answer = session
        .client
        .call_app(&url, &args.path, data, &args.content_type)
        .await?;
    session.out.bytes(&answer.body)?;
    if !answer.body.ends_with(b"\n") {
        session.out.line("")?;
    }
    if answer.status < 400 {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "the App answered {}",
            answer.status
        )))
    }
}
