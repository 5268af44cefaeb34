//! How long our certificates are still good, and how often a new one could not be had (kubelet: `certificate/kubelet.go`).

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One of our two certificates.
#[derive(Debug, Default)]
pub struct Certificate {
    /// `None`: it is not of our keeping.
    not_after: Mutex<Option<Timestamp>>,
    /// A counter; but as one it would be written as `..._total`, which the kubelet's is not.
    pub(super) renew_errors: Gauge,
}

impl Certificate {
    /// It is good until then.
    pub fn held(&self, not_after: Timestamp) {
        *self.not_after.lock().unwrap_or_else(PoisonError::into_inner) = Some(not_after);
    }

    /// There is no new one yet.
    pub fn not_renewed(&self) {
        self.renew_errors.inc();
    }

    /// Seconds that are left; negative when it is over.
    fn left(&self, now: Timestamp) -> Option<i64> {
        let not_after = *self.not_after.lock().unwrap_or_else(PoisonError::into_inner);
        not_after.map(|until| until.duration_since(now).as_secs())
    }
}

/// Both.
#[derive(Debug, Default)]
pub struct Certificates {
    pub client: Certificate,
    pub server: Certificate,
}

impl Certificates {
    /// Registers what is left at `now`; nothing of a certificate that is not of our keeping.
    pub fn register(&self, registry: &mut Registry, now: Timestamp) {
        for (name, help, certificate) in [
            (
                "kubelet_certificate_manager_client_ttl_seconds",
                "Seconds until the client certificate expires; negative if it already has",
                &self.client,
            ),
            (
                "kubelet_certificate_manager_server_ttl_seconds",
                "Seconds until the serving certificate expires; negative if it already has",
                &self.server,
            ),
        ] {
            let Some(left) = certificate.left(now) else { continue };
            let gauge = Gauge::<i64>::default();
            gauge.set(left);
            registry.register(name, help, gauge);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_is_left_is_told_of_certificates_that_we_keep() {
        let now = Timestamp::from_second(1000).expect("a time");
        let text = |certificates: &Certificates| {
            let (mut registry, mut text) = (Registry::default(), String::new());
            certificates.register(&mut registry, now);
            encode(&mut text, &registry).expect("a String takes all");
            text
        };
        let certificates = Certificates::default();
        assert_eq!(text(&certificates), "# EOF\n");
        certificates.client.held(Timestamp::from_second(1060).expect("a time"));
        assert!(text(&certificates).contains("kubelet_certificate_manager_client_ttl_seconds 60\n"));
        assert!(!text(&certificates).contains("server_ttl"));
        certificates.server.held(Timestamp::from_second(990).expect("a time"));
        assert!(text(&certificates).contains("kubelet_certificate_manager_server_ttl_seconds -10\n"));
    }
}
