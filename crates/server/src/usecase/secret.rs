//! What a Secret holds, for the server's own errands in a project's name: fetching code and model files. It is shown nowhere.

use super::seal;
use crate::error::UseError;
use crate::platform::Platform;
use db::{objects, versions};
use std::collections::BTreeMap;

/// The entries of a project's Secret as they are now; `field` is the one that names it.
pub async fn entries(
    platform: &Platform,
    project: &str,
    name: &str,
    field: &str,
) -> Result<BTreeMap<String, Vec<u8>>, UseError> {
    let refuse = |message: String| UseError::field(field, message);
    let Some(object) = objects::read(&platform.db, "Secret", project, name).await? else {
        let message = format!("names secret `{name}`, which does not exist in project `{project}`");
        return Err(refuse(message));
    };
    let version = object.status["version"]
        .as_u64()
        .and_then(|version| u32::try_from(version).ok())
        .unwrap_or(1);
    let sealed = versions::secret(&platform.db, object.uid, version).await?;
    let sealed = sealed.ok_or_else(|| refuse(format!("names secret `{name}`, which is empty")))?;
    seal::open(&platform.key, object.uid, version, &sealed)
        .map_err(|error| UseError::internal("a secret cannot be opened", error))
}
