//! What lies where under the engine's root.
//!
//! ```text
//! epoch                             the highest epoch
//! lock                              shared by effects, alone for whoever takes the root
//! owner                             who took it last: a counter, pid, start time of the process
//! cgroup                            where the control groups are: `/proc/self/cgroup` of who made them
//! poke                              FIFO: shims wake the engine with their replica's directory name
//! checkpoints/<owner>/<claim>/      survive attempts
//! replicas/<owner>.<group>.<index>.<attempt>/
//!   replica                         what was asked for (mode 0600: it holds the attempt's token)
//!   stop                            that it shall end, and why
//!   ended                           how it ended, once its outputs are kept
//!   root/                           $MOONSHOT_ROOT
//!   root.new-<n>/                   it, while the n-th engine makes it
//!   prepared                        root/ is complete
//!   spool/                          output on its way
//!   runs/<n>/                       the shim's files of run n (restarts in place count up)
//! ```

use engine::ReplicaKey;
use std::path::{Path, PathBuf};

/// The beginning of the name of a directory that is being removed.
pub(crate) const GONE_PREFIX: &str = ".gone-";

/// The beginning of the name of a root that is being made.
pub(crate) const DRAFT_PREFIX: &str = "root.new-";

/// The engine's directories.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Layout {
        Layout { root }
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn epoch(&self) -> PathBuf {
        self.root.join("epoch")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    pub(crate) fn owner(&self) -> PathBuf {
        self.root.join("owner")
    }
    pub(crate) fn cgroup(&self) -> PathBuf {
        self.root.join("cgroup")
    }
    pub(crate) fn poke(&self) -> PathBuf {
        self.root.join("poke")
    }
    pub(crate) fn replicas(&self) -> PathBuf {
        self.root.join("replicas")
    }
    pub(crate) fn checkpoints(&self, key: &ReplicaKey) -> PathBuf {
        self.all_checkpoints().join(key.owner.to_string())
    }
    pub(crate) fn all_checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
    pub(crate) fn replica(&self, key: &ReplicaKey) -> ReplicaDir {
        ReplicaDir {
            path: self.replicas().join(dir_name(key)),
        }
    }
    /// Names this engine among others on the machine: for cgroups and shared memory.
    pub(crate) fn tag(&self) -> String {
        // FNV-1a, because it stays the same in every build: leftovers must be found again.
        let bytes = self.root.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("moonshot-{hash:016x}")
    }
}

/// The name of a replica's directory, also its marker, its cgroup and its poke.
pub(crate) fn dir_name(key: &ReplicaKey) -> String {
    format!("{}.{}.{}.{}", key.owner, key.group, key.index, key.attempt)
}

/// One replica's files.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaDir {
    path: PathBuf,
}

impl ReplicaDir {
    pub(crate) fn at(path: PathBuf) -> ReplicaDir {
        ReplicaDir { path }
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.path.join("replica")
    }
    pub(crate) fn stop(&self) -> PathBuf {
        self.path.join("stop")
    }
    pub(crate) fn ended(&self) -> PathBuf {
        self.path.join("ended")
    }
    pub(crate) fn root(&self) -> PathBuf {
        self.path.join("root")
    }
    /// Where an engine makes [`ReplicaDir::root`].
    pub(crate) fn draft(&self, incarnation: u64) -> PathBuf {
        self.path.join(format!("{DRAFT_PREFIX}{incarnation}"))
    }
    pub(crate) fn prepared(&self) -> PathBuf {
        self.path.join("prepared")
    }
    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }
    pub(crate) fn run(&self, n: u32) -> PathBuf {
        self.path.join("runs").join(n.to_string())
    }
    /// The highest run that a shim has claimed.
    pub(crate) fn last_run(&self) -> std::io::Result<Option<u32>> {
        let entries = match std::fs::read_dir(self.path.join("runs")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut last = None;
        for entry in entries {
            let n = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok());
            let claimed = |n: &u32| self.run(*n).join(shim::record::name::STARTED).exists();
            last = last.max(n.filter(claimed));
        }
        Ok(last)
    }
}
