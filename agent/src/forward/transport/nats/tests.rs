//! The sink with a real nats-server.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use fieldlog_sim::servers::nats::{JETSTREAM, NatsServer};
use fieldlog_sim::servers::tls::Certificates;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Address, TlsConfig};
use crate::forward::SLOW;
use crate::forward::envelope::tests::parcel;
use crate::ingest::tests::{PATIENCE, refusing_port};

const EPOCH: Epoch = Epoch(0x1f);

pub(crate) fn target_of(server: &NatsServer) -> NatsTarget {
    Target {
        sink: NatsSink {
            address: Address { host: "127.0.0.1".into(), port: server.port, tls: false },
            subject: "fieldlog.{gateway}.events".into(),
            stream: "FIELDLOG".into(),
            create_stream: true,
            credentials_file: None,
            token_file: None,
            username: None,
            password_file: None,
            tls: TlsConfig::default(),
            commands: None,
        },
        connect_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(5),
        in_flight_max: 1,
    }
}

fn secret(server: &NatsServer, name: &str, text: &str) -> PathBuf {
    let file = server.dir().join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

async fn open(target: &NatsTarget) -> Result<Nats, Unreachable> {
    timeout(PATIENCE, target.open("gw-1", EPOCH, None)).await.expect("does not open")
}

async fn opened(target: &NatsTarget) -> Nats {
    open(target).await.unwrap()
}

async fn send(sink: &mut Nats, parcel: Parcel) -> Outcome {
    timeout(PATIENCE, sink.send(Arc::new(parcel))).await.expect("no outcome")
}

/// Positions of the parcels in the stream, in its order.
async fn in_stream(target: &NatsTarget) -> Vec<(u64, u64)> {
    let client = target.connect(&Arc::default()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream(&target.sink.stream).await.unwrap();
    let mut found = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let field = |name: &str| Some(message.headers.get(header(name).as_str())?.as_str());
        let manifest = Manifest::read(field).unwrap();
        assert_eq!(message.payload, Payload::plain(&parcel(manifest.first.0, manifest.last.0)).to_bytes());
        found.push((manifest.first.0, manifest.last.0));
    }
    found
}

#[tokio::test]
async fn the_stream_is_created_and_knows_what_it_holds() {
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let target = target_of(&server);
    let mut sink = opened(&target).await;
    assert_eq!(sink.stored(), None);
    assert_eq!(send(&mut sink, parcel(1, 3)).await, Outcome::Acked);
    assert_eq!(send(&mut sink, parcel(4, 9)).await, Outcome::Acked);
    sink.close().await;

    // As if the last acknowledgement had been lost: it is not stored again, however it is divided.
    let mut sink = opened(&target).await;
    assert_eq!(sink.stored(), Some(&parcel(4, 9).manifest));
    assert_eq!(send(&mut sink, parcel(4, 9)).await, Outcome::Acked);
    assert_eq!(send(&mut sink, parcel(7, 9)).await, Outcome::Acked);
    assert_eq!(send(&mut sink, parcel(10, 10)).await, Outcome::Acked);
    assert_eq!(in_stream(&target).await, [(1, 3), (4, 9), (10, 10)]);
}

#[tokio::test]
async fn a_second_writer_is_found_out() {
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let target = target_of(&server);
    let (mut one, mut other) = (opened(&target).await, opened(&target).await);
    assert_eq!(send(&mut one, parcel(1, 3)).await, Outcome::Acked);
    let Outcome::Lost { why } = send(&mut other, parcel(2, 5)).await else { panic!() };
    assert!(why.contains("fieldlog.gw-1.events") && why.contains("a copy of this gateway"), "{why}");
    assert_eq!(timeout(PATIENCE, other.lost()).await.unwrap(), why);
    // The next connection knows better.
    let mut other = opened(&target).await;
    assert_eq!(other.stored(), Some(&parcel(1, 3).manifest));
    assert_eq!(send(&mut other, parcel(4, 5)).await, Outcome::Acked);
    assert_eq!(in_stream(&target).await, [(1, 3), (4, 5)]);
}

#[tokio::test]
async fn another_epoch_goes_on_behind_the_old_one() {
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let target = target_of(&server);
    let mut sink = opened(&target).await;
    assert_eq!(send(&mut sink, parcel(1, 3)).await, Outcome::Acked);
    let mut sink = target.open("gw-1", Epoch(0x20), None).await.unwrap();
    assert_eq!(sink.stored(), None);
    let mut fresh = parcel(1, 3);
    fresh.manifest.epoch = Epoch(0x20);
    assert_eq!(send(&mut sink, fresh).await, Outcome::Acked);
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let mut target = target_of(&server);
    target.sink.create_stream = false;
    let unreachable = open(&target).await.err().unwrap();
    assert!(
        unreachable.pace == Pace::Slow && unreachable.why.contains("there is no stream `FIELDLOG`"),
        "{unreachable}"
    );
    assert!(unreachable.why.contains("`fieldlog.*.events`"), "{unreachable}");

    target.sink.create_stream = true;
    opened(&target).await.close().await;
    target.sink.subject = "elsewhere.{gateway}".into();
    let mut sink = opened(&target).await;
    let Outcome::Busy { after: Some(SLOW), why } = send(&mut sink, parcel(1, 1)).await else { panic!() };
    assert!(why.contains("no stream takes messages on `elsewhere.gw-1`"), "{why}");

    let Some(server) = NatsServer::start("") else { return };
    let unreachable = open(&target_of(&server)).await.err().unwrap();
    assert!(unreachable.pace == Pace::Slow && unreachable.why.contains("has no JetStream"), "{unreachable}");

    let mut target = target_of(&server);
    let (_taken, port) = refusing_port();
    target.sink.address.port = port;
    let unreachable = open(&target).await.err().unwrap();
    assert!(unreachable.pace != Pace::Slow && unreachable.why.contains("cannot connect"), "{unreachable}");
}

/// A server that greets and then, at any request, hangs up or stops answering.
async fn broken_link(server: &NatsServer, hangs_up: bool) -> u16 {
    let mut greeting = String::new();
    let real = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    BufReader::new(real).read_line(&mut greeting).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut client = BufReader::new(client);
            client.write_all(greeting.as_bytes()).await.unwrap();
            let mut line = String::new();
            while let Ok(1..) = client.read_line(&mut line).await {
                if line.starts_with("PING") {
                    client.write_all(b"PONG\r\n").await.unwrap();
                } else if hangs_up && line.contains("$JS.API") {
                    break;
                }
                line.clear();
            }
        }
    });
    port
}

/// With the maximum wait after each loss, an unreliable link would hardly ever be used.
#[tokio::test]
async fn a_link_that_breaks_while_asking_is_tried_again_soon() {
    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    for hangs_up in [true, false] {
        let port = broken_link(&server, hangs_up).await;
        let mut target = target_of(&server);
        target.sink.address.port = port;
        target.connect_timeout = Duration::from_millis(500);
        let unreachable = open(&target).await.err().unwrap();
        assert!(
            unreachable.pace == Pace::Soon && unreachable.why.contains("check the link"),
            "{unreachable}"
        );
    }
}

#[tokio::test]
async fn a_user_that_may_not_ask_is_for_an_operator() {
    let lines =
        "authorization { users: [ { user: gw, password: secret, permissions: { publish: [\"x\"] } } ] }";
    let Some(server) = NatsServer::start(&format!("{JETSTREAM}\n{lines}")) else { return };
    let mut target = target_of(&server);
    target.sink.username = Some("gw".into());
    target.sink.password_file = Some(secret(&server, "password", "secret"));
    target.connect_timeout = Duration::from_millis(500);
    let unreachable = open(&target).await.err().unwrap();
    assert!(
        unreachable.pace == Pace::Slow && unreachable.why.contains("$JS.API.STREAM.INFO.FIELDLOG"),
        "{unreachable}"
    );
    assert!(unreachable.why.to_lowercase().contains("permissions violation"), "{unreachable}");
}

#[tokio::test]
async fn credentials_and_permissions_are_for_an_operator() {
    let lines = "authorization { users: [ { user: gw, password: secret, permissions: { publish: [\"$JS.API.>\"] } } ] }";
    let Some(server) = NatsServer::start(&format!("{JETSTREAM}\n{lines}")) else { return };
    let mut target = target_of(&server);
    let unreachable = open(&target).await.err().unwrap();
    assert!(
        unreachable.pace == Pace::Slow && unreachable.why.contains("refuses the credentials"),
        "{unreachable}"
    );
    target.sink.username = Some("gw".into());
    target.sink.password_file = Some(secret(&server, "password", "secret\n"));
    target.answer_timeout = Duration::from_millis(500);
    let mut sink = opened(&target).await;
    let Outcome::Busy { after: Some(SLOW), why } = send(&mut sink, parcel(1, 1)).await else { panic!() };
    assert!(why.to_lowercase().contains("permissions violation"), "{why}");

    let Some(server) = NatsServer::start(&format!("{JETSTREAM}\nauthorization {{ token: sesame }}")) else {
        return;
    };
    let mut target = target_of(&server);
    target.sink.token_file = Some(secret(&server, "token", "sesame"));
    assert_eq!(send(&mut opened(&target).await, parcel(1, 1)).await, Outcome::Acked);
}

#[tokio::test]
async fn limits_of_server_and_stream_cut_parcels() {
    let Some(server) = NatsServer::start(&format!("{JETSTREAM}\nmax_payload: 2000")) else { return };
    let mut sink = opened(&target_of(&server)).await;
    let Outcome::TooLarge { why } = send(&mut sink, parcel(1, 100)).await else { panic!() };
    assert!(why.contains("`max_payload` of 2000"), "{why}");
    assert_eq!(send(&mut sink, parcel(1, 5)).await, Outcome::Acked);

    let Some(server) = NatsServer::start(JETSTREAM) else { return };
    let target = target_of(&server);
    let client = target.connect(&Arc::default()).await.unwrap();
    let mut config = async_nats::jetstream::stream::Config {
        name: "FIELDLOG".into(),
        subjects: vec!["fieldlog.*.events".into()],
        max_message_size: 2000,
        ..Default::default()
    };
    let jetstream = async_nats::jetstream::new(client);
    jetstream.create_stream(config.clone()).await.unwrap();
    let mut sink = opened(&target).await;
    assert!(matches!(send(&mut sink, parcel(1, 100)).await, Outcome::TooLarge { .. }));
    config.max_messages = 1;
    config.discard = async_nats::jetstream::stream::DiscardPolicy::New;
    jetstream.update_stream(config).await.unwrap();
    assert_eq!(send(&mut sink, parcel(1, 5)).await, Outcome::Acked);
    let Outcome::Busy { after: None, why } = send(&mut sink, parcel(6, 7)).await else { panic!() };
    assert!(why.contains("maximum messages exceeded"), "{why}");
}

#[tokio::test]
async fn a_server_that_goes_away_is_noticed() {
    let Some(mut server) = NatsServer::start(JETSTREAM) else { return };
    let mut sink = opened(&target_of(&server)).await;
    server.kill();
    let why = timeout(PATIENCE, sink.lost()).await.unwrap();
    assert!(why.contains("the connection broke"), "{why}");
    assert!(matches!(send(&mut sink, parcel(1, 1)).await, Outcome::Lost { .. }));
}

#[tokio::test]
async fn tls_is_checked_against_the_ca_file() {
    let Some(certificates) = Certificates::make() else { return };
    let tls = certificates.nats();
    let Some(server) = NatsServer::start(&format!("{JETSTREAM}\n{tls}")) else { return };
    let mut target = target_of(&server);
    target.sink.address = Address { host: "localhost".into(), port: server.port, tls: true };
    target.sink.tls.ca_file = Some(certificates.ca_file());
    assert_eq!(send(&mut opened(&target).await, parcel(1, 3000)).await, Outcome::Acked);
    target.sink.tls.ca_file = None;
    let unreachable = open(&target).await.err().unwrap();
    assert!(unreachable.why.contains("TLS"), "{unreachable}");
}
