//! Processes as the kernel accounts for them.

use crate::Failure;
use std::fs;
use std::process::Command;

/// What the kernel counts CPU time in.
const TICKS_PER_S: f64 = 100.0;

/// What processes have used: CPU seconds until now, and the sum of their highest resident memory in MB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    pub(crate) rss_mb: f64,
}

impl Usage {
    /// Of a process and its children.
    pub(crate) fn of(pid: u32) -> Result<Usage, Failure> {
        let mut all = Usage::default();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(other) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may have ended since it was listed.
            let Some(numbers) = stat(other) else {
                continue;
            };
            if other != pid && numbers.first() != Some(&f64::from(pid)) {
                continue;
            }
            // From field 4 on: user and system time are fields 14 and 15.
            let ticks = numbers.get(10..12).map_or(0.0, |both| both.iter().sum());
            all.cpu_s += ticks / TICKS_PER_S;
            all.rss_mb += resident_mb(other);
        }
        Ok(all)
    }

    /// What was used since; memory is the highest until now.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_s: self.cpu_s - before.cpu_s,
            rss_mb: self.rss_mb,
        }
    }
}

/// The numbers of `/proc/PID/stat` after the name and the state.
fn stat(pid: u32) -> Option<Vec<f64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    let numbers = fields.split_whitespace().skip(1);
    numbers.map(|word| word.parse().ok()).collect()
}

fn resident_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1_024.0 / 1e6
}

/// `STOP`, `CONT` or `TERM`.
pub(crate) fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cannot signal {pid}").into())
    }
}
