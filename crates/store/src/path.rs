//! Names of places.

use crate::StoreError;
use base::Digest;

/// Where a project's bytes are. Made only from a name that is a DNS label, so it cannot leave its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantPath(String);

impl TenantPath {
    /// For this project.
    pub fn new(project: &str) -> Result<TenantPath, StoreError> {
        match base::name::check(project) {
            Ok(()) => Ok(TenantPath(project.to_owned())),
            Err(reason) => Err(StoreError::Project {
                project: project.chars().take(80).collect(),
                reason: reason.to_string(),
            }),
        }
    }

    /// The project's name.
    pub fn project(&self) -> &str {
        &self.0
    }

    /// `<project>/<first two digits>/<digits>`: the same in every back end.
    pub(crate) fn key(&self, digest: &Digest) -> String {
        let hex = digest.hex();
        format!("{}/{}/{hex}", self.0, &hex[..2])
    }
}

/// In which of the 256 parts of a project content lies: listings go part by part.
pub fn shard(digest: &Digest) -> u8 {
    digest.0[0]
}
