//! `moonshot db`: a backup of one installation becomes another, on the other kind of database.

use e2e::{Installation, Postgres};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn job(name: &str) -> String {
    let spec = json!({
        "command": ["sh", "-c", format!("echo hello from {name}")],
        "resources": {"cpu": "50m", "memory": "32Mi"},
    });
    format!("apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

#[test]
fn a_backup_brings_an_installation_back_and_moves_it_to_postgres() {
    let mut installation = Installation::start(&[]);
    installation.apply(&job("first"));
    installation.apply("apiVersion: moonshot/v1\nkind: Secret\nmetadata: {name: s3}\nspec: {data: {password: hunter2}}\n");
    installation.wait_for("job", "first", &["Succeeded"], PATIENCE);
    let file = installation.home().join("moonshot.backup");
    let file = file.to_str().expect("a plain path").to_owned();
    installation.run(&["db", "check"]).ok();
    let told = installation.run(&["db", "backup", &file]).ok();
    assert!(told.contains("server.key"), "{told}");
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert!(!text.contains("hunter2"));
    let token = std::fs::read_to_string(installation.data().join("admin.token")).expect("a token");
    assert!(!text.contains(token.trim()));
    let again = installation.run(&["db", "backup", &file]);
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
    let refused = installation.run(&["db", "restore", &file]);
    assert!(
        refused.code == 1 && refused.stderr.contains("moonshot down"),
        "{}",
        refused.stderr
    );
    // The engine sees later terms than the backup knows.
    for _ in 0..3 {
        installation.kill_server();
        installation.start_server();
    }
    installation.kill_server();
    let refused = installation.run(&["db", "restore", &file]);
    assert!(
        refused.code == 1 && refused.stderr.contains("not empty"),
        "{}",
        refused.stderr
    );

    // The database is lost.
    for end in ["", "-wal", "-shm"] {
        let path = installation.data().join(format!("moonshot.sqlite{end}"));
        // The last two may not be there.
        let _ = std::fs::remove_file(path);
    }
    installation.run(&["db", "restore", &file]).ok();
    installation.start_server();
    assert_eq!(installation.phase("job", "first"), "Succeeded");
    installation.apply(&job("second"));
    installation.wait_for("job", "second", &["Succeeded"], PATIENCE);
    installation.run(&["db", "check"]).ok();

    // The same on PostgreSQL.
    installation.kill_server();
    let url = Postgres::shared().database();
    installation.set("MOONSHOT_DATABASE", &url);
    let told = installation.run(&["db", "restore", &file]).ok();
    assert!(!told.contains("warning"), "{told}");
    installation.run(&["db", "check"]).ok();
    installation.start_server();
    assert_eq!(installation.phase("job", "first"), "Succeeded");
    assert!(installation.get("job", "second").is_none());
    installation.apply(&job("third"));
    installation.wait_for("job", "third", &["Succeeded"], PATIENCE);
    installation.run(&["db", "check"]).ok();
    let log = installation.run(&["logs", "job/first", "--no-prefix"]).ok();
    assert_eq!(
        log.trim(),
        "hello from first",
        "logs were never in the database"
    );

    // Elsewhere, without the key, the check says what cannot be opened.
    let elsewhere = installation.home().join("elsewhere");
    let url = Postgres::shared().database();
    installation.set("MOONSHOT_DATABASE", &url);
    installation.set(
        "MOONSHOT_DATA_DIR",
        elsewhere.to_str().expect("a plain path"),
    );
    let told = installation.run(&["db", "restore", &file]).ok();
    assert!(
        told.contains("warning: Secrets are sealed under another key"),
        "{told}"
    );
    let check = installation.run(&["db", "check"]);
    assert!(
        check.code == 1 && check.stdout.contains("default/s3 version 1"),
        "{}{}",
        check.stdout,
        check.stderr
    );
    let data = installation.data();
    installation.set("MOONSHOT_DATA_DIR", data.to_str().expect("a plain path"));
}
