//! Content-addressed bytes behind one tenant-safe path type.
