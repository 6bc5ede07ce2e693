//! `db`: back up, restore and check the control database. They open it themselves and need no server.

use crate::exit::Failure;
use crate::out::{Out, say};
use crate::role::settings::{self, Settings};
use crate::role::{self, database, files};
use db::backup::{self, Summary};
use db::check::Finding;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Write everything in the database into a file, also while servers run.
    ///
    /// Secrets are in it as they are stored, sealed under `server.key`: keep that file too, elsewhere. Code, outputs and
    /// models are in the store, output of programs in the logs; copy those as files.
    Backup {
        /// Where to; `-` is standard output. A file that exists is not overwritten.
        file: PathBuf,
    },
    /// Fill an empty database from a backup. It may have been made from the other kind of database.
    Restore {
        /// Where from; `-` is standard input.
        file: PathBuf,
    },
    /// Say what contradicts itself in the database, the store and the Secrets. Ends with 1 where something does.
    Check,
}

pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    let settings = settings::from_environment().map_err(Failure::Usage)?;
    match verb {
        Verb::Backup { file } => backup(&settings, &file).await,
        Verb::Restore { file } => restore(&settings, &file).await,
        Verb::Check => check(&settings).await,
    }
}

async fn backup(settings: &Settings, file: &Path) -> Result<(), Failure> {
    let key = database::key_if_there(settings).unwrap_or_default();
    let (config, name) = (database::config(settings), database::key_name(&key));
    if file == Path::new("-") {
        let mut out = BufWriter::new(io::stdout());
        backup::write(&config, &name, &mut out)
            .await
            .map_err(failed)?;
        return Ok(());
    }
    if file.exists() {
        return Err(Failure::Usage(format!(
            "`{}` exists; choose another name",
            file.display()
        )));
    }
    // Whole or not at all, and for its owner's eyes: it holds everything but keys.
    let draft = draft_of(file);
    let made = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft);
    let made = made.map_err(Failure::local(format!("make `{}`", draft.display())))?;
    let mut out = BufWriter::new(made);
    let written = match backup::write(&config, &name, &mut out).await {
        Ok(summary) => out
            .flush()
            .and_then(|()| out.get_ref().sync_all())
            .and_then(|()| std::fs::rename(&draft, file))
            .map_err(Failure::local(format!("write `{}`", file.display())))
            .map(|()| summary),
        Err(error) => Err(failed(error)),
    };
    if written.is_err() {
        // It may not have been made.
        let _ = std::fs::remove_file(&draft);
    }
    let summary = written?;
    say!("{} is in `{}`", told(&summary), file.display());
    say!(
        "keep `server.key` of `{}` too, elsewhere: Secrets are sealed under it",
        settings.data_dir.display()
    );
    Ok(())
}

fn draft_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

async fn restore(settings: &Settings, file: &Path) -> Result<(), Failure> {
    let runs = files::server_roles().any(|role| files::holder(&settings.data_dir, &role).is_some());
    if runs {
        let detail = "a server runs on this data directory; `moonshot down` stops it";
        return Err(Failure::Failed(detail.to_owned()));
    }
    if settings.database.is_none() {
        std::fs::create_dir_all(&settings.data_dir).map_err(Failure::local(format!(
            "make `{}`",
            settings.data_dir.display()
        )))?;
    }
    let config = database::config(settings);
    let restored = if file == Path::new("-") {
        backup::restore(&config, &mut BufReader::new(io::stdin())).await
    } else {
        let opened = File::open(file);
        let opened = opened.map_err(Failure::local(format!("read `{}`", file.display())))?;
        backup::restore(&config, &mut BufReader::new(opened)).await
    };
    let summary = restored.map_err(failed)?;
    say!("{} is restored", told(&summary));
    let key = database::key_if_there(settings).map(|key| database::key_name(&key));
    if key.as_ref() != Some(&summary.key) {
        let file = settings.data_dir.join("server.key");
        say!(
            "warning: Secrets are sealed under another key than this data directory's: put the old `server.key` at `{}`, or make the Secrets again",
            file.display()
        );
    }
    Ok(())
}

async fn check(settings: &Settings) -> Result<(), Failure> {
    let out = Out::new();
    let config = database::config(settings);
    let words = |error: db::DbError| Failure::Failed(database::words(settings, &error));
    let mut findings = db::check::run(&config).await.map_err(words)?;
    let open = db::Db::open(config).await.map_err(words)?;
    let store = role::store::open(settings).await.map_err(Failure::Failed)?;
    let key = database::key_if_there(settings).unwrap_or_default();
    let beyond = server::check::run(&open, &store, &key).await;
    findings.extend(beyond.map_err(words)?);
    if findings.is_empty() {
        say!("the database agrees with itself, the store and the key");
        return Ok(());
    }
    out.text(&shown(&findings))?;
    Err(Failure::Code(1))
}

fn shown(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{}: {}\n", finding.rule, finding.sentence));
        for row in &finding.rows {
            text.push_str(&format!("  {row}\n"));
        }
        if finding.rows.len() == db::check::TOLD_MAX {
            text.push_str("  and perhaps more\n");
        }
    }
    text
}

fn told(summary: &Summary) -> String {
    format!(
        "the backup of {} ({} rows, schema {}, feed position {})",
        summary.at, summary.rows, summary.schema, summary.seq
    )
}

fn failed(error: backup::BackupError) -> Failure {
    Failure::Failed(crate::role::server::chain(&error))
}
