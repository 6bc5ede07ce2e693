//! What only PostgreSQL can do to us: cut connections, restart, order text by a locale.

use crate::both::{Place, insert, object};
use db::{DbError, objects};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn the_fixture_orders_text_otherwise_than_bytes_do() {
    let postgres = e2e::Postgres::shared();
    let url = postgres.database();
    assert_eq!(
        postgres
            .psql(&url, "SELECT 'a' < 'B', 'a' COLLATE \"C\" < 'B'")
            .trim(),
        "t|f"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_runs_the_group_again() {
    let place = Place::postgres();
    let db = place.open().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    db.write(None, move |tx| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            objects::insert(tx, &object("once")).await?;
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                tx.fetch("SELECT pg_terminate_backend(pg_backend_pid())", &[])
                    .await?;
            }
            Ok::<(), DbError>(())
        })
    })
    .await
    .unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_eq!(db::feed::head(&db).await.unwrap().0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stops_in_its_transaction_does_not_stop_the_others() {
    let place = Place::postgres();
    let (stopped, other) = (place.open().await, place.open().await);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun));
    let begun = Arc::new(begun);
    let (wake, woken) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let write = stopped.write(None, move |tx| {
            let (counted, begun) = (Arc::clone(&counted), Arc::clone(&begun));
            let mut woken = woken.clone();
            Box::pin(async move {
                objects::insert(tx, &object("stopped")).await?;
                counted.fetch_add(1, Ordering::Relaxed);
                let is_first = begun.lock().unwrap().take();
                if let Some(begun) = is_first {
                    begun.send(()).unwrap();
                    woken.wait_for(|woken| *woken).await.unwrap();
                }
                Ok::<(), DbError>(())
            })
        });
        write.await.map(|()| stopped)
    });
    has_begun.await.unwrap();
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, insert(&other, object("other")))
        .await
        .expect("the lock is taken from who does not go on")
        .unwrap();
    wake.send(true).unwrap();
    let woken = writing.await.unwrap().unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2, "its group ran again");
    for db in [&woken, &other] {
        assert_eq!(db::feed::head(db).await.unwrap().0, 2);
        assert_eq!(objects::all(db, "Job").await.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_readers_outlive_a_restart() {
    let postgres = e2e::Postgres::start();
    let place = Place::at(db::Location::Postgres(postgres.database()));
    let db = place.open().await;
    insert(&db, object("before")).await.unwrap();
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.down();
        postgres
    })
    .await
    .unwrap();
    let error = objects::all(&db, "Job").await.unwrap_err();
    assert_eq!(error.code(), base::Code::Unavailable, "{error:?}");
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { insert(&db, object("meanwhile")).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        !waiting.is_finished(),
        "a write waits for the database a while"
    );
    tokio::task::spawn_blocking(move || {
        postgres.up();
        postgres
    })
    .await
    .map(Box::new)
    .map(Box::leak)
    .unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(objects::all(&db, "Job").await.unwrap().len(), 2);
}

/// Passes bytes on to PostgreSQL. While `armed`, a `COMMIT` is passed on and its answer is not: the
/// connection is cut instead.
async fn proxy(to: u16, armed: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let armed = Arc::clone(&armed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        n = client.read(&mut there) => {
                            let Ok(n @ 1..) = n else { return };
                            server.write_all(&there[..n]).await.unwrap();
                            let is_commit = there[..n].windows(7).any(|bytes| bytes == b"COMMIT\0");
                            if is_commit && armed.swap(false, Ordering::Relaxed) {
                                // Its answer: the transaction is committed.
                                assert_ne!(server.read(&mut back).await.unwrap(), 0);
                                return;
                            }
                        }
                        n = server.read(&mut back) => {
                            let Ok(n @ 1..) = n else { return };
                            if client.write_all(&back[..n]).await.is_err() { return }
                        }
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let postgres = e2e::Postgres::shared();
    let armed = Arc::new(AtomicBool::new(false));
    let port = proxy(postgres.port(), Arc::clone(&armed)).await;
    let direct = postgres.database();
    let through = direct.replace(&format!(":{}/", postgres.port()), &format!(":{port}/"));
    let db = Place::at(db::Location::Postgres(through)).open().await;
    armed.store(true, Ordering::Relaxed);
    let seq = insert(&db, object("once")).await.unwrap();
    assert!(!armed.load(Ordering::Relaxed), "the answer was lost");
    assert_eq!(seq.0, 1);
    assert_eq!(*db.head().borrow(), seq, "readers were woken");
    insert(&db, object("next")).await.unwrap();
    assert_eq!(objects::all(&db, "Job").await.unwrap().len(), 2);
}
