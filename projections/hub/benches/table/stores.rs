//! How long the stores that follow PostgreSQL take to begin anew.

use std::time::Instant;

use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::redis::RedisServer;

use crate::fleet::{Fleet, Kind, PARCEL_EVENTS};
use crate::measured::Measured;
use crate::usage::cpu_seconds;
use crate::{EVENTS, Table};

/// Both at once while events arrive, then each alone.
pub async fn measure(table: &mut Table) {
    let (Some(redis), Some(opensearch)) = (RedisServer::start(), OpenSearchServer::start()) else {
        println!("no figures of stores: redis-server and osmem-server are needed");
        return;
    };
    let lines = format!(
        "[redis]\naddress = \"{}\"\n[opensearch]\naddress = \"{}\"\n",
        redis.address(),
        opensearch.address()
    );
    let parcels = Fleet::new(Kind::Busy).parcels(EVENTS, PARCEL_EVENTS);
    let measured = Measured::of(&parcels, 1, &lines).await;
    let (hub, events) = (&measured.hubs[0], parcels.events() as f64);
    for (store, name) in
        [("redis", "Redis"), ("opensearch", "OpenSearch (an imitation, osmem-server, in memory)")]
    {
        hub.follow(store, 1).await;
        let cpu_s = || cpu_seconds(hub.pid()) + cpu_seconds(measured.postgres.pid());
        let (begin, before) = (Instant::now(), cpu_s());
        hub.rebuild(store);
        hub.follow(store, 2).await;
        let (took, cpu) = (begin.elapsed().as_secs_f64(), cpu_s() - before);
        let cpu = cpu * 1e6 / events;
        table.info(
            &format!("{name}: begun anew"),
            &format!("{took:.1} s per M events, {cpu:.1} µs of hub and PostgreSQL"),
        );
    }
}
