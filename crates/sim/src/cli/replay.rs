//! `moonshot sim replay`

use super::args::{Args, Command, Opt};
use super::{CliError, print, write};
use crate::change::Change;
use crate::whatif;
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;

pub(crate) const COMMAND: Command = Command {
    name: "replay",
    summary: "Decides a scheduler log again, bit for bit, or asks what would have been different.",
    about: "Without a question every decision is made again and compared; the first difference is an error. With \
            --what-if\n(which may be given several times) the log's work is lived through as it was and with the \
            change:\n\n  \
            queue NAME guaranteed gpu=64   queue NAME limit gpu=64   queue NAME weight 2\n  \
            drain NODE   cordon NODE   sick NODE DEVICE   add 4 like NODE   task NAME priority 10\n\n\
            NODE and the task's NAME may end in `*`. A log is the whole of a bug report about scheduling.",
    operand: Some("LOG"),
    options: &[
        Opt::optional("what-if", "CHANGE", "what would have been different"),
        Opt::optional("json", "FILE", "write the answer there"),
    ],
    run,
};

fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let open = || {
        let path = PathBuf::from(args.operand());
        let file = File::open(&path).map_err(|source| crate::DataError::Read { path, source })?;
        Ok::<_, CliError>(BufReader::new(file))
    };
    let mut changes: Vec<Change> = Vec::new();
    for text in args.all("what-if") {
        changes.push(
            text.parse()
                .map_err(|error| CliError::Usage(format!("--what-if: {error}")))?,
        );
    }
    if changes.is_empty() {
        let replay = schedlog::replay(open()?)?;
        let result =
            json!({"rounds": replay.rounds, "decisions": replay.decisions.len(), "same": true});
        if let Some(path) = args.option("json") {
            write(path, format!("{result:#}\n").as_bytes())?;
        }
        return print(
            out,
            &format!(
                "{} decisions in {} rounds, all as recorded\n",
                replay.decisions.len(),
                replay.rounds
            ),
        );
    }
    let recorded = whatif::read(open()?)?;
    if let Some(change) = whatif::unknown(&recorded, &changes) {
        return Err(CliError::Failed(format!(
            "`{change}` is about something that the log does not name"
        )));
    }
    let answer = whatif::ask(&recorded, &changes);
    if let Some(path) = args.option("json") {
        write(path, format!("{:#}\n", answer.json()).as_bytes())?;
    }
    print(out, &answer.table())
}
