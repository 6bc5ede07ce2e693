//! Version 1: a directory in each controller's hierarchy
//! (<https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>).

use super::{
    CPU_PERIOD_US, Limits, bytes, children, make, mounted, number, own_group, quota_us, remove_dir,
    set, shares,
};
use base::Resources;
use engine::Usage;
use shim::record::Cgroup;
use std::io;
use std::path::PathBuf;

/// Our groups in the `cpu`, `cpuacct` and `memory` hierarchies.
#[derive(Debug)]
pub struct V1 {
    cpu: PathBuf,
    cpuacct: PathBuf,
    memory: PathBuf,
}

impl V1 {
    /// Finds the hierarchies; `None` where one is not mounted.
    pub(super) fn find(mounts: &str, own: &str, tag: &str) -> Option<V1> {
        let base = |controller: &str| {
            let mount = mounted(mounts, "cgroup", Some(controller))?;
            let nested = mount.join(own_group(own, controller).unwrap_or_default());
            // In a container the own path may lie outside of what is mounted.
            let parent = if nested.is_dir() { nested } else { mount };
            Some(parent.join(tag))
        };
        Some(V1 {
            cpu: base("cpu")?,
            cpuacct: base("cpuacct")?,
            memory: base("memory")?,
        })
    }

    fn bases(&self) -> [&PathBuf; 3] {
        [&self.memory, &self.cpu, &self.cpuacct]
    }
}

impl Limits for V1 {
    fn is_there(&self) -> bool {
        self.bases().iter().all(|base| base.is_dir())
    }

    fn open(&self) -> io::Result<()> {
        self.bases().iter().try_for_each(|base| make(base))
    }

    fn create(&self, name: &str, want: &Resources) -> io::Result<Cgroup> {
        for base in self.bases() {
            make(&base.join(name))?;
        }
        if want.memory.0 != 0 {
            set(
                &self.memory.join(name),
                "memory.limit_in_bytes",
                &want.memory.0.to_string(),
            )?;
            // Only where swap is accounted; without it the limit above is the whole one.
            let _ = set(
                &self.memory.join(name),
                "memory.memsw.limit_in_bytes",
                &want.memory.0.to_string(),
            );
        }
        set(
            &self.cpu.join(name),
            "cpu.shares",
            &shares(want).to_string(),
        )?;
        if want.cpu.0 != 0 {
            set(
                &self.cpu.join(name),
                "cpu.cfs_period_us",
                &CPU_PERIOD_US.to_string(),
            )?;
            set(
                &self.cpu.join(name),
                "cpu.cfs_quota_us",
                &quota_us(want).to_string(),
            )?;
        }
        Ok(self.files(name))
    }

    fn files(&self, name: &str) -> Cgroup {
        let mut procs: Vec<PathBuf> = self
            .bases()
            .iter()
            .map(|base| base.join(name).join("cgroup.procs"))
            .collect();
        // `cpu` and `cpuacct` are often one hierarchy.
        procs.dedup();
        Cgroup {
            procs,
            oom: Some(self.memory.join(name).join("memory.oom_control")),
            peak: Some(self.memory.join(name).join("memory.max_usage_in_bytes")),
        }
    }

    fn usage(&self, name: &str) -> Usage {
        let memory = self.memory.join(name);
        Usage {
            cpu_ms: number(&self.cpuacct.join(name).join("cpuacct.usage")) / 1_000_000,
            memory: bytes(&memory.join("memory.usage_in_bytes")),
            memory_peak: bytes(&memory.join("memory.max_usage_in_bytes")),
            ..Usage::default()
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.bases()
            .iter()
            .try_for_each(|base| remove_dir(&base.join(name)))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .bases()
            .iter()
            .flat_map(|base| children(base))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn close(&self) {
        for base in self.bases() {
            // Groups that are left hold it, as they should.
            let _ = remove_dir(base);
        }
    }
}
