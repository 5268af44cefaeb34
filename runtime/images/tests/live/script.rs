//! A registry that follows a script: for what a real one cannot be made to do at the right moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use samara_images::{Digest, Reference};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The target without what follows `?`, and without the host that it has for a proxy.
    pub(crate) fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        match path.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]),
            None => path,
        }
    }

    /// Start of the range asked for.
    pub(crate) fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.split('-').next()).and_then(|start| start.parse().ok()).unwrap_or(0)
    }
}

/// An answer, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) fault: Fault,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// The body comes one byte at a time, so long apart.
    Trickle(Duration),
    /// The body goes on for ever, in chunks.
    Endless,
    /// Not even a status.
    Silent,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(crate) fn status(status: u16, text: &str) -> Self {
        Self { status, body: text.as_bytes().to_vec(), ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// The rest of a body from where a request wants it.
    pub(crate) fn range(body: &[u8], request: &Request) -> Self {
        let offset = request.offset();
        let rest = Self { status: 206, body: body[offset..].to_vec(), ..Self::default() };
        rest.header("Content-Range", format!("bytes {offset}-{}/{}", body.len() - 1, body.len()))
    }
}

/// Answers by a function, and remembers what was asked.
pub(crate) struct Script {
    address: String,
    asked: Arc<Mutex<Vec<Request>>>,
    server: JoinHandle<()>,
}

impl Script {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let answer = Arc::new(answer);
        let remembered = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&remembered));
                tokio::spawn(async move {
                    // A client that goes away ends its connection, nothing more.
                    let _ = serve(stream, &*answer, &asked).await;
                });
            }
        });
        Self { address, asked, server }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn image(&self) -> Reference {
        Reference::parse(&format!("{}/app:v1", self.address)).unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// How often a blob was asked for.
    pub(crate) fn fetched(&self, digest: &Digest) -> usize {
        let target = format!("/v2/app/blobs/{digest}");
        self.asked().iter().filter(|request| request.method == "GET" && request.path() == target).count()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
    asked: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        // One that comes twice is a list.
        let value = value.trim();
        let list = headers.entry(name.to_lowercase()).or_insert_with(String::new);
        *list = if list.is_empty() { value.to_owned() } else { format!("{list}, {value}") };
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let request = Request { method, target, headers, body };
    asked.lock().unwrap().push(request.clone());
    let reply = answer(&request);

    if matches!(reply.fault, Fault::Silent) {
        let mut rest = Vec::new();
        return stream.read_to_end(&mut rest).await.map(drop);
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += match reply.fault {
        Fault::Endless => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
        Fault::None | Fault::CutAfter(_) | Fault::Trickle(_) | Fault::Silent => {
            format!("Content-Length: {}\r\n\r\n", reply.body.len())
        }
    }
    .as_str();
    stream.write_all(head.as_bytes()).await?;
    if request.method == "HEAD" {
        return stream.shutdown().await;
    }
    match reply.fault {
        Fault::None | Fault::Silent => stream.write_all(&reply.body).await?,
        Fault::CutAfter(count) => stream.write_all(&reply.body[..count.min(reply.body.len())]).await?,
        Fault::Trickle(pause) => {
            for byte in reply.body {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        Fault::Endless => loop {
            stream.write_all(b"10000\r\n").await?;
            stream.write_all(&[b' '; 0x10000]).await?;
            stream.write_all(b"\r\n").await?;
        },
    }
    stream.shutdown().await
}

/// The documents of an artifact, to be served by hand.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

impl Documents {
    /// A wasm artifact around any bytes.
    pub(crate) fn of(layer: &[u8]) -> Self {
        Self::claiming(layer, layer.len(), &Digest::of(layer))
    }

    /// One whose manifest says what it likes of the layer.
    pub(crate) fn claiming(layer: &[u8], size: usize, digest: &Digest) -> Self {
        let config = br#"{"architecture":"wasm","os":"wasip1","layerDigests":[]}"#.to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": Digest::of(&config), "size": config.len()},
            "layers": [{"mediaType": "application/wasm", "digest": digest, "size": size}],
        });
        Self { manifest: manifest.to_string().into_bytes(), config, layer: layer.to_vec() }
    }

    /// Answers honestly.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        match request.path() {
            "/v2/" => Reply::ok("{}"),
            target if target.starts_with("/v2/app/manifests/") => {
                Reply::ok(self.manifest.clone()).header("Content-Type", manifest_type)
            }
            target if target.ends_with(Digest::of(&self.config).as_str()) => Reply::ok(self.config.clone()),
            target if target.starts_with("/v2/app/blobs/") => Reply::ok(self.layer.clone()),
            _ => Reply::status(404, ""),
        }
    }

    /// Whether the request is for the layer.
    pub(crate) fn wants_layer(&self, request: &Request) -> bool {
        request.path().starts_with("/v2/app/blobs/") && !request.path().ends_with(Digest::of(&self.config).as_str())
    }
}
