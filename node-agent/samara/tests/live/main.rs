//! The real binary, used as a user would, on a machine's worth of directories of its own. Needs root and the samples
//! (`make samples`); what it starts and makes goes with each test.

mod containers;
mod detached;
mod flags;
mod hands_on;
mod helper;
mod images;
mod kube;
mod machine;
mod machine_verbs;
mod network;
mod pipes;
mod proxies;
mod pty;
mod registry;
mod run;
mod slow;
mod starting;
mod terminal;
