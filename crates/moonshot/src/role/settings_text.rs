//! What is wrong with the text of a settings file, by line and key; and each setting with where it comes from.

use super::settings::TABLE;
use std::path::Path;

/// The beginning of every variable of ours.
const PREFIX: &str = "MOONSHOT_";
/// Variables that are no settings of the server and the gateway.
const OTHERS: [&str; 9] = [
    "MOONSHOT_CACHE",
    "MOONSHOT_CONFIG_FILE",
    "MOONSHOT_CONTEXT",
    "MOONSHOT_LOG",
    "MOONSHOT_LOG_FORMAT",
    "MOONSHOT_PROJECT",
    "MOONSHOT_SERVER",
    "MOONSHOT_TOKEN",
    "MOONSHOT_TOKEN_FILE",
];

/// Every key that is no setting, and every line that is not TOML.
pub(crate) fn problems(path: &Path, text: &str) -> Vec<String> {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![toml_problem(path, text, &error)],
    };
    let keys = || TABLE.iter().map(|(_, key, ..)| *key);
    table
        .keys()
        .filter(|key| keys().all(|known| known != key.as_str()))
        .map(|key| {
            let near = api::nearest::nearest(key, keys());
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!(
                "{}there is no setting `{key}`{hint}",
                place(path, text, key)
            )
        })
        .collect()
}

/// A failure of the parser, by line.
pub(crate) fn toml_problem(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    format!(
        "`{}` line {line}: {}: `{written}`",
        path.display(),
        error.message().trim_end().replace('\n', ", ")
    )
}

/// A sentence about a variable, told of the file's line where the value comes from there.
pub(crate) fn placed(
    sentence: String,
    file: Option<(&Path, &str)>,
    is_set: impl Fn(&str) -> bool,
) -> String {
    let Some((path, text)) = file else {
        return sentence;
    };
    let told = TABLE.iter().find(|(variable, key, ..)| {
        let is_it = sentence
            .strip_prefix(variable)
            .is_some_and(|rest| rest.starts_with(' '));
        is_it && !is_set(variable) && line_of(text, key).is_some()
    });
    match told {
        Some((variable, key, ..)) => {
            let rest = &sentence[variable.len()..];
            format!("{}`{key}`{rest}", place(path, text, key))
        }
        None => sentence,
    }
}

/// Variables that look like a setting's and are none.
pub(crate) fn misspelt(variables: impl Iterator<Item = String>) -> Vec<String> {
    let names = || TABLE.iter().map(|(variable, ..)| *variable);
    variables
        .filter(|variable| variable.starts_with(PREFIX))
        .filter(|variable| names().chain(OTHERS).all(|known| known != variable))
        .filter_map(|variable| {
            // The prefix is no likeness.
            let word = variable.strip_prefix(PREFIX)?;
            let near =
                api::nearest::nearest(word, names().filter_map(|name| name.strip_prefix(PREFIX)))?;
            Some(format!(
                "the variable {variable} is no setting; did you mean {PREFIX}{near}?"
            ))
        })
        .collect()
}

/// A setting as it is.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) from: String,
}

/// Every setting with its value and where that comes from. Passwords are left out.
pub(crate) fn shown(
    file: Option<(&Path, &str)>,
    env: impl Fn(&str) -> Option<String>,
) -> Vec<Shown> {
    let table: toml::Table = file
        .and_then(|(_, text)| text.parse().ok())
        .unwrap_or_default();
    TABLE
        .iter()
        .map(|(variable, key, default, _)| {
            let written = table.get(*key).map(|value| match value {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let (value, from) = match (env(variable), written, file) {
                (Some(value), ..) => (value, (*variable).to_owned()),
                (None, Some(value), Some((path, text))) => {
                    let line = line_of(text, key).unwrap_or(1);
                    (value, format!("{}:{line}", path.display()))
                }
                _ => ((*default).to_owned(), "default".to_owned()),
            };
            Shown {
                key,
                value: without_password(&value),
                from,
            }
        })
        .collect()
}

/// `postgres://user:…@host`: what stands before the `@` and after the name.
fn without_password(value: &str) -> String {
    let hidden = || {
        let (scheme, rest) = value.split_once("://")?;
        let (user, host) = rest.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:…@{host}"))
    };
    hidden().unwrap_or_else(|| value.to_owned())
}

/// `FILE line N: `.
fn place(path: &Path, text: &str, key: &str) -> String {
    match line_of(text, key) {
        Some(line) => format!("`{}` line {line}: ", path.display()),
        None => format!("`{}`: ", path.display()),
    }
}

/// The line, from 1, that sets a key.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| {
            rest.trim_start_matches(['"', '\''])
                .trim_start()
                .starts_with(['=', '.'])
        })
    };
    text.lines()
        .position(|line| sets(line) || line.trim() == format!("[{key}]"))
        .map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/etc/moonshot.toml";

    /// The table for the operations page.
    fn markdown() -> String {
        let mut text =
            "| variable | key in the file | default | meaning |\n|---|---|---|---|\n".to_owned();
        for (variable, key, default, what) in TABLE {
            let cell = |text: &str| text.replace('|', "\\|");
            let default = match *default {
                "" => "–".to_owned(),
                default if default.contains('`') || default.contains(' ') => cell(default),
                default => format!("`{default}`"),
            };
            text.push_str(&format!(
                "| `{variable}` | `{key}` | {default} | {} |\n",
                cell(what)
            ));
        }
        text
    }

    #[test]
    fn every_key_that_is_no_setting_is_told_with_its_line_and_the_nearest() {
        let text = "# ours\nnodes = 2\nlissten = '127.0.0.1:1'\n\nzebra = 1\n";
        assert_eq!(
            problems(Path::new(PATH), text),
            [
                "`/etc/moonshot.toml` line 3: there is no setting `lissten`; did you mean `listen`?",
                "`/etc/moonshot.toml` line 5: there is no setting `zebra`",
            ]
        );
        let broken = problems(Path::new(PATH), "nodes = 2\nlisten = '127\n");
        assert!(
            broken[0].starts_with("`/etc/moonshot.toml` line 2: ") && broken.len() == 1,
            "{broken:?}"
        );
    }

    #[test]
    fn a_bad_value_is_told_where_it_is_written() {
        let text = "nodes = 2\nlisten = 'here'\n";
        let file = Some((Path::new(PATH), text));
        let sentence = || "MOONSHOT_LISTEN is `here`; write an address".to_owned();
        assert_eq!(
            placed(sentence(), file, |_| false),
            "`/etc/moonshot.toml` line 2: `listen` is `here`; write an address"
        );
        assert_eq!(placed(sentence(), file, |_| true), sentence());
    }

    #[test]
    fn misspelt_variables_are_told_and_others_are_not() {
        let names = [
            "MOONSHOT_LISEN",
            "MOONSHOT_NODES",
            "MOONSHOT_TOKEN",
            "HOME",
            "MOONSHOT_SEED",
        ];
        assert_eq!(
            misspelt(names.into_iter().map(str::to_owned)),
            ["the variable MOONSHOT_LISEN is no setting; did you mean MOONSHOT_LISTEN?"]
        );
    }

    #[test]
    fn settings_are_shown_with_their_origin_and_without_passwords() {
        let text = "nodes = 3\ndatabase = 'postgres://ada:s3cret@db.example.org/moon'\n";
        let shown = shown(Some((Path::new(PATH), text)), |name| {
            (name == "MOONSHOT_NODES").then(|| "4".to_owned())
        });
        let of = |key: &str| {
            let row = shown.iter().find(|row| row.key == key).unwrap();
            (row.value.as_str(), row.from.as_str())
        };
        assert_eq!(of("nodes"), ("4", "MOONSHOT_NODES"));
        assert_eq!(
            of("database"),
            (
                "postgres://ada:…@db.example.org/moon",
                "/etc/moonshot.toml:2"
            )
        );
        assert_eq!(of("fake_gpus"), ("0", "default"));
    }

    /// `UPDATE_EXPECT=1` rewrites it.
    #[test]
    fn the_operations_page_has_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/operations.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- settings -->\n", "<!-- /settings -->");
        let (before, rest) = page.split_once(begin).unwrap();
        let (table, after) = rest.split_once(end).unwrap();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let fresh = format!("{before}{begin}{}{end}{after}", markdown());
            std::fs::write(&path, fresh).unwrap();
            return;
        }
        assert_eq!(
            table,
            markdown(),
            "UPDATE_EXPECT=1 rewrites {}",
            path.display()
        );
    }
}
