//! HTTPS, tokens and secrets, with the real binary.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fieldlog_sim::servers::tls::Certificates;
use fieldlog_sim::servers::{free_port, skip};
use fieldlog_tests::process::{Ended, Process, call};
use fieldlog_tests::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// In every secret; nothing may ever show it.
const CANARY: &str = "CANARY-in-every-secret";

/// A directory with an agent's configuration and its secrets.
struct Site {
    dir: tempfile::TempDir,
    port: u16,
}

impl Site {
    fn new(more: &str) -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap(), port: free_port() };
        for name in ["read", "command", "admin", "broker", "sink"] {
            site.secret(name, &format!("{CANARY}-{name}"));
        }
        let dir = site.dir.path().display();
        let text = format!(
            "gateway_id = \"gw\"\ndata_dir = \"{dir}/data\"\n[http]\nlisten = \"127.0.0.1:{}\"\n\
             token_file = \"{dir}/read\"\ncommand_token_file = \"{dir}/command\"\nadmin_token_file = \"{dir}/admin\"\n\
             {more}[[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:1\"\nusername = \"u\"\n\
             password_file = \"{dir}/broker\"\n[[source.subscription]]\npreset = \"tasmota\"\n\
             [[sink]]\nname = \"cloud\"\naddress = \"http://127.0.0.1:1/in\"\ntoken_file = \"{dir}/sink\"\n",
            site.port
        );
        std::fs::write(site.config(), text).unwrap();
        site
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("fieldlog.toml")
    }

    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// `fieldlog <words> --url … --token-file …`
    fn ask(&self, scheme: &str, words: &[&str], token: &str, more: &[&str]) -> (i32, String, String) {
        let url = format!("{scheme}://localhost:{}", self.port);
        let token = self.dir.path().join(token).display().to_string();
        call(&[words, &["--url", &url, "--token-file", &token], more].concat())
    }

    /// The answer to a request over plain TCP.
    async fn plain(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn started(process: &Process) {
    until("the agent is ready", || process.words().contains("status page at ")).await;
}

async fn stop(process: Process) -> Ended {
    process.signal("TERM");
    process.ended().await
}

/// A certificate and its key where the agent finds them.
fn install(certificates: &Certificates, into: &Path) {
    std::fs::copy(certificates.cert_file(), into.join("server.pem")).unwrap();
    let key = into.join("server.key");
    std::fs::copy(certificates.key_file(), &key).unwrap();
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn https_with_a_certificate_that_a_reload_renews() {
    let (Some(first), Some(second)) = (Certificates::make(), Certificates::make()) else {
        return skip("openssl");
    };
    let site = Site::new("cert_file = \"CERT\"\nkey_file = \"KEY\"\n");
    let dir = site.dir.path();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let in_dir = |name: &str| dir.join(name).display().to_string();
    let text = text.replace("CERT", &in_dir("server.pem")).replace("KEY", &in_dir("server.key"));
    std::fs::write(site.config(), text).unwrap();
    install(&first, dir);
    let process = Process::run(&site.config(), &[]);
    started(&process).await;
    assert!(process.words().contains("status page at https://127.0.0.1:"), "{}", process.words());
    let ca = |certificates: &Certificates| certificates.ca_file().display().to_string();
    let (first_ca, second_ca) = (ca(&first), ca(&second));
    let (code, out, err) = site.ask("https", &["devices"], "read", &["--ca-file", &first_ca]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = site.ask("https", &["devices"], "read", &["--ca-file", &second_ca]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("--ca-file names the certificate"), "{err}");
    // Whoever forgets the `s` is told.
    let answer = site.plain("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("begin the address with https://"),
        "{answer}"
    );
    let (code, _, err) = site.ask("http", &["devices"], "read", &[]);
    assert!(code == 65 && err.contains("speaks HTTPS: begin the address with https://"), "{code} {err}");
    install(&second, dir);
    site.secret("read", "another-token-to-read-with");
    process.signal("HUP");
    until("the new certificate", || {
        site.ask("https", &["devices"], "read", &["--ca-file", &second_ca]).0 == 0
    })
    .await;
    assert_eq!(site.ask("https", &["devices"], "read", &["--ca-file", &first_ca]).0, 69);
    // What cannot be used changes nothing.
    std::fs::write(dir.join("server.pem"), "").unwrap();
    process.signal("HUP");
    until("the fault is said", || process.words().contains("stay as they were")).await;
    assert_eq!(site.ask("https", &["devices"], "read", &["--ca-file", &second_ca]).0, 0);
    let (_, out, err) = call(&["check-config", "--config", site.config().to_str().unwrap()]);
    assert!(err.contains("http: cannot use `http.cert_file`"), "{out}{err}");
    let ended = stop(process).await;
    assert_eq!(ended.code, 0, "{}", ended.words);
}

#[tokio::test]
async fn secrets_are_shown_nowhere_and_the_data_directory_is_not_for_everyone() {
    let site = Site::new("");
    let config = site.config();
    let config = config.to_str().unwrap();
    let process = Process::run(Path::new(config), &[("RUST_LOG", "trace")]);
    started(&process).await;
    let mut shown = String::new();
    let mut note = |(_, out, err): (i32, String, String)| {
        shown += &out;
        shown += &err;
    };
    note(call(&["check-config", "--config", config]));
    note(call(&["check-config", "--show", "--config", config]));
    note(call(&["doctor", "--config", config]));
    note(site.ask("http", &["status", "--json"], "read", &[]));
    note(site.ask("http", &["status"], "admin", &[]));
    note(site.ask("http", &["snapshot"], "read", &[]));
    note(site.ask("http", &["snapshot"], "sink", &[]));
    let login = format!("{{\"token\":\"{CANARY}-wrong\"}}");
    let json = "Content-Type: application/json\r\nConnection: close\r\n";
    for body in [login.as_str(), &login[..login.len() - 1], &format!("{{\"{CANARY}\":1}}")] {
        let length = body.len();
        let head = format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: {length}\r\n\r\n"
        );
        note((0, site.plain(&format!("{head}{body}")).await, String::new()));
    }
    let bearer = format!("Authorization: Bearer {CANARY}-read\r\nConnection: close\r\n\r\n");
    for path in ["/status", "/metrics", "/readyz", "/api/v1/events", "/nothing"] {
        note((
            0,
            site.plain(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}")).await,
            String::new(),
        ));
    }
    assert!(shown.contains("\"gateway_id\":\"gw\"") && shown.contains("fieldlog_build_info"), "{shown}");
    let data = std::fs::metadata(site.dir.path().join("data")).unwrap();
    assert_eq!(data.permissions().mode() & 0o777 & 0o027, 0);
    let ended = stop(process).await;
    assert!(!ended.words.contains("look into it"), "{}", ended.words);
    for (what, text) in [("an answer", &shown), ("the journal", &ended.words), ("stdout", &ended.printed)] {
        assert!(!text.contains(CANARY), "{what} has a secret: {text}");
    }
    // Said at each start of an agent whose directory is wider.
    let data = site.dir.path().join("data");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let process = Process::run(Path::new(config), &[]);
    started(&process).await;
    let ended = stop(process).await;
    let advice = format!("run: chmod o= {}", data.display());
    assert_eq!(ended.words.matches(&advice).count(), 1, "{}", ended.words);
}
