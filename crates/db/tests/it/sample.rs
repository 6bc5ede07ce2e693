//! A small database with something in every table, always the same.

use crate::both::{START, object};
use base::{Attempt, Epoch, Index, Seq, Time, Uid};
use db::blobs::{self, Blob};
use db::control::{Placement, Task, Unit};
use db::versions::Revision;
use db::{Db, DbError, access, audit, control, events, objects, versions};
use serde_json::json;

/// The n-th uid of the sample.
pub(crate) fn uid(n: u128) -> Uid {
    Uid::v7(Time::from_ms(START), n << 20)
}

fn named(n: u128, kind: &str, project: &str, name: &str) -> objects::Object {
    objects::Object {
        uid: uid(n),
        kind: kind.to_owned(),
        project: project.to_owned(),
        ..object(name)
    }
}

/// Fills a database.
pub(crate) async fn fill(db: &Db) {
    db::leases::acquire(db, "leader", "127.0.0.1:7070 a", base::Span::from_secs(8))
        .await
        .unwrap();
    let written: Result<(), DbError> = db
        .write(None, |tx| {
            Box::pin(async move {
                let mut job = named(1, "Job", "default", "train");
                job.labels = [("team".to_owned(), "ranking".to_owned())].into();
                objects::insert(tx, &job).await?;
                let mut node = named(2, "Node", "", "n1");
                node.cluster = "local".to_owned();
                objects::insert(tx, &node).await?;
                for (n, kind, name) in [
                    (3, "App", "web"),
                    (4, "Secret", "s3"),
                    (5, "Environment", "py"),
                ] {
                    objects::insert(tx, &named(n, kind, "default", name)).await?;
                }
                hold(tx).await?;
                keep(tx).await
            })
        })
        .await;
    written.unwrap();
}

/// What runs.
async fn hold(tx: &mut db::Tx<'_>) -> Result<(), DbError> {
    let unit = Unit {
        owner: uid(1),
        unit: "gang".to_owned(),
        attempt: Attempt(1),
        word: "running".to_owned(),
        data: json!({"stage": "running"}),
    };
    control::put_unit(tx, &unit).await?;
    let task = Task {
        uid: uid(10),
        owner: uid(1),
        owner_kind: "Job".to_owned(),
        tenant: "default".to_owned(),
        project: "default".to_owned(),
        cluster: "local".to_owned(),
        unit: "gang".to_owned(),
        attempt: Attempt(1),
        queue: "default".to_owned(),
        priority: -5,
        state: "admitted".to_owned(),
        submitted_at: Time::from_ms(START),
        readmit: false,
    };
    control::insert_task(tx, &task).await?;
    let placement = Placement {
        owner: uid(1),
        group: "worker".to_owned(),
        index: Index(0),
        attempt: Attempt(1),
        task: uid(10),
        tenant: "default".to_owned(),
        project: "default".to_owned(),
        cluster: "local".to_owned(),
        unit: "gang".to_owned(),
        node: "n1".to_owned(),
        devices: json!([{"id": "gpu-0", "class": "gpu", "milli": 500, "memory": 0}]),
        ports: json!({"http": 20_001}),
        state: "bound".to_owned(),
        deadline: None,
        reason: String::new(),
        epoch: Epoch(1),
        created_at: Time::from_ms(START),
        ended_at: None,
        ending: json!({}),
    };
    control::insert_placements(tx, &[placement]).await?;
    control::node_id(tx, "local", "n1").await.map(|_| ())
}

/// What is kept.
async fn keep(tx: &mut db::Tx<'_>) -> Result<(), DbError> {
    let event = events::Event {
        uid: uid(20),
        object: uid(1),
        object_kind: "Job".to_owned(),
        object_name: "train".to_owned(),
        tenant: "default".to_owned(),
        project: "default".to_owned(),
        kind: "Normal".to_owned(),
        reason: "Started".to_owned(),
        message: "läuft \"jetzt\"\n".to_owned(),
        params: json!({"attempt": 1}),
        first_at: Time::from_ms(START),
        last_at: Time::from_ms(START),
        count: 1,
        seq: 0,
    };
    events::record(tx, &event).await?;
    access::principal(tx, "local", "ada", "user", uid(30)).await?;
    let token = access::Token {
        id: uid(31),
        principal: "ada".to_owned(),
        name: "ci".to_owned(),
        hash: "e3b0c442".to_owned(),
        scope: json!({"role": "editor"}),
        created_at: Time::from_ms(START),
        expires_at: Some(Time::from_ms(START + 1)),
        last_used_at: None,
        revoked_at: None,
    };
    access::insert_token(tx, &token).await?;
    let answer = json!({"token": "moon_shown_once"});
    access::begin(tx, "ada", "key-1", "digest", base::Span::from_secs(60)).await?;
    access::finish(tx, "ada", "key-1", Some(&answer)).await?;
    access::set(tx, "color", "blue").await?;
    let entry = audit::Entry {
        at: Time::from_ms(START),
        actor: "ada".to_owned(),
        verb: "create".to_owned(),
        kind: "Job".to_owned(),
        project: "default".to_owned(),
        name: "train".to_owned(),
        uid: Some(uid(1)),
        before: String::new(),
        after: "sha256:00".to_owned(),
        request: "r1".to_owned(),
    };
    audit::add(tx, &entry).await?;
    let revision = Revision {
        app: uid(3),
        number: 1,
        template: json!({"command": ["serve"]}),
        pinned: json!({}),
        state: "Target".to_owned(),
        message: String::new(),
        creator: "ada".to_owned(),
        created_at: Time::from_ms(START),
    };
    versions::put_revision(tx, &revision).await?;
    let version = versions::EnvironmentVersion {
        environment: uid(5),
        version: 1,
        spec: json!({"pip": ["xgboost"]}),
        phase: "Ready".to_owned(),
        digest: None,
        packages: vec!["xgboost==3.0.0".to_owned()],
        message: String::new(),
        created_at: Time::from_ms(START),
    };
    versions::put_environment(tx, &version).await?;
    versions::insert_secret(tx, uid(4), 1, &[0, 1, 254, 255], &["password".to_owned()]).await?;
    let blob = Blob {
        project: "default".to_owned(),
        digest: base::Digest([7; 32]),
        size: 3,
    };
    blobs::put(tx, &blob).await?;
    blobs::hold(tx, "default", blob.digest, uid(1), "job").await
}

/// How far the sample's feed goes.
pub(crate) const HEAD: Seq = Seq(6);
