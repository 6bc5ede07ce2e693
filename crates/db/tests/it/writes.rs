//! The writer: savepoints within a group, the audit row with what it tells of, runs again where that helps.

use crate::both::{Place, START, both, insert, object, with};
use base::{Seq, Time};
use db::{DbError, audit, objects};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

both!(
    a_refused_use_case_does_not_harm_its_group,
    an_audit_row_stands_and_falls_with_its_transaction,
    a_serialization_failure_runs_again,
    a_serialization_failure_that_stays_is_told,
);

async fn a_refused_use_case_does_not_harm_its_group(place: Place) {
    let db = place.open().await;
    insert(&db, object("taken")).await.unwrap();
    let mut writes = Vec::new();
    for n in 0..60 {
        let db = db.clone();
        writes.push(tokio::spawn(async move {
            let name = if n % 3 == 0 {
                "taken".to_owned()
            } else {
                format!("j{n}")
            };
            (n, insert(&db, object(&name)).await)
        }));
    }
    for write in writes {
        let (n, result) = write.await.unwrap();
        match result {
            Ok(_) => assert!(n % 3 != 0),
            Err(error) => assert!(n % 3 == 0 && error.is_duplicate(), "{n}: {error:?}"),
        }
    }
    let feed = db::feed::since(&db, Seq(0), 1_000).await.unwrap();
    let seqs: Vec<u64> = feed.iter().map(|change| change.seq.0).collect();
    assert_eq!(seqs, (1..=41).collect::<Vec<u64>>());
    for object in objects::all(&db, "Job").await.unwrap() {
        let change = &feed[usize::try_from(object.seq.0).unwrap() - 1];
        assert_eq!(change.uid, object.uid, "an object's seq is its entry's");
    }
}

async fn an_audit_row_stands_and_falls_with_its_transaction(place: Place) {
    let db = place.open().await;
    for (name, refuse) in [("kept", false), ("refused", true), ("kept too", false)] {
        let result = with(&db, (name, refuse), |tx, (name, refuse)| {
            Box::pin(async move {
                let object = object(name);
                objects::insert(tx, &object).await?;
                let entry = audit::Entry {
                    at: Time::from_ms(START),
                    actor: "ada".to_owned(),
                    verb: "create".to_owned(),
                    kind: "Job".to_owned(),
                    project: "default".to_owned(),
                    name: name.to_owned(),
                    uid: Some(object.uid),
                    before: String::new(),
                    after: "digest".to_owned(),
                    request: "r".to_owned(),
                };
                audit::add(tx, &entry).await?;
                if refuse {
                    Err(DbError::Stopped)
                } else {
                    Ok(())
                }
            })
        })
        .await;
        assert_eq!(result.is_err(), refuse);
    }
    let filter = audit::Filter {
        kind: Some("Job".to_owned()),
        project: Some("default".to_owned()),
        name: None,
        limit: 10,
    };
    let told: Vec<String> = audit::newest(&db, &filter)
        .await
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(told, ["kept too", "kept"]);
    let rows = db
        .fetch("SELECT seq FROM audit ORDER BY seq", &[])
        .await
        .unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row.int(0).unwrap())
            .collect::<Vec<_>>(),
        [1, 2]
    );
}

async fn a_serialization_failure_runs_again(place: Place) {
    let db = place.open().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let is_postgres = db.is_shared();
    db.write(None, move |tx| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            objects::insert(tx, &object("once")).await?;
            if counted.fetch_add(1, Ordering::Relaxed) < 2 {
                if is_postgres {
                    // What PostgreSQL itself says, in its own words.
                    tx.execute("DO $$ BEGIN RAISE EXCEPTION 'contradiction' USING ERRCODE = '40001'; END $$", &[]).await?;
                }
                return Err(DbError::Serialization);
            }
            Ok::<(), DbError>(())
        })
    })
    .await
    .unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(
        db::feed::head(&db).await.unwrap(),
        Seq(1),
        "the runs before left nothing"
    );
}

async fn a_serialization_failure_that_stays_is_told(place: Place) {
    let db = place.open().await;
    let result = db
        .write(None, |_| {
            Box::pin(async { Err::<(), _>(DbError::Serialization) })
        })
        .await;
    assert_eq!(result.unwrap_err().code(), base::Code::Unavailable);
    insert(&db, object("the next one")).await.unwrap();
}
