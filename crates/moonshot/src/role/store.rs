//! Where content is kept, as the settings say.

use super::server::chain;
use super::settings::Settings;
use serde::Deserialize;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{S3Config, Store};

/// A file with credentials: nothing else may be in it, and nobody else may read it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
}

/// Opens the store and looks whether it can be reached.
pub(crate) async fn open(settings: &Settings) -> Result<Store, String> {
    let local = settings.data_dir.join("store");
    let store = match &settings.store {
        None => Store::directory(&local),
        Some(location) if location.starts_with("s3://") => {
            Store::s3(&bucket(settings, location)?, &local)
        }
        Some(directory) => Store::directory(Path::new(directory)),
    };
    let failed = |error: store::StoreError| {
        let place = settings.store.as_deref().unwrap_or("in the data directory");
        format!("cannot open the store ({place}): {}", chain(&error))
    };
    let store = store.map_err(failed)?;
    store.check().await.map_err(failed)?;
    Ok(store)
}

fn bucket(settings: &Settings, location: &str) -> Result<S3Config, String> {
    let mut config = S3Config::parse(location).map_err(|error| chain(&error))?;
    config.endpoint.clone_from(&settings.store_endpoint);
    config.region.clone_from(&settings.store_region);
    config.credentials = settings
        .store_credentials
        .as_deref()
        .map(credentials)
        .transpose()?;
    Ok(config)
}

fn credentials(path: &Path) -> Result<(String, String), String> {
    let failed = |error: std::io::Error| {
        format!(
            "cannot read the store's credentials `{}`: {error}",
            path.display()
        )
    };
    let mode = path.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "`{}` holds credentials and others may read it: `chmod 600` it",
            path.display()
        ));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    // The parser's own message would quote the file.
    let read: Credentials = toml::from_str(&text).map_err(|_| {
        format!(
            "`{}` must hold two lines: `access_key_id = \"…\"` and `secret_access_key = \"…\"`",
            path.display()
        )
    })?;
    Ok((read.access_key_id, read.secret_access_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let write = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            credentials(&file)
        };
        let good = "access_key_id = 'id'\nsecret_access_key = 'hush'\n";
        assert_eq!(
            write(good, 0o600).unwrap(),
            ("id".to_owned(), "hush".to_owned())
        );
        assert!(write(good, 0o644).unwrap_err().contains("chmod 600"));
        for bad in [
            "secret_access_key = hush",
            "access_key_id = 'id'\nsecret = 'hush'",
        ] {
            let error = write(bad, 0o600).unwrap_err();
            assert!(
                !error.contains("hush") && error.contains("credentials"),
                "{error}"
            );
        }
    }
}
