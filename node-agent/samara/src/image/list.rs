//! `samara images`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use samara_images::StoredImage;
use serde::Serialize;

use super::store;
use crate::format::{self, Format, print, print_json};
use crate::place::Place;

/// What `samara images` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara images
  samara images -q | xargs samara rmi          # remove all of them
  samara images --format json | jq '.[].name'")]
pub(crate) struct ListArgs {
    /// Only digests
    #[arg(short, long)]
    quiet: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// One name of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    digest: String,
    size: u64,
    pulled_at: Timestamp,
    /// A name by digest of what has a shorter one in the same list.
    #[serde(skip)]
    is_repetition: bool,
}

pub(crate) fn main(args: ListArgs) -> Result<ExitCode> {
    let images = store::open(&args.place.absolute()?)?.list()?;
    match (args.quiet, args.format) {
        (true, _) => print(images.iter().map(|image| format!("{}\n", image.digest)).collect::<String>())?,
        (false, Format::Json) => print_json(&rows(&images))?,
        (false, Format::Table) => {
            let now = Timestamp::now();
            let cells = rows(&images).into_iter().filter(|row| !row.is_repetition).map(|row| {
                let digest = row.digest.chars().take(19).collect();
                let ago = format::duration(now.duration_since(row.pulled_at).as_secs()) + " ago";
                vec![row.name, digest, ago, format::bytes(row.size)]
            });
            print(format::table(&["IMAGE", "DIGEST", "PULLED", "SIZE"], &cells.collect::<Vec<_>>()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(images: &[StoredImage]) -> Vec<Row> {
    let row = |image: &StoredImage, name: String| Row {
        is_repetition: name.contains('@') && image.references.iter().any(|other| other.digest().is_none()),
        name,
        digest: image.digest.to_string(),
        size: image.size,
        pulled_at: i64::try_from(image.pulled_at)
            .ok()
            .and_then(|at| Timestamp::from_second(at).ok())
            .unwrap_or_default(),
    };
    images.iter().flat_map(|image| image.references.iter().map(move |name| row(image, name.to_string()))).collect()
}
