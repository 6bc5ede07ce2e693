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
    /// The path below the App's. Default: `/v1/models/NAME:predict` where the App names a model (with `--data`), else `/`.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
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
    let path = match &args.path {
        Some(path) => path.clone(),
        None => default_path(&app.spec, args.data.is_some()),
    };
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
        .call_app(&url, &path, data, &args.content_type)
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

/// Where a model is asked for predictions or, without data, for its state.
fn default_path(spec: &serde_json::Value, has_data: bool) -> String {
    let model = serde_json::from_value::<api::served::ServedModel>(spec["model"].clone());
    match model {
        Ok(model) if has_data => format!("/v1/models/{}:predict", model.name()),
        Ok(model) => format!("/v1/models/{}", model.name()),
        Err(_) => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::default_path;
    use serde_json::json;

    #[test]
    fn apps_that_name_a_model_are_asked_for_predictions() {
        let named = json!({"model": {"uri": "job://flights/model"}});
        assert_eq!(default_path(&named, true), "/v1/models/flights:predict");
        assert_eq!(default_path(&named, false), "/v1/models/flights");
        assert_eq!(default_path(&json!({}), true), "/");
    }
}
