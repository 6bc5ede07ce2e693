//! Requests of a pod and their answers. Every request carries `Authorization: Bearer` with the pod's projected
//! service-account token, whose audience is [`AUDIENCE`]; the engine knows from it which pod speaks, and from the pod which
//! replica.

use base::Bytes;
use serde::{Deserialize, Serialize};
use shim::record::Exit;

/// The version of everything here. A pod refuses a higher one.
pub const VERSION: u32 = 1;
/// The audience of the token that pods show.
pub const AUDIENCE: &str = "moonshot";
/// `GET`: a [`Spec`]. 425 while the pod is nobody's yet: ask again. 403 for good.
pub const SPEC: &str = "/pod/v1/spec";
/// `POST`: frames as they lie in a spool ([`shim::frame`]); answers the highest number kept, in decimal.
pub const FRAMES: &str = "/pod/v1/frames";
/// `GET …/{digest}`: a tar, zstd-compressed.
pub const BLOBS: &str = "/pod/v1/blobs";
/// `GET …/{digest}`: the packages of a Python environment, as [`BLOBS`].
pub const ENVIRONMENTS: &str = "/pod/v1/environments";
/// `PUT …/{name}`: one output as a tar, zstd-compressed; answers a [`Kept`].
pub const OUTPUTS: &str = "/pod/v1/outputs";
/// `POST`: a [`Report`].
pub const END: &str = "/pod/v1/end";
/// `GET`: a [`Grace`]: how long a stop that was asked for may take.
pub const STOP: &str = "/pod/v1/stop";

/// Where the container's files of ours are: a volume of the pod, shared with the init step.
pub const HOME: &str = "/moonshot";
/// Where the volume for checkpoints is, in pods of Jobs.
pub const CHECKPOINT: &str = "/moonshot-checkpoint";
/// Where the kubelet puts the token.
pub const TOKEN: &str = "/var/run/secrets/moonshot/token";
/// The variable with the engine's address, `http://host:port`.
pub const ENDPOINT: &str = "MOONSHOT_POD_ENDPOINT";

/// The most bytes of a termination message that Kubernetes keeps.
pub const TERMINATION_BYTES_MAX: usize = 4096;
/// The most bytes of frames in one request.
pub const FRAMES_BYTES_MAX: usize = 1 << 20;

/// What to run and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// [`VERSION`].
    pub version: u32,
    /// Program and arguments; `$(NAME)` stands for a variable.
    pub command: Vec<String>,
    /// Variables, after the pod's own basics; later wins.
    pub env: Vec<Variable>,
    /// Where it starts, relative to the code.
    pub workdir: Option<String>,
    /// What it finds in its file system.
    pub mounts: Vec<Mount>,
    /// A Python environment, by digest.
    pub environment: Option<String>,
    /// What is kept of what it leaves.
    pub outputs: Vec<Output>,
    /// From SIGTERM to SIGKILL.
    pub grace_ms: u64,
    /// The most bytes of output that wait to be shipped.
    pub spool_max: Bytes,
    /// Frames that are kept already: numbering goes on after it.
    pub kept: u64,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether `$(NAME)` in the value stands for an earlier variable.
    pub expand: bool,
}

/// Something in the file system, at a path under the replica's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub path: String,
    /// What.
    pub source: Source,
}

/// What a mount holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The program's directory: a blob by digest.
    Code(String),
    /// Another blob by digest.
    Input(String),
    /// What is written here may be kept.
    Outputs,
    /// Empty at first.
    Scratch,
    /// A volume of the pod at this absolute path.
    Volume(String),
    /// Entries of a Secret: names and bytes.
    Secret(Vec<(String, Vec<u8>)>),
}

/// A file or directory that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Relative to the outputs directory.
    pub path: String,
}

/// A kept output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// The digest of its tar.
    pub digest: String,
    /// Bytes of its files.
    pub size: u64,
}

/// How long a stop may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grace {
    /// From SIGTERM to SIGKILL; `None` where nobody of the platform asked.
    pub grace_ms: Option<u64>,
}

/// How the program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// What its shim recorded.
    pub exit: Exit,
    /// Whether the shim was killed, and the program with it, so that `exit` only says so.
    pub is_lost: bool,
    /// What was kept.
    pub outputs: Vec<Kept>,
    /// What could not be kept and why.
    pub failure: Option<String>,
    /// The number of the last frame of output.
    pub last: u64,
}

impl Report {
    /// The report as a termination message: a sentence is cut until it fits.
    pub fn termination_message(&self) -> Vec<u8> {
        let mut report = self.clone();
        loop {
            let bytes = serde_json::to_vec(&report).unwrap_or_default();
            if bytes.len() <= TERMINATION_BYTES_MAX {
                return bytes;
            }
            // The engine has the whole report; this copy is for when it never got it.
            if !shorten(&mut report) {
                return Vec::new();
            }
        }
    }
}

fn shorten(report: &mut Report) -> bool {
    let sentence = match (&mut report.exit.how, &mut report.failure) {
        (shim::record::How::NotStarted(sentence), _) if sentence.len() > 200 => sentence,
        (_, Some(sentence)) if sentence.len() > 200 => sentence,
        _ => return report.outputs.pop().is_some(),
    };
    let half = sentence.len() / 2;
    let cut = (0..=half).rev().find(|at| sentence.is_char_boundary(*at));
    sentence.truncate(cut.unwrap_or(0));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Time;
    use shim::record::How;

    #[test]
    fn a_termination_message_fits_and_keeps_the_cause() {
        let report = Report {
            version: VERSION,
            exit: Exit {
                version: 1,
                how: How::NotStarted("é".repeat(9_000)),
                oom: false,
                stopped: false,
                at: Time::from_ms(1),
                memory_peak: Bytes(0),
                lost: Bytes(0),
            },
            is_lost: false,
            outputs: (0..100)
                .map(|n| Kept {
                    name: format!("output-{n}"),
                    digest: "0".repeat(64),
                    size: 1,
                })
                .collect(),
            failure: Some("x".repeat(5_000)),
            last: 7,
        };
        let message = report.termination_message();
        assert!(message.len() <= TERMINATION_BYTES_MAX);
        let back: Report = serde_json::from_slice(&message).expect("it is whole JSON");
        assert!(matches!(back.exit.how, How::NotStarted(_)));
        assert_eq!(back.last, 7);
    }
}
