//! Each rule of the check is broken once and told.

use crate::both::{Place, both, with};
use crate::sample;
use db::{Db, DbError, check};

both!(
    a_sound_database_has_no_findings,
    every_broken_rule_is_told,
    an_old_or_new_schema_is_told,
);

async fn execute(db: &Db, sql: &str) {
    with(db, sql.to_owned(), |tx, sql| {
        Box::pin(async move { tx.execute(&sql, &[]).await })
    })
    .await
    .unwrap_or_else(|error: DbError| panic!("{sql}: {error:?}"));
}

async fn a_sound_database_has_no_findings(place: Place) {
    let db = place.open().await;
    assert_eq!(check::run(&place.config()).await.unwrap(), [], "empty");
    sample::fill(&db).await;
    assert_eq!(check::run(&place.config()).await.unwrap(), []);
}

async fn every_broken_rule_is_told(place: Place) {
    let db = place.open().await;
    sample::fill(&db).await;
    let (job, app) = (sample::uid(1), sample::uid(3));
    let cases = [
        ("label-index", "UPDATE object_labels SET value = 'ads'".to_owned(), "Job train"),
        ("object-json", "UPDATE objects SET spec = '{' WHERE name = 'web'".to_owned(), "App web"),
        (
            "slot-twice",
            "INSERT INTO placements SELECT owner, grp, idx, 2, task, tenant, project, cluster, unit, node, devices, ports, \
             state, deadline, reason, epoch, created_at, ended_at, ending FROM placements"
                .to_owned(),
            "worker/0",
        ),
        ("port-placement", "UPDATE placement_ports SET port = 7, attempt = 9".to_owned(), "n1:7"),
        ("task-waits-placed", "UPDATE tasks SET state = 'waiting'".to_owned(), ""),
        (
            "device-overcommitted",
            "UPDATE placements SET devices = '[{\"id\":\"gpu-0\",\"milli\":600},{\"id\":\"gpu-0\",\"milli\":600}]'".to_owned(),
            "gpu-0 on n1: 1200 thousandths",
        ),
        ("placement-node", "UPDATE placements SET node = 'n9'".to_owned(), "on n9"),
        ("placement-finished", format!("UPDATE objects SET finished_at = 1 WHERE uid = '{job}'"), "Job train worker/0"),
        ("placement-task", "DELETE FROM tasks".to_owned(), "worker/0"),
        ("object-position", format!("UPDATE objects SET seq = 99 WHERE uid = '{app}'"), "App web"),
        ("feed-dense", "DELETE FROM changes WHERE seq = 3".to_owned(), "5 entries from 1 to 6"),
        ("feed-head", "DELETE FROM changes WHERE seq >= 5".to_owned(), "counter 6, last entry 4"),
        ("audit-dense", "INSERT INTO audit SELECT 9, at, actor, verb, kind, project, name, uid, before_digest, after_digest, request FROM audit".to_owned(), "2 entries"),
        ("unit-owner", "UPDATE units SET owner = 'x'".to_owned(), "x gang"),
        ("secret-version", "UPDATE secret_versions SET secret = 'x'".to_owned(), "x 1"),
        ("environment-version", "UPDATE environment_versions SET environment = 'x'".to_owned(), "x 1"),
        ("revision-app", "UPDATE revisions SET app = 'x'".to_owned(), "x 1"),
        ("blob-holder", "UPDATE blob_refs SET holder = 'x'".to_owned(), "for x"),
        ("placement-owner", "UPDATE placements SET owner = 'x'".to_owned(), "x worker/0"),
        ("label-object", "UPDATE object_labels SET uid = 'x'".to_owned(), "x team"),
        (
            "task-owner",
            "INSERT INTO tasks (uid, owner, owner_kind, tenant, project, cluster, unit, attempt, queue, priority, state, \
             submitted_at, readmit) VALUES ('t', 'x', 'Job', '', '', '', 'gang', 1, '', 0, 'ended', 1, 0)"
                .to_owned(),
            "t of x",
        ),
    ];
    for (rule, sql, row) in cases {
        execute(&db, &sql).await;
        let findings = check::run(&place.config()).await.unwrap();
        let found = findings.iter().find(|finding| finding.rule == rule);
        let found = found.unwrap_or_else(|| panic!("{rule} is not among {findings:?}"));
        assert!(
            found.rows.iter().any(|told| told.contains(row)),
            "{found:?}"
        );
        if rule == "slot-twice" {
            execute(&db, "DELETE FROM placements WHERE attempt = 2").await;
        }
    }
}

async fn an_old_or_new_schema_is_told(place: Place) {
    let error = check::run(&place.config()).await.unwrap_err();
    assert!(
        matches!(error, DbError::Open(_) | DbError::TooOld { found: 0, .. }),
        "{error:?}"
    );
    let db = place.open().await;
    execute(&db, "INSERT INTO schema_version (version) VALUES (999)").await;
    let error = check::run(&place.config()).await.unwrap_err();
    assert!(matches!(error, DbError::TooNew { .. }), "{error:?}");
}
