//! The data plane for Apps: routes, balancing, draining.
