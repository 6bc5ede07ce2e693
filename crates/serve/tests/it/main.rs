//! The server on real models over real sockets.

mod broken;
mod clients;
mod host;
mod isolated;
mod on_demand;
mod onnx;
mod oracle;
mod repository;
mod steps;
mod tensorflow;
mod traffic;
mod warm_up;
mod wire;
