//! An amount of every resource a program can ask for or a node can give.

use crate::{Bytes, MilliCpu};
use std::collections::BTreeMap;
use std::fmt;

/// Amounts by resource. `gpu_milli` counts thousandths of one GPU, so that fractions add up exactly;
/// anything else a node advertises (RDMA ports, FPGAs, licences) is in `extended`, by its full name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Thousandths of a GPU.
    pub gpu_milli: u64,
    /// Whole units of other resources; a zero is never stored.
    pub extended: BTreeMap<String, u64>,
}

impl Resources {
    /// Nothing asked for.
    pub fn is_zero(&self) -> bool {
        *self == Resources::default()
    }

    /// Adds `other`, saturating at the largest amount.
    pub fn add(&mut self, other: &Resources) {
        self.cpu.0 = self.cpu.0.saturating_add(other.cpu.0);
        self.memory.0 = self.memory.0.saturating_add(other.memory.0);
        self.gpu_milli = self.gpu_milli.saturating_add(other.gpu_milli);
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes `other` away, stopping at zero.
    pub fn subtract(&mut self, other: &Resources) {
        self.cpu.0 = self.cpu.0.saturating_sub(other.cpu.0);
        self.memory.0 = self.memory.0.saturating_sub(other.memory.0);
        self.gpu_milli = self.gpu_milli.saturating_sub(other.gpu_milli);
        for (name, amount) in &other.extended {
            if let Some(rest) = self.extended.get_mut(name) {
                *rest = rest.saturating_sub(*amount);
            }
        }
        self.extended.retain(|_, amount| *amount != 0);
    }

    /// This amount `n` times.
    #[must_use]
    pub fn times(&self, n: u64) -> Resources {
        Resources {
            cpu: MilliCpu(self.cpu.0.saturating_mul(n)),
            memory: Bytes(self.memory.0.saturating_mul(n)),
            gpu_milli: self.gpu_milli.saturating_mul(n),
            extended: self
                .extended
                .iter()
                .map(|(name, amount)| (name.clone(), amount.saturating_mul(n)))
                .collect(),
        }
    }

    /// Whether `other` fits inside this amount, resource by resource.
    pub fn contains(&self, other: &Resources) -> bool {
        self.cpu >= other.cpu
            && self.memory >= other.memory
            && self.gpu_milli >= other.gpu_milli
            && other
                .extended
                .iter()
                .all(|(name, amount)| self.extended.get(name).copied().unwrap_or(0) >= *amount)
    }
}

/// GPUs as people write them: `2`, or `0.5` for a fraction.
pub fn show_gpus(gpu_milli: u64) -> String {
    if gpu_milli.is_multiple_of(1_000) {
        return (gpu_milli / 1_000).to_string();
    }
    let fraction = format!("{:03}", gpu_milli % 1_000);
    format!("{}.{}", gpu_milli / 1_000, fraction.trim_end_matches('0'))
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.cpu.0 != 0 {
            parts.push(format!("cpu {}", self.cpu));
        }
        if self.memory.0 != 0 {
            parts.push(format!("memory {}", self.memory));
        }
        if self.gpu_milli != 0 {
            parts.push(format!("gpu {}", show_gpus(self.gpu_milli)));
        }
        parts.extend(
            self.extended
                .iter()
                .map(|(name, amount)| format!("{name} {amount}")),
        );
        if parts.is_empty() {
            f.write_str("nothing")
        } else {
            f.write_str(&parts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(cpu: u64, gpu_milli: u64, fpga: u64) -> Resources {
        let extended = if fpga == 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([("fpga".to_owned(), fpga)])
        };
        Resources {
            cpu: MilliCpu(cpu),
            memory: Bytes(0),
            gpu_milli,
            extended,
        }
    }

    #[test]
    fn sums_come_back() {
        let mut total = amount(500, 1_500, 0);
        total.add(&amount(1_000, 500, 2));
        assert_eq!(total.to_string(), "cpu 1500m, gpu 2, fpga 2");
        assert!(total.contains(&amount(1_500, 2_000, 2)) && !total.contains(&amount(0, 0, 3)));
        total.subtract(&amount(1_000, 500, 2));
        assert_eq!(total, amount(500, 1_500, 0));
        assert_eq!(total.times(2), amount(1_000, 3_000, 0));
    }

    #[test]
    fn gpus_as_written() {
        assert_eq!(
            [0, 500, 1_000, 1_250].map(show_gpus),
            ["0", "0.5", "1", "1.25"]
        );
    }
}
