//! Verbs that take several containers: each is tried, whatever becomes of the others.

use std::process::ExitCode;

use anyhow::Result;

use crate::container::{Container, Shelf};
use crate::format::print;
use crate::tell::report;

/// Does it with each, one after the other, and prints what the user called it; failures are told and counted.
pub(super) async fn each(
    shelf: &Shelf,
    names: &[String],
    work: impl AsyncFnMut(&Container) -> Result<()>,
) -> Result<ExitCode> {
    each_found(names, |name| shelf.find(name).map(Some), work).await
}

/// The same; what is found to be `None` is passed over.
pub(super) async fn each_found(
    names: &[String],
    find: impl Fn(&str) -> Result<Option<Container>>,
    mut work: impl AsyncFnMut(&Container) -> Result<()>,
) -> Result<ExitCode> {
    let mut failed = false;
    for name in names {
        let done = match find(name) {
            Ok(Some(container)) => work(&container).await,
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => print(format!("{name}\n"))?,
            Err(error) => {
                report(&error.context(name.clone()));
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One thread is enough for what waits most of the time.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
