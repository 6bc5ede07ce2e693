//! The scheduler with its log: every fact that it is told and everything that it decides, a file for each term. `moonshot sim
//! replay` decides the file again, and asks what would have been different: it is the whole of a bug report.

use base::{Bytes, Epoch, Time};
use sched::{Config, Decision, Event, Sched};
use schedlog::Recorder;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Terms whose logs are kept, the present one included.
const TERMS_MAX: usize = 3;

/// Where logs are kept, and how much of each.
#[derive(Clone, Debug)]
pub struct LogPlace {
    /// The directory; made if it is missing.
    pub dir: PathBuf,
    /// The most bytes of a term's log. What comes later in the term is not in it; 0: there is none.
    pub bytes: Bytes,
}

/// A scheduler whose facts and decisions are written down.
pub struct Recorded {
    sched: Sched,
    log: Option<Recorder<TermFile>>,
}

impl Recorded {
    /// A scheduler at the start of a term. Without a log it works as well, and that is said once.
    pub fn new(config: Config, place: Option<&LogPlace>, epoch: Epoch) -> Recorded {
        let place = place.filter(|place| place.bytes.0 > 0);
        let begun = place.map(|place| {
            let file = TermFile::create(place, epoch)?;
            Recorder::new(file, &config)
        });
        let log = begun.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the scheduler's log cannot be written; it goes on without");
            None
        });
        Recorded {
            sched: Sched::new(config),
            log,
        }
    }

    /// Tells the scheduler a fact.
    pub fn apply(&mut self, event: Event) {
        self.note(|log| log.event(&event));
        self.sched.apply(event);
    }

    /// What follows from the facts.
    pub fn decide(&mut self, now: Time, steps: u32) -> Vec<Decision> {
        let decisions = self.sched.decide(now, steps);
        self.note(|log| {
            log.decided(now, steps, &decisions)?;
            // A round is whole in the file: who copies it while the server runs can replay it.
            log.flush()
        });
        decisions
    }

    fn note(&mut self, write: impl FnOnce(&mut Recorder<TermFile>) -> io::Result<()>) {
        let Some(log) = &mut self.log else {
            return;
        };
        if let Err(error) = write(log) {
            // A log with a gap replays as something else: it ends here.
            tracing::warn!(%error, "the scheduler's log of this term ends here");
            self.log = None;
        }
    }
}

impl Deref for Recorded {
    type Target = Sched;

    fn deref(&self) -> &Sched {
        &self.sched
    }
}

/// A term's file, written by whole rounds up to its bound.
struct TermFile {
    file: File,
    /// Since the last round.
    round: Vec<u8>,
    left: u64,
}

impl TermFile {
    fn create(place: &LogPlace, epoch: Epoch) -> io::Result<TermFile> {
        std::fs::create_dir_all(&place.dir)?;
        forget_old(&place.dir)?;
        Ok(TermFile {
            file: File::create(place.dir.join(format!("term-{:010}.jsonl", epoch.0)))?,
            round: Vec::new(),
            left: place.bytes.0,
        })
    }
}

/// Makes room for another term's log.
fn forget_old(dir: &Path) -> io::Result<()> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    logs.sort();
    let n_old = (logs.len() + 1).saturating_sub(TERMS_MAX);
    for old in &logs[..n_old] {
        std::fs::remove_file(old)?;
    }
    Ok(())
}

impl Write for TermFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.round.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let n_bytes = self.round.len() as u64;
        self.left = self
            .left
            .checked_sub(n_bytes)
            .ok_or_else(|| io::Error::other("it has as many bytes as MOONSHOT_SCHED_LOG allows"))?;
        self.file.write_all(&self.round)?;
        self.round.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path, bytes: u64) -> LogPlace {
        LogPlace {
            dir: dir.join("sched"),
            bytes: Bytes(bytes),
        }
    }

    fn rounds(dir: &Path, term: u64) -> u64 {
        let file = File::open(dir.join(format!("sched/term-{term:010}.jsonl"))).unwrap();
        let replay = schedlog::replay(io::BufReader::new(file)).unwrap();
        replay.rounds as u64
    }

    #[test]
    fn what_was_decided_is_replayed_while_it_is_written_and_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut sched = Recorded::new(
            Config::standard(),
            Some(&place(dir.path(), 4_000)),
            Epoch(7),
        );
        for round in 0..3 {
            sched.decide(Time::from_ms(round), 100);
        }
        assert_eq!(rounds(dir.path(), 7), 3);
        for round in 3..1_000 {
            sched.decide(Time::from_ms(round), 100);
        }
        let kept = rounds(dir.path(), 7);
        assert!((4..999).contains(&kept), "{kept}");
        assert!(sched.log.is_none());
    }

    #[test]
    fn the_last_terms_are_kept_and_none_where_it_is_turned_off() {
        let dir = tempfile::tempdir().unwrap();
        for term in 1..=5 {
            drop(Recorded::new(
                Config::standard(),
                Some(&place(dir.path(), 4_000)),
                Epoch(term),
            ));
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join("sched"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let kept: Vec<String> = (3..=5)
            .map(|term| format!("term-{term:010}.jsonl"))
            .collect();
        assert_eq!(names, kept);
        let other = tempfile::tempdir().unwrap();
        let off = Recorded::new(Config::standard(), Some(&place(other.path(), 0)), Epoch(1));
        assert!(off.log.is_none() && !other.path().join("sched").exists());
    }
}
