use super::client::Events;
use super::*;

const PATH: &str = "/api/v1/events/stream";

#[tokio::test]
async fn events_are_streamed_as_they_are_applied() {
    let agent = Agent::start().await;
    agent.commit_house();
    let mut events = Events::open(&agent.tcp, PATH, &[]).await;
    // Its position, in case the connection breaks before the first event.
    assert_eq!(events.next().await, "retry: 3000\nid: 000000000000feed-9");
    agent.commit([
        (100, available(0, Availability::Offline)),
        (101, changed(1, vec![(0, Value::Json("[1,\n2]".into()))])),
    ]);
    let event = events.next().await;
    assert!(
        event.contains("id: 000000000000feed-10") && event.contains("event: availability_changed"),
        "{event}"
    );
    let event = events.next().await;
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: Json = serde_json::from_str(data).unwrap();
    assert_eq!(data["data"]["changes"]["temperature"], serde_json::json!([1, 2]));
    assert_eq!(data["id"], "gw/000000000000feed/11");
    agent.stop().await;
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event() {
    let agent = Agent::start().await;
    agent.commit_house();
    let last = [("Last-Event-ID", "000000000000feed-7")];
    let mut events = Events::open(&agent.tcp, PATH, &last).await;
    assert!(events.next().await.contains("id: 000000000000feed-7"));
    assert!(events.next().await.contains("id: 000000000000feed-8"));
    assert!(events.next().await.contains("id: 000000000000feed-9"));
    let mut filtered =
        Events::open(&agent.tcp, &format!("{PATH}?after=0&device=bridge&type=availability_changed"), &[])
            .await;
    assert!(filtered.next().await.contains("id: 000000000000feed-0"));
    assert!(filtered.next().await.contains("id: 000000000000feed-9"));
    agent.stop().await;
}

#[tokio::test]
async fn a_long_backlog_is_streamed_whole_and_in_order() {
    let agent = Agent::start().await;
    agent.commit_house();
    agent.commit((0..2_000).map(|n| (100, changed(1, vec![(0, Value::Int(n))]))));
    let mut events = Events::open(&agent.tcp, &format!("{PATH}?after=9"), &[]).await;
    events.next().await;
    for seq in 10..2_010 {
        let event = events.next().await;
        assert!(event.contains(&format!("id: 000000000000feed-{seq}\n")), "{seq}: {event}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_position_of_another_epoch_resets_the_client() {
    let agent = Agent::start().await;
    agent.commit_house();
    let mut events = Events::open(&agent.tcp, PATH, &[("Last-Event-ID", "00000000000000aa-7")]).await;
    events.next().await;
    let reset = events.next().await;
    assert!(reset.contains("event: reset") && reset.contains("\"applied\":9"), "{reset}");
    agent.commit([(100, available(0, Availability::Offline))]);
    assert!(events.next().await.contains("id: 000000000000feed-10"));
    agent.stop().await;
}

#[tokio::test]
async fn streams_are_counted_and_end_with_the_agent() {
    let agent = Agent::start().await;
    agent.commit_house();
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(Events::open(&agent.tcp, PATH, &[]).await);
    }
    let refused = agent.get(PATH).await;
    check_problem(&refused, PATH, 503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // They do not count as requests.
    assert_eq!(agent.get("/status").await.status, 200);
    // A stream that ends makes room.
    drop(open.pop());
    for attempt in 0.. {
        let mut again = client::send(&agent.tcp, "GET", PATH, &[]).await;
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut again, &mut head).await.unwrap();
        if &head == b"HTTP/1.1 200" {
            break;
        }
        assert!(attempt < 200, "the place was not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.stop().await;
    for events in open {
        events.ended().await;
    }
}
