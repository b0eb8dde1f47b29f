//! Hostile HTTP clients, while events are recorded and read: a reader must get every event once and in order, and
//! health must be answered.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fieldlog_tests::publisher::Post;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::block_until;
use serde_json::Value as Json;

use crate::account::Account;
use crate::clients::{HARMS, harm};
use crate::site::{STATE, Site, get};

const DURATION: Duration = Duration::from_secs(5);
/// Health must be answered within this time. A client that is cut off asks again: beyond the connection limit, the
/// oldest health connection makes room for a new one.
const HEALTH: Duration = Duration::from_secs(5);

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let site = Site::new(account).await;
    let mut unit = site.run(&[STATE], "").await;
    site.check_real(0).await;
    let (port, stop) = (site.http, Arc::new(AtomicBool::new(false)));
    let mut harms = Vec::new();
    for _ in 0..rng.between(2, 7) {
        let (what, mut rng, stop) = (*rng.pick(&HARMS), rng.fork(), Arc::clone(&stop));
        harms.push(tokio::task::spawn_blocking(move || harm(what, port, &mut rng, &stop)));
    }
    let paging = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || follow_pages(port, &stop)
    });
    let streaming = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || follow_stream(port, &stop)
    });
    let health = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || check_health(port, &stop)
    });

    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < DURATION {
        site.publisher.post((0..rng.below(100)).map(|n| {
            sent += 1;
            Post::new(format!("t/d{n}"), format!("{{\"n\":{sent},\"text\":\"{}\"}}", "x".repeat(sent % 500)))
        }));
        tokio::time::sleep(Duration::from_millis(50)).await;
        unit.look();
    }
    stop.store(true, Ordering::Relaxed);
    let mut made = 0;
    for harm in harms {
        made += harm.await.unwrap();
    }
    account.checked(made);
    let slow = health.await.unwrap();
    account.wrong(slow.len(), &format!("health: {:?}", slow.first()));

    site.publisher.idle().await;
    site.check_real(sent + 1).await;
    for (who, seqs) in [("pages", paging.await.unwrap()), ("the stream", streaming.await.unwrap())] {
        let mut once = seqs.clone();
        once.sort_unstable();
        account.wrong(usize::from(once != seqs), &format!("{who}: positions do not ascend"));
        once.dedup();
        account.repeated(seqs.len() - once.len(), &format!("events twice in {who}"));
        let last = once.last().copied().unwrap_or(0) as usize;
        account.lost(last - once.len(), &format!("events are missing in {who}, of {last}"));
        account.wrong(usize::from(last == 0), &format!("nothing in {who}"));
        account.checked(seqs.len());
    }
    unit.stop().await;
}

/// Positions of all events, page by page, including those present when `stop` was seen.
fn follow_pages(port: u16, stop: &AtomicBool) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        let path = format!("/api/v1/events?after={}", seqs.last().unwrap_or(&0));
        // 503 while other clients use all of the capacity.
        let (status, body) = block_until("a page", || get(port, &path).filter(|(status, _)| *status != 503));
        assert_eq!(status, 200, "{path}: {body}");
        let page: Json = serde_json::from_str(&body).unwrap();
        let new = page["events"].as_array().unwrap();
        seqs.extend(new.iter().map(|event| event["seq"].as_u64().unwrap()));
        if stopped && new.is_empty() {
            return seqs;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same from the stream; after a disconnect it continues after its last event.
fn follow_stream(port: u16, stop: &AtomicBool) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) || (seqs.is_empty() && begin.elapsed() < 10 * DURATION) {
        let after = seqs.last().copied().unwrap_or(0);
        let _ = read_stream(port, after, &mut seqs, stop);
        std::thread::sleep(Duration::from_millis(20));
    }
    seqs
}

fn read_stream(port: u16, after: u64, seqs: &mut Vec<u64>, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    write!(stream, "GET /api/v1/events/stream?after={after} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        // An event counts when its data has arrived: its id comes first.
        if let Some(data) = line.strip_prefix("data:")
            && let Ok(event) = serde_json::from_str::<Json>(data)
            && let Some(seq) = event["seq"].as_u64()
        {
            seqs.push(seq);
        }
        if stop.load(Ordering::Relaxed) && !seqs.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Wrong answers about health.
fn check_health(port: u16, stop: &AtomicBool) -> Vec<String> {
    let mut wrong = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for path in ["/livez", "/readyz", "/metrics"] {
            let begin = Instant::now();
            let mut status = None;
            while status.is_none() && begin.elapsed() < HEALTH {
                status = get(port, path).map(|(status, _)| status);
            }
            let took = begin.elapsed();
            if status != Some(200) || took > HEALTH {
                wrong.push(format!("{path} gave {status:?} after {took:?}"));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    wrong
}
