//! Directories of all shapes come back, and the same content makes the same archive.

use crate::support::{Dice, content, files};
use pack::{Limits, pack, pack_files, unpack};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const TREES: usize = 40;

/// What a tree holds: by path, what is there.
type Tree = BTreeMap<PathBuf, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File { executable: bool, bytes: Vec<u8> },
    Link(PathBuf),
}

/// Names that archives got wrong before: spaces, other alphabets, dashes, more than 100 bytes.
fn name(dice: &mut Dice, at: usize) -> String {
    let stem = ["a", "with space", "émile", "-dash", ".hidden", "数据"][dice.below(6) as usize];
    let long = if dice.below(8) == 0 {
        "long".repeat(40)
    } else {
        String::new()
    };
    format!("{stem}{long}{at}")
}

fn random(dice: &mut Dice) -> Tree {
    let mut tree = Tree::new();
    let mut dirs = vec![PathBuf::new()];
    for at in 0..dice.below(25) as usize {
        let parent = dirs[dice.below(dirs.len() as u64) as usize].clone();
        let path = parent.join(name(dice, at));
        let node = match dice.below(4) {
            0 => {
                dirs.push(path.clone());
                Node::Dir
            }
            1 => Node::Link(PathBuf::from("not there yet")),
            _ => Node::File {
                executable: dice.below(2) == 0,
                bytes: content(dice.below(1 << 30), dice.below(5_000) as usize),
            },
        };
        tree.insert(path, node);
    }
    tree
}

fn write<'a>(base: &Path, nodes: impl Iterator<Item = (&'a PathBuf, &'a Node)>) {
    std::fs::create_dir_all(base).unwrap();
    for (path, node) in nodes {
        let path = base.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::Dir => std::fs::create_dir_all(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::File { executable, bytes } => {
                std::fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o700 } else { 0o600 };
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
        }
    }
}

fn read(base: &Path, below: &Path, tree: &mut Tree) {
    for entry in std::fs::read_dir(base.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let full = base.join(&path);
        let meta = full.symlink_metadata().unwrap();
        if meta.is_symlink() {
            tree.insert(path, Node::Link(std::fs::read_link(&full).unwrap()));
        } else if meta.is_dir() {
            tree.insert(path.clone(), Node::Dir);
            read(base, &path, tree);
        } else {
            let executable = meta.permissions().mode() & 0o111 != 0;
            tree.insert(
                path,
                Node::File {
                    executable,
                    bytes: std::fs::read(&full).unwrap(),
                },
            );
        }
    }
}

#[test]
fn trees_come_back_and_how_they_were_made_does_not_show() {
    let mut dice = Dice::new();
    for _ in 0..TREES {
        let dir = tempfile::tempdir().unwrap();
        let tree = random(&mut dice);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write(&one, tree.iter());
        write(&two, tree.iter().rev());
        let (first, second) = (dir.path().join("1.tar.zst"), dir.path().join("2.tar.zst"));
        let bytes = pack(&one, &first, u64::MAX).unwrap();
        pack(&two, &second, u64::MAX).unwrap();
        assert_eq!(
            std::fs::read(&first).unwrap(),
            std::fs::read(&second).unwrap()
        );
        let listed: Vec<PathBuf> = tree.keys().rev().cloned().collect();
        pack_files(&one, &listed, &second, u64::MAX).unwrap();
        let repacked = std::fs::read(&second).unwrap();
        assert_eq!(
            std::fs::read(&first).unwrap(),
            repacked,
            "the order they are named in"
        );
        let of_files = |node: &Node| match node {
            Node::File { bytes, .. } => bytes.len() as u64,
            Node::Dir | Node::Link(_) => 0,
        };
        assert_eq!(bytes, tree.values().map(of_files).sum::<u64>());

        let back = dir.path().join("back");
        std::fs::create_dir(&back).unwrap();
        unpack(&first, &back, Limits::bytes(bytes), None).unwrap();
        let mut found = Tree::new();
        read(&back, Path::new(""), &mut found);
        assert_eq!(found, tree);
    }
}

#[test]
fn only_the_files_that_are_named_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir_all(from.join("src")).unwrap();
    for name in ["src/train.py", "src/ignored.bin", "secret"] {
        std::fs::write(from.join(name), name).unwrap();
    }
    let archive = dir.path().join("a.tar.zst");
    let chosen = [PathBuf::from("src/train.py")];
    assert_eq!(pack_files(&from, &chosen, &archive, 100).unwrap(), 12);
    let back = dir.path().join("back");
    std::fs::create_dir(&back).unwrap();
    unpack(&archive, &back, Limits::bytes(100), None).unwrap();
    assert_eq!(files(&back), [back.join("src/train.py")]);
}
