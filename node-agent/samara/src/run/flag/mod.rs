//! Each flag's text, read. Pure; a refusal names the flag and says what to write.

pub(crate) mod env;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod publish;
pub(crate) mod user;
