//! `edit`: change an object in your editor.

use crate::exit::Failure;
use crate::out::yaml_text;
use crate::session::Session;
use crate::target;
use api::manifest::{self, Format};
use serde_json::Value;
use std::process::Command;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND NAME` or `KIND/NAME`.
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let target = target::one(&args.object, None)?;
    let object = session.get(target.kind, &target.name).await?;
    let generation = object.metadata.generation;
    let mut value =
        serde_json::to_value(&object).map_err(|error| Failure::Failed(error.to_string()))?;
    if let Value::Object(fields) = &mut value {
        // What the server alone writes is not for editing.
        fields.remove("status");
    }
    let before = yaml_text(&value);
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .map_err(Failure::local("make a temporary file"))?;
    std::fs::write(file.path(), &before).map_err(Failure::local("write a temporary file"))?;
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "vi".to_owned());
    // An editor may be given with arguments: `code --wait`.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .map_err(Failure::local(format!("start the editor `{editor}`")))?;
    if !status.success() {
        return Err(Failure::Failed(format!(
            "the editor `{editor}` failed; nothing was changed"
        )));
    }
    let after = std::fs::read(file.path()).map_err(Failure::local("read the edited file"))?;
    if after == before.as_bytes() {
        return session.out.line(format!("{} unchanged", target.show()));
    }
    match save(session, &after, target.kind, generation).await {
        Ok(()) => session.out.line(format!("{} configured", target.show())),
        Err(failure) => {
            // Nobody should have to type it twice.
            if let Ok((_, path)) = file.keep() {
                session
                    .out
                    .note(format!("your text is kept in `{}`", path.display()));
            }
            Err(failure)
        }
    }
}

async fn save(
    session: &Session,
    text: &[u8],
    kind: api::Kind,
    generation: Option<base::Generation>,
) -> Result<(), Failure> {
    let documents = manifest::parse(text, Format::Yaml)
        .map_err(|problem| Failure::Invalid(problem.detail.clone()))?;
    let [document] = documents.as_slice() else {
        return Err(Failure::Invalid(
            "exactly one document is expected".to_owned(),
        ));
    };
    session
        .client
        .apply(&document.object, kind, generation)
        .await?;
    Ok(())
}
