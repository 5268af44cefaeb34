//! `samara inspect`: everything about a container, an image or a wasm file, as JSON.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use samara_images::Reference;
use serde_json::{Value, json};

use crate::colour::Colour;
use crate::container::{Container, NoSuchContainer, Shelf};
use crate::format::{Format, print, print_json};
use crate::image::{store, wasm};
use crate::place::Place;

/// What `samara inspect` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara inspect web                          # a container
  samara inspect registry.example/app:v1      # an image that is here
  samara inspect app.wasm                     # kind, imports and what they would get, exports, whether it would run here
  samara inspect --format table app.wasm      # the same, to be read
  samara inspect web | jq -r '.[0].state.ports[0].hostPort'")]
pub(crate) struct InspectArgs {
    /// Containers, images, wasm files
    #[arg(required = true)]
    things: Vec<String>,
    /// Which of them is meant, where a name fits several
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// How to print them; a table is there for wasm files alone
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
    Wasm,
}

pub(crate) fn main(args: InspectArgs) -> Result<ExitCode> {
    let place = args.place.absolute()?;
    let found = args.things.iter().map(|thing| find(&place, thing, args.kind)).collect::<Result<Vec<_>>>()?;
    match args.format {
        Format::Json => print_json(&found.iter().map(Found::json).collect::<Result<Vec<_>>>()?)?,
        Format::Table => {
            let colour = Colour::of_stdout();
            let text = found.iter().zip(&args.things).map(|(found, thing)| match found {
                Found::Wasm(report) => Ok(report.text(colour)),
                Found::Other(_) => bail!("{thing} is no wasm file, and only those have a table: leave --format out"),
            });
            print(text.collect::<Result<Vec<_>>>()?.join("\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a name stands for.
enum Found {
    Wasm(Box<wasm::Report>),
    Other(Value),
}

impl Found {
    fn json(&self) -> Result<Value> {
        Ok(match self {
            Self::Wasm(report) => serde_json::to_value(report)?,
            Self::Other(value) => value.clone(),
        })
    }
}

/// A container counts more than an image of the same name.
fn find(place: &Place, thing: &str, kind: Option<Kind>) -> Result<Found> {
    let meant = |one| kind.is_none_or(|kind| kind == one);
    if meant(Kind::Container) {
        match Shelf::of(place).find(thing) {
            Ok(container) => return container_value(&container).map(Found::Other),
            Err(error) if error.is::<NoSuchContainer>() => {}
            Err(error) => return Err(error),
        }
    }
    if meant(Kind::Image)
        && let Ok(reference) = Reference::parse(thing)
        && let Some(image) = store::open(place)?.get(&reference)?
    {
        return Ok(Found::Other(image_value(&image)));
    }
    if meant(Kind::Wasm) && std::path::Path::new(thing).is_file() {
        return Ok(Found::Wasm(Box::new(wasm::report(thing.as_ref())?)));
    }
    bail!(
        "there is no container, image or file {thing:?}: `samara ps -a` and `samara images` list them, `samara pull` fetches one"
    )
}

fn container_value(container: &Container) -> Result<Value> {
    let mut value = serde_json::to_value(&container.record)?;
    value["state"] = serde_json::to_value(container.state()?)?;
    value["state"]["status"] = json!(container.status()?.word());
    value["state"]["pid"] = json!(container.pid()?);
    value["directory"] = json!(container.dir());
    value["log"] = json!(container.log());
    value["spec"] = serde_json::to_value(container.spec()?)?;
    Ok(value)
}

fn image_value(image: &samara_images::Image) -> Value {
    use samara_images::Content;
    let content = match &image.content {
        Content::Rootfs { layers } => json!({ "kind": "rootfs", "layers": layers }),
        Content::Module { path, digest, kind } => {
            json!({ "kind": format!("{kind:?}").to_lowercase(), "path": path, "digest": digest.as_str() })
        }
    };
    json!({
        "name": image.reference.to_string(),
        "pinned": image.pinned().to_string(),
        "digest": image.digest.as_str(),
        "configDigest": image.config_digest.as_str(),
        "size": image.size,
        "config": image.config,
        "content": content,
    })
}
