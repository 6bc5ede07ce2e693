//! Backups: complete, the same from either database, refused where they would do harm.

use crate::both::{Place, START, both, insert, object};
use crate::sample::{self, HEAD};
use base::{Epoch, Span};
use db::backup::{self, BackupError};
use db::{DbError, Location, check, feed, leases, objects};
use std::path::PathBuf;

both!(
    a_backup_moves_everything_to_the_other_database,
    a_backup_is_of_one_moment,
    restoring_needs_an_empty_database,
    a_damaged_backup_leaves_nothing_behind,
    the_golden_database_of_every_schema_comes_forward,
);

fn other(place: &Place) -> Place {
    match place.location {
        Location::Sqlite(_) => Place::postgres(),
        Location::Postgres(_) => Place::sqlite(),
    }
}

async fn dump(place: &Place) -> String {
    let mut bytes = Vec::new();
    backup::write(&place.config(), "key-7", &mut bytes)
        .await
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn load(place: &Place, text: &str) -> Result<backup::Summary, BackupError> {
    backup::restore(&place.config(), &mut text.as_bytes()).await
}

async fn a_backup_moves_everything_to_the_other_database(place: Place) {
    let db = place.open().await;
    sample::fill(&db).await;
    let text = dump(&place).await;
    for absent in ["moon_shown_once", "127.0.0.1:7070"] {
        assert!(!text.contains(absent), "{absent}");
    }
    let target = other(&place);
    let summary = load(&target, &text).await.unwrap();
    assert_eq!(
        (summary.seq, summary.key.as_str(), summary.at.as_ms()),
        (HEAD.0, "key-7", START)
    );
    assert_eq!(dump(&target).await, text, "byte for byte");
    assert_eq!(check::run(&target.config()).await.unwrap(), []);

    // Life goes on: the feed counts on, whoever followed it lists again, and terms are later ones.
    let restored = target.open().await;
    assert_eq!(
        insert(&restored, object("next")).await.unwrap().0,
        HEAD.0 + 1
    );
    let gone = feed::since(&restored, base::Seq(HEAD.0 - 1), 10).await;
    assert!(matches!(gone, Err(DbError::Gone { .. })), "{gone:?}");
    let epoch = leases::acquire(&restored, "leader", "b", Span::from_secs(8)).await;
    assert_eq!(epoch.unwrap(), Some(Epoch(2)));
    let job = objects::read(&restored, "Job", "default", "train").await;
    assert_eq!(job.unwrap().unwrap().labels["team"], "ranking");
}

async fn a_backup_is_of_one_moment(place: Place) {
    let db = place.open().await;
    let writing = tokio::spawn({
        let db = db.clone();
        async move {
            for n in 0..300 {
                insert(&db, object(&format!("j{n}"))).await.unwrap();
            }
        }
    });
    let mut seen = 0;
    while !writing.is_finished() {
        let text = dump(&place).await;
        let target = Place::sqlite();
        let summary = load(&target, &text).await.unwrap();
        let n = objects::all(&target.open().await, "Job")
            .await
            .unwrap()
            .len();
        assert_eq!(n as u64, summary.seq, "as many objects as the feed says");
        seen += usize::from(n > 0 && n < 300);
    }
    writing.await.unwrap();
    assert!(seen > 0, "no backup was made in the middle");
}

async fn restoring_needs_an_empty_database(place: Place) {
    let db = place.open().await;
    sample::fill(&db).await;
    let text = dump(&place).await;
    let error = load(&place, &text).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
    assert_eq!(dump(&place).await, text, "nothing was changed");
    let newer = text.replacen("\"schema\":1", "\"schema\":999", 1);
    let error = load(&other(&place), &newer).await.unwrap_err();
    assert!(
        error.to_string().contains("use a newer moonshot"),
        "{error}"
    );
}

async fn a_damaged_backup_leaves_nothing_behind(place: Place) {
    let source = Place::sqlite();
    sample::fill(&source.open().await).await;
    let text = dump(&source).await;
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines[..lines.len() / 2].join("\n") + "\n";
    let changed = text.replacen("ranking", "renking", 1);
    let foreign = text.replacen("\"table\":\"audit\"", "\"table\":\"pg_class\"", 1);
    let cases = [
        ("", "was cut"),
        ("{}\n", "that of a backup"),
        ("hello\n", "not JSON"),
        (&cut, "was cut"),
        (&changed, "was changed"),
        (&foreign, "does not exist"),
    ];
    for (text, expect) in cases {
        let error = load(&place, text).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{expect}: {error}");
    }
    load(&place, &text).await.unwrap();
    assert_eq!(dump(&place).await, text);
}

/// `UPDATE_EXPECT=1` writes the newest one, as long as no release has its schema.
async fn the_golden_database_of_every_schema_comes_forward(place: Place) {
    let golden = |version: i64| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(format!("schema-{version}.jsonl"))
    };
    let source = other(&place);
    let db = source.open().await;
    sample::fill(&db).await;
    let rows = db
        .fetch("SELECT MAX(version) FROM schema_version", &[])
        .await;
    let newest = rows.unwrap()[0].int(0).unwrap();
    let text = dump(&source).await;
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(golden(newest), &text).unwrap();
    }
    let mut place = place;
    for version in 1..=newest {
        let kept = std::fs::read_to_string(golden(version)).unwrap();
        if version == newest {
            assert_eq!(
                kept, text,
                "UPDATE_EXPECT=1 rewrites it; a released schema needs a migration"
            );
        }
        load(&place, &kept).await.unwrap();
        assert_eq!(check::run(&place.config()).await.unwrap(), []);
        let job = objects::read(&place.open().await, "Job", "default", "train").await;
        assert_eq!(job.unwrap().unwrap().uid, sample::uid(1));
        place = match place.location {
            Location::Sqlite(_) => Place::sqlite(),
            Location::Postgres(_) => Place::postgres(),
        };
    }
}
