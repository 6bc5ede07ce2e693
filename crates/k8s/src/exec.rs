//! Another program beside a replica's, through the cluster's own exec.

use crate::error::failed;
use crate::view::PodView;
use engine::{EngineError, Exec, ExecInput, ExecOutput, Stream};
use futures_util::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use kube::{Api, Client};
use pod::wire::HOME;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Pieces of input or output on their way.
const PIECES: usize = 64;
/// Bytes read at once.
const PIECE: usize = 32 << 10;

/// Starts it with the variables and directory of the replica's program.
pub(crate) async fn exec(
    client: &Client,
    tasks: &TaskTracker,
    pod: &PodView,
    command: &[String],
    terminal: Option<(u16, u16)>,
) -> Result<Exec, EngineError> {
    let (namespace, name) = &pod.place;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = AttachParams::default()
        .container("main")
        .stdin(true)
        .stdout(true)
        .stderr(terminal.is_none())
        .tty(terminal.is_some());
    let words = [
        format!("{HOME}/bin/moonshot-pod"),
        "exec".to_owned(),
        "--".to_owned(),
    ];
    let process = pods
        .exec(name, words.iter().chain(command), &params)
        .await
        .map_err(|error| failed(format!("exec in `{namespace}/{name}`"), error))?;
    let (input, to_program) = mpsc::channel(PIECES);
    let (said, output) = mpsc::channel(PIECES);
    tasks.spawn(carry(process, to_program, said, terminal));
    Ok(Exec { input, output })
}

async fn carry(
    mut process: AttachedProcess,
    mut input: mpsc::Receiver<ExecInput>,
    said: mpsc::Sender<ExecOutput>,
    terminal: Option<(u16, u16)>,
) {
    let (stdin, sizes) = (process.stdin(), process.terminal_size());
    let (stdout, stderr, status) = (process.stdout(), process.stderr(), process.take_status());
    let feed = async {
        let (mut stdin, mut sizes) = (stdin, sizes);
        if let (Some(sizes), Some((width, height))) = (&mut sizes, terminal) {
            // Without a size the terminal is merely small.
            let _ = sizes.send(TerminalSize { width, height }).await;
        }
        while let Some(piece) = input.recv().await {
            let done = match (piece, &mut stdin, &mut sizes) {
                (ExecInput::Stdin(bytes), Some(stdin), _) => stdin.write_all(&bytes).await.is_ok(),
                (ExecInput::Resize(width, height), _, Some(sizes)) => {
                    sizes.send(TerminalSize { width, height }).await.is_ok()
                }
                _ => true,
            };
            if !done {
                break;
            }
        }
        // Dropped here: the program's input ends.
        drop(stdin);
        std::future::pending::<()>().await;
    };
    let listen = async {
        tokio::join!(
            tell(stdout, Stream::Stdout, said.clone()),
            tell(stderr, Stream::Stderr, said.clone())
        );
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    let status = tokio::select! {
        status = listen => status,
        () = feed => None,
    };
    // Nobody may listen any more.
    let _ = said
        .send(ExecOutput::Exited(exit_code(status.as_ref())))
        .await;
}

async fn tell(
    from: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    said: mpsc::Sender<ExecOutput>,
) {
    let Some(mut from) = from else {
        return;
    };
    let mut buffer = vec![0; PIECE];
    while let Ok(n) = from.read(&mut buffer).await {
        let piece = ExecOutput::Bytes(stream, buffer[..n].to_vec());
        if n == 0 || said.send(piece).await.is_err() {
            return;
        }
    }
}

/// Kubernetes says `Success`, or `NonZeroExitCode` with the code among the causes.
fn exit_code(status: Option<&Status>) -> i32 {
    let Some(status) = status else {
        return 255;
    };
    if status.status.as_deref() == Some("Success") {
        return 0;
    }
    let causes = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_ref()?.parse().ok());
    code.unwrap_or(255)
}
