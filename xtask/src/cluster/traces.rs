//! Directories outside of the cluster's own that a kubelet, containerd and CNI plugins make. Those that were not there before are
//! removed at the end; those of somebody else stay.

use super::layout::{Layout, failed};
use crate::sh::{self, Done};
use std::fs;
use std::path::Path;

const PLACES: &[&str] = &[
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/lib/cni",
    "/run/containerd",
];

/// Writes down which are not there yet.
pub(super) fn note(layout: &Layout) -> Done {
    let absent = PLACES.iter().filter(|place| !Path::new(place).exists());
    let text: String = absent.map(|place| format!("{place}\n")).collect();
    let kept = layout.dir.join("absent");
    fs::write(&kept, text).map_err(|error| failed(&kept, &error))
}

/// Removes those.
pub(super) fn remove(layout: &Layout) {
    let absent = fs::read_to_string(layout.dir.join("absent")).unwrap_or_default();
    for place in absent
        .lines()
        .filter(|place| PLACES.contains(place) && Path::new(place).exists())
    {
        if let Err(error) = fs::remove_dir_all(place) {
            sh::say(&format!("cannot remove `{place}`: {error}"));
        }
    }
}
