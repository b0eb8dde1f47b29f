//! Stores that are reached over TLS, and what is said where it does not work.

use std::os::unix::fs::PermissionsExt;

use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::redis::RedisServer;
use fieldlog_sim::servers::tls::{Certificates, TlsProxy};
use fieldlog_sim::servers::wait::block_until;
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::stores::{assert_opensearch, assert_redis, settle, standing};

/// A hub with these lines follows a gateway; then it is given wrong ones, and says what is wrong with them.
fn follow(
    postgres: &PostgresServer,
    store: &str,
    lines: &str,
    assert_same: impl Fn(&str),
    wrong: &[(String, &str)],
) {
    let mut gateway = Gateway::new("plant", Form::Compact, 3, random());
    gateway.live(100);
    let mut hub = Hub::with("one", postgres, lines);
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    settle(&hub, store, gateway.head(), 1);
    assert_same(&gateway.name);
    let right = std::fs::read_to_string(hub.config()).unwrap();
    for (lines_of_wrong, words) in wrong {
        std::fs::write(hub.config(), right.replace(lines, lines_of_wrong)).unwrap();
        hub.restart_after_kill();
        let mut why = String::new();
        block_until(&format!("a failing {store}"), || {
            let now = standing(&hub, store).filter(|now| now["state"] == "failing")?;
            why = now["why"].to_string();
            Some(())
        });
        assert!(why.contains(words), "{lines_of_wrong}: {why}");
    }
}

#[test]
fn redis_is_followed_over_tls_by_a_user_with_a_password() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (Some(good), Some(foreign)) = (Certificates::make(), Certificates::make_for("DNS:elsewhere.example"))
    else {
        return;
    };
    let (Some(redis), Some(elsewhere)) = (RedisServer::with_tls(&good), RedisServer::with_tls(&foreign))
    else {
        return;
    };
    let password = good.dir().join("password");
    std::fs::write(&password, "let-me-in").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let lines = |address: String, certificates: &Certificates| {
        let ca = match address.starts_with("rediss") {
            true => format!("ca_file = {:?}\n", certificates.ca_file()),
            false => String::new(),
        };
        format!("lease_s = 3\n[redis]\naddress = \"{address}\"\npassword_file = {password:?}\n{ca}")
    };
    let tls = |scheme: &str, server: &RedisServer| {
        format!("{scheme}://fieldlog@127.0.0.1:{}", server.tls_port.unwrap())
    };
    let wrong = [
        (lines(tls("rediss", &redis), &foreign), "name who has in `redis.ca_file`"),
        (lines(tls("rediss", &elsewhere), &foreign), "its certificate is for another host"),
        (
            lines(format!("rediss://fieldlog@127.0.0.1:{}", redis.port), &good),
            "it does not speak TLS at this port: write that of its TLS in `redis.address`",
        ),
        (
            lines(tls("redis", &redis), &good),
            "is it a port with TLS? Then write rediss:// in `redis.address`",
        ),
        (
            lines(tls("rediss", &redis).replace("fieldlog@", "nobody@"), &good),
            "check the user in `redis.address` and `redis.password_file`",
        ),
    ];
    let same = |gateway: &str| assert_redis(&postgres, &redis, gateway);
    follow(&postgres, "redis", &lines(tls("rediss", &redis), &good), same, &wrong);
}

#[test]
fn opensearch_is_followed_over_tls() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (Some(good), Some(foreign)) = (Certificates::make(), Certificates::make_for("DNS:elsewhere.example"))
    else {
        return;
    };
    let Some(opensearch) = OpenSearchServer::start() else { return };
    let (proxy, elsewhere) =
        (TlsProxy::start(&good, opensearch.port), TlsProxy::start(&foreign, opensearch.port));
    let lines = |scheme: &str, port: u16, certificates: &Certificates| {
        let ca = match scheme {
            "https" => format!("ca_file = {:?}\n", certificates.ca_file()),
            _ => String::new(),
        };
        format!("lease_s = 3\n[opensearch]\naddress = \"{scheme}://127.0.0.1:{port}\"\n{ca}")
    };
    let wrong = [
        (lines("https", proxy.port, &foreign), "name who has in `opensearch.ca_file`"),
        (lines("https", elsewhere.port, &foreign), "its certificate is for another host"),
        (
            lines("https", opensearch.port, &good),
            "it does not speak TLS at this port: write that of its TLS in `opensearch.address`",
        ),
        (
            lines("http", proxy.port, &good),
            "is it a port with TLS? Then write https:// in `opensearch.address`",
        ),
    ];
    let same = |gateway: &str| assert_opensearch(&postgres, &opensearch, gateway);
    follow(&postgres, "opensearch", &lines("https", proxy.port, &good), same, &wrong);
}
