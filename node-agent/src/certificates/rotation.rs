//! Renewal: at 70 to 90 % of a certificate's life, jittered, so that a thousand nodes do not ask at once.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;

use super::identity::{newest, use_newest};
use super::request::{Kind, RequestError, Wanted, obtain};
use super::{Pair, Store};
use crate::api::{self, Transport};
use crate::metrics;
use crate::server::Serving;

/// Share of its life at which a certificate is renewed: somewhere in here (client-go: `jitteryDuration`).
const RENEW: std::ops::Range<f64> = 0.7..0.9;
/// Clocks are set and machines sleep: a deadline months ahead is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Waits between attempts double from here ...
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// ... to here.
const LONGEST_RETRY: Duration = Duration::from_secs(128);

/// Keeps the client certificate, for ever. Connections are swapped to each new one. Returns at once if the kubeconfig has
/// none of this node.
pub async fn keep_client(
    client: Client,
    transport: Transport,
    kubeconfig: &Path,
    context: Option<&str>,
    store: Store,
    node_name: String,
) {
    let config = api::load(kubeconfig, context).await.ok();
    let Some(mut held) = config.and_then(|config| newest(&config.auth_info, &store, &node_name)) else {
        tracing::debug!("the kubeconfig has no certificate of this node: it is renewed by whoever made it");
        return;
    };
    let wanted = Wanted { node_name, kind: Kind::Client };
    loop {
        metrics::agent().certificates.client.held(held.not_after());
        until_due(&held).await;
        let asked = |name: &str| tracing::info!(request = name, "renewing the client certificate");
        held = renew(&client, &wanted, &store, asked).await;
        match renewed_tls(kubeconfig, context, &store, &wanted.node_name).await {
            Ok(tls) => transport.swap(tls),
            Err(error) => tracing::error!(%error, "the renewed client certificate cannot be used"),
        }
    }
}

async fn renewed_tls(
    kubeconfig: &Path,
    context: Option<&str>,
    store: &Store,
    node_name: &str,
) -> anyhow::Result<rustls::ClientConfig> {
    use kube::client::ConfigExt as _;
    let mut config = api::load(kubeconfig, context).await?;
    use_newest(&mut config.auth_info, store, node_name);
    Ok(config.rustls_client_config()?)
}

/// Keeps the serving certificate, for ever, and shows each new one.
pub async fn keep_serving(client: Client, serving: Serving, store: Store, node_name: String, addresses: Vec<IpAddr>) {
    let wanted = Wanted { node_name, kind: Kind::Serving(addresses) };
    let mut held = store.current().filter(|pair| is_right(pair, &wanted, Timestamp::now()));
    loop {
        if let Some(pair) = &held {
            metrics::agent().certificates.server.held(pair.not_after());
            show(&serving, pair);
            until_due(pair).await;
        }
        let asked = |name: &str| {
            tracing::info!(
                "serving certificate requested; if nobody approves it by himself: kubectl certificate approve {name}"
            );
        };
        held = Some(renew(&client, &wanted, &store, asked).await);
    }
}

fn is_right(pair: &Pair, wanted: &Wanted, now: Timestamp) -> bool {
    pair.is_valid(now) && pair.is_for(wanted.names().iter().map(String::as_str))
}

fn show(serving: &Serving, pair: &Pair) {
    match pair.certified_key() {
        Ok(key) => {
            serving.swap(key);
            tracing::info!(until = %pair.not_after(), "showing the cluster's serving certificate");
        }
        Err(error) => tracing::error!(%error, "the serving certificate cannot be used"),
    }
}

/// At this share of its life, but not while more than half is left of what was left when it came: a signer that dates its
/// certificates back would else be asked again at once, for ever.
fn due(pair: &Pair, share: f64, since: Timestamp) -> Timestamp {
    let left = pair.not_after().duration_since(since).max(SignedDuration::ZERO);
    pair.age_of(share).max(since.saturating_add(left / 2).unwrap_or(since))
}

async fn until_due(pair: &Pair) {
    let due = due(pair, rand::random_range(RENEW), Timestamp::now());
    loop {
        let left = due.duration_since(Timestamp::now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK_AGAIN)).await,
            Ok(_) | Err(_) => return,
        }
    }
}

async fn renew(client: &Client, wanted: &Wanted, store: &Store, asked: impl Fn(&str)) -> Pair {
    let mut wait = FIRST_RETRY;
    loop {
        match try_renew(client, wanted, store, &asked).await {
            Ok(pair) => return pair,
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "no certificate yet; trying again");
                let certificates = &metrics::agent().certificates;
                match wanted.kind {
                    Kind::Client => certificates.client.not_renewed(),
                    Kind::Serving(_) => certificates.server.not_renewed(),
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}

async fn try_renew(client: &Client, wanted: &Wanted, store: &Store, asked: impl Fn(&str)) -> anyhow::Result<Pair> {
    let key = store.next_key()?;
    let certificate = obtain(client.clone(), wanted, &key, asked).await.inspect_err(|error| {
        if let RequestError::Refused { .. } = error {
            store.forget_next_key();
        }
    })?;
    // A certificate that is of no use would be asked for again at once with the same key, for ever.
    store.keep(&certificate, &key, Timestamp::now()).inspect_err(|_| store.forget_next_key()).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serving_certificate_must_be_for_all_our_addresses_and_good_now() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let pair =
            Pair::parse(super::super::pair::tests::pem(&["n1", "10.0.0.1"], now, 100).as_bytes()).expect("a pair");
        let right = |addresses: Vec<IpAddr>, now| {
            is_right(&pair, &Wanted { node_name: "n1".into(), kind: Kind::Serving(addresses) }, now)
        };
        let ours: IpAddr = [10, 0, 0, 1].into();
        assert!(right(vec![ours], now));
        assert!(!right(vec![ours, [10, 0, 0, 2].into()], now), "the node has a new address");
        assert!(!right(vec![ours], now + SignedDuration::from_secs(100)), "over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_due_before_its_end_and_not_at_once() {
        let start = Timestamp::now();
        let pair = Pair::parse(super::super::pair::tests::pem(&["n1"], start, 1000).as_bytes()).expect("a pair");
        for share in [RENEW.start, RENEW.end] {
            let seconds = pair.age_of(share).duration_since(start).as_secs();
            assert!((699..=900).contains(&seconds), "{seconds}");
        }
        let over =
            Pair::parse(super::super::pair::tests::pem(&["n1"], start - SignedDuration::from_secs(100), 50).as_bytes())
                .expect("a pair");
        tokio::time::timeout(Duration::from_secs(1), until_due(&over)).await.expect("what is over is due at once");
        tokio::time::timeout(Duration::from_secs(1), until_due(&pair)).await.expect_err("what is new is not");
    }

    #[test]
    fn a_certificate_that_is_dated_back_is_not_due_as_soon_as_it_comes() {
        let start = Timestamp::from_second(1_800_000_000).expect("a time");
        let after = |seconds| start + SignedDuration::from_secs(seconds);
        let pair = Pair::parse(super::super::pair::tests::pem(&["n1"], start, 360).as_bytes()).expect("a pair");
        let table = [
            ("new", 0, 288),
            ("dated back by five minutes", 300, 330),
            ("found at half of its life", 180, 288),
            ("found when it is over", 400, 400),
        ];
        for (name, since, want) in table {
            assert_eq!(due(&pair, 0.8, after(since)), after(want), "{name}");
        }
    }
}
