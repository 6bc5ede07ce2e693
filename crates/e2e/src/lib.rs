//! One end-to-end test binary over the real program.
