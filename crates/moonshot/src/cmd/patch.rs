//! `patch`: merge a patch into an object.

use crate::exit::Failure;
use crate::session::Session;
use crate::target;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND NAME` or `KIND/NAME`.
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
    /// JSON, merged field by field; `null` removes (RFC 7386).
    #[arg(short, long, value_name = "JSON")]
    patch: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let target = target::one(&args.object, None)?;
    let patch: Value = serde_json::from_str(&args.patch)
        .map_err(|error| Failure::Usage(format!("the patch is not JSON: {error}")))?;
    session
        .client
        .patch(
            target.kind,
            session.project_of(target.kind),
            &target.name,
            &patch,
        )
        .await?;
    session.out.line(format!("{} patched", target.show()))
}
