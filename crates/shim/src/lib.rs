//! The small static parent of every program: frames, spool, exit record.
