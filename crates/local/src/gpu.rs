//! The GPUs of this machine: NVML where its library is, else as many fakes as asked for.

use base::Bytes;
use engine::NodeDevice;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::sync::Arc;

/// The library's name without development files (the wrapper's default needs them).
const LIBRARY: &str = "libnvidia-ml.so.1";

/// What GPUs there are.
pub trait GpuProbe: Send + Sync {
    /// All of them, in the machine's order; an error is a sentence for people.
    fn devices(&self) -> Result<Vec<NodeDevice>, String>;
}

/// Real GPUs unless fakes are asked for.
pub fn detect(fakes: u32) -> Arc<dyn GpuProbe> {
    if fakes != 0 {
        return Arc::new(Fakes(fakes));
    }
    match Nvml::builder().lib_path(LIBRARY.as_ref()).init() {
        Ok(nvml) => Arc::new(Nvidia(nvml)),
        // No library: a machine without GPUs, which is no fault.
        Err(NvmlError::LibloadingError(_)) => Arc::new(Fakes(0)),
        Err(error) => Arc::new(Broken(format!("GPUs cannot be used: NVML: {error}"))),
    }
}

/// GPUs that are not there, for trying out gangs and placement. Programs see none.
pub struct Fakes(pub u32);

impl GpuProbe for Fakes {
    fn devices(&self) -> Result<Vec<NodeDevice>, String> {
        let fake = |n: u32| NodeDevice {
            id: format!("GPU-fake-{n}"),
            class: "gpu".to_owned(),
            model: "fake".to_owned(),
            memory: Bytes(16 << 30),
            sick: None,
            link_group: 0,
            numa: 0,
        };
        Ok((0..self.0).map(fake).collect())
    }
}

struct Broken(String);

impl GpuProbe for Broken {
    fn devices(&self) -> Result<Vec<NodeDevice>, String> {
        Err(self.0.clone())
    }
}

struct Nvidia(Nvml);

impl GpuProbe for Nvidia {
    fn devices(&self) -> Result<Vec<NodeDevice>, String> {
        let count = self
            .0
            .device_count()
            .map_err(|error| format!("NVML does not count GPUs: {error}"))?;
        let device = |n: u32| {
            self.device(n)
                .map_err(|error| format!("NVML does not answer for GPU {n}: {error}"))
        };
        (0..count).map(device).collect()
    }
}

impl Nvidia {
    fn device(&self, n: u32) -> Result<NodeDevice, NvmlError> {
        let device = self.0.device_by_index(n)?;
        // Cards under one NUMA node share a root complex; older drivers do not tell.
        let numa = device
            .numa_node_id()
            .ok()
            .and_then(|numa| u16::try_from(numa).ok())
            .unwrap_or(0);
        Ok(NodeDevice {
            id: device.uuid()?,
            class: "gpu".to_owned(),
            model: device.name()?,
            memory: Bytes(device.memory_info()?.total),
            sick: None,
            link_group: numa,
            numa,
        })
    }
}
