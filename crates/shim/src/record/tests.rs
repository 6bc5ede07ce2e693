use super::*;
use std::fmt::Debug;

/// A record of today must read the golden file of its version, and write exactly it.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(golden: &str, record: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/v1")
        .join(golden);
    let read: T = read(&path).expect("readable").expect("there");
    assert_eq!(&read, record, "{golden}");
    let text = fs::read_to_string(&path).expect("golden");
    let written = serde_json::to_string(record).expect("JSON");
    assert_eq!(text.trim_end(), written, "{golden}");
}

#[test]
fn records_of_version_1_are_understood() {
    let at = Time::from_ms(1_795_000_000_123);
    check(
        "started.json",
        &Started {
            version: 1,
            boot: "9e5b66c3-496b-4cee-8010-e2d71b5fba10".to_owned(),
            pid: 4_242,
            start: 998_877,
        },
    );
    check(
        "running.json",
        &Running {
            version: 1,
            pid: 4_243,
            at,
        },
    );
    check(
        "stop.json",
        &Stop {
            version: 1,
            grace_ms: 30_000,
        },
    );
    let exit = Exit {
        version: 1,
        how: How::Code(3),
        oom: false,
        stopped: true,
        at,
        memory_peak: Bytes(1 << 20),
        lost: Bytes(0),
    };
    check("exit-code.json", &exit);
    check(
        "exit-signal.json",
        &Exit {
            how: How::Signal(9),
            oom: true,
            stopped: false,
            ..exit.clone()
        },
    );
    let message = "`trian.py`: command not found".to_owned();
    check(
        "exit-not-started.json",
        &Exit {
            how: How::NotStarted(message),
            stopped: false,
            ..exit
        },
    );
    check(
        "launch.json",
        &Launch {
            version: 1,
            command: vec!["python".to_owned(), "train.py".to_owned()],
            env: vec![("PATH".to_owned(), "/usr/bin".to_owned())],
            cwd: PathBuf::from("/r/root/code"),
            user: Some(1_000),
            spool: PathBuf::from("/r/spool"),
            spool_max: Bytes(64 << 20),
            poke: Some((PathBuf::from("/e/poke"), "r".to_owned())),
            cgroup: Cgroup {
                procs: vec![PathBuf::from("/sys/fs/cgroup/memory/m/cgroup.procs")],
                oom: Some(PathBuf::from("/sys/fs/cgroup/memory/m/memory.oom_control")),
                peak: None,
            },
        },
    );
}

#[test]
fn a_record_of_the_future_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("stop");
    fs::write(&path, r#"{"version":2,"grace":{"ms":1}}"#).expect("written");
    let error = read::<Stop>(&path).expect_err("version 2");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn once_means_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("stop");
    write_once(
        &path,
        &Stop {
            version: 1,
            grace_ms: 1,
        },
    )
    .expect("the first");
    let second = write_once(
        &path,
        &Stop {
            version: 1,
            grace_ms: 2,
        },
    )
    .expect_err("the second");
    assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(
        read::<Stop>(&path).expect("read").expect("there").grace_ms,
        1
    );
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
}

#[test]
fn a_reserved_record_is_written_whole() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("exit");
    let room = reserve(&path).expect("reserved");
    assert!(read::<Stop>(&path).expect("read").is_none());
    write_reserved(
        &path,
        &room,
        &Stop {
            version: 1,
            grace_ms: 7,
        },
    )
    .expect("written");
    assert_eq!(
        read::<Stop>(&path).expect("read").expect("there").grace_ms,
        7
    );
}
