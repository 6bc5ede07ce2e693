//! MPI through `moonshot rsh`: the launcher starts its daemons inside the replicas of the same attempt.
//!
//! Hosts are replica names (`worker-0`), not addresses, since replicas may share one: `moonshot rsh
//! worker-0 …` runs the rest of its line in that replica. `MOONSHOT_MPI_HOSTS` (`worker-0:1,worker-1:1`)
//! is what Open MPI's `--host` and MPICH's `-hosts` take:
//! `mpirun --host $(MOONSHOT_MPI_HOSTS) -np $(MOONSHOT_MPI_SLOTS) ./solve`.
//! (Seen to work so with Debian 12's Open MPI 4.1.4 and MPICH 4.0.2: the agent is called as `moonshot rsh
//! worker-0 <words>`, and the words are for a shell, as with `ssh`.)
//!
//! The agent is named for Open MPI 4 (`plm_rsh_agent`) and 5 (PRRTE's name of it); MPICH's Hydra takes one
//! word without arguments, so there the program is called by a link named `moonshot-rsh`. Open MPI refuses
//! to run as root unless it is told twice; who a replica runs as is decided elsewhere.

use super::{Gang, var};

/// The group that runs `mpirun`; the others hold the ranks. Without it the first member launches.
pub(super) const LAUNCHER: &str = "launcher";

pub(super) fn env(gang: &Gang<'_>) -> Vec<(String, String)> {
    let hosts: Vec<String> = gang
        .peers
        .iter()
        .filter(|peer| peer.group != LAUNCHER)
        .map(|peer| format!("{}-{}:1", peer.group, peer.index))
        .collect();
    vec![
        var("MOONSHOT_MPI_SLOTS", hosts.len()),
        var("MOONSHOT_MPI_HOSTS", hosts.join(",")),
        var("OMPI_MCA_plm_rsh_agent", "moonshot rsh"),
        var("OMPI_MCA_orte_keep_fqdn_hostnames", "1"),
        var("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        var("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        var("PRTE_MCA_plm_ssh_agent", "moonshot rsh"),
        var("HYDRA_LAUNCHER", "rsh"),
        var("HYDRA_LAUNCHER_EXEC", "moonshot-rsh"),
    ]
}
