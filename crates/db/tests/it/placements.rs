//! Rows of several owners at once: all of them come, of nobody else, and only those move on that stand where they shall.

use crate::both::{Place, both};
use crate::sample::{fill, uid};
use base::{Attempt, Index};
use db::control::{self, SeatOf};
use db::{Db, DbError, objects};

both!(
    rows_of_several_owners_come_at_once,
    only_those_that_stand_there_move_on,
);

async fn rows_of_several_owners_come_at_once(place: Place) {
    let db = place.open().await;
    fill(&db).await;
    let all = [uid(1), uid(2), uid(3), uid(99)];
    let objects = objects::read_by_uids(&db, &all).await.unwrap();
    let mut names: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["n1", "train", "web"]);
    let units = control::units_of(&db, &all).await.unwrap();
    assert_eq!(units, control::units(&db, uid(1)).await.unwrap());
    let placements = control::placements_of(&db, &all).await.unwrap();
    assert_eq!(placements, control::placements(&db, uid(1)).await.unwrap());
    assert_eq!(placements.len(), 1);
    assert!(control::units_of(&db, &all[1..]).await.unwrap().is_empty());
    assert!(control::placements_of(&db, &[]).await.unwrap().is_empty());
}

async fn only_those_that_stand_there_move_on(place: Place) {
    let db = place.open().await;
    fill(&db).await;
    for (from, to, expect) in [
        ("reserved", "releasing", "bound"),
        ("bound", "releasing", "releasing"),
    ] {
        move_on(&db, from, to).await;
        let placements = control::placements(&db, uid(1)).await.unwrap();
        assert_eq!(placements[0].state, expect, "from {from}");
    }
}

/// Of the sample's placement and of three that are not there.
async fn move_on(db: &Db, from: &'static str, to: &'static str) {
    let moved: Result<(), DbError> = db
        .write(None, move |tx| {
            Box::pin(async move {
                let seat = |owner, index| SeatOf {
                    owner: uid(owner),
                    group: "worker",
                    index: Index(index),
                    attempt: Attempt(1),
                };
                let seats = [seat(1, 0), seat(1, 1), seat(2, 0), seat(99, 0)];
                control::move_placements(tx, &seats, from, to).await
            })
        })
        .await;
    moved.unwrap();
}
