//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Signals that a broken library ends by.
const NAMES: [(i32, &str); 8] = [
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL, as the kernel sends where memory is short"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];

/// As the end of a sentence: `ended by signal 6 (SIGABRT)`.
pub(super) fn ended(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        let name = NAMES.iter().find(|(number, _)| *number == signal);
        let name = name.map_or(String::new(), |(_, name)| format!(" ({name})"));
        return format!("ended by signal {signal}{name}");
    }
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_codes_are_told() {
        assert_eq!(
            ended(ExitStatus::from_raw(6)),
            "ended by signal 6 (SIGABRT)"
        );
        assert_eq!(ended(ExitStatus::from_raw(40)), "ended by signal 40");
        assert_eq!(
            ended(ExitStatus::from_raw(3 << 8)),
            "ended with exit code 3"
        );
    }
}
