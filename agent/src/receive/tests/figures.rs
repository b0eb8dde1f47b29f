//! How fast parcels are made and taken. `cargo test --release -p fieldlog --lib figures -- --ignored --nocapture`

use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::receive::store::Store;
use crate::receive::{Books, Out, Receiver};

const MANY: u64 = 400_000;

#[test]
#[ignore = "figures, for a release build on a quiet machine"]
fn figures() {
    let fixture = Fixture::new(MANY);
    let dir = tempfile::tempdir().unwrap();
    for (format, name) in [(Format::Json, "json"), (Format::Compact, "compact")] {
        let start = Instant::now();
        let parcels = fixture.parcels(Filter::default(), format, Seq(1), 2_000);
        report(&format!("build {name}"), start);
        let bytes = |p: &Parcel| p.compact.len() + p.items.iter().map(|i| i.json.len()).sum::<usize>();
        let bytes: usize = parcels.iter().map(bytes).sum();
        println!("  {:.1} bytes per event", bytes as f64 / MANY as f64);
        let start = Instant::now();
        parcels.iter().for_each(|parcel| drop(received(parcel)));
        report(&format!("read {name}"), start);
        let receiver = receiver(&Out::File(dir.path().join(name)));
        let bodies: Vec<Vec<u8>> = parcels.iter().map(wrapped).collect();
        let start = Instant::now();
        bodies.iter().for_each(|body| receiver.take(body, |_| None).unwrap());
        report(&format!("receive {name}"), start);
        assert!(receiver.report().is_clean());
    }
}

fn receiver(out: &Out) -> Receiver {
    let mut ledger = Ledger::new(false);
    let store = Store::open(out, None, false, &mut ledger).unwrap();
    let books = Books { ledger, store, malformed: 0 };
    Receiver { books: Mutex::new(books), failed: tokio::sync::watch::Sender::new(None) }
}

fn wrapped(parcel: &Parcel) -> Vec<u8> {
    crate::forward::envelope::Body::with_manifest(parcel).to_bytes().to_vec()
}

fn report(what: &str, start: Instant) {
    println!("{what}: {:.0} events/s", MANY as f64 / start.elapsed().as_secs_f64());
}
