//! TensorFlow Serving's `Predict` over gRPC, from this process: the client's time is not counted.

use super::load;
use super::models::{self, Made};
use crate::Failure;
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

/// Every answer is the framework's own.
pub(crate) fn check(address: SocketAddr, made: &Made) -> Result<(), Failure> {
    let messages = messages(made)?;
    runtime()?.block_on(async {
        let mut tasks = JoinSet::new();
        let mut client = connect(address, &mut tasks).await?;
        for (message, wanted) in messages.iter().zip(&made.answers) {
            let answer = call(&mut client, address, message.clone()).await?;
            let number = number(&answer).ok_or("an answer without a number")?;
            models::same(f64::from(number), *wanted)?;
        }
        Ok(())
    })
}

/// Each connection asks as soon as it was answered; how many answers came.
pub(crate) fn closed_loop(
    address: SocketAddr,
    made: &Made,
    n_connections: usize,
    time: Duration,
) -> Result<u64, Failure> {
    let messages = Arc::new(messages(made)?);
    runtime()?.block_on(async {
        let mut connections = JoinSet::new();
        let mut callers = JoinSet::new();
        let end = Instant::now() + time;
        for _ in 0..n_connections {
            let mut client = connect(address, &mut connections).await?;
            let messages = Arc::clone(&messages);
            callers.spawn(async move {
                let mut n_answers = 0;
                for message in messages.iter().cycle() {
                    if Instant::now() >= end {
                        break;
                    }
                    call(&mut client, address, message.clone()).await?;
                    n_answers += 1;
                }
                Ok::<u64, Failure>(n_answers)
            });
        }
        let mut sum = 0;
        while let Some(n_answers) = callers.join_next().await {
            sum += n_answers??;
        }
        Ok(sum)
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Requests behind gRPC's five bytes.
fn messages(made: &Made) -> Result<Vec<Bytes>, Failure> {
    let framed = load::bodies(&made.bodies())?.into_iter().map(|body| {
        let mut message = BytesMut::with_capacity(body.len() + 5);
        message.put_u8(0);
        message.put_u32(u32::try_from(body.len())?);
        message.put_slice(&body);
        Ok(message.freeze())
    });
    framed.collect()
}

async fn connect(
    address: SocketAddr,
    connections: &mut JoinSet<hyper::Result<()>>,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    connections.spawn(connection);
    Ok(client)
}

/// A good answer's message.
async fn call(
    client: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    message: Bytes,
) -> Result<Bytes, Failure> {
    let request = Request::post(format!("http://{address}{PREDICT}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message))?;
    client.ready().await?;
    let response = client.send_request(request).await?;
    let early = response.headers().get("grpc-message").cloned();
    let body = response.into_body().collect().await?;
    let status = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"));
    if status.is_none_or(|status| status != "0") {
        return Err(format!("the call failed: {:?} {early:?}", body.trailers()).into());
    }
    let bytes = body.to_bytes();
    Ok(bytes.slice(bytes.len().min(5)..))
}

/// The first number of the first output: PredictResponse.outputs (1), its value (2), TensorProto.tensor_content (4) or
/// float_val (5).
fn number(message: &[u8]) -> Option<f32> {
    let tensor = field(field(message, 1)?, 2)?;
    let content = field(tensor, 4).or_else(|| field(tensor, 5))?;
    content
        .first_chunk()
        .map(|bytes| f32::from_le_bytes(*bytes))
}

/// The bytes of the first field of this number that has a length.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                varint(&mut message)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(length)?;
        if key == number << 3 | 2 {
            return Some(value);
        }
        message = rest;
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_answer_is_found() {
        let mut tensor = vec![0x08, 1, 0x2a, 4];
        tensor.extend(1.5_f32.to_le_bytes());
        let entry = [&[0x0a, 1, b'y', 0x12, 8][..], &tensor].concat();
        let answer = [&[0x12, 2, 0x10, 1, 0x0a, 13][..], &entry].concat();
        assert_eq!(number(&answer), Some(1.5));
        assert_eq!(number(&answer[..9]), None);
    }
}
