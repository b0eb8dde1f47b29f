use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn what_can_only_be_read_is_not_changed() {
    let agent = Agent::start().await;
    for method in ["PUT", "PATCH", "OPTIONS"] {
        let refused = client::request(&agent.tcp, method, "/api/v1/devices", &[]).await;
        check_problem(&refused, "/api/v1/devices", 405, "method-not-allowed");
        assert_eq!(refused.header("allow"), Some("GET,HEAD"));
        assert!(refused.json()["detail"].as_str().unwrap().contains(&format!("no method {method}")));
    }
    // Whoever may change something learns that this is not to be changed.
    for method in ["POST", "DELETE"] {
        let refused = client::request(&agent.tcp, method, "/api/v1/devices", &[]).await;
        check_problem(&refused, "/api/v1/devices", 403, "no-admin-token");
        let refused = client::request(&agent.unix, method, "/api/v1/devices", &[]).await;
        check_problem(&refused, "/api/v1/devices", 405, "method-not-allowed");
    }
    let head = client::request(&agent.tcp, "HEAD", "/api/v1/devices", &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    agent.problem("/nothing", 404, "no-such-path").await;
    agent.problem("/api/v1/devices/%FF", 400, "bad-request").await;
    agent.stop().await;
}

#[tokio::test]
async fn other_host_names_are_turned_away_over_tcp() {
    let agent = Agent::start_with(|http| http.hosts = vec!["gateway.lan".into()]).await;
    for (host, status) in [("gateway.lan:80", 200), ("127.0.0.1", 200), ("evil.example", 421), ("", 421)] {
        let answer = client::get(&agent.tcp, "/status", &[("Host", host)]).await;
        assert_eq!(answer.status, status, "{host}");
    }
    let refused = client::get(&agent.tcp, "/status", &[("Host", "evil.example")]).await;
    check_problem(&refused, "/status", 421, "misdirected");
    let by_socket = client::get(&agent.unix, "/status", &[("Host", "fieldlog")]).await;
    assert_eq!(by_socket.status, 200);
    agent.stop().await;
}

#[tokio::test]
async fn a_token_is_asked_for_over_tcp_only() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "correct-horse-battery\n").unwrap();
    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let agent = Agent::start_with(|http| http.token_file = Some(secret.path().to_owned())).await;
    let refused = agent.get("/status").await;
    check_problem(&refused, "/status", 401, "unauthorized");
    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"));
    let wrong = [("Authorization", "Bearer correct-horse-batterx")];
    assert_eq!(client::get(&agent.tcp, "/metrics", &wrong).await.status, 401);
    let right = [("Authorization", "Bearer correct-horse-battery")];
    assert_eq!(client::get(&agent.tcp, "/metrics", &right).await.status, 200);
    assert_eq!(agent.get("/livez").await.status, 200);
    assert_eq!(client::get(&agent.unix, "/status", &[]).await.status, 200);
    agent.stop().await;
}

#[tokio::test]
async fn health_tells_a_dead_writer_from_an_absent_broker() {
    let agent = Agent::start().await;
    let ready = agent.get("/readyz").await;
    assert_eq!((ready.status, ready.header("content-type")), (200, Some("application/health+json")));
    assert_eq!(ready.json()["status"], "warn");
    assert_eq!(ready.json()["checks"]["source:z2m"]["status"], "warn");
    assert_eq!(agent.get("/healthz").await.json()["status"], "pass");
    let long_ago = clock().wall().0 - 10_000_001;
    agent.side.shared.stats.beat.store(long_ago, std::sync::atomic::Ordering::Relaxed);
    for path in ["/livez", "/readyz"] {
        let dead = agent.get(path).await;
        assert_eq!((dead.status, &dead.json()["status"]), (503, &"fail".into()), "{path}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn status_has_what_operators_ask_for() {
    let agent = Agent::start().await;
    agent.commit_house();
    let status = agent.json("/status").await;
    assert_eq!((&status["gateway_id"], &status["uptime_s"]), (&"gw".into(), &5400.0.into()));
    assert_eq!(status["log"]["first_seq"], 1);
    assert!(status["log"]["file_bytes"].as_u64().unwrap() > 0);
    assert!(status["log"]["disk_free_bytes"].as_u64().unwrap() > 0);
    assert_eq!(status["log"]["disk_free_bytes_min"], 67_108_864);
    assert_eq!(status["log"]["bytes_max"], 268_435_456);
    assert_eq!(status["clock_synchronised"], true);
    assert!(status["log"]["bytes_written_per_day"].as_f64().unwrap() > 0.0);
    assert_eq!(status["sources"][0]["name"], "z2m");
    assert_eq!(status["sources"][0]["connected"], false);
    assert!(status["process"]["resident_bytes"].as_u64().unwrap() > 0);
    assert_eq!(agent.json("/version").await["version"], env!("CARGO_PKG_VERSION"));
    agent.stop().await;
}

#[tokio::test]
async fn the_page_brings_its_own_policy() {
    let agent = Agent::start().await;
    let page = agent.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none';"));
    assert_eq!(agent.get("/assets/style.css").await.status, 200);
    agent.problem("/assets/..%2F..%2Fhttp.rs", 404, "no-such-asset").await;
    agent.stop().await;
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.side.shared.stats.commit_duration.observe(Duration::from_millis(3));
    let answer = agent.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some(crate::metrics::CONTENT_TYPE));
    let text = answer.text();
    for line in [
        "fieldlog_log_last_sequence 9",
        "fieldlog_log_first_sequence 1",
        "fieldlog_projection_lag_events 0",
        "fieldlog_devices{state=\"online\"} 2",
        "fieldlog_mqtt_connected{source=\"z2m\"} 0",
        "fieldlog_log_commits_total{reason=\"delay\"} 0",
        "fieldlog_log_commit_duration_seconds_bucket{le=\"0.002\"} 0",
        "fieldlog_log_commit_duration_seconds_bucket{le=\"0.005\"} 1",
        "fieldlog_log_commit_duration_seconds_bucket{le=\"+Inf\"} 1",
        "fieldlog_ingest_outcomes_total{source=\"z2m\",outcome=\"quarantined\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("fieldlog_build_info{version="), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes ") && text.ends_with("# EOF\n"), "{text}");
    agent.stop().await;
}
