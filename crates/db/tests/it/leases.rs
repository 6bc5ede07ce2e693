//! The leader's lease: on the database's clock, with a term that rises, and writes of an earlier term refused.

use crate::both::{Place, both, object};
use base::{Epoch, Span};
use db::{DbError, leases};
use std::time::{Duration, Instant};

both!(
    a_lease_is_taken_renewed_and_given_up,
    it_ends_on_the_databases_clock,
    a_write_of_an_earlier_term_is_refused,
    terms_go_on_past_what_an_engine_has_seen,
);

const LONG: Span = Span::from_secs(60);

async fn a_lease_is_taken_renewed_and_given_up(place: Place) {
    let db = place.open().await;
    let take = |holder: &'static str| leases::acquire(&db, "leader", holder, LONG);
    assert_eq!(take("a").await.unwrap(), Some(Epoch(1)));
    assert_eq!(take("b").await.unwrap(), None);
    assert_eq!(take("a").await.unwrap(), Some(Epoch(1)), "renewed");
    leases::release(&db, "leader", "b").await.unwrap();
    assert_eq!(
        take("b").await.unwrap(),
        None,
        "only the holder gives it up"
    );
    leases::release(&db, "leader", "a").await.unwrap();
    assert_eq!(take("b").await.unwrap(), Some(Epoch(2)));
    assert_eq!(take("a").await.unwrap(), None);
    leases::clear(&db, "leader").await.unwrap();
    assert_eq!(
        take("b").await.unwrap(),
        Some(Epoch(3)),
        "even its own term is over"
    );
}

async fn it_ends_on_the_databases_clock(place: Place) {
    let db = place.open().await;
    let span = Span::from_ms(700);
    assert_eq!(
        leases::acquire(&db, "leader", "a", span).await.unwrap(),
        Some(Epoch(1))
    );
    let taken = Instant::now();
    // A server whose clock is a year ahead gains nothing.
    place.pass(365 * 24 * 3_600_000);
    assert_eq!(
        leases::acquire(&db, "leader", "b", span).await.unwrap(),
        None
    );
    let epoch = loop {
        match leases::acquire(&db, "leader", "b", span).await.unwrap() {
            Some(epoch) => break epoch,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(
            taken.elapsed() < Duration::from_secs(10),
            "the lease never ends"
        );
    };
    assert_eq!(epoch, Epoch(2));
    assert!(
        taken.elapsed() >= Duration::from_millis(690),
        "{:?}",
        taken.elapsed()
    );
}

async fn a_write_of_an_earlier_term_is_refused(place: Place) {
    let db = place.open().await;
    leases::acquire(&db, "leader", "a", LONG).await.unwrap();
    let write = |epoch: u64, name: &'static str| {
        db.write(Some(Epoch(epoch)), move |tx| {
            Box::pin(async move { db::objects::insert(tx, &object(name)).await })
        })
    };
    write(1, "in its term").await.unwrap();
    leases::release(&db, "leader", "a").await.unwrap();
    leases::acquire(&db, "leader", "b", LONG).await.unwrap();
    let error = write(1, "woken").await.unwrap_err();
    assert!(
        matches!(
            error,
            DbError::Superseded {
                ours: Epoch(1),
                held: Epoch(2)
            }
        ),
        "{error:?}"
    );
    write(2, "the new one").await.unwrap();
    let names: Vec<String> = db::objects::all(&db, "Job")
        .await
        .unwrap()
        .into_iter()
        .map(|o| o.name)
        .collect();
    assert_eq!(names, ["in its term", "the new one"]);
}

async fn terms_go_on_past_what_an_engine_has_seen(place: Place) {
    let db = place.open().await;
    assert_eq!(leases::look(&db, "leader").await.unwrap(), None);
    let take = |holder: &'static str| leases::acquire(&db, "leader", holder, LONG);
    take("a").await.unwrap();
    let term = leases::look(&db, "leader").await.unwrap().unwrap();
    assert_eq!((term.holder.as_str(), term.epoch), ("a", Epoch(1)));
    assert!(term.left > Span::from_secs(30) && term.left <= LONG);
    leases::skip_past(&db, "leader", "b", Epoch(40))
        .await
        .unwrap();
    assert_eq!(take("a").await.unwrap(), Some(Epoch(1)), "not the holder");
    leases::skip_past(&db, "leader", "a", Epoch(40))
        .await
        .unwrap();
    let term = leases::look(&db, "leader").await.unwrap().unwrap();
    assert_eq!(term.left, Span::ZERO);
    assert_eq!(take("a").await.unwrap(), Some(Epoch(41)));
}
