use super::*;
use base::Time;

fn log(attempt: u32) -> ReplicaLog {
    ReplicaLog {
        owner: Uid(1),
        group: "worker".to_owned(),
        index: Index(0),
        attempt: Attempt(attempt),
    }
}

fn frames(from: u64, to: u64) -> Vec<Frame> {
    let one = |n| Frame {
        seq: Seq(n),
        stream: Stream::Stdout,
        time: Time::from_ms(n as i64),
        bytes: format!("line {n}\n").into_bytes(),
    };
    (from..=to).map(one).collect()
}

#[test]
fn frames_are_kept_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    assert_eq!(logs.append("p", &log(1), &frames(1, 3)).unwrap(), Seq(3));
    assert_eq!(logs.append("p", &log(1), &frames(2, 5)).unwrap(), Seq(5));
    let (read, position) = logs.read("p", &log(1), Position::default()).unwrap();
    assert_eq!(read, frames(1, 5));
    logs.append("p", &log(1), &frames(6, 6)).unwrap();
    assert_eq!(logs.read("p", &log(1), position).unwrap().0, frames(6, 6));
    assert_eq!(logs.replicas("p", Uid(1)).unwrap(), [log(1)]);
    assert!(logs.replicas("other", Uid(1)).unwrap().is_empty());
}

#[test]
fn a_torn_record_is_cut_off_and_written_again() {
    let root = tempfile::tempdir().unwrap();
    let path = {
        let logs = Logs::open(root.path().to_owned()).unwrap();
        logs.append("p", &log(1), &frames(1, 3)).unwrap();
        logs.path("p", &log(1)).unwrap()
    };
    let whole = std::fs::read(&path).unwrap();
    // Cut at every byte: what is whole stays, and the sender's repetition fills in the rest.
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let logs = Logs::open(root.path().to_owned()).unwrap();
        assert_eq!(
            logs.append("p", &log(1), &frames(1, 3)).unwrap(),
            Seq(3),
            "cut at {len}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {len}");
    }
}

#[test]
fn names_cannot_leave_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    let evil = ReplicaLog {
        group: "../x".to_owned(),
        ..log(1)
    };
    assert!(matches!(
        logs.append("p", &evil, &frames(1, 1)),
        Err(LogError::Name(_))
    ));
    assert!(matches!(
        logs.append("..", &log(1), &frames(1, 1)),
        Err(LogError::Name(_))
    ));
}

#[test]
fn many_replicas_need_few_open_files() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    for attempt in 0..(OPEN_MAX as u32 + 50) {
        logs.append("p", &log(attempt), &frames(1, 1)).unwrap();
    }
    assert_eq!(logs.open.lock().unwrap().len(), OPEN_MAX);
    assert_eq!(
        logs.append("p", &log(0), &frames(1, 2)).unwrap(),
        Seq(2),
        "one that was closed goes on"
    );
    assert_eq!(logs.forget(Duration::ZERO).unwrap(), OPEN_MAX + 50);
}

#[tokio::test]
async fn a_follower_is_woken() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    let mut changed = logs.changed();
    logs.append("p", &log(1), &frames(1, 1)).unwrap();
    changed.changed().await.unwrap();
}
