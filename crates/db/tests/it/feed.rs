//! The change feed: dense, in commit order, read while it grows, forgotten from its beginning.

use crate::both::{Place, both, insert, object, with};
use base::Seq;
use db::{DbError, feed};
use std::time::Duration;

both!(
    a_reader_misses_nothing_under_concurrent_writers,
    a_forgotten_position_is_gone,
    forgetting_leaves_no_gap_where_clocks_differ,
);

async fn a_reader_misses_nothing_under_concurrent_writers(place: Place) {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    // Two handles write as two servers would; PostgreSQL alone allows that.
    let first = place.open().await;
    let second = if first.is_shared() {
        place.open().await
    } else {
        first.clone()
    };
    let reader = tokio::spawn({
        let db = first.clone();
        async move {
            let (mut seq, mut seen, mut idle) = (Seq(0), Vec::new(), 0);
            while seen.len() < WRITERS * EACH {
                let changes = feed::since(&db, seq, 7).await.unwrap();
                if changes.is_empty() {
                    idle += 1;
                    assert!(idle < 3_000, "the feed stops at {seq}");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                for change in changes {
                    assert_eq!(change.seq.0, seq.0 + 1, "no gap and no reorder");
                    seq = change.seq;
                    seen.push(change.name);
                }
            }
            seen
        }
    });
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let db = if writer % 2 == 0 {
            first.clone()
        } else {
            second.clone()
        };
        writers.push(tokio::spawn(async move {
            for n in 0..EACH {
                insert(&db, object(&format!("w{writer}-{n:02}")))
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let seen = reader.await.unwrap();
    for writer in 0..WRITERS {
        let mine: Vec<&String> = seen
            .iter()
            .filter(|name| name.starts_with(&format!("w{writer}-")))
            .collect();
        assert_eq!(mine.len(), EACH);
        assert!(mine.is_sorted(), "a writer's entries are in its order");
    }
    assert_eq!(
        feed::head(&second).await.unwrap(),
        Seq((WRITERS * EACH) as u64)
    );
    assert_eq!(
        feed::since(&first, Seq((WRITERS * EACH) as u64), 7)
            .await
            .unwrap(),
        []
    );
}

async fn forget(db: &db::Db, limit: u32) -> u64 {
    with(db, limit, |tx, limit| {
        Box::pin(async move { feed::forget(tx, limit).await })
    })
    .await
    .unwrap()
}

async fn a_forgotten_position_is_gone(place: Place) {
    let db = place.open().await;
    for n in 0..5 {
        insert(&db, object(&format!("old{n}"))).await.unwrap();
    }
    assert_eq!(forget(&db, 100).await, 0);
    place.pass(i64::try_from(feed::KEPT.as_ms()).unwrap() + 1);
    insert(&db, object("new")).await.unwrap();
    assert_eq!(forget(&db, 2).await, 2, "not more than the limit at once");
    assert_eq!(forget(&db, 100).await, 3);
    let error = feed::since(&db, Seq(4), 10).await.unwrap_err();
    assert!(matches!(error, DbError::Gone { first: 6 }), "{error:?}");
    assert_eq!(error.code(), base::Code::Gone);
    assert_eq!(feed::since(&db, Seq(5), 10).await.unwrap().len(), 1);
    place.pass(i64::try_from(feed::KEPT.as_ms()).unwrap() + 1);
    assert_eq!(forget(&db, 100).await, 1);
    assert!(matches!(
        feed::since(&db, Seq(5), 10).await.unwrap_err(),
        DbError::Gone { first: 7 }
    ));
    assert_eq!(
        feed::since(&db, Seq(6), 10).await.unwrap(),
        [],
        "the head is never gone"
    );
    assert!(
        matches!(
            feed::since(&db, Seq(9), 10).await.unwrap_err(),
            DbError::Gone { first: 7 }
        ),
        "beyond the head"
    );
}

async fn forgetting_leaves_no_gap_where_clocks_differ(place: Place) {
    let db = place.open().await;
    insert(&db, object("now")).await.unwrap();
    place.pass(-2 * i64::try_from(feed::KEPT.as_ms()).unwrap());
    insert(&db, object("a clock that is late")).await.unwrap();
    place.pass(2 * i64::try_from(feed::KEPT.as_ms()).unwrap());
    insert(&db, object("now again")).await.unwrap();
    assert_eq!(forget(&db, 100).await, 0);
    assert_eq!(feed::since(&db, Seq(0), 10).await.unwrap().len(), 3);
}
