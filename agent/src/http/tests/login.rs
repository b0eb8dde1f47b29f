//! Tokens by what they allow, sessions of browsers, and what is refused.

use std::os::unix::fs::PermissionsExt;

use super::*;

const READ: &str = "the-token-to-read";
const COMMAND: &str = "the-token-for-commands";
const ADMIN: &str = "the-token-for-all";

struct Guarded {
    agent: Agent,
    _dir: tempfile::TempDir,
}

/// An agent with a token for each grant.
async fn guarded() -> Guarded {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(path)
    };
    let agent = Agent::start_with(|http| {
        http.token_file = file("read", READ);
        http.command_token_file = file("command", COMMAND);
        http.admin_token_file = file("admin", ADMIN);
    });
    Guarded { agent: agent.await, _dir: dir }
}

impl Guarded {
    async fn with_token(&self, method: &str, path: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        client::request(&self.agent.tcp, method, path, &[("Authorization", &bearer)]).await
    }

    async fn login(&self, token: &str, headers: &[(&str, &str)]) -> Answer {
        let body = serde_json::json!({ "token": token }).to_string();
        client::post(&self.agent.tcp, "/api/v1/session", headers, &body).await
    }

    /// The cookie of a new session.
    async fn session(&self, token: &str) -> String {
        let answer = self.login(token, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }
}

const COMMANDS: &str = "/api/v1/devices/kitchen%2Flamp/commands";
const RETIRE: &str = "/api/v1/devices/kitchen%2Flamp/retire";

#[tokio::test]
async fn each_token_allows_what_its_scope_says() {
    let it = guarded().await;
    // Whoever is admitted gets as far as the body, or the writer, which is not there.
    for (token, expected) in [
        (READ, [(200, ""), (403, "forbidden"), (403, "forbidden")]),
        (COMMAND, [(200, ""), (415, "not-json"), (403, "forbidden")]),
        (ADMIN, [(200, ""), (415, "not-json"), (503, "stopping")]),
        ("none-of-the-tokens", [(401, "unauthorized"), (403, "forbidden"), (403, "forbidden")]),
    ] {
        let asked = [("GET", "/status"), ("POST", COMMANDS), ("POST", RETIRE)];
        for ((method, path), (status, code)) in asked.into_iter().zip(expected) {
            let answer = it.with_token(method, path, token).await;
            assert_eq!(answer.status, status, "{token} {path}: {}", answer.text());
            if status != 200 {
                assert_eq!(answer.json()["code"], code, "{token} {path}");
            }
        }
    }
    let refused = it.with_token("POST", RETIRE, COMMAND).await.json();
    let detail = refused["detail"].as_str().unwrap();
    assert_eq!(
        detail,
        "the token is for `command`, and this needs `admin`: use the one in `http.admin_token_file`"
    );
    assert_eq!(it.with_token("GET", "/status", READ).await.json()["commands"]["admin_token"], true);
    it.agent.stop().await;
}

#[tokio::test]
async fn a_browser_logs_in_and_out() {
    let it = guarded().await;
    let wrong = it.login("none-of-the-tokens", &[]).await;
    check_problem(&wrong, "/api/v1/session", 401, "unauthorized");
    let answer = it.login(READ, &[]).await;
    assert_eq!((answer.status, &answer.json()["scope"]), (200, &"read".into()));
    let set = answer.header("set-cookie").unwrap();
    assert!(set.starts_with("fieldlog-gw="), "{set}");
    assert!(set.ends_with("; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let status = client::get(&it.agent.tcp, "/status", &[("Cookie", cookie)]).await;
    assert_eq!(status.status, 200);
    let other = [("Cookie", "fieldlog-gw=0123456789abcdef")];
    assert_eq!(client::get(&it.agent.tcp, "/status", &other).await.status, 401);
    // Logging in for more takes the place of the session.
    let more = it.login(ADMIN, &[("Cookie", cookie)]).await;
    let admin = more.header("set-cookie").unwrap().split(';').next().unwrap();
    assert_eq!(client::get(&it.agent.tcp, "/status", &[("Cookie", cookie)]).await.status, 401);
    let shown = client::get(&it.agent.tcp, "/api/v1/session", &[("Cookie", admin)]).await;
    assert_eq!(shown.json()["scope"], "admin");
    let gone = client::request(&it.agent.tcp, "DELETE", "/api/v1/session", &[("Cookie", admin)]).await;
    assert!(gone.header("set-cookie").unwrap().starts_with("fieldlog-gw=; Path=/; Max-Age=0"), "{gone:?}");
    let shown = client::get(&it.agent.tcp, "/api/v1/session", &[("Cookie", admin)]).await;
    assert_eq!(shown.json()["scope"], Json::Null);
    for body in ["", "{}", "{\"token\":1234567890123456}", "{\"token\":\"a\",\"x\":1}"] {
        let refused = client::post(&it.agent.tcp, "/api/v1/session", &[], body).await;
        check_problem(&refused, "/api/v1/session", 400, "bad-call");
        assert!(!refused.text().contains("123456"), "the answer repeats what may be a token");
    }
    it.agent.stop().await;
}

#[tokio::test]
async fn the_page_of_another_site_changes_nothing() {
    let it = guarded().await;
    let cookie = it.session(ADMIN).await;
    let post = |origin: Option<&'static str>| {
        let mut headers = vec![("Cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        let target = &it.agent.tcp;
        async move { client::request(target, "POST", RETIRE, &headers).await }
    };
    let ours = post(Some("http://localhost")).await;
    check_problem(&ours, RETIRE, 503, "stopping");
    // As behind a proxy that speaks HTTPS.
    check_problem(&post(Some("https://localhost")).await, RETIRE, 503, "stopping");
    for origin in [None, Some("http://evil.example"), Some("http://localhost:1"), Some("null")] {
        check_problem(&post(origin).await, RETIRE, 403, "cross-origin");
    }
    let login = it.login(READ, &[("Origin", "http://evil.example")]).await;
    check_problem(&login, "/api/v1/session", 403, "cross-origin");
    it.agent.stop().await;
}

#[tokio::test]
async fn wrong_tokens_are_refused_unseen_after_some() {
    let it = guarded().await;
    let cookie = it.session(READ).await;
    for _ in 0..5 {
        assert_eq!(it.with_token("GET", "/status", "none-of-the-tokens").await.status, 401);
        assert_eq!(it.login("none-of-the-tokens", &[]).await.status, 401);
    }
    // The right one, too.
    let refused = it.with_token("GET", "/status", READ).await;
    check_problem(&refused, "/status", 429, "too-many-attempts");
    assert_eq!(refused.header("retry-after"), Some("7"));
    assert_eq!(it.login(READ, &[]).await.status, 429);
    // Whoever is logged in, and whoever needs no token, goes on.
    assert_eq!(client::get(&it.agent.tcp, "/status", &[("Cookie", &cookie)]).await.status, 200);
    assert_eq!(it.with_token("GET", "/livez", "none-of-the-tokens").await.status, 200);
    assert_eq!(client::get(&it.agent.unix, "/status", &[]).await.status, 200);
    it.agent.stop().await;
}

#[tokio::test]
async fn new_tokens_end_all_sessions_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let write = |token: &str| {
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(READ);
    let http = HttpConfig { listen: None, token_file: Some(path.clone()), ..HttpConfig::default() };
    let credentials = Credentials::load(&http).unwrap();
    let now = std::time::Instant::now();
    let grant = |token: &str| credentials.tokens().grant(token.as_bytes());
    let id = credentials.sessions.open(grant(READ).unwrap(), now).unwrap();
    credentials.renew(&http);
    assert!(credentials.sessions.grant(&id, now).is_some(), "nothing was new");
    write("short");
    credentials.renew(&http);
    assert!(grant(READ).is_some() && credentials.sessions.grant(&id, now).is_some());
    write("another-token-to-read");
    credentials.renew(&http);
    assert!(grant(READ).is_none() && grant("another-token-to-read").is_some());
    assert!(credentials.sessions.grant(&id, now).is_none());
}
