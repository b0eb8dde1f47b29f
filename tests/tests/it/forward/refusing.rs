//! A receiver that wrongly refuses events: nothing may be given up, and it must get everything once it is fixed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fieldlog_projections::Fact;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::http_message::Message;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::receiver::Receiver;
use fieldlog_tests::wait::until;
use tokio::io::{AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::site::{Site, complete, http, random};

const MIB: usize = 1 << 20;
/// Maximum dead letters before a receiver that refuses everything is considered at fault.
const DEAD_LETTERS_MAX: usize = 2;

/// A proxy that refuses in a receiver's name, until it is fixed.
struct Wrong {
    address: SocketAddr,
    mended: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Wrong {
    /// Answers `head`: a status line and header fields.
    async fn start(receiver: SocketAddr, head: &'static str) -> Wrong {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mended, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let wrong = Wrong { address, mended: mended.clone(), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if mended.load(Ordering::SeqCst) {
                    tokio::spawn(pass(stream, receiver));
                } else {
                    tokio::spawn(refuse(stream, head, mended.clone(), asked.clone()));
                }
            }
        });
        wrong
    }

    fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn pass(mut stream: TcpStream, receiver: SocketAddr) {
    let mut onward = TcpStream::connect(receiver).await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut onward).await;
}

/// Answers requests; the connection ends with the first one after the fix.
async fn refuse(stream: TcpStream, head: &str, mended: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    while Message::read(&mut stream).await.is_some() && !mended.load(Ordering::SeqCst) {
        asked.fetch_add(1, Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {head}content-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn dead_letters(log: &Logbook) -> usize {
    log.count(|fact| matches!(fact, Fact::DeadLettered { .. }))
}

async fn held(agent: &Agent) -> String {
    let view = agent.handle.sinks.views().remove(0);
    until("a sink that is held", || {
        let details = view.status.details();
        details.state.label() == "held" && details.state.to_string().contains("in a row")
    })
    .await;
    view.status.details().state.to_string()
}

async fn nothing_is_given_up(head: &'static str, named: &str) {
    let receiver = Receiver::http().await;
    let wrong = Wrong::start(receiver.address(), head).await;
    let mut site = Site::new().await;
    let agent = site.start(&site.config(&http(wrong.address, ""))).await;
    site.post(1_000);
    site.recorded().await;
    let words = held(&agent).await;
    assert!(words.contains(named) && words.contains("Nothing more is given up"), "{words}");
    // As many further attempts that could have become dead letters.
    let asked = wrong.asked();
    until("further attempts", || wrong.asked() >= asked + 3).await;
    let made = agent.handle.sinks.views()[0].status.dead_letters.load(Ordering::Relaxed);
    assert!(made <= DEAD_LETTERS_MAX as u64, "{made} dead letters");

    // What was refused is remembered over a restart.
    let data_dir = agent.stop().await;
    let log = Logbook::read(&data_dir);
    let (made, all) = (dead_letters(&log), log.records.len());
    assert!(made <= DEAD_LETTERS_MAX && all < 1_100, "{made} dead letters in {all} records");
    drop(log);
    let agent = site.start(&site.config(&http(wrong.address, ""))).await;
    wrong.mend();
    site.post(10);
    site.recorded().await;
    let (log, _) = complete(agent, receiver).await;
    assert_eq!(log.counts.duplicate_events, 0, "{log}");
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_gets_everything_once_it_is_mended() {
    nothing_is_given_up("422 So\r\n", "422").await;
}

#[tokio::test]
async fn nor_is_anything_given_up_for_one_that_finds_everything_too_large() {
    nothing_is_given_up("413 So\r\n", "413").await;
}

/// Refused events are needed while the receiver is: the log fills up and does not lose them.
#[tokio::test]
async fn a_full_log_keeps_what_a_required_sink_refuses() {
    let mut rng = random();
    let receiver = Receiver::http().await;
    let wrong = Wrong::start(receiver.address(), "400 So\r\n").await;
    let mut site = Site::new().await;
    let more = format!(
        "[retention]\nbytes_max = {MIB}\nhistory_min_s = 0\nfree_bytes_min = 0\nwhen_full = \"block\"\n\
         [snapshots]\nevents = 1000\n"
    );
    let roomy = more.replace(&format!("bytes_max = {MIB}"), "bytes_max = 100000000");
    let sink = http(wrong.address, "");
    let agent = site.start(&site.config(&(roomy + &sink))).await;
    site.post_bytes(&mut rng, 2 * MIB);
    site.recorded().await;
    held(&agent).await;
    agent.reload(site.config(&(more + &sink))).await;
    until("the end of acknowledging", || agent.handle.shared.stats.blocked().is_some()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let first = agent.first().0;
    assert_eq!(first, 1, "records went that the sink had refused");
    wrong.mend();
    until("messages taken again", || agent.handle.shared.stats.blocked().is_none()).await;
    complete(agent, receiver).await;
}
