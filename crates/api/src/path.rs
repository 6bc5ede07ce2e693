//! Paths of fields as people read them: `spec.groups[1].replicas`, `metadata.labels[a.b/c]`.

use std::fmt::Write as _;

/// Adds a field to a path. Names that hold `.`, `[` or `]` are bracketed.
pub(crate) fn field(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && !name.contains(['.', '[', ']']);
    match (plain, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{name}]"),
    }
}

/// Adds an index to a path.
pub(crate) fn index(path: &str, index: usize) -> String {
    let mut path = path.to_owned();
    write!(path, "[{index}]").expect("writing to a String cannot fail");
    path
}

/// The steps of a path.
pub(crate) fn split(path: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        steps.push(step.to_owned());
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

/// From a JSON pointer (RFC 6901).
pub(crate) fn from_pointer(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let is_index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
        path = if is_index {
            format!("{path}[{step}]")
        } else {
            field(&path, &step)
        };
    }
    path
}

/// Whether one path leads through the other.
pub(crate) fn related(a: &str, b: &str) -> bool {
    let (a, b) = (split(a), split(b));
    a.iter().zip(&b).all(|(x, y)| x == y)
}

/// Whether a path is `outer` or leads into it.
pub(crate) fn starts_with(path: &str, outer: &str) -> bool {
    split(path).starts_with(&split(outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_there_and_back() {
        let path = field(&index(&field("spec", "groups"), 1), "replicas");
        assert_eq!(path, "spec.groups[1].replicas");
        assert_eq!(split(&path), ["spec", "groups", "1", "replicas"]);
        let label = field("metadata.labels", "a.b/c");
        assert_eq!(label, "metadata.labels[a.b/c]");
        assert_eq!(split(&label), ["metadata", "labels", "a.b/c"]);
        assert_eq!(from_pointer("/spec/groups/1/a~1b~0"), "spec.groups[1].a/b~");
        assert_eq!(split("[3].kind"), ["3", "kind"]);
    }

    #[test]
    fn relatives() {
        assert!(related("spec.env[0]", "spec.env[0].value"));
        assert!(related("spec", "spec"));
        assert!(!related("spec.env[0]", "spec.env[1].value"));
        assert!(!related("spec.a", "spec.ab"));
    }
}
