//! The real program, end to end on this machine.

mod apps;
mod canary;
mod cli;
mod content;
mod database;
mod delivery;
mod elsewhere;
mod faults;
mod gateway;
mod grpc;
mod interactive;
mod jobs;
mod kill_run;
mod model_app;
mod newcomer;
mod nodes;
mod otlp;
mod presets;
mod processes;
mod quickstart;
mod serve;
mod starts;
mod streams;
mod tutorial;
mod two_servers;
