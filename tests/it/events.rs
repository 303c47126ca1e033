//! Events on their way to whoever reads them: the journal, what is told of it on the command line, and the page of all kinds.

mod cef;
mod chaos;
mod command_line;
mod crash;
mod ecs;
mod half_open;
mod killed;
mod ocsf;
mod page;
mod programs;
mod secrets;
mod sinks;
mod variants;
mod world;
