//! Archives made to do harm: nothing outside the destination is written, nothing panics.

use crate::support::{Dice, content, files};
use pack::{Limits, NAME_BYTES_MAX, PackError, pack, unpack};
use std::fs::File;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// An entry with a name as it stands, unchecked.
fn entry(kind: EntryType, name: &str, link: &str, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn archive(path: &Path, entries: &[(Header, &[u8])]) {
    let encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    let mut tar = tar::Builder::new(encoder);
    for (header, bytes) in entries {
        tar.append(header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn no_entry_writes_outside_the_destination() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "before").unwrap();
    let target = outside.to_str().unwrap();
    let kept = outside.join("kept");
    let kept = kept.to_str().unwrap();
    let absolute = outside.join("new");
    let absolute = absolute.to_str().unwrap();
    let text: &[u8] = b"after!";
    let file = |name| (entry(EntryType::Regular, name, "", text.len()), text);
    let link = |name, target| (entry(EntryType::Symlink, name, target, 0), &b""[..]);
    type Attack<'a> = (&'a str, Vec<(Header, &'a [u8])>);
    let attacks: Vec<Attack<'_>> = vec![
        ("parent", vec![file("../outside/new")]),
        ("absolute", vec![file(absolute)]),
        ("inner parent", vec![file("a/../../outside/new")]),
        (
            "through a link to a directory",
            vec![link("d", target), file("d/new")],
        ),
        (
            "through a relative link",
            vec![link("d", "../outside"), file("d/new")],
        ),
        (
            "through two links",
            vec![link("d", "e"), link("e", target), file("d/new")],
        ),
        ("over a link to a file", vec![link("f", kept), file("f")]),
        (
            "a directory through a link",
            vec![
                link("d", target),
                (entry(EntryType::Directory, "d/new", "", 0), b""),
            ],
        ),
        (
            "hard link",
            vec![(entry(EntryType::Link, "h", kept, 0), b""), file("h")],
        ),
    ];
    for (at, (what, entries)) in attacks.iter().enumerate() {
        let evil = dir.path().join("evil.tar.zst");
        archive(&evil, entries);
        let into = dir.path().join(format!("into-{at}"));
        std::fs::create_dir(&into).unwrap();
        // Refused or harmless: what counts is what happened outside.
        let _ = unpack(&evil, &into, Limits::bytes(1_000), None);
        assert_eq!(files(&outside), [outside.join("kept")], "{what}");
        assert_eq!(
            std::fs::read_to_string(outside.join("kept")).unwrap(),
            "before",
            "{what}"
        );
    }
}

#[test]
fn devices_pipes_and_hard_links_are_refused() {
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Link,
        EntryType::Continuous,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let evil = dir.path().join("evil.tar.zst");
        archive(&evil, &[(entry(kind, "x", "y", 0), b"")]);
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        assert!(
            unpack(&evil, &into, Limits::bytes(1_000), None).is_err(),
            "{kind:?}"
        );
        assert!(files(&into).is_empty(), "{kind:?}");
    }
}

#[test]
fn a_small_archive_of_large_files_stops_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let evil = dir.path().join("evil.tar.zst");
    let zeros = vec![0; 8 << 20];
    let entries: Vec<(Header, &[u8])> = ["a", "b", "c"]
        .map(|name| (entry(EntryType::Regular, name, "", zeros.len()), &zeros[..]))
        .into();
    archive(&evil, &entries);
    assert!(
        evil.metadata().unwrap().len() < 64 << 10,
        "zeros compress well"
    );
    let into = dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let limit = 10 << 20;
    assert!(unpack(&evil, &into, Limits::bytes(limit), None).is_err());
    let written: u64 = files(&into)
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(written <= limit, "{written} bytes were written");
}

#[test]
fn cut_and_damaged_archives_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir(&from).unwrap();
    for at in 0..5 {
        std::fs::write(from.join(format!("{at}")), content(at, 3_000)).unwrap();
    }
    let good = dir.path().join("good.tar.zst");
    pack(&from, &good, u64::MAX).unwrap();
    let whole = std::fs::read(&good).unwrap();
    let mut dice = Dice::new();
    let bad: PathBuf = dir.path().join("bad.tar.zst");
    for round in 0..200 {
        let mut bytes = whole.clone();
        let at = dice.below(bytes.len() as u64) as usize;
        let cut = round % 2 == 0;
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << dice.below(8);
        }
        std::fs::write(&bad, &bytes).unwrap();
        let into = dir.path().join(format!("into-{round}"));
        std::fs::create_dir(&into).unwrap();
        // Bytes that are flipped are for the digest to find; a cut must be an error by itself.
        let unpacked = unpack(&bad, &into, Limits::bytes(u64::MAX), None);
        assert!(!cut || unpacked.is_err(), "cut at {at} of {}", whole.len());
    }
}

/// What an archive of endless names or records would take if nothing stopped it.
#[test]
fn a_name_that_never_ends_is_refused_before_it_is_in_memory() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let evil = dir.path().join("evil.tar.zst");
        // The header announces a terabyte; only its first part is there.
        let mut long = entry(kind, "././@LongLink", "", 0);
        long.set_size(1 << 40);
        long.set_cksum();
        let encoder = zstd::Encoder::new(File::create(&evil).unwrap(), 1).unwrap();
        let mut encoder = encoder;
        std::io::Write::write_all(&mut encoder, long.as_bytes()).unwrap();
        std::io::Write::write_all(&mut encoder, &vec![b'a'; 4 << 20]).unwrap();
        encoder.finish().unwrap();
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        let refused = unpack(&evil, &into, Limits::bytes(1_000), None);
        assert!(
            matches!(refused, Err(PackError::Entry(_))),
            "{kind:?}: {refused:?}"
        );
    }
}

#[test]
fn the_number_of_entries_and_the_length_of_names_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let evil = dir.path().join("evil.tar.zst");
    let entries: Vec<(Header, &[u8])> = (0..20)
        .map(|at| (entry(EntryType::Regular, &format!("{at}"), "", 0), &b""[..]))
        .collect();
    archive(&evil, &entries);
    let unpack_at_most = |entries: usize, name: &str| {
        let into = dir.path().join(name);
        std::fs::create_dir(&into).unwrap();
        let limits = Limits {
            entries,
            ..Limits::bytes(1_000)
        };
        unpack(&evil, &into, limits, None)
    };
    unpack_at_most(20, "fits").unwrap();
    let refused = unpack_at_most(19, "many");
    assert!(
        matches!(refused, Err(PackError::TooMany { limit: 19, .. })),
        "{refused:?}"
    );

    // The longest name that Linux takes comes back; one that is longer is refused by whoever packs it.
    let from = dir.path().join("from");
    let long: PathBuf = std::iter::repeat_n("d".repeat(200), 15).collect();
    std::fs::create_dir_all(from.join(&long)).unwrap();
    std::fs::write(from.join(&long).join("file"), "x").unwrap();
    pack(&from, &evil, 10).unwrap();
    let into = dir.path().join("long");
    std::fs::create_dir(&into).unwrap();
    unpack(&evil, &into, Limits::bytes(10), None).unwrap();
    assert!(into.join(&long).join("file").exists());
    let too_long = [PathBuf::from("n".repeat(NAME_BYTES_MAX + 1))];
    assert!(pack::pack_files(&from, &too_long, &evil, 10).is_err());
}

/// What Python's `tarfile` writes by default: pax records for names beyond ASCII and beyond 100 bytes.
#[test]
fn an_archive_of_another_program_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("a.tar");
    let script = format!(
        "import tarfile, io\nt = tarfile.open({:?}, 'w', format=tarfile.PAX_FORMAT)\nfor n in ['数据/é', 'n' * 150]:\n i = tarfile.TarInfo(n)\n i.size = 2\n i.mtime = 1.5\n t.addfile(i, io.BytesIO(b'ok'))\nt.close()",
        tar.to_str().unwrap()
    );
    let made = std::process::Command::new("python3")
        .args(["-c", &script])
        .status()
        .unwrap();
    assert!(made.success());
    let packed = dir.path().join("a.tar.zst");
    let mut encoder = zstd::Encoder::new(File::create(&packed).unwrap(), 1).unwrap();
    std::io::copy(&mut File::open(&tar).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let into = dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    unpack(&packed, &into, Limits::bytes(4), None).unwrap();
    assert_eq!(std::fs::read_to_string(into.join("数据/é")).unwrap(), "ok");
    assert_eq!(files(&into).len(), 2);
}
