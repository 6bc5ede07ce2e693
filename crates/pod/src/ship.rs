//! Ships output from the spool to the engine, in a thread of its own, and lets go of what is kept there.

use crate::engine::{Engine, Refused};
use base::Seq;
use pod::wire::FRAMES_BYTES_MAX;
use shim::frame;
use shim::spool::{self, Reader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between looks while nothing is new: output reaches the engine well within a second.
const PERIOD: Duration = Duration::from_millis(100);

pub(crate) struct Shipping {
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Shipping {
    /// Starts after what is kept already.
    pub(crate) fn start(engine: Arc<Engine>, dir: PathBuf, kept: u64) -> Shipping {
        let closing = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&closing);
        let thread = std::thread::spawn(move || ship(&engine, &dir, Seq(kept), &flag));
        Shipping { closing, thread }
    }

    /// Ships the rest. Blocks until the engine has it all: Kubernetes ends that by the pod's grace.
    pub(crate) fn finish(self) {
        self.closing.store(true, Ordering::Release);
        // A thread that panicked has shipped what it could.
        let _ = self.thread.join();
    }
}

fn ship(engine: &Engine, dir: &std::path::Path, kept: Seq, closing: &AtomicBool) {
    let mut reader = Reader::after(dir, kept);
    loop {
        let is_last = closing.load(Ordering::Acquire);
        let frames = match reader.read(FRAMES_BYTES_MAX / 2) {
            Ok(frames) => frames,
            Err(error) => {
                eprintln!("moonshot-pod: output cannot be read from its spool: {error}");
                Vec::new()
            }
        };
        if frames.is_empty() {
            if is_last {
                return;
            }
            std::thread::sleep(PERIOD);
            continue;
        }
        let mut body = Vec::new();
        for frame in &frames {
            body.extend(frame::header(
                frame.seq,
                frame.stream,
                frame.time,
                &frame.bytes,
            ));
            body.extend(&frame.bytes);
        }
        match engine.frames(&body) {
            // Only space.
            Ok(kept) => drop(spool::release(dir, Seq(kept))),
            // Nobody wants it.
            Err(Refused::Superseded) => return,
            Err(Refused::No(why)) => {
                eprintln!("moonshot-pod: output is refused: {why}");
                return;
            }
            Err(Refused::GivenUp) => {}
        }
    }
}
