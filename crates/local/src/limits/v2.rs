//! Version 2: one directory (<https://docs.kernel.org/admin-guide/cgroup-v2.html>).

use super::{
    CPU_PERIOD_US, Limits, bytes, children, keyed, make, mounted, own_group, quota_us, remove_dir,
    set, weight,
};
use base::Resources;
use engine::Usage;
use shim::record::Cgroup;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where this process moves itself if its group must hold no processes of its own.
const LEAF: &str = "moonshot-server";

/// Our groups in the unified hierarchy.
#[derive(Debug)]
pub struct V2 {
    base: PathBuf,
}

impl V2 {
    /// Groups below `base`, which need not exist yet.
    pub fn at(base: PathBuf) -> V2 {
        V2 { base }
    }

    pub(super) fn find(mounts: &str, own: &str, tag: &str) -> Option<V2> {
        let mount = mounted(mounts, "cgroup2", None)?;
        let nested = mount.join(own_group(own, "").unwrap_or_default());
        let parent = if nested.is_dir() { nested } else { mount };
        let controllers = fs::read_to_string(parent.join("cgroup.controllers")).ok()?;
        let has = |name| controllers.split_whitespace().any(|have| have == name);
        (has("cpu") && has("memory")).then(|| V2::at(parent.join(tag)))
    }
}

fn give_on(dir: &Path) -> io::Result<()> {
    set(dir, "cgroup.subtree_control", "+cpu +memory")
}

impl Limits for V2 {
    fn is_there(&self) -> bool {
        self.base.is_dir()
    }

    /// Makes the base and hands it the controllers. A group below the root either holds processes or
    /// gives controllers on: where ours holds some, they move into a leaf first.
    fn open(&self) -> io::Result<()> {
        let parent = self.base.parent().unwrap_or(Path::new("/"));
        if give_on(parent).is_err() {
            let leaf = parent.join(LEAF);
            make(&leaf)?;
            let procs = fs::read_to_string(parent.join("cgroup.procs"))?;
            for pid in procs.lines() {
                // It may have ended meanwhile.
                let _ = set(&leaf, "cgroup.procs", pid);
            }
            give_on(parent)?;
        }
        make(&self.base)?;
        give_on(&self.base)
    }

    fn create(&self, name: &str, want: &Resources) -> io::Result<Cgroup> {
        let dir = self.base.join(name);
        make(&dir)?;
        if want.memory.0 != 0 {
            set(&dir, "memory.max", &want.memory.0.to_string())?;
            // Only where there is swap.
            let _ = set(&dir, "memory.swap.max", "0");
        }
        set(&dir, "cpu.weight", &weight(want).to_string())?;
        if want.cpu.0 != 0 {
            set(
                &dir,
                "cpu.max",
                &format!("{} {CPU_PERIOD_US}", quota_us(want)),
            )?;
        }
        Ok(self.files(name))
    }

    fn files(&self, name: &str) -> Cgroup {
        let dir = self.base.join(name);
        Cgroup {
            procs: vec![dir.join("cgroup.procs")],
            oom: Some(dir.join("memory.events")),
            peak: Some(dir.join("memory.peak")),
        }
    }

    fn usage(&self, name: &str) -> Usage {
        let dir = self.base.join(name);
        Usage {
            cpu_ms: keyed(&dir.join("cpu.stat"), "usage_usec ") / 1_000,
            memory: bytes(&dir.join("memory.current")),
            memory_peak: bytes(&dir.join("memory.peak")),
            ..Usage::default()
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        remove_dir(&self.base.join(name))
    }

    fn names(&self) -> Vec<String> {
        children(&self.base)
    }

    fn close(&self) {
        // Groups that are left hold it, as they should.
        let _ = remove_dir(&self.base);
    }
}
