//! What a schema cannot say: names, ranges, references inside a spec, exactly-one-of. One file a kind.
//!
//! Structure has been checked before ([`crate::structure`]); nothing here looks outside the object. What
//! needs other objects (does the queue exist?) is the server's business.

mod app;
mod environment;
mod job;
mod metadata;
mod model;
mod platform;
mod program;
mod reservation;
mod syntax;

use crate::kind::{Kind, Object, Typed};
use crate::path;
use crate::problem::FieldError;
use crate::structure;

/// What an object is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be made: `generateName` may stand for a name.
    Create,
    /// To be so: it needs a name.
    Apply,
}

/// Errors by path.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }
}

/// Checks an object in full: every invalid field is told, by path. Defaults are not written into it, so
/// that what is stored is what was sent.
pub fn check(object: &Object, purpose: Purpose) -> Result<Typed, Vec<FieldError>> {
    let (typed, errors) = check_all(object, purpose);
    match typed {
        Some(typed) if errors.is_empty() => Ok(typed),
        Some(_) | None => Err(errors),
    }
}

/// The typed object as far as it could be read, and everything that is wrong with it.
fn check_all(object: &Object, purpose: Purpose) -> (Option<Typed>, Vec<FieldError>) {
    let Some(kind) = Kind::ALL
        .iter()
        .copied()
        .find(|kind| kind.as_str() == object.kind)
    else {
        return (
            None,
            vec![FieldError::new(
                "kind",
                format!("unknown kind `{}`", crate::manifest::cut(&object.kind)),
            )],
        );
    };
    let mut errors = Vec::new();
    let mut spec = object.spec.clone();
    structure::spec(kind, &mut spec, &mut errors);
    let mut meaning = Errors::default();
    metadata::check(&object.metadata, kind, purpose, &mut meaning);
    let typed = match Typed::new(kind, object.metadata.clone(), spec) {
        Ok(typed) => {
            check_spec(&typed, &mut meaning);
            Some(typed)
        }
        Err(error) => {
            if errors.is_empty() {
                errors.push(FieldError::new("spec", error.to_string()));
            }
            None
        }
    };
    // Where the structure is wrong the meaning was checked on a stand-in.
    let structural: Vec<String> = errors.iter().map(|error| error.field.clone()).collect();
    let sound = |error: &FieldError| {
        !structural
            .iter()
            .any(|field| path::related(field, &error.field))
    };
    errors.extend(meaning.0.into_iter().filter(sound));
    (typed, errors)
}

fn check_spec(typed: &Typed, errors: &mut Errors) {
    match typed {
        Typed::Tenant(_) | Typed::Model(_) => {}
        Typed::Project(project) => platform::project(&project.metadata.name, &project.spec, errors),
        Typed::Queue(queue) => platform::queue(&queue.metadata.name, &queue.spec, errors),
        Typed::Pool(pool) => platform::pool(&pool.spec, errors),
        Typed::Cluster(cluster) => platform::cluster(&cluster.spec, errors),
        Typed::Node(node) => platform::node(&node.spec, errors),
        Typed::Environment(environment) => environment::environment(&environment.spec, errors),
        Typed::Secret(secret) => environment::secret(&secret.spec, errors),
        Typed::ModelVersion(version) => model::version(&version.spec, errors),
        Typed::Job(job) => job::check(&job.spec, errors),
        Typed::App(app) => app::check(&app.spec, errors),
        Typed::PodGroup(_) => errors.add("kind", "pod groups are written by the platform alone"),
        Typed::Event(_) => errors.add("kind", "events are written by the platform alone"),
    }
}

#[cfg(test)]
mod tests;
