//! `moonshot sim bench`

use super::args::{Args, Command, Opt};
use super::{CliError, print, write};
use crate::bench::{self, Effort, Line};
use std::io::Write;

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "The scheduler's benches, each against its peer and its aim.",
    about: "Prints a table, and with `--json` one JSON object a line:\n  \
            {\"bench\",\"case\",\"metric\",\"value\",\"unit\",\"better\",\"peer\",\"peer_value\",\"aim\",\"met\",\"commit\"}\n\
            `commit` is what MOONSHOT_COMMIT says. Benches on traces look for them under MOONSHOT_DATA \
            and are\nskipped, with a word, where they are not.",
    operand: None,
    options: &[
        Opt::optional(
            "id",
            "ID[,ID…]",
            "which: names or beginnings of names [sched]",
        ),
        Opt::flag("quick", "at most about a minute each (the default)"),
        Opt::flag("full", "with all seeds, sizes and traces"),
        Opt::flag("list", "name the benches and stop"),
        Opt::optional("json", "FILE", "write the lines there"),
    ],
    run,
};

fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    if args.flag("list") {
        let text: String = bench::list()
            .map(|(name, what)| format!("{name:<22} {what}\n"))
            .collect();
        return print(out, &text);
    }
    let effort = if args.flag("full") {
        Effort::Full
    } else {
        Effort::Quick
    };
    let ids: Vec<&str> = args.option("id").unwrap_or("sched").split(',').collect();
    let commit = std::env::var("MOONSHOT_COMMIT").unwrap_or_default();
    let mut lines = String::new();
    let mut said = Ok(());
    bench::run(&ids, effort, |_, result| {
        let text = match result {
            Ok(figures) => {
                for figure in &figures {
                    lines += &format!("{}\n", figure.json(&commit));
                }
                table(&figures)
            }
            Err(error) => format!("{error}\n"),
        };
        if said.is_ok() {
            said = print(out, &text);
        }
    })?;
    said?;
    match args.option("json") {
        Some(path) => write(path, lines.as_bytes()),
        None => Ok(()),
    }
}

fn table(figures: &[Line]) -> String {
    let rows: Vec<[String; 6]> = figures.iter().map(Line::row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text += &format!("{}\n", padded.join("  ").trim_end());
    }
    text
}
