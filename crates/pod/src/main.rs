//! `moonshot-pod install DIR` copies the static programs into a pod's volume, `moonshot-pod run` is the container's first
//! process, `moonshot-pod exec -- PROGRAM…` runs another program with the variables and directory of the first.

mod engine;
mod files;
mod outputs;
mod program;
mod run;
mod ship;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: moonshot-pod install DIRECTORY
       moonshot-pod run
       moonshot-pod exec -- PROGRAM [ARGUMENT]…";
/// The other static program, beside this one.
const SHIM: &str = "moonshot-shim";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["install", dir] => match install(Path::new(dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("moonshot-pod: cannot install into `{dir}`: {error}");
                ExitCode::FAILURE
            }
        },
        ["run"] => run::run(),
        ["exec", "--", program, args @ ..] => program::exec(program, args),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Copies both programs; a repeated step finds them and is done.
fn install(dir: &Path) -> io::Result<()> {
    let own = std::env::current_exe()?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    for (from, name) in [(own.clone(), "moonshot-pod"), (folder.join(SHIM), SHIM)] {
        let draft = bin.join(format!("{name}.draft"));
        fs::copy(&from, &draft)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
        fs::rename(&draft, bin.join(name))?;
    }
    Ok(())
}
