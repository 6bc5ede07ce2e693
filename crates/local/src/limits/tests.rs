use super::*;
use base::MilliCpu;

const MOUNTS: &str = "\
proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0";

#[test]
fn hierarchies_are_found() {
    let memory = mounted(MOUNTS, "cgroup", Some("memory"));
    assert_eq!(memory, Some(PathBuf::from("/sys/fs/cgroup/memory")));
    let cpu = mounted(MOUNTS, "cgroup", Some("cpuacct"));
    assert_eq!(cpu, Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")));
    assert_eq!(mounted(MOUNTS, "cgroup", Some("pids")), None);
    let own = "4:memory:/jobs/7\n2:cpu,cpuacct:/\n0::/user.slice";
    assert_eq!(own_group(own, "memory"), Some("jobs/7"));
    assert_eq!(own_group(own, "cpu"), Some(""));
    assert_eq!(own_group(own, ""), Some("user.slice"));
}

fn want() -> Resources {
    Resources {
        cpu: MilliCpu(1_500),
        memory: Bytes(64 << 20),
        ..Resources::default()
    }
}

/// The kernel here has no controllers for version 2, so the tree is made of plain files.
#[test]
fn version_2_on_a_fake_tree_writes_limits_and_reads_usage() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let limits = V2::at(dir.path().join("moonshot-x"));
    limits.open().expect("opened");
    let files = limits.create("r", &want()).expect("created");
    let group = dir.path().join("moonshot-x/r");
    let read = |file: &str| fs::read_to_string(group.join(file)).expect("written");
    assert_eq!(read("memory.max"), (64 << 20).to_string());
    assert_eq!(read("cpu.max"), "150000 100000");
    assert_eq!(read("cpu.weight"), "59");
    limits
        .create("unbound", &Resources::default())
        .expect("created");
    let unbound = dir.path().join("moonshot-x/unbound");
    assert!(!unbound.join("cpu.max").exists(), "no bound");
    assert_eq!(
        fs::read_to_string(unbound.join("cpu.weight")).expect("written"),
        "4"
    );
    fs::remove_dir_all(unbound).expect("removed");
    assert_eq!(files.procs, [group.join("cgroup.procs")]);
    let given_on = fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("written");
    assert_eq!(given_on, "+cpu +memory");

    fs::write(group.join("cpu.stat"), "nr_periods 1\nusage_usec 2500000\n").expect("written");
    fs::write(group.join("memory.current"), "4096\n").expect("written");
    fs::write(group.join("memory.peak"), "8192\n").expect("written");
    let usage = limits.usage("r");
    assert_eq!(
        (usage.cpu_ms, usage.memory, usage.memory_peak),
        (2_500, Bytes(4_096), Bytes(8_192))
    );
    assert_eq!(limits.names(), ["r"]);
}

#[test]
fn limits_of_this_kernel_are_set_and_removed() {
    let root = tempfile::tempdir().expect("a directory");
    let limits = match detect(root.path()) {
        Ok(limits) => limits,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let files = limits.create("r", &want()).expect("created");
    assert!(files.procs.iter().all(|procs| procs.exists()));
    assert!(files.oom.is_some_and(|oom| keyed(&oom, "oom_kill ") == 0));
    assert_eq!(limits.names(), ["r"]);
    limits.create("r", &want()).expect("created again");
    let again = detect(root.path()).expect("found again");
    assert_eq!(again.names(), ["r"], "the same place as before");
    limits.remove("r").expect("removed");
    limits.remove("r").expect("removed again");
    assert!(limits.names().is_empty());
    limits.create("left", &want()).expect("created");
    crate::offline::stop_programs(root.path(), base::Span::from_secs(1));
    assert!(files.procs.iter().all(|procs| !procs.exists()));
    assert!(!limits.is_there());
}
