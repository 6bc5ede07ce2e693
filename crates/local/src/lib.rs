//! The engine on this machine: processes, cgroups, sandboxes.
