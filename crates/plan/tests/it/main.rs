//! Plans against models of what performs them: rows, a scheduler that admits, an engine that runs.

mod app_goldens;
mod app_model;
mod app_properties;
mod fixture;
mod job_goldens;
mod job_model;
mod job_properties;
