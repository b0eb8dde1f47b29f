//! The gateways of the demo: for each a broker, simulated devices, and `fieldlog` as a process, which forwards to the hub.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fieldlog_sim::broker::{Broker, Options};
use fieldlog_sim::devices::{Fleet, FleetOptions};

use super::programs::{Child, find};
use super::servers::Nats;
use super::{DemoError, Dir, quoted};
use crate::words::say;

const PROGRAM: &str = "fieldlog";

/// A gateway with its devices.
pub(super) struct Site {
    pub(super) gateway: Child,
    fleet: Fleet,
    broker: Broker,
}

/// Starts them, or says why there are none. Every second one publishes to NATS, if that is there; the others post.
pub(super) async fn start(
    count: u16,
    dir: &Dir,
    hub: SocketAddr,
    nats: Option<&Nats>,
) -> Result<Vec<Site>, DemoError> {
    let Some(program) = program() else {
        say("gateways    none, as `fieldlog` is neither next to this program nor in PATH:\n");
        say(
            "            `cargo build --release -p fieldlog` makes it. Gateways of your own can send here, with the token\n",
        );
        return Ok(Vec::new());
    };
    let mut sites = Vec::new();
    for number in 1..=count {
        let nats = nats.filter(|_| number % 2 == 1);
        match site(number, &program, dir, hub, nats).await {
            Ok(site) => sites.push(site),
            Err(error) => {
                stop(sites).await;
                return Err(error);
            }
        }
    }
    Ok(sites)
}

/// Stops them, and waits until they have.
pub(super) async fn stop(sites: Vec<Site>) {
    for Site { gateway, fleet, broker } in sites {
        fleet.stop().await;
        gateway.stop().await;
        broker.shutdown().await;
    }
}

/// `fieldlog` beside this program, or in `PATH`.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|dir| dir.join(PROGRAM));
    beside.filter(|path| path.is_file()).or_else(|| find(&[PROGRAM]))
}

async fn site(
    number: u16,
    program: &Path,
    dir: &Dir,
    hub: SocketAddr,
    nats: Option<&Nats>,
) -> Result<Site, DemoError> {
    let name = format!("plant-{number}");
    let own = dir.make(&format!("gateways/{name}"))?;
    let broker = Broker::bind("127.0.0.1:0", Options::default()).await.map_err(DemoError::Broker)?;
    let token = quoted(&dir.token_file());
    let (sink, way) = match nats {
        Some(Nats { address, .. }) => (
            format!("address = {address:?}\ntoken_file = {token}\n[sink.commands]\n"),
            "NATS, and takes commands",
        ),
        None => (
            format!("address = \"http://{hub}/events\"\ntoken_file = {token}\nformat = \"compact\"\n"),
            "HTTP",
        ),
    };
    let text = format!(
        "gateway_id = {name:?}\ndata_dir = {}\n[http]\nlisten = \"\"\nunix_socket = {}\n[[source]]\nname = \"plant\"\n\
         address = \"mqtt://{}\"\n[[source.subscription]]\npreset = \"zigbee2mqtt\"\n[[source.subscription]]\n\
         preset = \"tasmota\"\n[[source.subscription]]\npreset = \"shelly-gen2\"\n[[sink]]\nname = \"hub\"\n{sink}",
        quoted(&own),
        quoted(&own.join("http.sock")),
        broker.local_addr(),
    );
    let config = own.join("fieldlog.toml");
    std::fs::write(&config, text).map_err(|source| DemoError::Dir { dir: config.clone(), source })?;
    let gateway = Child::start(&name, &dir.log(&name), program, None, |command| {
        command.arg("run").arg("--config").arg(&config);
    })?;
    say(&format!("{name:<11} sends over {way}; its broker is mqtt://{}\n", broker.local_addr()));
    let options = FleetOptions { seed: u64::from(number), ..FleetOptions::default() };
    let fleet = Fleet::start(broker.local_addr(), &options);
    Ok(Site { gateway, fleet, broker })
}
