//! `--publish`.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};

use crate::container::{Protocol, Publication};

/// `[[IP:]HOST:]GUEST[/tcp|/udp]`; an IPv6 address in brackets.
pub(crate) fn parse(text: &str) -> Result<Publication> {
    let how = || format!("--publish {text}: write HOST:GUEST, IP:HOST:GUEST or GUEST, such as 8080:80");
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, other)) => bail!("--publish {text}: {other:?} is no protocol that is passed on: tcp and udp are"),
    };
    let (before, guest) = ports.rsplit_once(':').map_or((None, ports), |(before, guest)| (Some(before), guest));
    let (ip, host) = match before {
        None => (None, ""),
        Some(before) => before.rsplit_once(':').map_or((None, before), |(ip, host)| (Some(ip), host)),
    };
    let address = |ip: &str| ip.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let host_ip = ip.map(|ip| address(ip).with_context(how)).transpose()?;
    let guest_port = guest.parse().ok().filter(|port| *port != 0).with_context(how)?;
    let host_port = if host.is_empty() { 0 } else { host.parse().ok().with_context(how)? };
    Ok(Publication { host_ip, host_port, guest_port, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_has_up_to_three_parts() {
        let made = |ip: Option<&str>, host_port, guest_port| Publication {
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port,
            guest_port,
            protocol: Protocol::Tcp,
        };
        for (text, expected) in [
            ("80", made(None, 0, 80)),
            ("8080:80", made(None, 8080, 80)),
            ("8080:80/tcp", made(None, 8080, 80)),
            ("0:80", made(None, 0, 80)),
            ("127.0.0.1:8080:80", made(Some("127.0.0.1"), 8080, 80)),
            ("127.0.0.1::80", made(Some("127.0.0.1"), 0, 80)),
            ("[::1]:8080:80", made(Some("::1"), 8080, 80)),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["", ":", "0", "80:", "8080:0", "70000:80", "x:80", "host:80:80", "1.2.3.4:80:80:80", "80-90:80"] {
            assert!(parse(bad).unwrap_err().to_string().contains("such as 8080:80"), "{bad}");
        }
        assert_eq!(parse("53:53/udp").unwrap(), Publication { protocol: Protocol::Udp, ..made(None, 53, 53) });
        assert!(parse("53:53/sctp").is_err());
    }
}
