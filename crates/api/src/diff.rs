//! What differs between two JSON values, by path, as lines a person can read.

use crate::manifest::cut;
use crate::path;
use serde_json::Value;

/// The most lines of one difference.
pub const LINES_MAX: usize = 1_000;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `spec.groups[0].replicas`.
    pub field: String,
    /// What it was; absent where it is new.
    pub before: Option<Value>,
    /// What it is; absent where it is gone.
    pub after: Option<Value>,
}

/// Every place where two values differ, in the order of the second. `root` begins each path.
pub fn differences(root: &str, before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect(root, Some(before), Some(after), &mut found);
    found
}

/// The differences as lines: `~ path: old -> new`, `+ path: new`, `- path: old`.
pub fn lines(root: &str, before: &Value, after: &Value) -> Vec<String> {
    let all = differences(root, before, after);
    let mut lines: Vec<String> = all.iter().take(LINES_MAX).map(line).collect();
    if all.len() > LINES_MAX {
        lines.push(format!("… and {} more", all.len() - LINES_MAX));
    }
    lines
}

fn line(difference: &Difference) -> String {
    let field = &difference.field;
    match (&difference.before, &difference.after) {
        (Some(before), Some(after)) => {
            let (before, after) = show_both(before, after);
            format!("~ {field}: {before} -> {after}")
        }
        (None, Some(after)) => format!("+ {field}: {}", show(after)),
        (Some(before), None) => format!("- {field}: {}", show(before)),
        (None, None) => String::new(),
    }
}

fn show(value: &Value) -> String {
    match value {
        // Plain words need no quotes.
        Value::String(text) if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) => {
            cut(text)
        }
        other => cut(&other.to_string()),
    }
}

/// Two long texts are shown from shortly before where they part.
fn show_both(before: &Value, after: &Value) -> (String, String) {
    const CONTEXT: usize = 20;
    let (Value::String(a), Value::String(b)) = (before, after) else {
        return (show(before), show(after));
    };
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    if same <= 2 * CONTEXT {
        return (show(before), show(after));
    }
    let tail = |text: &str| -> String {
        let rest: String = text.chars().skip(same - CONTEXT).collect();
        format!("…{}", cut(&rest))
    };
    (tail(a), tail(b))
}

fn collect(at: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            for (name, value) in after {
                collect(&path::field(at, name), before.get(name), Some(value), found);
            }
            for (name, value) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
                collect(&path::field(at, name), Some(value), None, found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after)))
            if before.len() == after.len() || (holds_objects(before) && holds_objects(after)) =>
        {
            for i in 0..before.len().max(after.len()) {
                collect(&path::index(at, i), before.get(i), after.get(i), found);
            }
        }
        (before, after) => {
            found.push(Difference {
                field: at.to_owned(),
                before: before.cloned(),
                after: after.cloned(),
            });
        }
    }
}

/// Lists of words read best whole; lists of objects item by item.
fn holds_objects(items: &[Value]) -> bool {
    items.iter().any(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readable_lines() {
        let before = json!({
            "replicas": 2, "command": ["python", "serve.py"], "gone": {"a": 1},
            "groups": [{"name": "w", "replicas": 1}, {"name": "ps"}],
        });
        let after = json!({
            "replicas": 3, "command": ["python", "serve.py", "--fast"], "new": "", "env": {"a.b": "x y"},
            "groups": [{"name": "w", "replicas": 4}],
        });
        assert_eq!(
            lines("spec", &before, &after),
            [
                "~ spec.replicas: 2 -> 3",
                r#"~ spec.command: ["python","serve.py"] -> ["python","serve.py","--fast"]"#,
                r#"+ spec.new: """#,
                r#"+ spec.env: {"a.b":"x y"}"#,
                "~ spec.groups[0].replicas: 1 -> 4",
                r#"- spec.groups[1]: {"name":"ps"}"#,
                r#"- spec.gone: {"a":1}"#,
            ]
        );
        assert_eq!(lines("spec", &before, &before), [] as [&str; 0]);
    }

    #[test]
    fn a_small_change_in_a_long_text_is_seen() {
        let long = |word: &str| json!({ "command": ["sh", "-c", format!("{}{word} and more", "x".repeat(200))] });
        assert_eq!(
            lines("", &long("old"), &long("new")),
            [
                "~ command[2]: …xxxxxxxxxxxxxxxxxxxxold and more -> …xxxxxxxxxxxxxxxxxxxxnew and more"
            ]
        );
    }

    #[test]
    fn lines_are_bounded() {
        let before: Value = (0..5_000)
            .map(|n| (format!("k{n}"), json!(1)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let lines = lines("", &before, &json!({}));
        assert_eq!(
            (lines.len(), lines.last().unwrap().as_str()),
            (LINES_MAX + 1, "… and 4000 more")
        );
    }
}
