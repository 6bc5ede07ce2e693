//! What must hold of logs whatever happens around them: processes die, disks fill up, files are damaged, many
//! replicas write at once. The small cases are beside the code.

mod damage;
mod full_disk;
mod kill;
mod many;
mod model;
mod support;
