//! The server on real models over real sockets.

mod broken;
mod clients;
mod host;
mod onnx;
mod oracle;
mod repository;
mod steps;
mod tensorflow;
mod wire;
