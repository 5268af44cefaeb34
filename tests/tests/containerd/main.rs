//! The shim behind a real containerd, driven by its own `ctr`. Each test has a containerd of its own, with its own
//! directories and socket. Needs root, `make tools` and the samples.

mod daemon;
mod image;
mod life;
mod restart;
mod run;
mod sandbox;
