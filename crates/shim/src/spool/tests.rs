use super::*;

const PLENTY: Bytes = Bytes(1 << 30);

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn all(reader: &mut Reader) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let more = reader.read(1 << 20).expect("readable");
        if more.is_empty() {
            return frames;
        }
        frames.extend(more);
    }
}

fn assert_dense(frames: &[Frame], first: u64) {
    let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.0).collect();
    let expect: Vec<u64> = (first..).take(frames.len()).collect();
    assert_eq!(seqs, expect);
}

#[test]
fn a_segment_of_version_1_is_understood() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let frames = all(&mut Reader::after(&golden, Seq(0)));
    let texts: Vec<&[u8]> = frames.iter().map(|frame| frame.bytes.as_slice()).collect();
    assert_eq!(texts[..2], [b"epoch 1\n".as_slice(), b"warning\n"]);
    let streams: Vec<Stream> = frames.iter().map(|frame| frame.stream).collect();
    assert_eq!(streams, [Stream::Stdout, Stream::Stderr, Stream::Note]);
    assert_eq!(frames[1].time, Time::from_ms(1_795_000_000_456));
    assert_eq!(frame::loss_in_note(texts[2]), 12);

    // And what is written today is that format, byte by byte.
    let dir = temporary();
    let mut writer = Writer::open(dir.path(), PLENTY).expect("opened");
    for frame in &frames {
        writer.append(frame.stream, frame.time, &frame.bytes);
    }
    let name = "0000000000000001.seg";
    let written = fs::read(dir.path().join(name)).expect("written");
    assert_eq!(written, fs::read(golden.join(name)).expect("golden"));
}

#[test]
fn a_reader_follows_a_writer_over_segments_without_loss() {
    let dir = temporary();
    let mut writer = Writer::open(dir.path(), Bytes(8 << 20)).expect("opened");
    let mut reader = Reader::after(dir.path(), Seq(0));
    let mut frames = Vec::new();
    let line = [b'l'; 1_000];
    for round in 0..200 {
        for _ in 0..100 {
            writer.append(Stream::Stdout, Time::from_ms(round), &line);
        }
        frames.extend(all(&mut reader));
        release(dir.path(), frames.last().expect("some").seq).expect("released");
    }
    assert_eq!(frames.len(), 20_000);
    assert_dense(&frames, 1);
    assert_eq!(writer.lost(), Bytes(0));
    assert!(segments(dir.path()).expect("listed").len() <= 2);
}

#[test]
fn a_full_spool_drops_what_is_new_and_says_so_when_there_is_room() {
    let dir = temporary();
    let mut writer = Writer::open(dir.path(), Bytes(3 << 20)).expect("opened");
    let mut reader = Reader::after(dir.path(), Seq(0));
    let chunk = vec![b'x'; FRAME_BYTES_MAX];
    let now = Time::from_ms(1);
    for _ in 0..100 {
        writer.append(Stream::Stdout, now, &chunk);
    }
    let before = all(&mut reader);
    assert_dense(&before, 1);
    let n_lost = (100 - before.len()) * FRAME_BYTES_MAX;
    assert_eq!(writer.lost(), Bytes(n_lost as u64));
    assert!(n_lost > 0);

    release(dir.path(), reader.next()).expect("released");
    // The directory is not counted at every frame.
    writer.full_since = None;
    writer.append(Stream::Stdout, now, b"on\n");
    let after = all(&mut reader);
    assert_dense(&after, before.len() as u64 + 1);
    assert_eq!(frame::loss_in_note(&after[0].bytes), n_lost as u64);
    assert_eq!(after[1].bytes, b"on\n");
}

#[test]
fn a_torn_tail_is_skipped_by_reader_and_next_writer() {
    for n_torn in 1..40 {
        let dir = temporary();
        let mut writer = Writer::open(dir.path(), PLENTY).expect("opened");
        writer.append(Stream::Stdout, Time::from_ms(1), b"one\n");
        writer.append(Stream::Stdout, Time::from_ms(1), b"two, which is torn\n");
        drop(writer);
        let path = segment_path(dir.path(), Seq(1));
        let len = fs::metadata(&path).expect("there").len();
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.set_len(len - n_torn).expect("torn");

        let mut reader = Reader::after(dir.path(), Seq(0));
        let before = all(&mut reader);
        assert_eq!(before.len(), 1, "{n_torn} bytes");
        let mut writer = Writer::open(dir.path(), PLENTY).expect("opened again");
        writer.append(Stream::Note, Time::from_ms(2), b"the output was cut\n");
        let after = all(&mut reader);
        assert_dense(&after, 2);
        assert_eq!(after[0].stream, Stream::Note);
        assert_eq!(last(dir.path()).expect("counted"), Seq(2));
    }
}

#[test]
fn a_writer_goes_past_what_is_kept_elsewhere() {
    let dir = temporary();
    let mut writer = Writer::open(dir.path(), PLENTY).expect("opened");
    writer.append(Stream::Stdout, Time::from_ms(1), b"one\n");
    writer.skip_past(Seq(5));
    writer.append(Stream::Note, Time::from_ms(1), b"cut\n");
    let frames = all(&mut Reader::after(dir.path(), Seq(5)));
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].seq, Seq(6));
}
