//! `label`: set or remove labels.

use crate::exit::Failure;
use crate::session::Session;
use crate::target;
use serde_json::{Map, Value, json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND NAME` or `KIND/NAME`, then `key=value` to set and `key-` to remove.
    #[arg(required = true, num_args = 2.., value_name = "OBJECT LABEL")]
    words: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let n_object = if args.words[0].contains('/') { 1 } else { 2 };
    let (object, changes) = args.words.split_at(n_object.min(args.words.len()));
    let target = target::one(object, None)?;
    let labels = patch(changes)?;
    let patch = json!({ "metadata": { "labels": labels } });
    session
        .client
        .patch(
            target.kind,
            session.project_of(target.kind),
            &target.name,
            &patch,
        )
        .await?;
    session.out.line(format!("{} labelled", target.show()))
}

fn patch(changes: &[String]) -> Result<Map<String, Value>, Failure> {
    if changes.is_empty() {
        return Err(Failure::Usage(
            "which labels? write `key=value` to set, `key-` to remove".to_owned(),
        ));
    }
    changes
        .iter()
        .map(
            |change| match (change.split_once('='), change.strip_suffix('-')) {
                (Some((key, value)), _) => Ok((key.to_owned(), json!(value))),
                (None, Some(key)) => Ok((key.to_owned(), Value::Null)),
                (None, None) => Err(Failure::Usage(format!(
                    "`{change}` is neither `key=value` nor `key-`"
                ))),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let words = ["a=b", "c-", "d=e-f="].map(str::to_owned);
        assert_eq!(
            Value::Object(patch(&words).unwrap()),
            json!({"a": "b", "c": null, "d": "e-f="})
        );
        assert!(patch(&["x".to_owned()]).is_err() && patch(&[]).is_err());
    }
}
