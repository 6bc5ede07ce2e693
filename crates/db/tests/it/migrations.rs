//! The schema: made once, opened again, refused where it is newer than this program.

use crate::both::{Place, both, insert, object};
use db::{Db, DbError};

both!(
    opening_again_finds_everything,
    servers_that_start_together_agree,
    a_newer_schema_is_refused,
);

async fn opening_again_finds_everything(place: Place) {
    let db = place.open().await;
    insert(&db, object("one")).await.unwrap();
    drop(db);
    let db = place.open().await;
    assert_eq!(db.head().borrow().0, 1);
    insert(&db, object("two")).await.unwrap();
    assert_eq!(db::feed::head(&db).await.unwrap().0, 2);
}

async fn servers_that_start_together_agree(place: Place) {
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let config = place.config();
            tokio::spawn(async move { Db::open(config).await })
        })
        .collect();
    for open in opening {
        open.await.unwrap().unwrap();
    }
    let db = place.open().await;
    let rows = db
        .fetch("SELECT version FROM schema_version ORDER BY version", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 1, "each migration ran once");
}

async fn a_newer_schema_is_refused(place: Place) {
    let db = place.open().await;
    db.write(None, |tx| {
        Box::pin(async move {
            tx.execute("INSERT INTO schema_version (version) VALUES (999)", &[])
                .await
        })
    })
    .await
    .unwrap();
    drop(db);
    let error = Db::open(place.config()).await.err().unwrap();
    assert!(
        matches!(error, DbError::TooNew { found: 999, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("use a newer moonshot"));
}
