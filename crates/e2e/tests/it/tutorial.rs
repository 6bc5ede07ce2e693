//! The tutorial, word for word: every block of commands is run, and what it prints is compared.
//!
//! In `docs/src/tutorial.md` a block marked `sh` is run by `bash -e` in one directory; `sh,exit=1` says how it
//! ends. A block marked `text` after it is what it prints on standard output: `…` alone stands for any lines,
//! `<name>` for a text of the kind in [`PLACEHOLDERS`]. A placeholder of the kind `SameWord`, like
//! `<rank>`, stands for the same text wherever it stands in a block.

use e2e::Installation;
use std::collections::BTreeMap;
use std::path::Path;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// One word, another one at each place.
    Word,
    /// One word, the same at each place of a block.
    SameWord,
    /// Words to the end of the line.
    Words,
}

const PLACEHOLDERS: &[(&str, Stands)] = &[
    ("age", Stands::Word),
    ("cpu", Stands::Word),
    ("node", Stands::Word),
    ("python", Stands::Word),
    ("url", Stands::Word),
    ("version", Stands::Word),
    ("rank", Stands::SameWord),
    ("other", Stands::SameWord),
    ("sentence", Stands::Words),
];

/// Commands with what is expected of them.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// Its first line in the file, from 1.
    line: usize,
    commands: String,
    exit: i32,
    prints: Option<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let text: String = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .map(|line| format!("{line}\n"))
            .collect();
        let mut words = info.split(',');
        match words.next() {
            Some("sh") => {
                let exit = words
                    .find_map(|word| word.strip_prefix("exit="))
                    .map_or(0, |code| code.parse().expect("an exit code"));
                steps.push(Step {
                    line: number + 2,
                    commands: text,
                    exit,
                    prints: None,
                });
            }
            Some("text") => {
                let step = steps.last_mut().expect("commands come before their output");
                assert_eq!(step.prints, None, "line {number}: two outputs of one block");
                step.prints = Some(text);
            }
            other => panic!("line {number}: what is to be done with a block of `{other:?}`?"),
        }
    }
    steps
}

/// A piece of an expected line.
#[derive(Debug)]
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str, Stands),
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some((before, name, after)) = rest.split_once('<').and_then(|(before, tail)| {
        tail.split_once('>')
            .map(|(name, after)| (before, name, after))
    }) {
        let (_, stands) = PLACEHOLDERS
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("`<{name}>` is not in the table of placeholders"));
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Placeholder(name, *stands));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

type Bound<'a> = BTreeMap<&'a str, String>;

/// Whether a printed line is the expected one; spaces count as one, because columns grow with their values.
fn line_matches<'a>(pieces: &[Piece<'a>], printed: &str, bound: &Bound<'a>) -> Option<Bound<'a>> {
    let Some((first, rest)) = pieces.split_first() else {
        return printed.is_empty().then(|| bound.clone());
    };
    match first {
        Piece::Text(text) => line_matches(rest, printed.strip_prefix(text)?, bound),
        Piece::Placeholder(name, stands) => {
            let ends = printed.char_indices().map(|(at, c)| at + c.len_utf8());
            ends.take_while(|end| *stands == Stands::Words || !printed[..*end].contains(' '))
                .find_map(|end| {
                    let word = &printed[..end];
                    let mut bound = bound.clone();
                    if *stands == Stands::SameWord {
                        let known = bound.entry(name).or_insert_with(|| word.to_owned());
                        if known != word {
                            return None;
                        }
                    }
                    line_matches(rest, &printed[end..], &bound)
                })
        }
    }
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lines_match<'a>(expected: &[&'a str], printed: &[String], bound: &Bound<'a>) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => {
            (0..=printed.len()).any(|n| lines_match(rest, &printed[n..], bound))
        }
        (Some((line, expected)), Some((first, printed))) => {
            line_matches(&pieces(line), first, bound)
                .is_some_and(|bound| lines_match(expected, printed, &bound))
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn matches(expected: &str, printed: &str) -> bool {
    let squeezed_lines = |text: &str| text.lines().map(squeezed).collect::<Vec<String>>();
    let (expected, printed) = (squeezed_lines(expected), squeezed_lines(printed));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    lines_match(&expected, &printed, &BTreeMap::new())
}

#[test]
fn output_is_compared_by_words_and_placeholders() {
    assert!(matches(
        "NAME  AGE\na  <age>\n",
        "NAME     AGE\na        3m2s\n"
    ));
    assert!(!matches("a <age>\n", "a\n"), "a placeholder is not nothing");
    assert!(!matches("a <age>\n", "a 1s ago\n"), "an age is one word");
    assert!(matches("a <sentence>\n", "a 1s ago\n"));
    assert!(matches("a\n…\nd\n", "a\nb\nc\nd\n"));
    assert!(matches("a\n…\n", "a\n"));
    assert!(!matches("a\n…\nd\n", "a\nb\n"));
    assert!(matches("r/<rank> of <rank>\n", "r/1 of 1\n"));
    assert!(!matches("r/<rank> of <rank>\n", "r/1 of 0\n"));
    assert!(!matches("", "a\n"), "nothing more is printed");
}

#[test]
fn the_tutorial_does_what_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/tutorial.md");
    let page = std::fs::read_to_string(file).expect("the tutorial");
    let steps = steps(&page);
    assert!(steps.len() > 15, "the blocks are found");
    let installation = Installation::start(&[]);
    for step in steps {
        let output = installation.shell(&step.commands);
        let place = format!(
            "docs/src/tutorial.md, line {}:\n{}",
            step.line, step.commands
        );
        assert_eq!(
            output.code, step.exit,
            "{place}\nstdout: {}\nstderr: {}",
            output.stdout, output.stderr
        );
        if let Some(expected) = &step.prints {
            assert!(
                matches(expected, &output.stdout),
                "{place}\n---- expected\n{expected}---- printed\n{}---- and on standard error\n{}",
                output.stdout,
                output.stderr
            );
        }
    }
}
