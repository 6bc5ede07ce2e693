//! Events: repeated ones are counted; bounds per object and in time hold.

use crate::both::{Place, START, both, uid, with};
use base::{Time, Uid};
use db::events::{self, Event};
use serde_json::json;

both!(
    repeated_events_are_counted,
    several_at_once_are_as_one_after_the_other,
    bounds_hold,
);

fn event(object: Uid, message: String, at: i64) -> Event {
    Event {
        uid: uid(),
        object,
        object_kind: "Job".to_owned(),
        object_name: "one".to_owned(),
        tenant: "default".to_owned(),
        project: "default".to_owned(),
        kind: "Normal".to_owned(),
        reason: "Started".to_owned(),
        message,
        params: json!({}),
        first_at: Time::from_ms(at),
        last_at: Time::from_ms(at),
        count: 1,
        seq: 0,
    }
}

async fn record(db: &db::Db, new: Vec<Event>) {
    with(db, new, |tx, new| {
        Box::pin(async move {
            for event in &new {
                events::record(tx, event).await?;
            }
            Ok::<(), db::DbError>(())
        })
    })
    .await
    .unwrap();
}

async fn several_at_once_are_as_one_after_the_other(place: Place) {
    let db = place.open().await;
    let (one, other) = (uid(), uid());
    record(&db, vec![event(one, "m".to_owned(), START)]).await;
    let new = vec![
        event(one, "m".to_owned(), START + 5),
        event(one, "n".to_owned(), START + 6),
        event(other, "m".to_owned(), START + 7),
        event(one, "n".to_owned(), START + 8),
        event(one, "m".to_owned(), START + 9),
    ];
    with(&db, new, |tx, new| {
        Box::pin(async move { events::record_all(tx, &new).await })
    })
    .await
    .unwrap();
    for (object, expect) in [
        (one, vec![("m", 3, START + 9), ("n", 2, START + 8)]),
        (other, vec![("m", 1, START + 7)]),
    ] {
        let found = events::of_object(&db, object, 10).await.unwrap();
        let told: Vec<(&str, u32, i64)> = found
            .iter()
            .map(|e| (e.message.as_str(), e.count, e.last_at.as_ms()))
            .collect();
        assert_eq!(told, expect);
    }
}

async fn repeated_events_are_counted(place: Place) {
    let db = place.open().await;
    let object = uid();
    record(&db, vec![event(object, "m".to_owned(), START)]).await;
    record(
        &db,
        vec![
            event(object, "m".to_owned(), START + 9),
            event(object, "n".to_owned(), START + 1),
        ],
    )
    .await;
    let found = events::of_object(&db, object, 10).await.unwrap();
    let told: Vec<(&str, u32, i64, i64)> = found
        .iter()
        .map(|e| {
            (
                e.message.as_str(),
                e.count,
                e.first_at.as_ms(),
                e.last_at.as_ms(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("m", 2, START, START + 9), ("n", 1, START + 1, START + 1)]
    );
    let (page, has_more) = events::list(&db, Some("default"), None, 1).await.unwrap();
    assert!(has_more);
    let (rest, has_more) = events::list(
        &db,
        Some("default"),
        Some((page[0].last_at, page[0].uid)),
        1,
    )
    .await
    .unwrap();
    assert_eq!((rest[0].message.as_str(), has_more), ("n", false));
}

async fn bounds_hold(place: Place) {
    let db = place.open().await;
    let object = uid();
    let n_events = i64::from(events::KEPT_MAX) + 5;
    let new = (0..n_events)
        .map(|n| event(object, format!("m{n}"), START + n))
        .collect();
    record(&db, new).await;
    let found = events::of_object(&db, object, 2_000).await.unwrap();
    assert_eq!(found.len(), events::KEPT_MAX as usize);
    assert_eq!(found.last().unwrap().message, "m5", "the oldest go");
    place.pass(i64::try_from(events::KEPT.as_ms()).unwrap() + 10);
    let forgotten = with(&db, (), |tx, ()| {
        Box::pin(async move { events::forget(tx, 3).await })
    })
    .await
    .unwrap();
    assert_eq!(forgotten, 3, "m5 to m7, by the limit");
}
