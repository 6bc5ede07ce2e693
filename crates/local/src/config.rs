//! What the engine on this machine is built from.

use crate::gpu::GpuProbe;
use crate::layout::Layout;
use crate::limits::Limits;
use base::{Bytes, Resources, Span};
use engine::{Content, OutputSink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The ports given to replicas unless said otherwise: below the kernel's ephemeral range.
pub const PORTS: (u16, u16) = (20_000, 29_999);
/// The output of one replica that waits on disk unless said otherwise.
pub const SPOOL_MAX: Bytes = Bytes(64 << 20);

/// Everything that is needed. No part is looked up elsewhere.
#[derive(Clone)]
pub struct Config {
    /// Where everything lies. One engine at a time holds it.
    pub root: PathBuf,
    /// The shim's executable.
    pub shim: PathBuf,
    /// This platform's executable, for replicas that run it (the model server).
    pub platform: PathBuf,
    /// Variables for those.
    pub platform_env: Vec<(String, String)>,
    /// Into how many logical nodes the machine is split, at least 1.
    pub nodes: u32,
    /// What is left to the machine itself.
    pub reserve: Resources,
    /// First and last port for replicas, shared out among the nodes.
    pub ports: (u16, u16),
    /// Where replicas are reached.
    pub address: String,
    /// `PATH` of programs, after their environment's own.
    pub path: String,
    /// The API's URL, for programs.
    pub server: String,
    /// The most output of one replica that waits on disk.
    pub spool_max: Bytes,
    /// How services are restarted.
    pub backoff: Backoff,
    /// Which boot this is; a test may say another to act out a reboot.
    pub boot: String,
    /// What holds replicas to their CPU and memory, if anything can ([`crate::limits::detect`]).
    pub limits: Option<Arc<dyn Limits>>,
    /// The GPUs ([`crate::gpu::detect`]).
    pub gpus: Arc<dyn GpuProbe>,
    /// Where output goes.
    pub sink: Arc<dyn OutputSink>,
    /// Where code, environments and secrets come from.
    pub content: Arc<dyn Content>,
}

impl Config {
    /// Names the engine with this root among others on the machine: its cgroups, its shared memory.
    pub fn tag(root: &Path) -> String {
        Layout::new(root.to_owned()).tag()
    }
}

/// The waits between restarts in place: `base`, doubled each time until `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub base: Span,
    /// The longest wait.
    pub max: Span,
    /// A run that lasted this long begins the waits anew.
    pub reset: Span,
}

impl Backoff {
    /// One second to one minute; ten good minutes forgive.
    pub const STANDARD: Backoff = Backoff {
        base: Span::from_secs(1),
        max: Span::from_secs(60),
        reset: Span::from_secs(600),
    };

    /// The wait after this many failures in a row, from 1.
    pub fn wait(&self, failures: u32) -> Span {
        let doublings = failures.saturating_sub(1).min(32);
        let wait = self.base.as_ms().saturating_mul(1 << doublings);
        Span::from_ms(wait.min(self.max.as_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_the_longest() {
        let waits = [1, 2, 3, 6, 7, 8, 1_000].map(|n| Backoff::STANDARD.wait(n).as_ms() / 1_000);
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
    }
}
