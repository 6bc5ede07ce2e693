//! ModelVersions.

use super::{Errors, syntax};
use crate::model::ModelVersionSpec;

pub(super) fn version(spec: &ModelVersionSpec, errors: &mut Errors) {
    if let Err(why) = syntax::label(&spec.model) {
        errors.add("spec.model", why);
    }
    if spec.digest.is_none() {
        errors.add(
            "spec.digest",
            "is missing; upload the model first: `moonshot model push` does both",
        );
    }
}
