//! A network that swallows packets: nobody is refused, and nothing answers.

use async_nats::jetstream::Context;
use fieldlog_sim::servers::firewall::Swallowed;
use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::until;
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::nats;
use crate::tables::{assert_complete, has};

/// PostgreSQL cannot be reached for longer than the lease, in the middle of what is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_database_is_outlasted() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let mut hub = Hub::with("one", &postgres, &nats::lines(&server));
    let jetstream = nats::connect(&server).await;
    let mut gateway = Gateway::new("plant", Form::Compact, 4, random());
    gateway.live(400);
    let parts = gateway.split(1);
    let (before, after) = parts.split_at(parts.len() / 2);
    publish(&jetstream, &gateway, before).await;
    let Some(silence) = Swallowed::begin(postgres.port) else { return };
    publish(&jetstream, &gateway, after).await;
    until("the end of the lease", || hub.words().contains("the lease is not renewed: ")).await;
    let answer = hub.post(&gateway.parcel((1, gateway.head()), Lane::Backlog));
    assert_eq!(answer.status, 503, "{answer:?}");
    drop(silence);
    until("what was held up", || has(&postgres, &gateway)).await;
    assert_complete(&postgres, &gateway);
    // A restart in the middle of a backlog, while the stream cannot be reached.
    hub.kill();
    let from = gateway.head() + 1;
    gateway.live(400);
    let parts = gateway.split(from);
    publish(&jetstream, &gateway, &parts).await;
    let Some(silence) = Swallowed::begin(server.port) else { return };
    hub.restart();
    until("the silence", || hub.words().contains("trying again in")).await;
    assert!(!has(&postgres, &gateway));
    drop(silence);
    until("the backlog", || has(&postgres, &gateway)).await;
    assert_complete(&postgres, &gateway);
}

async fn publish(jetstream: &Context, gateway: &Gateway, parts: &[(u64, u64)]) {
    for part in parts {
        nats::try_publish(jetstream, &gateway.name, gateway.parcel(*part, Lane::Live)).await.unwrap();
    }
}
