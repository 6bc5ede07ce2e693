//! What must hold of stored content whatever happens around it: senders fail, processes die, disks fill up. The small cases are beside the code.

mod bucket;
mod contract;
mod faults;
mod full_disk;
mod projects;
mod support;
