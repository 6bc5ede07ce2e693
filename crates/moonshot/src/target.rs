//! Which object a command means: `job/flights`, `job flights`, `flights`, or a replica `job/flights/worker/1`.

use crate::exit::Failure;
use api::Kind;
use api::nearest::nearest;

/// A kind and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl Target {
    /// `job/flights`.
    pub(crate) fn show(&self) -> String {
        format!("{}/{}", self.kind.as_str().to_ascii_lowercase(), self.name)
    }
}

/// The kind a word means.
pub(crate) fn kind(word: &str) -> Result<Kind, Failure> {
    Kind::find(word).ok_or_else(|| {
        let near = nearest(word, Kind::ALL.iter().map(|kind| kind.plural()));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Failure::Usage(format!(
            "there is no kind `{word}`{hint} (`moonshot api-resources` lists them)"
        ))
    })
}

/// Several objects: `KIND NAME…` or `KIND/NAME…`.
pub(crate) fn many(words: &[String]) -> Result<Vec<Target>, Failure> {
    let Some(first) = words.first() else {
        return Err(Failure::Usage(
            "which one? write for example `job/flights`".to_owned(),
        ));
    };
    if first.contains('/') {
        return words.iter().map(|word| slashed(word)).collect();
    }
    let kind = kind(first)?;
    if let Some(odd) = words[1..].iter().find(|word| word.contains('/')) {
        return Err(Failure::Usage(format!(
            "`{odd}` names a kind again; write `{} NAME…` or `KIND/NAME…`",
            first
        )));
    }
    Ok(words[1..]
        .iter()
        .map(|name| Target {
            kind,
            name: name.clone(),
        })
        .collect())
}

/// One object: `KIND NAME` or `KIND/NAME`, or a bare name of the kind that the verb is about.
pub(crate) fn one(words: &[String], only: Option<Kind>) -> Result<Target, Failure> {
    if let ([name], Some(kind)) = (words, only)
        && !name.contains('/')
    {
        return Ok(Target {
            kind,
            name: name.clone(),
        });
    }
    let found = many(words)?;
    let [target] = found.as_slice() else {
        return Err(Failure::Usage(
            "one object is expected; write for example `job/flights`".to_owned(),
        ));
    };
    match only {
        Some(kind) if target.kind != kind => Err(Failure::Usage(format!(
            "{}: this verb is for kind {} alone",
            target.show(),
            kind.as_str()
        ))),
        Some(_) | None => Ok(target.clone()),
    }
}

fn slashed(word: &str) -> Result<Target, Failure> {
    match word.split_once('/') {
        Some((kind_word, name)) if !name.is_empty() && !name.contains('/') => Ok(Target {
            kind: kind(kind_word)?,
            name: name.to_owned(),
        }),
        Some(_) | None => Err(Failure::Usage(format!("`{word}` is not `KIND/NAME`"))),
    }
}

/// One replica of a Job or an App.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) target: Target,
    pub(crate) group: Option<String>,
    pub(crate) index: Option<u32>,
}

/// `job/flights`, `job/flights/worker/1`, `app/flights/r3/0`, or `job/flights/1` for the first group.
pub(crate) fn replica(word: &str) -> Result<Replica, Failure> {
    let parts: Vec<&str> = word.split('/').collect();
    let index = |text: &str| {
        text.parse()
            .map_err(|_| Failure::Usage(format!("`{text}` in `{word}` is not a replica's number")))
    };
    let (kind_word, name, group, index) = match parts.as_slice() {
        [kind, name] => (*kind, *name, None, None),
        [kind, name, number] => (*kind, *name, None, Some(index(number)?)),
        [kind, name, group, number] => (
            *kind,
            *name,
            Some((*group).to_owned()),
            Some(index(number)?),
        ),
        _ => {
            return Err(Failure::Usage(format!(
                "`{word}` is no replica; write `job/NAME/GROUP/INDEX` or `app/NAME`"
            )));
        }
    };
    let kind = kind(kind_word)?;
    if !matches!(kind, Kind::Job | Kind::App) || name.is_empty() {
        return Err(Failure::Usage(format!(
            "`{word}` is no replica of a Job or an App; write `job/NAME/GROUP/INDEX`"
        )));
    }
    Ok(Replica {
        target: Target {
            kind,
            name: name.to_owned(),
        },
        group,
        index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn targets() {
        let check = |text: &str, expect: &[&str]| {
            let found: Vec<String> = many(&words(text))
                .unwrap()
                .iter()
                .map(Target::show)
                .collect();
            assert_eq!(found, expect, "{text}");
        };
        check("job/a", &["job/a"]);
        check("job/a app/b", &["job/a", "app/b"]);
        check("jobs a b", &["job/a", "job/b"]);
        check("env e", &["environment/e"]);
        check("jobs", &[]);
        for text in ["", "jbo a", "job/", "job/a/b", "job a/b", "/a"] {
            assert!(many(&words(text)).is_err(), "{text}");
        }
        assert_eq!(
            many(&words("jbos a")).unwrap_err().to_string(),
            "there is no kind `jbos`; did you mean `jobs`? (`moonshot api-resources` lists them)"
        );
        assert_eq!(one(&words("a"), Some(Kind::Job)).unwrap().show(), "job/a");
        assert_eq!(
            one(&words("job a"), Some(Kind::Job)).unwrap().show(),
            "job/a"
        );
        assert_eq!(
            one(&words("app/a"), Some(Kind::Job))
                .unwrap_err()
                .to_string(),
            "app/a: this verb is for kind Job alone"
        );
        assert!(one(&words("job/a job/b"), None).is_err());
    }

    #[test]
    fn replicas() {
        let check = |text, group: Option<&str>, index| {
            let found = replica(text).unwrap();
            assert_eq!(
                (found.group.as_deref(), found.index),
                (group, index),
                "{text}"
            );
        };
        check("job/a", None, None);
        check("job/a/1", None, Some(1));
        check("app/a/r3/0", Some("r3"), Some(0));
        for text in ["a", "job/a/w/x", "job/a/w/1/2", "node/a", "job/"] {
            assert!(replica(text).is_err(), "{text}");
        }
    }
}
