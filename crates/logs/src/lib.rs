//! Log segments that outlive replicas: append, follow, read, keep.
