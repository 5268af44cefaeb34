//! `samara port`: which ports of this machine lead to a container.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::container::{Protocol, Publication, Shelf};
use crate::format::{Format, print, print_json};
use crate::place::Place;

/// What `samara port` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara port web                  # 80/tcp -> 0.0.0.0:8080
  samara port web 80               # 0.0.0.0:8080
  curl http://$(samara port web 80)/")]
pub(crate) struct PortArgs {
    /// Name or id
    container: String,
    /// Only where this port of the guest is reached
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn main(args: PortArgs) -> Result<ExitCode> {
    let container = Shelf::of(&args.place.absolute()?).find(&args.container)?;
    let name = &container.record.name;
    let ports = match container.status()?.is_up() {
        true => container.state()?.ports,
        false => bail!("{name} does not run, so none of its ports is open: `samara start {name}`"),
    };
    let wanted = args.port.as_deref().map(parse).transpose()?;
    let found: Vec<Publication> =
        ports.into_iter().filter(|port| wanted.is_none_or(|wanted| is(port, wanted))).collect();
    if let (true, Some((port, protocol))) = (found.is_empty(), wanted) {
        bail!("port {port}/{} of {name} is not published: `samara run -p {port}` does that", word(protocol));
    }
    match args.format {
        Format::Json => print_json(&found)?,
        Format::Table => {
            let lines = found.iter().map(|port| match wanted {
                Some(_) => format!("{}\n", at(port)),
                None => format!("{}/{} -> {}\n", port.guest_port, word(port.protocol), at(port)),
            });
            print(lines.collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is(port: &Publication, (number, protocol): (u16, Protocol)) -> bool {
    port.guest_port == number && port.protocol == protocol
}

fn at(port: &Publication) -> SocketAddr {
    SocketAddr::new(port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port.host_port)
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// `80`, `53/udp`.
fn parse(text: &str) -> Result<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => bail!("{text:?}: {other:?} is neither tcp nor udp"),
    };
    match number.parse() {
        Ok(number) if number != 0 => Ok((number, protocol)),
        _ => bail!("{text:?} is not a port of the guest, such as 80 or 53/udp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_and_perhaps_a_protocol() {
        assert_eq!(parse("80").unwrap(), (80, Protocol::Tcp));
        assert_eq!(parse("53/udp").unwrap(), (53, Protocol::Udp));
        for bad in ["", "0", "x", "70000", "80/sctp", "80/", "/tcp"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
