//! The replicas of all Apps: set to what is wanted, and counted when they are ready.

use super::{DRAIN, LOAD};
use crate::life::{Happening, Life, Saves, Work, WorkId};
use crate::specs;
use base::Time;
use sched::{TaskKind, TaskSpec};

/// A replica that is not needed stays this many minutes.
const COOL: usize = 5;

/// The replicas of all Apps, the newest last.
#[derive(Default)]
pub(super) struct Replicas {
    ids: Vec<WorkId>,
    /// What was wanted in the last minutes.
    wanted: Vec<(usize, usize)>,
    made: u64,
}

impl Replicas {
    pub(super) fn set(&mut self, life: &mut Life<'_>, wanted: usize, minute: usize, now: Time) {
        self.wanted.retain(|(asked, _)| asked + COOL > minute);
        self.wanted.push((minute, wanted));
        let most = self
            .wanted
            .iter()
            .map(|(_, wanted)| *wanted)
            .max()
            .unwrap_or(wanted);
        while self.ids.len() < wanted {
            self.made += 1;
            let group = specs::group(1, specs::amount(0, 0, 1_000));
            let spec = TaskSpec {
                name: format!("app/{}", self.made),
                kind: TaskKind::Service,
                priority: 10,
                grace: DRAIN,
                preemptible: false,
                ..specs::task(self.made, "apps", now, vec![group])
            };
            self.ids.push(life.arrive(Work {
                spec,
                runs: None,
                saves: Saves {
                    every: None,
                    on_stop: Some(DRAIN),
                },
                loads: LOAD,
                class: "app".to_owned(),
            }));
        }
        while self.ids.len() > most {
            // Who still waits goes first, then the newest.
            let waits = self.ids.iter().rposition(|id| life.waits(*id));
            let at = waits.unwrap_or(self.ids.len() - 1);
            life.at(now, Happening::Withdraw(self.ids.remove(at)));
        }
    }

    pub(super) fn ready(&self, life: &Life<'_>) -> usize {
        self.ids.iter().filter(|id| life.is_ready(**id)).count()
    }
}
