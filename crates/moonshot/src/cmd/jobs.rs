//! `cancel`, `suspend`, `resume`, `rerun`: verbs on Jobs.

use crate::exit::Failure;
use crate::session::Session;
use crate::target::{self, Target};
use api::Kind;
use api::job::JobPhase;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs: `NAME…`, `job NAME…` or `job/NAME…`.
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

/// Bare names are Jobs here.
fn jobs(args: &Args) -> Result<Vec<String>, Failure> {
    let words = &args.jobs;
    let has_kind = words.iter().any(|word| word.contains('/'))
        || (words.len() > 1 && Kind::find(&words[0]) == Some(Kind::Job));
    if !has_kind {
        return Ok(words.clone());
    }
    let targets: Vec<Target> = target::many(words)?;
    match targets.iter().find(|target| target.kind != Kind::Job) {
        Some(odd) => Err(Failure::Usage(format!(
            "{}: this verb is for Jobs alone",
            odd.show()
        ))),
        None => Ok(targets.into_iter().map(|target| target.name).collect()),
    }
}

pub(crate) async fn cancel(session: &Session, args: &Args) -> Result<(), Failure> {
    for name in jobs(args)? {
        let job = session.client.cancel(&session.project, &name).await?;
        let phase = job.status.unwrap_or_default().phase;
        let already = phase.is_over() && phase != JobPhase::Cancelled;
        let word = if already {
            format!("is over already: {}", phase.as_str())
        } else {
            "cancelled".to_owned()
        };
        session.out.line(format!("job/{name} {word}"))?;
    }
    Ok(())
}

pub(crate) async fn suspend(session: &Session, args: &Args) -> Result<(), Failure> {
    for name in jobs(args)? {
        session.client.suspend(&session.project, &name).await?;
        session.out.line(format!("job/{name} suspended"))?;
    }
    Ok(())
}

pub(crate) async fn resume(session: &Session, args: &Args) -> Result<(), Failure> {
    for name in jobs(args)? {
        session.client.resume(&session.project, &name).await?;
        session.out.line(format!("job/{name} resumed"))?;
    }
    Ok(())
}

pub(crate) async fn rerun(session: &Session, args: &Args) -> Result<(), Failure> {
    for name in jobs(args)? {
        let new = session.client.rerun(&session.project, &name).await?;
        session
            .out
            .line(format!("job/{} created from job/{name}", new.metadata.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs() {
        let check = |words: &[&str], expect: &[&str]| {
            let args = Args {
                jobs: words.iter().map(|word| (*word).to_owned()).collect(),
            };
            assert_eq!(jobs(&args).unwrap(), expect);
        };
        check(&["a"], &["a"]);
        check(&["a", "b"], &["a", "b"]);
        check(&["job", "a"], &["a"]);
        check(&["jobs", "a", "b"], &["a", "b"]);
        check(&["job/a", "job/b"], &["a", "b"]);
        // A Job may be called so.
        check(&["job"], &["job"]);
        assert!(
            jobs(&Args {
                jobs: vec!["app/a".to_owned()]
            })
            .is_err()
        );
    }
}
