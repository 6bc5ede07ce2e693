//! What processes use, as the kernel counts it.

use std::fs;
use std::path::Path;

/// A sum over processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) n_processes: usize,
    /// Resident memory; pages that processes share are counted for each.
    pub(crate) rss_mb: f64,
    /// The most resident memory that each had so far.
    pub(crate) peak_mb: f64,
    /// Processor time, of ended children too.
    pub(crate) cpu_s: f64,
}

/// Pids of everything whose environment has this data directory.
pub(crate) fn processes_of(data: &Path) -> Vec<u32> {
    let wanted = format!("MOONSHOT_DATA_DIR={}", data.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

/// What they use now. One that has ended adds nothing.
pub(crate) fn of(pids: &[u32]) -> Usage {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut sum = Usage::default();
    for pid in pids {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        sum.n_processes += 1;
        sum.rss_mb += kilobytes(&status, "VmRSS:") / 1_024.0;
        sum.peak_mb += kilobytes(&status, "VmHWM:") / 1_024.0;
        sum.cpu_s += fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(0.0, |stat| cpu_ticks(&stat))
            / ticks;
    }
    sum
}

fn kilobytes(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or(0.0)
}

/// utime, stime, cutime and cstime of `/proc/PID/stat`, whose second field may hold spaces.
fn cpu_ticks(stat: &str) -> f64 {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = rest.split(' ').skip(11).take(4);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(
            kilobytes("VmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS:"),
            1_024.0
        );
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 11 12 13 14 20 0 1 0 5";
        assert_eq!(cpu_ticks(stat), 50.0);
        let own = of(&[std::process::id()]);
        assert!(own.n_processes == 1 && own.rss_mb > 0.0 && own.peak_mb >= own.rss_mb);
    }
}
