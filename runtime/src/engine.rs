//! The one configuration of wasmtime.
