//! `samara ps`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::colour::{Colour, Tone};
use crate::container::{Container, Publication, Shelf, Status};
use crate::format::{self, Format, print, print_json, shorten};
use crate::place::Place;
use crate::tell::remark;

/// What `samara ps` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara ps                                  # what runs
  samara ps -a --filter label=app=web        # all that are labelled so, ended ones too
  samara ps -aq | xargs samara rm -f         # remove every container
  samara ps --format json | jq '.[].ports'")]
pub(crate) struct PsArgs {
    /// Ended ones too
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only those with name=TEXT in the name, with label=KEY[=VALUE], or with status=WORD; of several names or statuses one
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Ids and commands at full length
    #[arg(long)]
    no_trunc: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// The column with that name.
const STATUS: usize = 3;

/// One container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    image: String,
    command: Vec<String>,
    created_at: Timestamp,
    #[serde(flatten)]
    status: Status,
    restarts: u32,
    ports: Vec<Publication>,
    labels: BTreeMap<String, String>,
}

pub(crate) fn main(args: PsArgs) -> Result<ExitCode> {
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
    // Asked for a status, ended ones count as well.
    let all = args.all || filters.iter().any(|filter| matches!(filter, Filter::Status(_)));
    let mut rows = Vec::new();
    for container in Shelf::of(&args.place.absolute()?).all()? {
        let row = match row(&container) {
            Ok(row) => row,
            Err(error) => {
                remark(format_args!("left out: {}: {error:#}", container.record.name));
                continue;
            }
        };
        if (all || row.status.is_up()) && fit(&filters, &row) {
            rows.push(row);
        }
    }
    // The newest first, as docker has it.
    rows.reverse();
    let id = |row: &Row| if args.no_trunc { row.id.clone() } else { row.id.chars().take(12).collect() };
    match (args.quiet, args.format) {
        (true, _) => print(rows.iter().map(|row| id(row) + "\n").collect::<String>())?,
        (false, Format::Json) => print_json(&rows)?,
        (false, Format::Table) => {
            let now = Timestamp::now();
            let longest = if args.no_trunc { usize::MAX } else { 30 };
            let cells = rows.iter().map(|row| {
                vec![
                    id(row),
                    shortened_image(&row.image, longest.max(40)),
                    shorten(&row.command.join(" "), longest),
                    row.status.text(now),
                    row.ports.iter().map(Publication::to_string).collect::<Vec<_>>().join(", "),
                    row.name.clone(),
                ]
            });
            let head = ["CONTAINER ID", "IMAGE", "COMMAND", "STATUS", "PORTS", "NAME"];
            let colour = Colour::of_stdout();
            let style =
                |row: usize, column| colour.style(if column == STATUS { rows[row].status.tone() } else { Tone::Plain });
            print(format::coloured(&head, &cells.collect::<Vec<_>>(), style))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Of a file the end tells more than the beginning.
fn shortened_image(image: &str, longest: usize) -> String {
    let length = image.chars().count();
    match image.starts_with(['/', '.']) && length > longest {
        true => ['…'].into_iter().chain(image.chars().skip(length + 1 - longest)).collect(),
        false => shorten(image, longest),
    }
}

fn row(container: &Container) -> Result<Row> {
    let record = container.record.clone();
    let (status, state) = (container.status()?, container.state()?);
    Ok(Row {
        ports: if status.is_up() { state.ports } else { Vec::new() },
        id: record.id,
        name: record.name,
        image: record.image,
        command: record.command,
        created_at: record.created_at,
        status,
        restarts: state.restarts,
        labels: record.labels,
    })
}

/// `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Name(String),
    Label(String, Option<String>),
    Status(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some(("name", name)) => Ok(Self::Name(name.into())),
            Some(("status", word)) if Status::WORDS.contains(&word) => Ok(Self::Status(word.into())),
            Some(("status", _)) => bail!("--filter {text}: a status is one of {}", Status::WORDS.join(", ")),
            Some(("label", label)) => Ok(match label.split_once('=') {
                Some((key, value)) => Self::Label(key.into(), Some(value.into())),
                None => Self::Label(label.into(), None),
            }),
            _ => bail!("--filter {text}: write name=TEXT, label=KEY, label=KEY=VALUE or status=WORD"),
        }
    }

    fn fits(&self, row: &Row) -> bool {
        match self {
            Self::Name(part) => row.name.contains(part),
            Self::Status(word) => row.status.word() == word,
            Self::Label(key, wanted) => {
                row.labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| value == wanted))
            }
        }
    }
}

/// As podman: of names and of statuses one is enough, labels are all wanted.
fn fit(filters: &[Filter], row: &Row) -> bool {
    let one_of = |kind: fn(&Filter) -> bool| {
        let mut wanted = filters.iter().filter(|filter| kind(filter)).peekable();
        wanted.peek().is_none() || wanted.any(|filter| filter.fits(row))
    };
    one_of(|filter| matches!(filter, Filter::Name(_)))
        && one_of(|filter| matches!(filter, Filter::Status(_)))
        && filters.iter().filter(|filter| matches!(filter, Filter::Label(..))).all(|filter| filter.fits(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, label: (&str, &str)) -> Row {
        Row {
            id: "ab".repeat(32),
            name: name.into(),
            image: String::new(),
            command: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            status: Status::Created,
            restarts: 0,
            ports: Vec::new(),
            labels: [(label.0.into(), label.1.into())].into(),
        }
    }

    #[test]
    fn the_end_of_a_long_path_and_the_beginning_of_a_long_name_are_shown() {
        assert_eq!(shortened_image("/a/long/way/app.wasm", 9), "…app.wasm");
        assert_eq!(shortened_image("/app.wasm", 9), "/app.wasm");
        assert_eq!(shortened_image("registry.test/app:v1", 9), "registry…");
    }

    #[test]
    fn filters_look_at_names_labels_and_status() {
        let web = row("web-1", ("app", "web"));
        for (text, fits) in [
            ("name=web", true),
            ("name=db", false),
            ("label=app", true),
            ("label=app=web", true),
            ("label=app=db", false),
            ("label=other", false),
            ("status=created", true),
            ("status=running", false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().fits(&web), fits, "{text}");
        }
        for (texts, fits) in [
            (&[][..], true),
            (&["status=exited", "status=created"], true),
            (&["status=exited", "status=running"], false),
            (&["name=db", "name=web"], true),
            (&["name=db", "status=created"], false),
            (&["label=app", "label=app=web"], true),
            (&["label=app", "label=other"], false),
        ] {
            let filters: Vec<_> = texts.iter().map(|text| Filter::parse(text).unwrap()).collect();
            assert_eq!(fit(&filters, &web), fits, "{texts:?}");
        }
        for bad in ["", "name", "colour=red", "status=bogus", "status="] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
