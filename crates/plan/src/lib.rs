//! Desired and observed state in, groups and actions out; pure.
