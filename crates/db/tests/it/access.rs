//! Principals, tokens, kept answers, settings and versions.

use crate::both::{Place, START, both, uid, with};
use base::{Span, Time, Uid};
use db::access::{self, Begun, Token};
use db::versions::{self, Revision};
use serde_json::{Value, json};

both!(
    tokens_are_found_by_hash_until_revoked,
    answers_are_kept_a_day,
    a_principal_and_a_setting_are_written_once,
    revisions_keep_their_template,
    secrets_come_back_as_bytes,
);

fn token(hash: &str) -> Token {
    Token {
        id: uid(),
        principal: "ada".to_owned(),
        name: "ci".to_owned(),
        hash: hash.to_owned(),
        scope: json!({"all": true}),
        created_at: Time::from_ms(START),
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    }
}

async fn tokens_are_found_by_hash_until_revoked(place: Place) {
    let db = place.open().await;
    let mut one = token("h1");
    for token in [one.clone(), token("h1")] {
        with(&db, token, |tx, token| {
            Box::pin(async move { access::insert_token(tx, &token).await })
        })
        .await
        .unwrap();
    }
    assert_eq!(
        access::token(&db, "h1").await.unwrap(),
        Some(one.clone()),
        "the first stays"
    );
    assert_eq!(access::token(&db, "H1").await.unwrap(), None);
    with(&db, one.id, |tx, id: Uid| {
        Box::pin(async move { access::used(tx, &[(id, Time::from_ms(7))]).await })
    })
    .await
    .unwrap();
    one.last_used_at = Some(Time::from_ms(7));
    assert_eq!(access::tokens(&db).await.unwrap(), [one.clone()]);
    let revoke = || {
        with(&db, one.id, |tx, id| {
            Box::pin(async move { access::revoke(tx, id).await })
        })
    };
    assert!(revoke().await.unwrap());
    assert!(!revoke().await.unwrap());
    assert_eq!(access::tokens(&db).await.unwrap(), []);
    assert!(
        access::token(&db, "h1")
            .await
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
}

async fn answers_are_kept_a_day(place: Place) {
    let db = place.open().await;
    let begin = |request: &'static str| {
        with(&db, request, |tx, request| {
            Box::pin(
                async move { access::begin(tx, "ada", "k", request, Span::from_secs(60)).await },
            )
        })
    };
    let finish = |answer: Option<Value>| {
        with(&db, answer, |tx, answer| {
            Box::pin(async move { access::finish(tx, "ada", "k", answer.as_ref()).await })
        })
    };
    let forget = || {
        with(&db, (), |tx, ()| {
            Box::pin(async move { access::forget(tx, 10).await })
        })
    };
    let day = i64::try_from(access::IDEMPOTENCY_KEPT.as_ms()).unwrap();
    assert_eq!(begin("r1").await.unwrap(), Begun::Fresh);
    assert_eq!(begin("r1").await.unwrap(), Begun::Pending, "two at once");
    finish(None).await.unwrap();
    assert_eq!(begin("r1").await.unwrap(), Begun::Fresh, "it failed");
    place.pass(60_001);
    assert_eq!(begin("r1").await.unwrap(), Begun::Fresh, "its server died");
    finish(Some(json!({"of": "r1"}))).await.unwrap();
    let answered = Begun::Answered(json!({"of": "r1"}));
    assert_eq!(begin("r1").await.unwrap(), answered);
    assert_eq!(begin("r2").await.unwrap(), Begun::Other);
    assert_eq!(forget().await.unwrap(), 0);
    place.pass(day - 1);
    assert_eq!(begin("r1").await.unwrap(), answered, "kept a day");
    place.pass(1);
    assert_eq!(begin("r2").await.unwrap(), Begun::Fresh, "no longer");
    finish(Some(json!({}))).await.unwrap();
    assert_eq!(forget().await.unwrap(), 0, "it was written anew");
    place.pass(day + 1);
    assert_eq!(forget().await.unwrap(), 1);
}

async fn a_principal_and_a_setting_are_written_once(place: Place) {
    let db = place.open().await;
    let principal = || {
        with(&db, uid(), |tx, fresh| {
            Box::pin(async move { access::principal(tx, "local", "ada", "user", fresh).await })
        })
    };
    assert_eq!(principal().await.unwrap(), principal().await.unwrap());
    for value in ["a", "b"] {
        with(&db, value, |tx, value| {
            Box::pin(async move { access::set(tx, "name", value).await })
        })
        .await
        .unwrap();
    }
    let value = with(&db, (), |tx, ()| {
        Box::pin(async move { access::setting(tx, "name").await })
    })
    .await
    .unwrap();
    assert_eq!(value.as_deref(), Some("b"));
}

async fn revisions_keep_their_template(place: Place) {
    let db = place.open().await;
    let app = uid();
    let revision = |number: u32, state: &str, template: i32| Revision {
        app,
        number,
        template: json!({"n": template}),
        pinned: json!({}),
        state: state.to_owned(),
        message: String::new(),
        creator: "ada".to_owned(),
        created_at: Time::from_ms(START),
    };
    for put in [
        revision(1, "Target", 1),
        revision(2, "Target", 2),
        revision(1, "Old", 9),
    ] {
        with(&db, put, |tx, put| {
            Box::pin(async move { versions::put_revision(tx, &put).await })
        })
        .await
        .unwrap();
    }
    assert_eq!(
        versions::revisions(&db, app).await.unwrap(),
        [revision(2, "Target", 2), revision(1, "Old", 1)]
    );
}

async fn secrets_come_back_as_bytes(place: Place) {
    let db = place.open().await;
    let sealed: Vec<u8> = (0..=255).collect();
    with(&db, (uid(), sealed.clone()), |tx, (secret, sealed)| {
        Box::pin(async move {
            let sql = "INSERT INTO secret_versions (secret, version, sealed, keys, created_at) VALUES ($1, 1, $2, '[]', 0)";
            tx.execute(sql, &[secret.into(), sealed.into()]).await
        })
    })
    .await
    .unwrap();
    let rows = db
        .fetch("SELECT sealed FROM secret_versions", &[])
        .await
        .unwrap();
    assert_eq!(rows[0].blob(0).unwrap(), sealed);
}
