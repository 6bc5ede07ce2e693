//! Which Queue takes which projects: read once, and again after a Queue has changed. Every look at a Job asks.

use super::lock;
use db::{Db, DbError, objects};
use std::sync::{Arc, Mutex};

/// A Queue's name and its projects.
type Takes = (String, Vec<String>);

/// What is known of the Queues.
#[derive(Debug, Default)]
pub struct Queues(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts changes, so that what was read before one is not kept after it.
    n_changes: u64,
    known: Option<Arc<Vec<Takes>>>,
}

impl Queues {
    /// A Queue has changed. Whoever follows the feed says so before it tells of later changes, so a Job that was made
    /// after a Queue sees it.
    pub fn changed(&self) {
        let mut state = lock(&self.0);
        state.n_changes += 1;
        state.known = None;
    }

    /// All Queues with their projects, by name.
    pub async fn read(&self, db: &Db) -> Result<Arc<Vec<Takes>>, DbError> {
        let before = {
            let state = lock(&self.0);
            if let Some(known) = &state.known {
                return Ok(Arc::clone(known));
            }
            state.n_changes
        };
        let queues = objects::all(db, "Queue").await?;
        let takes = |queue: &objects::Object| {
            let projects = queue.spec["projects"].as_array().into_iter().flatten();
            let names = projects.filter_map(|name| name.as_str().map(str::to_owned));
            (queue.name.clone(), names.collect())
        };
        let read: Arc<Vec<Takes>> = Arc::new(queues.iter().map(takes).collect());
        let mut state = lock(&self.0);
        if state.n_changes == before {
            state.known = Some(Arc::clone(&read));
        }
        Ok(read)
    }
}

/// The first that takes a project, else `default`.
pub fn taking<'a>(queues: &'a [Takes], project: &str) -> &'a str {
    let takes = |(_, projects): &&Takes| projects.iter().any(|name| name == project);
    queues
        .iter()
        .find(takes)
        .map_or("default", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::taking;

    #[test]
    fn the_first_that_names_a_project_takes_it() {
        let queue = |name: &str, projects: &[&str]| {
            let projects = projects.iter().map(|name| (*name).to_owned()).collect();
            (name.to_owned(), projects)
        };
        let queues = [queue("a", &["x"]), queue("b", &["x", "y"])];
        let found = ["x", "y", "z"].map(|project| taking(&queues, project));
        assert_eq!(found, ["a", "b", "default"]);
    }
}
