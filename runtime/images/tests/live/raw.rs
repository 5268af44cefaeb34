//! Pushes whatever bytes under whatever types: registries take them, and other tools write them.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{Client, Url};
use samara_images::{Digest, Reference};
use serde_json::{Value, json};

/// A registry, to be filled by hand.
pub(crate) struct Raw {
    client: Client,
    address: String,
    count: AtomicUsize,
}

/// A pushed manifest.
#[derive(Debug, Clone)]
pub(crate) struct Entry(Value);

impl Entry {
    /// As an index lists it.
    pub(crate) fn on(&self, os: &str, architecture: &str) -> Self {
        let mut entry = self.0.clone();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        Self(entry)
    }
}

impl Raw {
    pub(crate) fn new(address: &str) -> Self {
        crate::install_tls();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { client, address: address.to_owned(), count: AtomicUsize::new(0) }
    }

    /// An image of these parts under a tag of its own.
    pub(crate) async fn image(&self, kind: &str, config: (&str, &Value), layers: &[(&str, &[u8])]) -> Reference {
        let tag = self.tag();
        self.put_manifest(&tag, kind, &self.parts(kind, config, layers).await).await;
        self.named(&tag)
    }

    /// The same under its digest alone.
    pub(crate) async fn manifest(&self, kind: &str, config: (&str, &Value), layers: &[(&str, &[u8])]) -> Entry {
        let bytes = self.parts(kind, config, layers).await;
        self.put_manifest(Digest::of(&bytes).as_str(), kind, &bytes).await;
        Entry(descriptor(kind, &bytes))
    }

    /// An index under a tag of its own.
    pub(crate) async fn index(&self, kind: &str, entries: &[Entry]) -> Reference {
        let entries: Vec<&Value> = entries.iter().map(|entry| &entry.0).collect();
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
        let tag = self.tag();
        self.put_manifest(&tag, kind, index.to_string().as_bytes()).await;
        self.named(&tag)
    }

    async fn parts(&self, kind: &str, config: (&str, &Value), layers: &[(&str, &[u8])]) -> Vec<u8> {
        let config_bytes = config.1.to_string().into_bytes();
        self.put_blob(&config_bytes).await;
        let mut listed = Vec::new();
        for (layer, bytes) in layers {
            self.put_blob(bytes).await;
            listed.push(descriptor(layer, bytes));
        }
        let config = descriptor(config.0, &config_bytes);
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": listed}).to_string().into_bytes()
    }

    async fn put_blob(&self, bytes: &[u8]) {
        let uploads = Url::parse(&format!("http://{}/v2/app/blobs/uploads/", self.address)).unwrap();
        let begun = self.client.post(uploads.clone()).header("Content-Length", 0).send().await.unwrap();
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        let mut location = uploads.join(&location).unwrap();
        location.query_pairs_mut().append_pair("digest", Digest::of(bytes).as_str());
        let put = self.client.put(location).header("Content-Type", "application/octet-stream").body(bytes.to_vec());
        let answer = put.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn put_manifest(&self, name: &str, kind: &str, bytes: &[u8]) {
        let address = format!("http://{}/v2/app/manifests/{name}", self.address);
        let answer = self.client.put(address).header("Content-Type", kind).body(bytes.to_vec()).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    }

    fn tag(&self) -> String {
        format!("v{}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    fn named(&self, tag: &str) -> Reference {
        Reference::parse(&format!("{}/app:{tag}", self.address)).unwrap()
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
}
