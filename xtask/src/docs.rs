//! Links of the documents: every relative one leads to a file that is there, and its fragment to a heading. Pages
//! of the book (`docs/src`) are all in its summary, and link only to one another: a built book holds nothing else.
//! Addresses of other hosts are not asked.

use crate::sh::{self, Done, Failure};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Fails with every link that leads nowhere.
pub(crate) fn check() -> Done {
    let root = sh::root();
    let listed = sh::read(&mut sh::command(
        "git",
        ["ls-files", "-co", "--exclude-standard", "*.md"],
    ))?;
    let mut wrong = Vec::new();
    for file in listed.lines() {
        let text = read(&root.join(file))?;
        for link in links(&text) {
            if let Some(reason) = broken(&root, file, &text, &link)? {
                wrong.push(format!("{file}: `{link}` {reason}"));
            }
        }
    }
    let summary = links(&read(&root.join("docs/src/SUMMARY.md"))?);
    for page in listed
        .lines()
        .filter_map(|file| file.strip_prefix("docs/src/"))
    {
        if page != "SUMMARY.md" && !summary.contains(page) {
            wrong.push(format!("docs/src/{page} is not in docs/src/SUMMARY.md"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

fn read(path: &Path) -> Done<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
}

/// Why a link leads nowhere, if it does.
fn broken(root: &Path, file: &str, text: &str, link: &str) -> Done<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let beside = Path::new(file).parent().unwrap_or(Path::new(""));
    let target = plain(&beside.join(path));
    if !path.is_empty() && !root.join(&target).exists() {
        return Ok(Some("is not there".to_owned()));
    }
    if !path.is_empty() && file.starts_with("docs/src/") && !target.starts_with("docs/src") {
        return Ok(Some("is outside the book".to_owned()));
    }
    if fragment.is_empty() {
        return Ok(None);
    }
    let of_target;
    let text = if path.is_empty() {
        text
    } else {
        of_target = read(&root.join(&target))?;
        &of_target
    };
    let is_there = headings(text).contains(fragment);
    Ok((!is_there).then(|| format!("names no heading of {}", target.display())))
}

/// `a/../b` as `b`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => plain.push(part),
        }
    }
    plain
}

/// Lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// Targets of `[text](target)`, outside of code.
fn links(text: &str) -> BTreeSet<String> {
    let mut links = BTreeSet::new();
    for line in prose(text) {
        // Every second part of a line is code.
        let words: Vec<&str> = line.split('`').step_by(2).collect();
        let words = words.join("code");
        for rest in words.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                links.insert(target.to_owned());
            }
        }
    }
    links
}

/// Headings as fragments name them.
fn headings(text: &str) -> BTreeSet<String> {
    let slug = |title: &str| {
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            _ if c.is_alphanumeric() => c.to_lowercase().next(),
            _ => None,
        });
        kept.collect::<String>()
    };
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line.trim_start_matches('#').trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headings_outside_of_code() {
        let text = "# A title, `with` code\n[a](b.md#c) and `[no](link)`\n```sh\n# no heading [x](y)\n```\n[d](e)";
        assert_eq!(
            links(text),
            BTreeSet::from(["b.md#c", "e"].map(str::to_owned))
        );
        assert_eq!(
            headings(text),
            BTreeSet::from(["a-title-with-code".to_owned()])
        );
        assert_eq!(plain(Path::new("docs/src/../a.md")), Path::new("docs/a.md"));
    }
}
