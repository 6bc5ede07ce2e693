//! Virtual time over the real scheduler: traces, scenarios, replay and what-if.
