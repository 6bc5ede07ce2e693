use super::*;
use engine::{Network, PodSecurity};

const AIR: &str = "air";

fn namespace(uid: &str, labels: &serde_json::Value) -> Namespace {
    let space = json!({"metadata": {"name": AIR, "uid": uid, "labels": labels}});
    serde_json::from_value(space).expect("a namespace")
}

/// As the platform makes it.
fn made(uid: &str) -> Namespace {
    let labels = isolation::labels(&Project::plain(AIR, "default"), Standing::Ours);
    namespace(uid, &json!(labels))
}

/// What is due is written, as [`keep`] does it; whose the namespace is.
fn write(spaces: &Spaces, version: &str) -> Option<Standing> {
    let (project, standing, uid) = spaces.look(AIR)?.due()?;
    let mut space = isolation::namespace(&project, standing);
    space["metadata"]["uid"] = json!(uid);
    spaces.put_namespace(&serde_json::from_value(space).expect("a namespace"));
    let policy = version.to_owned();
    spaces.wrote(
        AIR,
        Written {
            project,
            standing,
            policy,
            at: Instant::now(),
        },
    );
    Some(standing)
}

#[test]
fn what_is_written_stays_until_it_changes() {
    let spaces = Spaces::default();
    spaces.tell(&Project::plain(AIR, "default"));
    assert_eq!(spaces.due(), [""; 0], "there is no namespace");
    spaces.put_namespace(&made("1"));
    assert_eq!(spaces.due(), [AIR]);
    assert_eq!(write(&spaces, "7"), Some(Standing::Ours));
    assert_eq!(write(&spaces, "7"), None, "nothing is written twice");

    let mut project = Project::plain(AIR, "default");
    project.network = Some(Network::default());
    spaces.tell(&project);
    assert_eq!(write(&spaces, "8"), Some(Standing::Ours));
    project.pod_security = Some(PodSecurity::Privileged);
    spaces.tell(&project);
    assert_eq!(write(&spaces, "8"), Some(Standing::Ours));
    spaces.tell(&project);
    assert_eq!(write(&spaces, "8"), None, "the same was said again");
}

#[test]
fn what_others_change_is_written_again() {
    let spaces = Spaces::default();
    spaces.use_for(AIR, "default");
    spaces.put_namespace(&made("1"));
    write(&spaces, "7");
    spaces.put_policy(AIR, Some("9".to_owned()));
    assert!(write(&spaces, "10").is_some(), "somebody wrote the policy");
    spaces.put_policy(AIR, None);
    assert!(
        write(&spaces, "11").is_some(),
        "somebody deleted the policy"
    );
    // Every label of ours is gone, and it is still known whose it is.
    spaces.put_namespace(&namespace("1", &json!({})));
    assert_eq!(write(&spaces, "11"), Some(Standing::Ours));
    let weak = json!({names::POD_SECURITY: "privileged", names::PROJECT: AIR});
    spaces.put_namespace(&namespace("1", &weak));
    assert_eq!(write(&spaces, "11"), Some(Standing::Ours));
    assert_eq!(write(&spaces, "11"), None);
}

#[test]
fn a_namespace_of_somebody_elses_is_left_alone_until_work_comes() {
    let spaces = Spaces::default();
    spaces.tell(&Project::plain(AIR, "default"));
    spaces.put_namespace(&namespace("1", &json!({})));
    assert_eq!(write(&spaces, "1"), None);
    spaces.use_for(AIR, "default");
    assert_eq!(write(&spaces, "1"), Some(Standing::Adopted));
    assert_eq!(write(&spaces, "1"), None);
    let unmarked = namespace("1", &json!({names::PROJECT: AIR, names::TENANT: "default"}));
    spaces.put_namespace(&unmarked);
    assert_eq!(write(&spaces, "1"), Some(Standing::Adopted), "still theirs");
    // Deleted and made again by somebody else, it is another one.
    let mut ending = made("1");
    ending.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
    spaces.put_namespace(&ending);
    assert_eq!(write(&spaces, "1"), None, "it goes");
    spaces.remove_namespace(AIR);
    assert_eq!(write(&spaces, "1"), None, "it is gone");
    spaces.put_namespace(&namespace("2", &json!({})));
    assert_eq!(write(&spaces, "2"), Some(Standing::Adopted));
}

#[test]
fn a_project_that_says_something_is_kept_without_work() {
    let spaces = Spaces::default();
    let mut project = Project::plain(AIR, "default");
    project.network = Some(Network::default());
    spaces.tell(&project);
    spaces.put_namespace(&namespace("1", &json!({})));
    assert_eq!(write(&spaces, "1"), Some(Standing::Adopted));
}

#[tokio::test(start_paused = true)]
async fn a_pull_secret_is_written_again_after_a_while() {
    let spaces = Spaces::default();
    let mut project = Project::plain(AIR, "default");
    let registry = |version: u32| Registry {
        host: "registry.example.org".to_owned(),
        mirror: None,
        secret: Some(("pull".to_owned(), version)),
    };
    project.registries = vec![registry(1)];
    spaces.tell(&project);
    spaces.put_namespace(&made("1"));
    assert!(write(&spaces, "1").is_some());
    assert!(spaces.has_pull_secret(AIR));
    tokio::time::advance(PULL_SECRET_AGE / 2).await;
    assert_eq!(write(&spaces, "1"), None);
    tokio::time::advance(PULL_SECRET_AGE / 2).await;
    assert!(
        write(&spaces, "1").is_some(),
        "somebody may have deleted it"
    );
    project.registries = vec![registry(2)];
    spaces.tell(&project);
    assert!(write(&spaces, "1").is_some(), "it has another version");
    project.registries.clear();
    spaces.tell(&project);
    assert!(write(&spaces, "1").is_some(), "it goes");
    assert!(!spaces.has_pull_secret(AIR));
}
