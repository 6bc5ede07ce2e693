//! What must hold of stored content whatever happens around it: senders fail, processes die, disks fill up,
//! archives are hostile. The small cases are beside the code.

mod archive;
mod faults;
mod full_disk;
mod hostile;
mod projects;
mod support;
