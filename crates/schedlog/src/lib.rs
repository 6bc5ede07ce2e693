//! The versioned record of snapshot, events and decisions, for replay.
