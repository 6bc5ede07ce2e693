//! Who a process is: a pid alone is reused, (boot id, pid, start time) is not.

use std::fs;
use std::io;

/// The kernel's name for this boot.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

/// When a process started, in clock ticks since boot: field 22 of `/proc/<pid>/stat` (proc(5)).
/// `None` where no such process runs; a zombie does not run.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold spaces and parentheses: fields are counted from the last one.
    let fields = &stat[stat.rfind(')')? + 2..];
    let mut fields = fields.split(' ');
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    let start = fields.nth(18)?.parse().ok()?;
    (!is_dead).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_start_time() {
        let me = std::process::id();
        assert!(start_time(me).is_some_and(|start| start > 0));
        assert_eq!(start_time(me), start_time(me));
        // 4194304 is PID_MAX_LIMIT: no process has it.
        assert_eq!(start_time(4_194_304), None);
        assert!(boot_id().is_ok_and(|id| id.len() == 36));
    }
}
