//! Output that a replica's shim sends in, where the engine does not hold its pipes. The attempt's token says whose
//! it is, so no frame can land in another replica's log; once the attempt is over nothing more is taken.

use crate::error::UseError;
use crate::platform::Platform;
use api::answer::{IngestFrame, IngestRequest, LogStream};
use base::Seq;
use base64::Engine;
use db::control::Placement;
use logs::{Frame, ReplicaLog, Stream};

/// The most frames of one request.
const FRAMES_MAX: usize = 4_096;
/// The most bytes of one frame, as engines send them.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// Keeps frames; the highest number kept. Those that are kept already are dropped.
pub async fn ingest(
    platform: &Platform,
    from: &Placement,
    request: IngestRequest,
) -> Result<Seq, UseError> {
    if request.frames.len() > FRAMES_MAX {
        let message = format!(
            "has {} entries; send at most {FRAMES_MAX} at once",
            request.frames.len()
        );
        return Err(UseError::field("frames", message));
    }
    let frames = frames(request.frames)?;
    let log = ReplicaLog {
        owner: from.owner,
        group: from.group.clone(),
        index: from.index,
        attempt: from.attempt,
    };
    let (logs, project) = (platform.logs.clone(), from.project.clone());
    let kept = tokio::task::spawn_blocking(move || logs.append(&project, &log, &frames)).await;
    let kept = kept.map_err(|error| UseError::internal("output cannot be kept", error))?;
    kept.map_err(|error| match error.code() {
        base::Code::Exhausted | base::Code::Invalid => {
            UseError::new(error.code(), error.to_string())
        }
        _ => UseError::internal("output cannot be kept", error),
    })
}

fn frames(sent: Vec<IngestFrame>) -> Result<Vec<Frame>, UseError> {
    let mut frames = Vec::with_capacity(sent.len());
    let mut last = 0;
    for (at, frame) in sent.into_iter().enumerate() {
        let field = |name: &str| format!("frames[{at}].{name}");
        if frame.seq <= last {
            let message = format!("is {}; numbers begin with 1 and go up", frame.seq);
            return Err(UseError::field(field("seq"), message));
        }
        last = frame.seq;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&frame.data)
            .map_err(|error| UseError::field(field("data"), format!("is not base64: {error}")))?;
        if bytes.len() > FRAME_BYTES_MAX {
            let message = format!(
                "has {} bytes; at most {FRAME_BYTES_MAX} are taken",
                bytes.len()
            );
            return Err(UseError::field(field("data"), message));
        }
        frames.push(Frame {
            seq: Seq(frame.seq),
            stream: match frame.stream {
                LogStream::Stdout => Stream::Stdout,
                LogStream::Stderr => Stream::Stderr,
                LogStream::System => Stream::Note,
            },
            time: frame.time,
            bytes,
        });
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Time;

    #[test]
    fn frames_are_checked_before_any_is_kept() {
        let frame = |seq, data: &str| IngestFrame {
            stream: LogStream::Stdout,
            seq,
            time: Time::from_ms(5),
            data: data.to_owned(),
        };
        let check = |sent: Vec<IngestFrame>, expect: &str| {
            let found = frames(sent).map_or_else(
                |error| error.to_string(),
                |frames| {
                    let texts = frames
                        .iter()
                        .map(|frame| String::from_utf8_lossy(&frame.bytes));
                    texts.collect::<Vec<_>>().join("|")
                },
            );
            assert_eq!(found, expect);
        };
        check(vec![frame(1, "aGk="), frame(3, "eW8=")], "hi|yo");
        check(vec![], "");
        check(
            vec![frame(2, "aGk="), frame(2, "eW8=")],
            "`frames[1].seq` is 2; numbers begin with 1 and go up",
        );
        check(
            vec![frame(0, "")],
            "`frames[0].seq` is 0; numbers begin with 1 and go up",
        );
        let long = "A".repeat((FRAME_BYTES_MAX / 3 + 1) * 4);
        check(
            vec![frame(1, &long)],
            "`frames[0].data` has 65538 bytes; at most 65536 are taken",
        );
        assert!(
            frames(vec![frame(1, "!")])
                .unwrap_err()
                .to_string()
                .contains("is not base64")
        );
    }
}
