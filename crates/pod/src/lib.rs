//! What runs in a pod, and what it and the Kubernetes engine say to each other.
//!
//! `moonshot-pod` is copied into each pod by an init step and is the container's first process. It asks
//! the engine what to run, lays out files as the local engine does, starts the program under
//! `moonshot-shim`, ships numbered output, keeps outputs, and tells how it ended: to the engine, and in the container's
//! termination message, which Kubernetes keeps where the engine cannot be reached.
//!
//! This library is the wire between the two: JSON over HTTP/1.1 on the cluster's network, the caller known by its pod's
//! service-account token. Read [`wire`]; the program starts in `main.rs`.
//!
//! What it deliberately does not do: restart (Kubernetes or `plan` do), probe (the kubelet does), or speak to the cluster's API.

pub mod wire;
