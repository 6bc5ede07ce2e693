//! `api-resources`: the kinds.

use crate::exit::Failure;
use crate::out::Out;
use crate::table::table;
use api::{Kind, Scope};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, out: Out) -> Result<(), Failure> {
    out.text(&text())
}

fn text() -> String {
    let rows: Vec<Vec<String>> = Kind::ALL
        .iter()
        .map(|kind| {
            let scope = match kind.scope() {
                Scope::Global => "platform",
                Scope::Tenant => "tenant",
                Scope::Project => "project",
            };
            vec![
                kind.plural().to_owned(),
                kind.short_names().join(","),
                kind.as_str().to_owned(),
                scope.to_owned(),
            ]
        })
        .collect();
    table(&["NAME", "SHORT", "KIND", "BELONGS TO"], &rows)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_is_there() {
        let text = super::text();
        assert!(
            text.contains("environments   env    Environment   project"),
            "{text}"
        );
        assert_eq!(text.lines().count(), api::Kind::ALL.len() + 1);
    }
}
