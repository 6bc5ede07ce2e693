//! Carries a replica's output from its spool to the sink, and lets go of what is kept there.

use crate::ctx::Ctx;
use crate::layout::ReplicaDir;
use base::{Bytes, Seq};
use engine::{EngineError, Frame, ReplicaKey, Stream};
use shim::frame::loss_in_note;
use shim::spool::{self, Reader};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Output that is handed over at once.
const BATCH_BYTES: usize = 512 << 10;
/// How often it is looked without a poke: shims poke, but nobody promises that a poke arrives.
const PERIOD: Duration = Duration::from_millis(500);
/// After a sink that failed.
const RETRY: Duration = Duration::from_secs(1);

/// A pump's state, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What the sink has kept; `None` until it was asked.
    pub(crate) kept: Option<Seq>,
    /// Everything was carried after the end was announced.
    pub(crate) is_done: bool,
}

pub(crate) struct Pump {
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) project: String,
    pub(crate) key: ReplicaKey,
    pub(crate) dir: ReplicaDir,
    pub(crate) poked: watch::Receiver<u64>,
    /// Becomes true when nothing is written any more.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Pump {
    /// Runs until everything is carried after closing.
    pub(crate) async fn run(mut self) {
        let kept = self.append(Vec::new()).await;
        self.progress
            .send_modify(|progress| progress.kept = Some(kept));
        let mut reader = Reader::after(&self.dir.spool(), kept);
        loop {
            self.poked.mark_unchanged();
            let is_closing = *self.closing.borrow_and_update();
            let is_drained = self.drain(&mut reader).await;
            if is_closing && is_drained {
                self.progress
                    .send_modify(|progress| progress.is_done = true);
                return;
            }
            if is_drained {
                tokio::select! {
                    _ = self.poked.changed() => {}
                    _ = self.closing.changed() => {}
                    () = tokio::time::sleep(PERIOD) => {}
                }
            } else {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Carries what is there now. False where the spool cannot be read.
    async fn drain(&mut self, reader: &mut Reader) -> bool {
        loop {
            let frames = match reader.read(BATCH_BYTES) {
                Ok(frames) if frames.is_empty() => return true,
                Ok(frames) => frames,
                Err(error) => {
                    tracing::warn!(replica = %self.key, %error, "output cannot be read from its spool");
                    return false;
                }
            };
            let kept = self.append(frames.into_iter().map(convert).collect()).await;
            self.progress
                .send_modify(|progress| progress.kept = Some(kept));
            let _pass = self.ctx.gate.pass().await;
            if let Err(error) = spool::release(&self.dir.spool(), kept) {
                // The spool's bound holds all the same.
                tracing::warn!(replica = %self.key, %error, "kept output cannot be deleted");
            }
        }
    }

    /// Hands frames over until the sink takes them.
    async fn append(&self, frames: Vec<Frame>) -> Seq {
        let lost: u64 = frames
            .iter()
            .filter(|frame| frame.stream == Stream::Note)
            .map(|frame| loss_in_note(&frame.bytes))
            .sum();
        let mut is_told = false;
        let kept = loop {
            let pass = self.ctx.gate.pass().await;
            let taken: Result<Seq, EngineError> = self
                .ctx
                .config
                .sink
                .append(&self.project, &self.key, frames.clone())
                .await;
            drop(pass);
            match taken {
                Ok(kept) => break kept,
                Err(error) => {
                    if !is_told {
                        tracing::warn!(replica = %self.key, %error, "output is not taken; it waits in its spool");
                        is_told = true;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        if lost != 0 {
            self.ctx.table.update(&self.key, |report| {
                report.output_lost = Bytes(report.output_lost.0 + lost)
            });
        }
        kept
    }
}

fn convert(frame: shim::frame::Frame) -> Frame {
    Frame {
        seq: frame.seq,
        stream: match frame.stream {
            shim::frame::Stream::Stdout => Stream::Stdout,
            shim::frame::Stream::Stderr => Stream::Stderr,
            shim::frame::Stream::Note => Stream::Note,
        },
        time: frame.time,
        bytes: frame.bytes,
    }
}
