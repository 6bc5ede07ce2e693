//! Frameworks over two replicas, each by its own launcher's conventions. XGBoost is shown by the quickstart; the
//! `DMLC_*` variables of ps-lite are compared with dmlc-core's launcher in `plan`.

use e2e::Installation;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

fn job(name: &str, spec: Value) -> String {
    json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// Runs a Job to its good end; all output.
#[track_caller]
fn succeeds(installation: &Installation, name: &str, spec: Value) -> String {
    installation.apply(&job(name, spec));
    let done = installation.wait_for("job", name, &["Succeeded", "Failed"], PATIENCE);
    let log = installation
        .run(&["logs", &format!("job/{name}"), "--prefix"])
        .ok();
    assert_eq!(done["status"]["phase"], "Succeeded", "{log}\n{done:#}");
    log
}

/// Sums a number of each rank over all ranks, and says where the rank runs.
const MPI: &str = r#"
import ctypes, os
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
handle = lambda name: ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, name)))
assert mpi.MPI_Init(None, None) == 0
world = handle("ompi_mpi_comm_world")
rank, size = ctypes.c_int(), ctypes.c_int()
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
mine, total = ctypes.c_int(10 ** rank.value), ctypes.c_int()
assert mpi.MPI_Allreduce(ctypes.byref(mine), ctypes.byref(total), 1, handle("ompi_mpi_int"), handle("ompi_mpi_op_sum"), world) == 0
group = [line.strip().split(":")[2] for line in open("/proc/self/cgroup") if ":memory:" in line or line.startswith("0::")][0]
print(f"rank {rank.value} of {size.value} sum {total.value} on {os.environ['MOONSHOT_GROUP']}-{os.environ['MOONSHOT_INDEX']} cgroup {group}", flush=True)
assert mpi.MPI_Finalize() == 0
"#;

#[test]
fn open_mpi_reaches_its_ranks_by_rsh_inside_their_replicas() {
    let installation = Installation::start(&[("MOONSHOT_NODES", "2")]);
    // `sleep` is stopped once the launcher is done: the first worker decides.
    let script = format!(
        "if [ $MOONSHOT_RANK != 0 ]; then exec sleep 1000; fi\ncat > sum.py <<'END'{MPI}END\n\
         exec mpirun --host $MOONSHOT_MPI_HOSTS -np $MOONSHOT_MPI_SLOTS python3 $PWD/sum.py\n"
    );
    let log = succeeds(
        &installation,
        "sum",
        json!({
            "framework": "mpi",
            "command": ["sh", "-c", script],
            "groups": [{"name": "worker", "replicas": 2}],
            "resources": {"cpu": "100m", "memory": "512Mi"},
        }),
    );
    let mut cgroups = BTreeSet::new();
    for rank in 0..2 {
        let said = format!("rank {rank} of 2 sum 11 on worker-{rank} cgroup ");
        let at = log
            .find(&said)
            .unwrap_or_else(|| panic!("no `{said}`: {log}"));
        let cgroup = log[at + said.len()..].lines().next().unwrap_or_default();
        cgroups.insert(cgroup.to_owned());
        if rustix::process::geteuid().is_root() {
            assert!(cgroup.contains(&format!(".worker.{rank}.")), "{cgroup}");
        }
    }
    if rustix::process::geteuid().is_root() {
        assert_eq!(
            cgroups.len(),
            2,
            "each rank is in its own replica's group: {cgroups:?}"
        );
    } else {
        println!("skipped: cgroups need root");
    }
}

/// Rank 0 keeps a store, as PyTorch's `TCPStore` does at the same address; every rank writes itself down there and
/// waits until all have.
const RENDEZVOUS: &str = r#"
import os, socket, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
assert 0 <= int(os.environ["LOCAL_RANK"]) < int(os.environ["LOCAL_WORLD_SIZE"])
def connect():
    while True:
        try: return socket.create_connection(address)
        except ConnectionRefusedError: time.sleep(0.05)
listener = socket.create_server(address) if rank == 0 else None
mine = connect()
mine.sendall(f"{rank}\n".encode())
if listener:
    callers = [listener.accept()[0] for _ in range(world)]
    ranks = sorted(int(caller.makefile().readline()) for caller in callers)
    for caller in callers: caller.sendall(f"{ranks}\n".encode())
print("rank", rank, "sees", mine.makefile().readline().strip(), flush=True)
"#;

#[test]
fn pytorch_variables_bring_a_stand_in_for_its_store_together() {
    let installation = Installation::start(&[("MOONSHOT_NODES", "2")]);
    let log = succeeds(
        &installation,
        "meet",
        json!({
            "framework": "pytorch",
            "command": ["python3", "-c", RENDEZVOUS],
            "groups": [{"name": "master"}, {"name": "worker", "replicas": 2}],
            "resources": {"cpu": "50m", "memory": "128Mi"},
        }),
    );
    for rank in 0..3 {
        assert!(
            log.contains(&format!("rank {rank} sees [0, 1, 2]")),
            "{log}"
        );
    }
}

#[test]
fn a_parameter_server_that_sleeps_for_ever_keeps_no_job_alive() {
    let installation = Installation::start(&[]);
    for framework in ["mxnet", "caffe"] {
        // The workers end once everybody has spoken: the others are stopped then.
        let marks = installation.home().join(framework);
        std::fs::create_dir_all(&marks).expect("a directory");
        let script = format!(
            "echo $DMLC_ROLE of $DMLC_NUM_WORKER and $DMLC_NUM_SERVER; cd {}; touch $DMLC_ROLE.$MOONSHOT_INDEX; \
             [ $DMLC_ROLE = worker ] || exec sleep 100000; until [ $(ls | wc -l) = 5 ]; do sleep 0.2; done",
            marks.display()
        );
        let log = succeeds(
            &installation,
            framework,
            json!({
                "framework": framework,
                "command": ["sh", "-c", script],
                "groups": [{"name": "scheduler"}, {"name": "server", "replicas": 2}, {"name": "worker", "replicas": 2}],
                "resources": {"cpu": "10m", "memory": "32Mi"},
                "grace": "2s",
            }),
        );
        for (role, n) in [("scheduler", 1), ("server", 2), ("worker", 2)] {
            assert_eq!(
                log.matches(&format!("{role} of 2 and 2")).count(),
                n,
                "{log}"
            );
        }
        let job = installation.get("job", framework).expect("the Job");
        let ends: BTreeSet<String> = job["status"]["replicas"]
            .as_array()
            .expect("replicas")
            .iter()
            .map(|one| format!("{} {}", one["group"], one["phase"]).replace('"', ""))
            .collect();
        let expect = ["scheduler GangDone", "server GangDone", "worker Succeeded"];
        assert_eq!(ends, expect.map(str::to_owned).into(), "{job:#}");
    }
}

/// One weight, learnt from two shards: each worker sees half of the line y = 3 x.
const TENSORFLOW: &str = r#"
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import tensorflow as tf
task = json.loads(os.environ["TF_CONFIG"])["task"]
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2, strategy.num_replicas_in_sync
with strategy.scope():
    weight = tf.Variable(0.0)
x = tf.constant([1.0, 2.0]) if task["index"] == 0 else tf.constant([3.0, 4.0])
@tf.function
def step():
    def one():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * x - 3.0 * x) ** 2)
        gradient = tape.gradient(loss, weight)
        mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradient)
        weight.assign_sub(0.05 * mean)
    strategy.run(one)
for _ in range(60): step()
print(task["type"], task["index"], "learnt", f"{float(weight.numpy()):.4f}", flush=True)
"#;

/// What TensorFlow's own resolver makes of the variable.
const RESOLVER: &str = r#"
import os, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import tensorflow as tf
found = tf.distribute.cluster_resolver.TFConfigClusterResolver()
sizes = {name: len(found.cluster_spec().job_tasks(name)) for name in sorted(found.cluster_spec().jobs)}
print("task", found.task_type, found.task_id, "of", sizes, flush=True)
mark = os.environ["MOONSHOT_CHECKPOINT"]
open(f"{mark}/{found.task_type}", "w").close()
while found.task_type in ("ps", "evaluator") or len(os.listdir(mark)) < 4: time.sleep(0.1)
"#;

#[test]
fn tensorflow_learns_one_weight_on_two_workers_and_reads_every_role() {
    let installation = Installation::start(&[("MOONSHOT_NODES", "2")]);
    installation.apply(
        "apiVersion: moonshot/v1\nkind: Environment\nmetadata: {name: tf}\nspec: {pip: [tensorflow-cpu==2.21.0]}\n",
    );
    installation.wait_for("environment", "tf", &["Ready"], Duration::from_secs(900));
    let log = succeeds(
        &installation,
        "line",
        json!({
            "framework": "tensorflow",
            "environment": "tf",
            "command": ["python", "-c", TENSORFLOW],
            "groups": [{"name": "worker", "replicas": 2}],
            "resources": {"cpu": "500m", "memory": "2Gi"},
        }),
    );
    for index in 0..2 {
        assert!(
            log.contains(&format!("worker {index} learnt 3.0000")),
            "{log}"
        );
    }
    let log = succeeds(
        &installation,
        "roles",
        json!({
            "framework": "tensorflow",
            "environment": "tf",
            "command": ["python", "-c", RESOLVER],
            "groups": [{"name": "chief"}, {"name": "worker"}, {"name": "ps"}, {"name": "evaluator"}],
            "checkpoint": true,
            "resources": {"cpu": "250m", "memory": "1Gi"},
            "grace": "2s",
        }),
    );
    for role in ["chief", "worker", "ps", "evaluator"] {
        let said = format!("task {role} 0 of {{'chief': 1, 'ps': 1, 'worker': 1}}");
        assert!(log.contains(&said), "{said}: {log}");
    }
}
