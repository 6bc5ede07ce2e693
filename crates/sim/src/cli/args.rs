//! Reading arguments by a table, and the help that is made from the same table.

use super::CliError;
use std::collections::BTreeMap;
use std::io::Write;
use std::str::FromStr;

/// A command of the simulator.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// What a person should know before using it.
    pub(crate) about: &'static str,
    /// The one argument without a name, if it takes one.
    pub(crate) operand: Option<&'static str>,
    pub(crate) options: &'static [Opt],
    pub(crate) run: fn(&Args, &mut dyn Write) -> Result<(), CliError>,
}

/// An option `--name VALUE`, or a flag where there is no value.
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    pub(crate) value: Option<&'static str>,
    pub(crate) what: &'static str,
    pub(crate) required: bool,
}

impl Opt {
    pub(crate) const fn required(
        name: &'static str,
        value: &'static str,
        what: &'static str,
    ) -> Self {
        Self {
            name,
            value: Some(value),
            what,
            required: true,
        }
    }
    pub(crate) const fn optional(
        name: &'static str,
        value: &'static str,
        what: &'static str,
    ) -> Self {
        Self {
            name,
            value: Some(value),
            what,
            required: false,
        }
    }
    pub(crate) const fn flag(name: &'static str, what: &'static str) -> Self {
        Self {
            name,
            value: None,
            what,
            required: false,
        }
    }
}

impl Command {
    pub(crate) fn help(&self) -> String {
        let operand = self
            .operand
            .map_or(String::new(), |name| format!(" {name}"));
        let mut text = format!(
            "{}\n\nUsage: moonshot sim {}{operand}",
            self.summary, self.name
        );
        for option in self.options.iter().filter(|option| option.required) {
            text += &format!(" --{} {}", option.name, option.value.unwrap_or(""));
        }
        text += " [OPTIONS]\n\n";
        if !self.about.is_empty() {
            text += &format!("{}\n\n", self.about);
        }
        text += "Options:\n";
        for option in self.options {
            let left = match option.value {
                Some(value) => format!("--{} {value}", option.name),
                None => format!("--{}", option.name),
            };
            text += &format!("  {left:<24} {}\n", option.what);
        }
        text
    }

    fn wrong(&self, what: &str) -> CliError {
        CliError::Usage(format!(
            "{what}; `moonshot sim {} --help` says what there is",
            self.name
        ))
    }
}

/// Arguments that fit their command's table.
pub(crate) struct Args {
    command: &'static Command,
    operand: Option<String>,
    options: BTreeMap<&'static str, String>,
    /// All options in order, also those that were given again.
    given: Vec<(&'static str, String)>,
}

impl Args {
    pub(crate) fn parse(command: &'static Command, words: &[String]) -> Result<Self, CliError> {
        let mut args = Args {
            command,
            operand: None,
            options: BTreeMap::new(),
            given: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(named) = word.strip_prefix("--") else {
                if command.operand.is_none() || args.operand.is_some() {
                    return Err(command.wrong(&format!("`{word}` is not understood")));
                }
                args.operand = Some(word.clone());
                continue;
            };
            let (name, inline) = match named.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (named, None),
            };
            let option = command.options.iter().find(|option| option.name == name);
            let option =
                option.ok_or_else(|| command.wrong(&format!("unknown option `--{name}`")))?;
            let value = match (option.value, inline) {
                (Some(_), Some(value)) => value,
                (Some(_), None) => words
                    .next()
                    .cloned()
                    .ok_or_else(|| command.wrong(&format!("`--{name}` has no value")))?,
                (None, None) => String::new(),
                (None, Some(_)) => {
                    return Err(command.wrong(&format!("`--{name}` takes no value")));
                }
            };
            args.given.push((option.name, value.clone()));
            args.options.insert(option.name, value);
        }
        if let Some(operand) = command.operand.filter(|_| args.operand.is_none()) {
            return Err(command.wrong(&format!("`{operand}` is missing")));
        }
        let mut required = command.options.iter().filter(|option| option.required);
        if let Some(missing) = required.find(|option| !args.options.contains_key(option.name)) {
            return Err(command.wrong(&format!("`--{}` is missing", missing.name)));
        }
        Ok(args)
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Every value that was given for an option, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let given = self.given.iter().filter(move |(given, _)| *given == name);
        given.map(|(_, value)| value.as_str())
    }

    /// The value of an option that the table says is required.
    pub(crate) fn required(&self, name: &str) -> &str {
        self.option(name)
            .expect("`parse` refuses commands without what they require")
    }

    /// The argument without a name, which the table asks for.
    pub(crate) fn operand(&self) -> &str {
        self.operand
            .as_deref()
            .expect("`parse` refuses commands without their operand")
    }

    /// An option's value as a number or the like.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, default: T) -> Result<T, CliError> {
        let Some(text) = self.option(name) else {
            return Ok(default);
        };
        text.parse().map_err(|_| self.refuse(name, "a number"))
    }

    /// The error for a value that is not what it should be.
    pub(crate) fn refuse(&self, name: &str, wanted: &str) -> CliError {
        let text = self.option(name).unwrap_or("");
        self.command
            .wrong(&format!("`--{name} {text}` is not {wanted}"))
    }
}
