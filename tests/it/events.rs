//! Events on their way to whoever reads them: the journal, what is told of it on the command line, and the page of all kinds.

mod command_line;
mod crash;
mod ocsf;
mod page;
mod programs;
mod sinks;
mod world;
