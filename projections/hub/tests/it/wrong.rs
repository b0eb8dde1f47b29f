//! Wrong input gets an answer that says what to do, and costs nothing else.

use std::os::unix::fs::PermissionsExt;

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::tls::Certificates;
use fieldlog_sim::servers::wait::block_until;
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::Hub;
use crate::tables::assert_complete;

#[test]
fn what_is_no_parcel_is_refused() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Json, 2, random());
    gateway.live(10);
    let good = gateway.parcel((1, gateway.head()), Lane::Live);
    let check = |post: Post, status: u16, words: &str| {
        let answer = hub.post(&post);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(words), "{answer:?}");
    };
    check(Post { body: b"hello".to_vec(), ..good.clone() }, 400, "neither a compact parcel nor JSON");
    check(Post { body: b"[1".to_vec(), ..good.clone() }, 400, "it cannot be read");
    check(Post { headers: Vec::new(), ..good.clone() }, 400, "no field `gateway`; is the sender a fieldlog?");
    let mut packed = good.clone();
    packed.headers.push(("content-encoding".into(), "br".into()));
    check(packed.clone(), 415, "send it plain or as gzip");
    packed.headers.last_mut().unwrap().1 = "gzip".into();
    check(packed, 400, "the body is not gzip");
    let large = Post { body: vec![b' '; (32 << 20) + 1], ..good.clone() };
    check(large, 413, "at most 33554432 bytes");
    assert_eq!(hub.get("/events").status, 405);
    hub.take(&good);
    assert_complete(&postgres, &gateway);
}

#[test]
fn a_database_that_is_not_there_is_waited_for() {
    let Some(mut postgres) = PostgresServer::start() else { return };
    postgres.kill();
    let mut hub = Hub::unready("one", &postgres, "");
    block_until("HTTP", || hub.try_get("/livez"));
    let answer = hub.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no lease in PostgreSQL"), "{answer:?}");
    let gateway = Gateway::new("plant", Form::Compact, 2, random());
    let parcel = gateway.parcel((1, gateway.head()), Lane::Live);
    let answer = hub.post(&parcel);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("the hub has no lease in the database"), "{answer:?}");
    let answer = hub.get("/api/v1/gateways");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("PostgreSQL cannot be reached"), "{answer:?}");
    assert!(hub.words().contains("trying again until it is"), "{}", hub.words());
    postgres.restart();
    hub.wait_ready();
    hub.take(&parcel);
    assert_complete(&postgres, &gateway);
}

#[test]
fn the_database_is_reached_over_tls_if_its_certificate_is_right() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(postgres) = PostgresServer::with_tls(&certificates) else { return };
    let (plain, ca) = (postgres.address(), certificates.ca_file());
    let hub = |address: &str, more: &str| {
        let hub = Hub::unready("one", &postgres, "");
        let text = std::fs::read_to_string(hub.config()).unwrap();
        std::fs::write(hub.config(), text.replace(&plain, address) + more).unwrap();
        hub
    };
    let secure = format!("{plain}?sslmode=verify-full");
    let mut trusting = hub(&secure, &format!("ca_file = {ca:?}\n"));
    trusting.restart_after_kill();
    let gateway = Gateway::new("plant", Form::Compact, 2, random());
    trusting.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'fieldlog-hub'
        AND NOT ssl";
    assert_eq!(postgres.sql(encrypted).trim(), "0");
    drop(trusting);
    let mut distrustful = hub(&secure, "");
    distrustful.restart_unready();
    block_until("its words", || {
        distrustful
            .words()
            .contains("check `postgres.ca_file`, and that the server's certificate is for the host")
            .then_some(())
    });
}

#[test]
fn a_schema_of_a_newer_hub_is_left_alone() {
    let Some(postgres) = PostgresServer::start() else { return };
    drop(Hub::start("one", &postgres));
    postgres.sql("INSERT INTO fieldlog.migrations (number) VALUES (99)");
    let mut hub = Hub::unready("one", &postgres, "");
    assert_eq!(hub.ends(), 78);
    let words = hub.words();
    assert!(
        words.contains("the schema `fieldlog` is at migration 99, and this fieldlog-hub knows 7"),
        "{words}"
    );
}

#[test]
fn a_token_is_needed_where_there_is_one() {
    let Some(postgres) = PostgresServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let tokens = [("ingest", "ingest-0123456789"), ("read", "read-0123456789abc")].map(|(scope, secret)| {
        let path = dir.path().join(scope);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("[[token]]\nfile = {path:?}\nscopes = [{scope:?}]\n")
    });
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", tokens.concat()));
    let gateway = Gateway::new("plant", Form::Compact, 2, random());
    let parcel = gateway.parcel((1, gateway.head()), Lane::Live);
    let with = |token: &str| {
        let mut post = parcel.clone();
        post.headers.push(("authorization".into(), format!("Bearer {token}")));
        hub.post(&post)
    };
    let answer = hub.post(&parcel);
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(
        answer.head.contains("www-authenticate: bearer") && answer.body.contains("`token_file`"),
        "{answer:?}"
    );
    assert_eq!(with("ingest-012345678").status, 401);
    let answer = with("read-0123456789abc");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("needs the scope \"ingest\""), "{answer:?}");
    assert_eq!(with("ingest-0123456789").status, 204);
    assert_complete(&postgres, &gateway);
}
