//! The live suite's harness: a real control plane and real nodes on this machine, and clients of everything.
//!
//! `make demo`, `make test` and `make bench` are three users of it. In the order in which a run meets the parts:
//!
//! 1. [`host`] says whether this machine can do it at all;
//! 2. [`site`] is what a run makes on the machine (namespaces, processes, directories), written down before it is made,
//!    so that it is undone on every way out, also by the next run if this one was killed;
//! 3. [`cluster`] starts etcd, API server, controllers, scheduler and registry in the site's first namespace;
//! 4. [`node`] starts the agent under test in a namespace of its own;
//! 5. [`scene`] is one test's place in the cluster: a Kubernetes namespace, and what is kept of it on failure;
//! 6. [`load`] asks a Service without pause and never forgives.

pub mod cluster;
pub mod crooked;
pub mod forward;
pub mod host;
pub mod kubectl;
pub mod load;
pub mod manifest;
pub mod mirror;
pub mod node;
pub mod private;
pub mod samples;
pub mod scene;
pub mod site;
pub mod traces;
pub mod wait;
