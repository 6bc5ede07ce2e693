//! The control database and the key of its Secrets, as the settings say.

use super::server::chain;
use super::settings::Settings;
use server::auth::keys;
use server::platform::{Clock, SystemClock};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

/// How the database is opened.
pub(crate) fn config(settings: &Settings) -> db::Config {
    let clock = SystemClock {
        offset_ms: settings.clock_offset_ms,
    };
    let location = match &settings.database {
        Some(url) => db::Location::Postgres(url.clone()),
        None => db::Location::Sqlite(settings.data_dir.join("moonshot.sqlite")),
    };
    db::Config {
        location,
        clock: Arc::new(move || clock.now()),
    }
}

/// Why it cannot be opened, and what to do. Its address may hold a password, so it is not repeated.
pub(crate) fn words(settings: &Settings, error: &db::DbError) -> String {
    let place = match &settings.database {
        Some(_) => "PostgreSQL (MOONSHOT_DATABASE)".to_owned(),
        None => format!("`{}`", settings.data_dir.join("moonshot.sqlite").display()),
    };
    let why = chain(error);
    let remedy = match &settings.database {
        Some(_) => "",
        None if why.contains("readonly") || why.contains("unable to open") => {
            "; may this user write there, and is the file system writable?"
        }
        None if why.contains("full") || why.contains("I/O error") => {
            "; its disk is full or fails: free some space on it"
        }
        None => "",
    };
    format!("cannot open the database, {place}: {why}{remedy}")
}

fn key_file(settings: &Settings) -> PathBuf {
    settings.data_dir.join("server.key")
}

/// The key, which is made at the first start.
pub(crate) fn key(settings: &Settings) -> Result<Vec<u8>, String> {
    let file = key_file(settings);
    keys::read_or_make(&file, keys::random)
        .map_err(|error| format!("cannot keep the key in `{}`: {error}", file.display()))
}

/// The key, if it was made.
pub(crate) fn key_if_there(settings: &Settings) -> Option<Vec<u8>> {
    std::fs::read(key_file(settings)).ok()
}

/// A name for a key that tells nothing of it.
pub(crate) fn key_name(key: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(b"moonshot key name\n")
        .chain_update(key)
        .finalize();
    base::hex(&digest[..8])
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_have_different_names() {
        let names = [&[0; 32], &[1; 32]].map(|key| super::key_name(key));
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == 16));
    }
}
