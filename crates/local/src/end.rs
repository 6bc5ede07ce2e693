//! From what a shim recorded to why a program ended, in a sentence. Pure.

use crate::record::Stop;
use base::{Bytes, Time};
use engine::{Cause, End};
use shim::record::{Exit, How};

/// What the engine knows besides the record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// It had been asked to end.
    pub(crate) stop: Option<Stop>,
    /// Its probes had failed, with the sentence.
    pub(crate) unhealthy: Option<String>,
    /// What it may use; zero for all.
    pub(crate) memory_limit: Bytes,
    /// The most it was seen to use.
    pub(crate) memory_seen: Bytes,
}

/// Why a program ended, by its shim's record.
pub(crate) fn classify(exit: &Exit, known: &Known) -> End {
    let (exit_code, signal) = match exit.how {
        How::Code(code) => (Some(code), None),
        How::Signal(signal) => (None, Some(signal)),
        How::NotStarted(_) => (None, None),
    };
    let failed = exit_code != Some(0);
    let (cause, message) = match (&exit.how, &known.stop, &known.unhealthy) {
        (How::NotStarted(sentence), _, _) => (Cause::StartFailed, sentence.clone()),
        // The kernel's kill comes first: a stop that came too late did not cause it.
        _ if exit.oom && failed && !exit.stopped => {
            (Cause::OutOfMemory, out_of_memory(exit, known))
        }
        (_, Some(stop), _) if exit.stopped => (Cause::Stopped, stopped(*stop)),
        (_, _, Some(sentence)) if exit.stopped => (Cause::Unhealthy, sentence.clone()),
        // Nobody of this engine asked.
        (How::Code(_) | How::Signal(_), None, None) if exit.stopped => (
            Cause::Evicted,
            "it was stopped with the platform".to_owned(),
        ),
        (How::Code(0), _, _) => (Cause::Succeeded, "it exited with code 0".to_owned()),
        (How::Code(code), _, _) => (Cause::Failed, format!("it exited with code {code}")),
        (How::Signal(signal), _, _) => (
            Cause::Failed,
            format!("it was killed by signal {}", signal_name(*signal)),
        ),
    };
    End {
        cause,
        exit_code,
        signal,
        at: exit.at,
        message,
        memory_peak: exit.memory_peak.max(known.memory_seen),
        outputs: Vec::new(),
    }
}

/// An end that no shim recorded.
pub(crate) fn unrecorded(cause: Cause, message: impl Into<String>, at: Time) -> End {
    End {
        cause,
        exit_code: None,
        signal: None,
        at,
        message: message.into(),
        memory_peak: Bytes(0),
        outputs: Vec::new(),
    }
}

pub(crate) fn stopped(stop: Stop) -> String {
    format!("it was stopped: {}", stop.reason.as_str())
}

fn out_of_memory(exit: &Exit, known: &Known) -> String {
    let mib = |bytes: Bytes| format!("{:.1} MiB", bytes.0 as f64 / f64::from(1 << 20));
    let peak = mib(exit.memory_peak);
    if known.memory_limit.0 == 0 {
        return format!(
            "the kernel killed it: the machine has no memory left (it used up to {peak})"
        );
    }
    let limit = mib(known.memory_limit);
    format!("the kernel killed it for memory: it may use {limit} and used up to {peak}")
}

fn signal_name(signal: i32) -> String {
    let names = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    let name = names.iter().find(|(number, _)| *number == signal);
    name.map_or_else(
        || signal.to_string(),
        |(number, name)| format!("{number} ({name})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::StopReason;

    fn exit(how: How, oom: bool, stopped: bool) -> Exit {
        Exit {
            version: 1,
            how,
            oom,
            stopped,
            at: Time::from_ms(1),
            memory_peak: Bytes(63 << 20),
            lost: Bytes(0),
        }
    }

    #[test]
    fn causes_and_their_sentences() {
        let nothing = Known {
            memory_limit: Bytes(64 << 20),
            ..Known::default()
        };
        let stop = Stop {
            version: 1,
            reason: StopReason::Preempted,
            grace_ms: 1,
        };
        let asked = Known {
            stop: Some(stop),
            ..nothing.clone()
        };
        let sick = Known {
            unhealthy: Some("its liveness probe failed".to_owned()),
            ..nothing.clone()
        };
        let check = |exit: Exit, known: &Known, cause: Cause, message: &str| {
            let end = classify(&exit, known);
            assert_eq!((end.cause, end.message.as_str()), (cause, message));
        };
        check(
            exit(How::Code(0), false, false),
            &nothing,
            Cause::Succeeded,
            "it exited with code 0",
        );
        check(
            exit(How::Code(3), false, false),
            &nothing,
            Cause::Failed,
            "it exited with code 3",
        );
        check(
            exit(How::Signal(11), false, false),
            &nothing,
            Cause::Failed,
            "it was killed by signal 11 (SIGSEGV)",
        );
        check(
            exit(How::Signal(35), false, false),
            &nothing,
            Cause::Failed,
            "it was killed by signal 35",
        );
        let oom = "the kernel killed it for memory: it may use 64.0 MiB and used up to 63.0 MiB";
        check(
            exit(How::Signal(9), true, false),
            &nothing,
            Cause::OutOfMemory,
            oom,
        );
        check(
            exit(How::Code(1), true, false),
            &nothing,
            Cause::OutOfMemory,
            oom,
        );
        check(
            exit(How::Code(0), true, false),
            &nothing,
            Cause::Succeeded,
            "it exited with code 0",
        );
        check(
            exit(How::Signal(15), false, true),
            &asked,
            Cause::Stopped,
            "it was stopped: Preempted",
        );
        check(
            exit(How::Code(0), false, true),
            &asked,
            Cause::Stopped,
            "it was stopped: Preempted",
        );
        // It ended before the request reached it.
        check(
            exit(How::Code(0), false, false),
            &asked,
            Cause::Succeeded,
            "it exited with code 0",
        );
        check(
            exit(How::Signal(15), false, true),
            &sick,
            Cause::Unhealthy,
            "its liveness probe failed",
        );
        check(
            exit(How::Signal(15), false, true),
            &nothing,
            Cause::Evicted,
            "it was stopped with the platform",
        );
        let missing = How::NotStarted("`trian.py`: command not found".to_owned());
        check(
            exit(missing, false, false),
            &asked,
            Cause::StartFailed,
            "`trian.py`: command not found",
        );
    }
}
