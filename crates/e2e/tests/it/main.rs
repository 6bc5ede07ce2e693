//! The real program, end to end on this machine.

mod apps;
mod faults;
mod jobs;
mod kill_run;
mod processes;
mod quickstart;
