use super::*;
use std::fs::File;

#[test]
fn a_directory_comes_back_and_the_same_content_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::write(from.join("sub/b.txt"), "b").unwrap();
    std::fs::write(from.join("a.txt"), "aa").unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    assert_eq!(pack(&from, &one, 100).unwrap(), 3);
    pack(&from, &two, 100).unwrap();
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    let into = dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    unpack(&one, &into, Limits::bytes(100), None).unwrap();
    assert_eq!(
        std::fs::read_to_string(into.join("sub/b.txt")).unwrap(),
        "b"
    );
    assert!(matches!(
        pack(&from, &two, 2),
        Err(PackError::TooLarge { .. })
    ));
    assert!(matches!(
        unpack(&one, &into, Limits::bytes(2), None),
        Err(PackError::TooLarge { .. })
    ));
}

#[test]
fn links_stay_inside() {
    let leaves = |path: &str, target: &str| super::leaves(Path::new(path), Path::new(target));
    assert!(
        !leaves("a/link", "../b") && !leaves("link", "b/../c") && !leaves("a/b/link", "../../c")
    );
    assert!(leaves("link", "/etc/passwd") && leaves("link", "../b") && leaves("a/link", "../../b"));
}

#[test]
fn nothing_leaves_the_destination() {
    let dir = tempfile::tempdir().unwrap();
    let evil = dir.path().join("evil");
    for name in ["../out.txt", "/abs.txt", "a/../../out.txt"] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_cksum();
        let mut tar =
            tar::Builder::new(zstd::Encoder::new(File::create(&evil).unwrap(), 1).unwrap());
        tar.append(&header, &b"x"[..]).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        let into = dir.path().join("into");
        std::fs::create_dir_all(&into).unwrap();
        assert!(
            unpack(&evil, &into, Limits::bytes(100), None).is_err(),
            "{name}"
        );
    }
    assert!(!dir.path().join("out.txt").exists());
}

#[test]
fn another_archive_than_the_wanted_one_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (from, archive) = (dir.path().join("from"), dir.path().join("archive"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("a"), "content").unwrap();
    pack(&from, &archive, 100).unwrap();
    let mut bytes = std::fs::read(&archive).unwrap();
    let digest = base::Digest(<sha2::Sha256 as sha2::Digest>::digest(&bytes).into());
    let unpack_again = |name: &str| {
        let into = dir.path().join(name);
        std::fs::create_dir(&into).unwrap();
        unpack(&archive, &into, Limits::bytes(100), Some(&digest))
    };
    unpack_again("whole").unwrap();
    // Bytes after the end are not read by tar, and are part of the content all the same.
    bytes.push(0);
    std::fs::write(&archive, &bytes).unwrap();
    assert!(matches!(
        unpack_again("longer"),
        Err(PackError::Differs { .. })
    ));
    bytes.truncate(20);
    std::fs::write(&archive, &bytes).unwrap();
    assert!(matches!(
        unpack_again("cut"),
        Err(PackError::Differs { .. })
    ));
}

#[test]
fn links_are_packed_so_that_they_hold_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::write(from.join("model"), "m").unwrap();
    std::os::unix::fs::symlink(from.join("model"), from.join("sub/latest")).unwrap();
    let (archive, into) = (dir.path().join("archive"), dir.path().join("into"));
    pack(&from, &archive, 100).unwrap();
    std::fs::create_dir(&into).unwrap();
    unpack(&archive, &into, Limits::bytes(100), None).unwrap();
    assert_eq!(
        std::fs::read_link(into.join("sub/latest")).unwrap(),
        Path::new("../model")
    );
    std::os::unix::fs::symlink("/etc/hostname", from.join("host")).unwrap();
    let error = pack(&from, &archive, 100).unwrap_err().to_string();
    assert!(
        error.contains("`host`") && error.contains("`/etc/hostname`"),
        "{error}"
    );
}

#[test]
fn one_file_is_read_without_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::write(from.join("sub/b.json"), "{}").unwrap();
    std::fs::write(from.join("a.bin"), [0; 1000]).unwrap();
    std::os::unix::fs::symlink("a.bin", from.join("link")).unwrap();
    let packed = dir.path().join("packed");
    pack(&from, &packed, 10_000).unwrap();
    let read = |name: &str, limit| read_file(&packed, Path::new(name), limit);
    assert_eq!(read("sub/b.json", 2).unwrap(), Some(b"{}".to_vec()));
    assert_eq!(read("./sub/b.json", 2).unwrap(), Some(b"{}".to_vec()));
    for none in ["b.json", "sub", "link", "sub/../a.bin"] {
        assert_eq!(read(none, 10_000).unwrap(), None, "{none}");
    }
    assert!(matches!(
        read("a.bin", 999),
        Err(PackError::TooLarge { .. })
    ));
    std::fs::write(&packed, "no archive").unwrap();
    assert!(read("a.bin", 999).is_err());
}
