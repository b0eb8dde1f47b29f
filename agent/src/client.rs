//! A client of a running agent's HTTP interface, for the subcommands that ask it something: over its Unix socket, where the
//! user that runs the subcommand is the actor, or over TCP with a token.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::config::{Address, Config, TlsConfig};
use crate::net::connect::{Endpoint, connect};
use crate::net::failure::{ConnectError, causes};
use crate::net::secret;

mod failure;
pub mod stream;

use failure::{EX_CONFIG, EX_NOPERM, EX_UNAVAILABLE, problem};
pub use failure::{EX_TEMPFAIL, Failure};

/// The configuration that is used if none is named.
const CONFIG: &str = "/etc/fieldlog/fieldlog.toml";
/// Where the packaged service serves its Unix socket.
const SOCKET: &str = "/run/fieldlog/http.sock";
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an answer may take beyond what the request itself asks to wait.
const PATIENCE: Duration = Duration::from_secs(35);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where the agent is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Reach {
    /// The configuration file; its `http.unix_socket` is asked [default: /etc/fieldlog/fieldlog.toml].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "url"])]
    config: Option<PathBuf>,
    /// Ask at this Unix socket [default: that of the configuration, or else /run/fieldlog/http.sock].
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// Ask at this address, such as https://gateway:8687, instead of the Unix socket.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The file with the token for --url; to change something, that of `http.admin_token_file`.
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// For --url with https://, the certificates to trust, PEM [default: those that this machine trusts].
    #[arg(long, value_name = "FILE", requires = "url")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug)]
enum Place {
    Unix(PathBuf),
    Tcp { address: Address, tls: TlsConfig, token: Option<HeaderValue> },
}

/// Asks one agent.
#[derive(Debug)]
pub struct Client {
    place: Place,
}

/// The head of an answer, and what reads the rest of it while this lives.
struct Connected {
    response: Response<Incoming>,
    driver: JoinSet<()>,
}

/// A good answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code, 200 to 299.
    pub status: u16,
    /// Its bytes.
    pub body: Bytes,
}

impl Answer {
    /// The answer as JSON of this form.
    ///
    /// # Errors
    /// [`Failure`] if it is something else, as from another program at this address.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::internal(format!("the answer is not what fieldlog answers: {error}")))
    }
}

impl Client {
    /// A client of the agent that the arguments mean. It connects for each request.
    ///
    /// # Errors
    /// [`Failure`] if the configuration, the address or the token cannot be used.
    pub fn open(reach: &Reach) -> Result<Client, Failure> {
        let Some(url) = &reach.url else {
            return Ok(Client { place: Place::Unix(socket(reach)?) });
        };
        let unusable =
            |why: &str| Failure::usage(format!("--url {url}: {why}, such as https://gateway:8687"));
        let uri: Uri = url.parse().map_err(|_| unusable("give a URL"))?;
        let authority = uri.authority().ok_or_else(|| unusable("give a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(unusable("give a URL that begins with http:// or https://")),
        };
        if !matches!(uri.path(), "" | "/") {
            return Err(unusable("give host and port only"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let address = Address { host, port, tls };
        let tls = TlsConfig { ca_file: reach.ca_file.clone(), ..TlsConfig::default() };
        let token = reach.token_file.as_ref().map(|file| {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            let token = secret::read("--token-file", &file);
            let token = token.map_err(|error| Failure::new(EX_NOPERM, causes(&error)))?;
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Failure::usage(format!("--token-file {} holds no token", file.display())))?;
            value.set_sensitive(true);
            Ok::<_, Failure>(value)
        });
        Ok(Client { place: Place::Tcp { address, tls, token: token.transpose()? } })
    }

    /// Asks, and waits for the answer, `wait` longer than usual.
    ///
    /// # Errors
    /// [`Failure`] if nobody answers, or the answer is a problem.
    pub fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        wait: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path, body)?;
        let limit = wait + PATIENCE;
        self.runtime()?.block_on(async {
            tokio::time::timeout(limit, self.exchange(request)).await.unwrap_or_else(|_| {
                let words = format!("{} has not answered within {} s", self.name(), limit.as_secs());
                Err(Failure::new(EX_TEMPFAIL, words))
            })
        })
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::GET, path, None::<&()>, Duration::ZERO)
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, Failure> {
        self.ask(Method::POST, path, Some(body), Duration::ZERO)
    }

    /// Where it asks, for messages.
    fn name(&self) -> String {
        match &self.place {
            Place::Unix(path) => format!("fieldlog at {}", path.display()),
            Place::Tcp { address, .. } => {
                format!("{}://{}", if address.tls { "https" } else { "http" }, address.host_and_port())
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let unusable = |why: String| Failure::internal(format!("no request can be made: {why}"));
        let mut request = Request::builder().method(method).uri(path);
        request = match &self.place {
            Place::Unix(_) => request.header(HOST, "localhost"),
            Place::Tcp { address, .. } => request.header(HOST, address.host_and_port()),
        };
        if let Place::Tcp { token: Some(token), .. } = &self.place {
            request = request.header(AUTHORIZATION, token);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| unusable(error.to_string()))?
            }
            None => Vec::new(),
        };
        request.body(Full::new(bytes.into())).map_err(|error| unusable(error.to_string()))
    }

    fn runtime(&self) -> Result<tokio::runtime::Runtime, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| Failure::internal(format!("cannot start: {error}")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let Connected { response, driver: _driver } = self.send(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.broken(&error))?.to_bytes();
        if (200..300).contains(&status) {
            Ok(Answer { status, body })
        } else {
            Err(self.refused(status, &body))
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Connected, Failure> {
        match &self.place {
            Place::Unix(path) => {
                let socket = UnixStream::connect(path).await.map_err(|error| self.unreachable(&error))?;
                self.send_over(socket, request).await
            }
            Place::Tcp { address, tls, .. } => {
                let endpoint = Endpoint { address, tls, connect_timeout: CONNECT_TIMEOUT };
                let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(&endpoint));
                let connected = connecting.await.unwrap_or_else(|_| {
                    Err(ConnectError::Io(io::Error::new(io::ErrorKind::TimedOut, "nobody answers")))
                });
                let socket = connected.map_err(|error| self.unconnected(&error))?;
                self.send_over(socket, request).await
            }
        }
    }

    async fn send_over(
        &self,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Connected, Failure> {
        let made = handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = made.map_err(|error| self.broken(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        Ok(Connected { response, driver })
    }

    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let mut failure = problem(status, body);
        if failure.code == EX_NOPERM && matches!(self.place, Place::Tcp { .. }) {
            failure.words.push_str("; --token-file names the file with the token");
        }
        failure
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        let words = format!("{}: the connection broke before it had answered: {error}", self.name());
        Failure::new(EX_TEMPFAIL, words)
    }

    /// Nobody is at the Unix socket.
    fn unreachable(&self, error: &io::Error) -> Failure {
        let (code, advice) = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                (EX_NOPERM, "run this as root, or as a user in the group fieldlog")
            }
            _ => (
                EX_UNAVAILABLE,
                "is fieldlog running, and is this its `http.unix_socket`? --socket names another one",
            ),
        };
        Failure::new(code, format!("cannot reach {}: {error}; {advice}", self.name()))
    }

    /// No connection over TCP.
    fn unconnected(&self, error: &ConnectError) -> Failure {
        let advice = match error {
            ConnectError::Tls(_) => "--ca-file names the certificate of whoever has issued that of the agent",
            _ => "is fieldlog running, and is this its `http.listen`?",
        };
        Failure::new(EX_UNAVAILABLE, format!("cannot reach {}: {}; {advice}", self.name(), causes(error)))
    }
}

impl Reach {
    /// The agent of this configuration.
    pub fn of_config(file: &Path) -> Reach {
        Reach { config: Some(file.to_owned()), ..Reach::default() }
    }

    /// The configuration; `None` if none is named and there is none in the usual place. `without` is what it is read for, and
    /// what would make it unnecessary.
    fn config(&self, without: &str) -> Result<Option<Config>, Failure> {
        let file = self.config.clone().unwrap_or_else(|| CONFIG.into());
        if self.config.is_none() && !file.exists() {
            return Ok(None);
        }
        let loaded = Config::load(&file).map_err(|faults| {
            Failure::new(EX_CONFIG, format!("{} cannot be used, so {without}:\n{faults}", file.display()))
        })?;
        Ok(Some(loaded.config))
    }

    /// The gateway's id by the configuration.
    ///
    /// # Errors
    /// [`Failure`] if the configuration cannot be used.
    pub fn gateway_id(&self) -> Result<String, Failure> {
        let config = self.config("it does not say what the gateway is called")?;
        Ok(config.unwrap_or_default().gateway_id)
    }
}

/// The Unix socket that the arguments mean.
fn socket(reach: &Reach) -> Result<PathBuf, Failure> {
    if let Some(socket) = &reach.socket {
        return Ok(socket.clone());
    }
    // A machine without the packaged configuration may still have the packaged socket.
    let config = reach.config("it does not say where to ask; --socket does")?;
    Ok(config.and_then(|config| config.http.unix_socket).unwrap_or_else(|| SOCKET.into()))
}

#[cfg(test)]
mod tests {
    use super::failure::EX_USAGE;
    use super::*;

    fn with_url(url: &str) -> Result<Client, Failure> {
        Client::open(&Reach { url: Some(url.into()), ..Reach::default() })
    }

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for (url, expected) in [
            ("http://127.0.0.1:8687", "http://127.0.0.1:8687"),
            ("http://gateway/", "http://gateway:80"),
            ("http://[::1]:8687", "http://[::1]:8687"),
            ("https://gateway", "https://gateway:443"),
        ] {
            assert_eq!(with_url(url).unwrap().name(), expected, "{url}");
        }
        for (url, words) in [
            ("gateway", "give a URL"),
            ("mqtt://gateway:8687", "begins with http:// or https://"),
            ("http://gateway/api", "host and port only"),
        ] {
            let failure = with_url(url).unwrap_err();
            assert_eq!(failure.code, EX_USAGE, "{url}");
            assert!(failure.words.contains(words), "{url}: {}", failure.words);
        }
    }

    #[test]
    fn a_token_file_that_is_missing_is_said_to_be() {
        let reach = Reach {
            url: Some("http://gateway".into()),
            token_file: Some("/nowhere/token".into()),
            ..Reach::default()
        };
        let words = Client::open(&reach).unwrap_err().words;
        assert_eq!(
            words,
            "cannot read `--token-file` /nowhere/token: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn nobody_at_the_socket_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let reach = Reach { socket: Some(dir.path().join("none.sock")), ..Reach::default() };
        let failure = Client::open(&reach).unwrap().get("/version").unwrap_err();
        assert_eq!(failure.code, EX_UNAVAILABLE);
        for part in ["none.sock", "is fieldlog running", "--socket"] {
            assert!(failure.words.contains(part), "{part:?} is not in: {}", failure.words);
        }
    }
}
