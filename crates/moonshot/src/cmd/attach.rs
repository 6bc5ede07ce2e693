//! `attach`: follow a Job that runs, as `run` does.

use crate::exit::Failure;
use crate::follow::{self, Outcome};
use crate::session::Session;
use crate::target;
use api::Kind;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The Job: `NAME` or `job/NAME`.
    #[arg(required = true, value_name = "JOB")]
    job: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let target = target::one(&args.job, Some(Kind::Job))?;
    follow(session, &target.name).await.map(drop)
}

/// Follows a Job to its end and ends with its program's code. `true` when it is over and went well.
pub(crate) async fn follow(session: &Session, name: &str) -> Result<bool, Failure> {
    let job = match follow::job(session, name).await? {
        Outcome::Detached => {
            session.out.note(format!("[job/{name}] goes on without us: `moonshot attach {name}` follows it again, `moonshot cancel {name}` stops it"));
            // Where nobody could be asked, the interruption was not a wish to leave well.
            return if session.out.ask {
                Ok(false)
            } else {
                Err(Failure::Code(130))
            };
        }
        Outcome::Cancel => {
            session.client.cancel(&session.project, name).await?;
            session.out.note(format!("[job/{name}] cancelled"));
            return Err(Failure::Code(130));
        }
        Outcome::Over(job) => job,
    };
    let (words, code) = follow::end(&job);
    session.out.note(words);
    if code == 0 {
        Ok(true)
    } else {
        Err(Failure::Code(code))
    }
}
