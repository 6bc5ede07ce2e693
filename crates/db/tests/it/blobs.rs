//! Which content is kept, and the steps in which it goes.

use crate::both::{Place, both, uid, with};
use base::{Digest, Time};
use db::blobs::{self, Blob, State};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

both!(
    content_that_nobody_needs_goes_in_three_steps,
    bytes_without_a_row_are_doomed_once,
    totals_count_each_project,
);

fn blob(project: &str, n: u8, size: u64) -> Blob {
    Blob {
        project: project.to_owned(),
        digest: Digest([n; 32]),
        size,
    }
}

async fn put(db: &db::Db, blob: Blob) {
    with(db, blob, |tx, blob| {
        Box::pin(async move { blobs::put(tx, &blob).await })
    })
    .await
    .unwrap();
}

async fn state(db: &db::Db, n: u8) -> State {
    with(db, n, |tx, n| {
        Box::pin(async move { blobs::state(tx, "p", Digest([n; 32])).await })
    })
    .await
    .unwrap()
}

async fn doom(db: &db::Db, before: Time) -> u64 {
    with(db, before, |tx, before| {
        Box::pin(async move { blobs::doom(tx, before).await })
    })
    .await
    .unwrap()
}

async fn content_that_nobody_needs_goes_in_three_steps(place: Place) {
    let db = place.open().await;
    for n in 1..=4 {
        put(&db, blob("p", n, 10)).await;
    }
    let holder = uid();
    with(&db, holder, |tx, holder| {
        Box::pin(async move { blobs::hold(tx, "p", Digest([1; 32]), holder, "job").await })
    })
    .await
    .unwrap();
    let start = Time::from_ms(place.now.load(Ordering::Relaxed));
    place.now.fetch_add(1_000, Ordering::Relaxed);
    // Used again since: young.
    let touched = with(&db, (), |tx, ()| {
        Box::pin(async move { blobs::touch(tx, "p", Digest([2; 32])).await })
    });
    assert!(touched.await.unwrap());
    let later = Time::from_ms(start.as_ms() + 500);
    assert_eq!(doom(&db, start).await, 0, "none is older");
    assert_eq!(doom(&db, later).await, 2);
    assert_eq!(
        [
            state(&db, 1).await,
            state(&db, 2).await,
            state(&db, 3).await,
            state(&db, 9).await
        ],
        [State::Kept, State::Kept, State::Doomed, State::Absent]
    );
    // Doomed content cannot be used or kept again until it is gone.
    put(&db, blob("p", 3, 10)).await;
    let touched = with(&db, (), |tx, ()| {
        Box::pin(async move { blobs::touch(tx, "p", Digest([3; 32])).await })
    });
    assert!(!touched.await.unwrap());
    assert_eq!(state(&db, 3).await, State::Doomed);
    let doomed = with(&db, (), |tx, ()| {
        Box::pin(async move { blobs::doomed(tx).await })
    });
    assert_eq!(doomed.await.unwrap(), [blob("p", 3, 10), blob("p", 4, 10)]);
    with(&db, (), |tx, ()| {
        Box::pin(async move {
            // Kept content is not forgotten by mistake.
            blobs::forget(tx, "p", Digest([1; 32])).await?;
            blobs::forget(tx, "p", Digest([3; 32])).await
        })
    })
    .await
    .unwrap();
    assert_eq!(
        [state(&db, 1).await, state(&db, 3).await],
        [State::Kept, State::Absent]
    );
    put(&db, blob("p", 3, 11)).await;
    assert_eq!(state(&db, 3).await, State::Kept);
}

async fn bytes_without_a_row_are_doomed_once(place: Place) {
    let db = place.open().await;
    put(&db, blob("p", 1, 10)).await;
    for (n, expect) in [(1, false), (2, true), (2, false)] {
        let doomed = with(&db, blob("p", n, 10), |tx, blob| {
            Box::pin(async move { blobs::doom_unknown(tx, &blob).await })
        });
        assert_eq!(doomed.await.unwrap(), expect, "{n}");
    }
    assert_eq!(state(&db, 1).await, State::Kept);
    let known = blobs::known(&db, "p", 2).await.unwrap();
    assert_eq!(known, [Digest([2; 32])]);
    assert!(blobs::known(&db, "q", 2).await.unwrap().is_empty());
}

async fn totals_count_each_project(place: Place) {
    let db = place.open().await;
    for (project, n, size) in [("p", 1, 10), ("p", 2, 1 << 40), ("q", 1, 7), ("p", 1, 10)] {
        put(&db, blob(project, n, size)).await;
    }
    let expect = BTreeMap::from([("p".to_owned(), (1 << 40) + 10), ("q".to_owned(), 7)]);
    assert_eq!(blobs::totals(&db).await.unwrap(), expect);
    let total = with(&db, (), |tx, ()| {
        Box::pin(async move { blobs::total(tx, "none").await })
    });
    assert_eq!(total.await.unwrap(), 0);
}
