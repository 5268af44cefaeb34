//! `httpGet`: a status from 200 to 399. Redirects are followed on the same host (kubelet: `probe/http/http.go`).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use samara_core::probe::{Handler, ProbeResult, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};

use super::tcp::{self, address};
use super::tls;
use super::try_once::Tried;

const MOST_REDIRECTS: u32 = 10;
/// Of an answer's body; the rest is not read.
const MOST_BODY: usize = 10 * 1024;

/// Where to ask.
#[derive(Debug, Clone)]
struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

/// One try; a [`Handler`] of another kind is a failure.
pub(super) async fn probe(handler: &Handler, timeout: Duration) -> Tried {
    let Handler::Http { scheme, host, port, path, headers } = handler else {
        return Tried::failure("not an HTTP probe");
    };
    let target = Target { scheme: *scheme, host: host.clone(), port: *port, path: path.clone() };
    match tokio::time::timeout(timeout, follow(target.clone(), headers, timeout)).await {
        Ok(tried) => tried,
        Err(_) => Tried::failure(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            target.url()
        )),
    }
}

/// A hook's request: any answer will do.
pub(super) async fn hook(handler: &Handler, timeout: Duration) -> Result<(), String> {
    let Handler::Http { scheme, host, port, path, headers } = handler else {
        return Err("not an HTTP hook".to_owned());
    };
    let target = Target { scheme: *scheme, host: host.clone(), port: *port, path: path.clone() };
    let asked = tokio::time::timeout(timeout, ask(&target, headers, timeout)).await;
    match asked {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(Tried { result: ProbeResult::Failure { output }, .. })) => Err(output),
        Ok(Err(other)) => Err(format!("{other:?}")),
        Err(_) => Err(format!("Get {:?}: context deadline exceeded", target.url())),
    }
}

async fn follow(mut target: Target, headers: &[(String, String)], timeout: Duration) -> Tried {
    let host = target.host.clone();
    for _ in 0..=MOST_REDIRECTS {
        let response = match ask(&target, headers, timeout).await {
            Ok(response) => response,
            Err(tried) => return tried,
        };
        let status = response.status();
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        match location.filter(|_| is_redirect(status)).and_then(|location| target.redirect(location)) {
            Some(next) if next.host == host => target = next,
            Some(next) => {
                let output = format!("Probe terminated redirects, Response body: {}", next.url());
                return Tried::of(ProbeResult::Warning { output });
            }
            None => return judge(response).await,
        }
    }
    Tried::failure(format!("Get {:?}: stopped after {MOST_REDIRECTS} redirects", target.url()))
}

async fn judge(response: Response<Incoming>) -> Tried {
    let status = response.status();
    // The body is read so that the server sees a whole exchange; what it says is not shown, for it may be secret.
    drop(Limited::new(response.into_body(), MOST_BODY).collect().await);
    match status.as_u16() {
        200..400 => Tried::of(ProbeResult::Success),
        code => Tried::failure(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

async fn ask(target: &Target, headers: &[(String, String)], timeout: Duration) -> Result<Response<Incoming>, Tried> {
    let named = |text: String| format!("Get {:?}: {text}", target.url());
    let request = target.request(headers).map_err(|error| Tried::failure(named(error.to_string())))?;
    let stream = tcp::connect(&target.host, target.port, timeout).await.map_err(|tried| match tried.result {
        ProbeResult::Failure { output } => Tried { result: ProbeResult::Failure { output: named(output) }, ..tried },
        result @ (ProbeResult::Success | ProbeResult::Warning { .. } | ProbeResult::Unknown { .. }) => {
            Tried::of(result)
        }
    })?;
    let sent = match target.scheme {
        Scheme::Http => send(stream, request).await.map_err(|error| error.to_string()),
        Scheme::Https => {
            let name = rustls::pki_types::ServerName::try_from(target.host.clone());
            let name = name.map_err(|error| Tried::failure(named(error.to_string())))?;
            match tls::connector().connect(name, stream).await {
                Ok(stream) => send(stream, request).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
    };
    sent.map_err(|error| Tried::failure(named(error)))
}

async fn send<T>(stream: T, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

impl Target {
    fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}{}", address(&self.host, self.port), self.path)
    }

    fn request(&self, headers: &[(String, String)]) -> http::Result<Request<Empty<Bytes>>> {
        let path = if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) };
        let mut request = Request::get(path).header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let defaults = [
            (header::HOST, address(&self.host, self.port)),
            (header::USER_AGENT, "kube-probe/1.36".to_owned()),
            (header::ACCEPT, "*/*".to_owned()),
        ];
        for (name, value) in defaults {
            if !request.headers_ref().is_some_and(|headers| headers.contains_key(&name)) {
                request = request.header(name, value);
            }
        }
        request.body(Empty::new())
    }

    /// Where a `Location` leads; `None` if it is no location.
    fn redirect(&self, location: &str) -> Option<Self> {
        let uri: Uri = location.parse().ok()?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return None,
            None => self.scheme,
        };
        let host = uri.host().map_or(self.host.clone(), |host| host.trim_matches(['[', ']']).to_owned());
        let default = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let port = uri.port_u16().unwrap_or(if uri.host().is_some() { default } else { self.port });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Some(Self { scheme, host, port, path })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers one request after the other with these texts; gives the requests back.
    async fn server(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                drop(stream.write_all(answer.as_bytes()).await);
            }
            requests
        });
        (port, served)
    }

    fn handler(port: u16, headers: &[(&str, &str)]) -> Handler {
        Handler::Http {
            scheme: Scheme::Http,
            host: "127.0.0.1".to_owned(),
            port,
            path: "/healthz?x=1".to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn answer(status: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
    }

    #[tokio::test]
    async fn statuses_from_200_to_399_succeed_and_others_are_named() {
        let failed = |code: u16| Tried::failure(format!("HTTP probe failed with statuscode: {code}"));
        let table = [
            ("200 OK", Tried::of(ProbeResult::Success)),
            ("399 Odd", Tried::of(ProbeResult::Success)),
            ("302 Found", Tried::of(ProbeResult::Success)),
            ("400 Bad", failed(400)),
            ("503 Away", failed(503)),
        ];
        for (status, want) in table {
            let (port, _) = server(vec![answer(status)]).await;
            assert_eq!(probe(&handler(port, &[]), SECOND).await, want, "{status}");
        }
    }

    #[tokio::test]
    async fn the_request_is_the_kubelets_and_its_own_headers_win() {
        let (port, served) = server(vec![answer("200 OK"), answer("200 OK")]).await;
        probe(&handler(port, &[]), SECOND).await;
        probe(&handler(port, &[("Host", "shop.example"), ("User-Agent", "mine")]), SECOND).await;
        let requests = served.await.unwrap();
        let plain = requests[0].to_lowercase();
        assert!(plain.starts_with("get /healthz?x=1 http/1.1\r\n"), "{plain}");
        assert!(plain.contains("user-agent: kube-probe/1.36\r\n") && plain.contains("accept: */*\r\n"), "{plain}");
        assert!(plain.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{plain}");
        let own = requests[1].to_lowercase();
        assert!(own.contains("host: shop.example\r\n") && own.contains("user-agent: mine\r\n"), "{own}");
        assert!(!own.contains("kube-probe"), "{own}");
    }

    #[tokio::test]
    async fn a_redirect_is_followed_on_the_same_host_and_a_warning_on_another() {
        let moved = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let (port, served) = server(vec![moved("/next"), answer("500 No")]).await;
        let tried = probe(&handler(port, &[]), SECOND).await;
        assert_eq!(tried, Tried::failure("HTTP probe failed with statuscode: 500"));
        assert!(served.await.unwrap()[1].starts_with("GET /next"));
        let (port, _) = server(vec![moved("http://elsewhere.example/x")]).await;
        let tried = probe(&handler(port, &[]), SECOND).await;
        assert!(matches!(tried.result, ProbeResult::Warning { .. }), "{tried:?}");
    }

    #[tokio::test]
    async fn redirects_without_end_are_a_failure() {
        let again = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned();
        let (port, _) = server(vec![again; 11]).await;
        let tried = probe(&handler(port, &[]), SECOND).await;
        assert!(format!("{tried:?}").contains("stopped after 10 redirects"), "{tried:?}");
    }

    #[tokio::test]
    async fn silence_nonsense_and_a_closed_port_are_failures_with_the_url() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let tried = probe(&handler(port, &[]), Duration::from_millis(50)).await;
        let want = format!(
            "Get \"http://127.0.0.1:{port}/healthz?x=1\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        );
        assert_eq!(tried, Tried::failure(want));

        let (port, _) = server(vec!["this is no answer\r\n\r\n".to_owned()]).await;
        let tried = probe(&handler(port, &[]), SECOND).await;
        assert!(matches!(&tried.result, ProbeResult::Failure { output } if output.starts_with("Get ")), "{tried:?}");

        let port = silent.local_addr().unwrap().port();
        drop(silent);
        let tried = probe(&handler(port, &[]), SECOND).await;
        assert!(tried.refused, "{tried:?}");
    }
}
