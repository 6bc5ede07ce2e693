//! `cargo xtask up`: from a clone to a running platform with the quickstart done.

use crate::build::{self, Profile};
use crate::sh::{self, Done};

/// Builds `moonshot` and hands over to `moonshot up`, which starts the platform and the quickstart.
pub(crate) fn run(args: &[String]) -> Done {
    build::check_python()?;
    let moonshot = build::moonshot(Profile::Release)?;
    let mut up = sh::command(&moonshot.display().to_string(), ["up"]);
    let examples = sh::root().join("examples");
    up.arg("--quickstart")
        .arg(examples.join("flights"))
        .args(args);
    sh::run(&mut up)
}
