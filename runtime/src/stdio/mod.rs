//! The guest's three standard streams: unbuffered, on raw file descriptors.

mod cri;
mod input;
mod output;

pub(crate) use input::Input;
pub(crate) use output::Sink;
