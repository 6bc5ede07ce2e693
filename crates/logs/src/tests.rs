use super::logs::OPEN_MAX;
use super::*;
use base::{Attempt, Index, Seq, Time, Uid};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
/// An hour of a Tuesday.
const HOUR: u32 = 500_000;

/// A clock that the test moves, and logs by it.
fn by_clock(root: &std::path::Path) -> (Arc<AtomicI64>, Logs) {
    let now = Arc::new(AtomicI64::new(i64::from(HOUR) * HOUR_MS));
    let clock = Arc::clone(&now);
    let clock: Clock = Arc::new(move || Time::from_ms(clock.load(Ordering::Relaxed)));
    (now, Logs::with_clock(root.to_owned(), clock).unwrap())
}

fn all(logs: &Logs, log: &ReplicaLog) -> Vec<Frame> {
    let (mut all, mut position) = (Vec::new(), Position::default());
    loop {
        let (page, next) = logs.read("p", log, position).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
        position = next;
    }
}

fn seqs(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.seq.0).collect()
}

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
        let (_, logs) = by_clock(root.path());
        logs.append("p", &log(1), &frames(1, 3)).unwrap();
        logs.path("p", HOUR, &log(1)).unwrap()
    };
    let whole = std::fs::read(&path).unwrap();
    // Cut at every byte: what is whole stays, and the sender's repetition fills in the rest.
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let (_, logs) = by_clock(root.path());
        assert_eq!(
            logs.append("p", &log(1), &frames(1, 3)).unwrap(),
            Seq(3),
            "cut at {len}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {len}");
    }
}

#[test]
fn damage_in_the_middle_costs_what_it_hits_and_is_told() {
    let root = tempfile::tempdir().unwrap();
    let path = {
        let (_, logs) = by_clock(root.path());
        logs.append("p", &log(1), &frames(1, 9)).unwrap();
        logs.path("p", HOUR, &log(1)).unwrap()
    };
    let whole = std::fs::read(&path).unwrap();
    let record = whole.len() / 9;
    // In a body, in a length (which then points beyond the end), and in a mark.
    for (at, lost) in [(4 * record + 20, 5), (4 * record + 6, 5), (0, 1)] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        let (_, logs) = by_clock(root.path());
        let left: Vec<u64> = (1..=9).filter(|seq| *seq != lost).collect();
        let read = all(&logs, &log(1));
        let told = read.iter().filter(|frame| frame.seq == Seq(0));
        let told: Vec<String> = told
            .map(|frame| String::from_utf8(frame.bytes.clone()).unwrap())
            .collect();
        let note = format!("{record} bytes of output were damaged here on the server's disk\n");
        if lost == 1 {
            assert_eq!(told, [note], "at {at}");
        } else {
            assert_eq!(told.len(), 1, "at {at}: {told:?}");
        }
        let mut found = seqs(&read);
        found.retain(|seq| *seq != 0);
        assert_eq!(found, left, "at {at}");
        // What follows is appended behind what was there, and the sender can still fill in what was lost.
        assert_eq!(logs.append("p", &log(1), &frames(10, 11)).unwrap(), Seq(11));
        assert_eq!(logs.append("p", &log(1), &frames(1, 11)).unwrap(), Seq(11));
        let mut found = seqs(&all(&logs, &log(1)));
        found.retain(|seq| *seq != 0);
        found.sort_unstable();
        assert_eq!(found, (1..=11).collect::<Vec<_>>(), "at {at}");
        assert!(logs.stats().damaged_bytes > 0);
    }
}

#[test]
fn frames_that_come_late_are_kept_and_those_that_come_again_are_not() {
    let root = tempfile::tempdir().unwrap();
    let (_, logs) = by_clock(root.path());
    logs.append("p", &log(1), &frames(1, 2)).unwrap();
    assert_eq!(logs.append("p", &log(1), &frames(5, 6)).unwrap(), Seq(6));
    assert_eq!(logs.stats().missing, 2);
    for logs in [logs.clone(), by_clock(root.path()).1] {
        assert_eq!(logs.append("p", &log(1), &frames(4, 5)).unwrap(), Seq(6));
        assert_eq!(logs.append("p", &log(1), &frames(1, 2)).unwrap(), Seq(6));
    }
    let (_, again) = by_clock(root.path());
    assert_eq!(again.append("p", &log(1), &frames(3, 3)).unwrap(), Seq(6));
    assert_eq!(again.stats().late, 1);
    assert_eq!(seqs(&all(&again, &log(1))), [1, 2, 5, 6, 4, 3]);
}

#[test]
fn a_frame_larger_than_a_page_does_not_block_its_reader() {
    let root = tempfile::tempdir().unwrap();
    let (_, logs) = by_clock(root.path());
    let large = |seq: u64, len: usize| Frame {
        bytes: vec![b'x'; len],
        ..frames(seq, seq).remove(0)
    };
    let sent = [
        large(1, 10),
        large(2, 5 << 20),
        large(3, FRAME_BYTES_MAX),
        large(4, 3 << 20),
        large(5, 3 << 20),
        large(6, 10),
    ];
    assert_eq!(logs.append("p", &log(1), &sent).unwrap(), Seq(6));
    let mut position = Position::default();
    let (mut read, mut pages) = (Vec::new(), 0);
    loop {
        let (page, next) = logs.read("p", &log(1), position).unwrap();
        if page.is_empty() {
            break;
        }
        let bytes: usize = page.iter().map(|frame| frame.bytes.len()).sum();
        assert!(bytes <= FRAME_BYTES_MAX + (4 << 20), "{bytes} in one page");
        (position, pages) = (next, pages + 1);
        read.extend(page);
    }
    assert!(read == sent && pages >= 4, "{pages} pages");
    // What no reader would take is refused, with its number.
    let refused = logs.append("p", &log(1), &[large(7, FRAME_BYTES_MAX + 1)]);
    assert!(matches!(refused, Err(LogError::TooLarge { seq: 7, .. })));
    assert_eq!(logs.append("p", &log(1), &[]).unwrap(), Seq(6));
}

#[test]
fn each_hour_has_its_own_segments_and_readers_go_through_all() {
    let root = tempfile::tempdir().unwrap();
    let (now, logs) = by_clock(root.path());
    let mut position = Position::default();
    for step in 0..4_u64 {
        let (from, to) = (step * 10 + 1, step * 10 + 10);
        logs.append("p", &log(1), &frames(from, to)).unwrap();
        let (page, next) = logs.read("p", &log(1), position).unwrap();
        assert_eq!(page, frames(from, to), "a follower goes on");
        position = next;
        now.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    }
    let path = |hour: u32| logs.path("p", hour, &log(1)).unwrap();
    let hours: Vec<u32> = (HOUR..HOUR + 8)
        .filter(|hour| path(*hour).exists())
        .collect();
    assert_eq!(hours, [HOUR, HOUR + 2, HOUR + 4, HOUR + 6]);
    assert_eq!(all(&logs, &log(1)), frames(1, 40));
    // A new process goes on with the numbers of the newest; one whose clock is behind does not go back.
    let (_, behind) = by_clock(root.path());
    assert_eq!(
        behind.append("p", &log(1), &frames(1, 41)).unwrap(),
        Seq(41)
    );
    assert_eq!(all(&behind, &log(1)), frames(1, 41));
    assert_eq!(behind.replicas("p", Uid(1)).unwrap(), [log(1)]);
}

#[test]
fn retention_drops_the_oldest_hours_by_age_and_by_bytes() {
    let root = tempfile::tempdir().unwrap();
    let (now, logs) = by_clock(root.path());
    for hour in 0..10_u64 {
        let project = if hour % 2 == 0 { "p" } else { "q" };
        logs.append(project, &log(1), &frames(hour + 1, hour + 1))
            .unwrap();
        now.fetch_add(HOUR_MS, Ordering::Relaxed);
    }
    let hours = |project: &str| -> Vec<u32> {
        (0..10)
            .filter(|hour| logs.path(project, HOUR + hour, &log(1)).unwrap().exists())
            .collect()
    };
    let day = Duration::from_secs(86_400);
    assert_eq!(logs.forget(day, u64::MAX).unwrap().0, 0);
    assert_eq!(
        logs.forget(Duration::from_secs(6 * 3_600), u64::MAX)
            .unwrap()
            .0,
        4
    );
    assert_eq!((hours("p"), hours("q")), (vec![4, 6, 8], vec![5, 7, 9]));
    let one = std::fs::metadata(logs.path("p", HOUR + 8, &log(1)).unwrap())
        .unwrap()
        .len();
    // The number in the last line has one digit more.
    let (dropped, bytes) = logs.forget(day, 2 * one + 1).unwrap();
    assert_eq!((dropped, bytes > 0), (4, true));
    assert_eq!((hours("p"), hours("q")), (vec![8], vec![9]));
    // The present hour stays, however little is allowed.
    logs.append("p", &log(1), &frames(20, 20)).unwrap();
    logs.forget(Duration::ZERO, 0).unwrap();
    assert_eq!(seqs(&all(&logs, &log(1))), [20]);
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
    assert_eq!(logs.n_open(), OPEN_MAX);
    assert_eq!(
        logs.append("p", &log(0), &frames(1, 2)).unwrap(),
        Seq(2),
        "one that was closed goes on"
    );
}

#[tokio::test]
async fn a_follower_is_woken() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::open(root.path().to_owned()).unwrap();
    let mut changed = logs.changed();
    logs.append("p", &log(1), &frames(1, 1)).unwrap();
    changed.changed().await.unwrap();
}

/// The format of version 2: readers of later versions must know it.
#[test]
fn the_format_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let (_, logs) = by_clock(root.path());
    let frame = Frame {
        seq: Seq(7),
        stream: Stream::Stderr,
        time: Time::from_ms(1_800_000_000_123),
        bytes: b"hi\n".to_vec(),
    };
    logs.append("p", &log(3), &[frame]).unwrap();
    let path: PathBuf = root
        .path()
        .join("p/500000")
        .join(Uid(1).to_string())
        .join("worker.0.3.log");
    // Mark, length 20, CRC-32 of the body (as `zlib.crc32` gives it), 7, the time, stream 1, the bytes.
    let mut expect = b"MLG2\x14\0\0\0".to_vec();
    let mut body = 7_u64.to_le_bytes().to_vec();
    body.extend(1_800_000_000_123_i64.to_le_bytes());
    body.extend(b"\x01hi\n");
    expect.extend(0x5fe06cb9_u32.to_le_bytes());
    expect.extend(body);
    assert_eq!(std::fs::read(path).unwrap(), expect);
}
