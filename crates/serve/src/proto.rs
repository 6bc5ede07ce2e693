//! The protocols' messages, made at build time from `proto/`.

macro_rules! package {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

#[expect(
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated, with the names of the protocols"
)]
#[allow(
    dead_code,
    reason = "a message that only holds another; the compiler counts an expectation of it as its use"
)]
pub(crate) mod tensorflow {
    package!("tensorflow");

    pub(crate) mod error {
        package!("tensorflow.error");
    }
    pub(crate) mod serving {
        package!("tensorflow.serving");
    }
}

#[expect(
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "generated, with the names of the protocols"
)]
pub(crate) mod inference {
    package!("inference");
}

pub(crate) mod grpc {
    pub(crate) mod health {
        #[expect(
            clippy::allow_attributes_without_reason,
            unreachable_pub,
            reason = "generated, with the names of the protocols"
        )]
        pub(crate) mod v1 {
            package!("grpc.health.v1");
        }
    }
}

/// All of them, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
